"""A Prefect server with an authentication string: who has it gets in, and nothing secret stays there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.servers import ROOT, Server
from tests.small import write_frames, write_job
from tests.test_security import SECRETS

SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"


@pytest.mark.slow
def test_the_authentication_string_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path, source=SECRETS)
    server = Server(tmp_path / "home", extra={SERVER: "keeper:CANARY"})

    def run(**told: str) -> subprocess.CompletedProcess[str]:
        environment = (
            server.env | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])} | told
        )
        command = [sys.executable, "-m", "deblur", "run", str(job)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    try:
        server.start()
        left = run(**{CLIENT: "keeper:other"})
        faults = [line for line in left.stderr.splitlines() if line.startswith("deblur: ")]
        assert (left.returncode, len(faults)) == (2, 1), left.stderr
        assert CLIENT in faults[0]
        done = run(**{CLIENT: "keeper:CANARY"}, AWS_SECRET_ACCESS_KEY="CANARY")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "CANARY" not in done.stdout + done.stderr
    finally:
        server.stop()
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    database = next(path for path in kept if path.suffix == ".db")
    assert b"deblur-archive" in database.read_bytes()
    assert [path for path in kept if b"CANARY" in path.read_bytes()] == []
