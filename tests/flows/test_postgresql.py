"""The nightly job with PostgreSQL behind the Prefect server, as large archives want it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur.store import Archive
from tests.flows.servers import Server
from tests.small import write_frames, write_job

ACCOUNT = "postgres"  # Debian's; the server refuses to run as root


def binary(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or ""


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a PostgreSQL server of one's own on 127.0.0.1."""
    if not binary("initdb"):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="deblur-pg-"))
    user = ACCOUNT if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    initdb = [binary("initdb"), "-D", str(data), "-A", "trust", "-U", ACCOUNT, "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
    told = ["-D", str(data), "-k", str(folder), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [binary("postgres"), *told], stdout=log, stderr=subprocess.STDOUT, user=user, cwd=folder
        )
    try:
        deadline = time.monotonic() + 60
        while "ready to accept connections" not in (folder / "log").read_text():
            assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()  # noqa: PT018
            time.sleep(0.2)
        yield f"postgresql+asyncpg://{ACCOUNT}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_night_with_postgresql(database: str, tmp_path: Path) -> None:
    server = Server(tmp_path, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database})
    write_frames(tmp_path / "frames")
    write_job(tmp_path)
    try:
        server.start()
        server.deploy()
        run = server.order("deblur-nightly/nightly")
        log = server.prefect("worker", "start", "--pool", "deblur", "--run-once", "--limit", "1", timeout=300)
        assert server.state(run) == "COMPLETED", log
    finally:
        server.stop()
    assert Archive.open(tmp_path / "archive").sequence("frames").current()
    assert not (tmp_path / "prefect.db").exists()
