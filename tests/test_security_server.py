"""A Prefect server with an authentication string: who has it gets in, and nothing secret stays there, whatever fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.servers import ROOT, Server
from tests.small import write_frames, write_job
from tests.test_secrets import SECRETS

NIGHT = "import sys; from flows.archive import nightly; nightly(sys.argv[1])"
SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"


@pytest.mark.slow
def test_the_authentication_string_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path, source=SECRETS.replace("https://hooks.example.org", "http://127.0.0.1:9"))
    job.write_text(job.read_text() + '[[sources]]\npath = "nowhere"\nmetadata = { api_key = "CANARY" }\n')
    server = Server(tmp_path / "home", extra={SERVER: "keeper:CANARY"})

    def run(*program: str, **told: str) -> subprocess.CompletedProcess[str]:
        environment = (
            server.env | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])} | told
        )
        command = [sys.executable, *program, str(job)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    try:
        server.start()
        left = run("-m", "deblur", "run", **{CLIENT: "keeper:other"})
        faults = [line for line in left.stderr.splitlines() if line.startswith("deblur: ")]
        assert (left.returncode, len(faults)) == (2, 1), left.stderr
        assert CLIENT in faults[0]
        secrets = {CLIENT: "keeper:CANARY", "AWS_SECRET_ACCESS_KEY": "CANARY"}
        done = run("-m", "deblur", "run", **secrets)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "nowhere does not exist" in done.stderr
        night = run("-c", NIGHT, **secrets)
        assert night.returncode == 1, night.stdout + night.stderr
        assert "Traceback" in night.stderr
        assert "CANARY" not in done.stdout + done.stderr + night.stdout + night.stderr
    finally:
        server.stop()
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    database = b"".join(path.read_bytes() for path in kept if ".db" in path.name)
    for told in (
        "deblur-archive",
        "deblur-sequences",
        "nowhere does not exist",
        "hooks.webhook did not work",
    ):
        assert told.encode() in database, told
    assert [path for path in kept if b"CANARY" in path.read_bytes()] == []
