"""A real S3 server for tests, in a process of its own; and buckets in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from deblur.place import ObjectPlace


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of moto's server; tests that want it are skipped where it is not installed."""
    missing = [name for name in ("obstore", "moto", "flask") if find_spec(name) is None]
    if missing:
        pytest.skip(
            f"an S3 server to test with needs {', '.join(missing)}: pip install obstore 'moto[s3]' flask flask-cors"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, f"{address}/moto-api/data.json")
        yield address
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # nothing but its port tells that the server has begun


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh, empty bucket as `s3://…`, and the environment to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {"ACCESS_KEY_ID": "tester", "SECRET_ACCESS_KEY": "of-tests", "ENDPOINT_URL": s3_server}
    for name, value in (settings | {"REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"b{uuid.uuid4().hex[:16]}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT"), timeout=30).close()
    return f"s3://{name}"


def upload(folder: Path, there: ObjectPlace, pattern: str = "*") -> None:
    """Put the files below a folder into an object store, under their names."""
    for path in sorted(folder.rglob(pattern)):
        if path.is_file():
            (there / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
