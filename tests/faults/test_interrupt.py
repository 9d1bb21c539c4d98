"""Ctrl-C as a terminal sends it, to every process of the job at once, and as `kill` does, to one; SIGTERM likewise, from a
service manager or a batch system to all: Prefect's own server, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from deblur import job as work
from deblur.config import Cluster, load_job
from deblur.io import open_source
from tests.faults.world import records
from tests.small import SMALL_UNITS, Command, Said, write_frames, write_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and sessions are POSIX"),
]
TIMEOUT = 240


def start(*arguments: str, folder: Path, home: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deblur.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "PREFECT_HOME": str(home or folder / "prefect")},
    )


def wait_for_units(process: subprocess.Popen[str], archive: Path, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while records(archive) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run never got going"
        time.sleep(0.05)  # waiting for another process, which tells of its progress in files only


def session(leader: int) -> list[str]:
    """The living processes of a session; one in brackets has given up its memory already and is about to be gone."""
    found = subprocess.run(["ps", "-eo", "pid=,sid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    mine = [row for row in rows if int(row[1]) == leader]
    return [" ".join(row) for row in mine if row[2][0] != "Z" and not row[3].startswith("[")]


def listening(leader: int) -> list[str]:
    """The addresses at which the processes of a session can be reached."""
    found: list[str] = []
    for row in session(leader):
        with suppress(psutil.NoSuchProcess):
            ports = psutil.Process(int(row.split()[0])).net_connections("inet")
            found += [port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN]
    return found


def interrupt(
    process: subprocess.Popen[str], whole_group: bool, number: int = signal.SIGINT
) -> tuple[int, str, list[str], float]:
    """Exit code, stderr without progress, processes left, seconds."""
    began = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        left = session(process.pid)
        if left:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, "\n".join(Said(0, "", err).faults), left, time.monotonic() - began


def shots(path: Path) -> Any:
    (reader,) = open_source(str(path))
    with reader:
        return [reader.read(k).tobytes() for k in range(len(reader.frames))]


COMMAND = ("restore", "frames", "out.npy", "-e", "0.75", *SMALL_UNITS)


@pytest.mark.one_of("a restore is interrupted")
@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill"])
def test_an_interrupted_restore_goes_on(
    deblur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_group: bool
) -> None:
    write_frames(tmp_path / "frames", count=8)
    process = start(*COMMAND, "--workers", "2", folder=tmp_path)
    hidden = tmp_path / ".out.npy.deblur"
    wait_for_units(process, hidden, 3)
    code, said, left, seconds = interrupt(process, whole_group)
    assert (code, said, left) == (130, "deblur: interrupted; run the same command again to go on", [])
    assert seconds < 10
    assert not (tmp_path / "out.npy").exists()
    survived = records(hidden)
    assert survived >= 3

    monkeypatch.chdir(tmp_path)
    resumed = deblur(*COMMAND, "--workers", "1", "--json")
    assert resumed.code == 0, resumed.err
    units = 2 * 8 * 2  # stages × frames × boxes
    assert json.loads(resumed.out)[0]["computed"] == units - survived
    (tmp_path / "out.npy").rename(tmp_path / "resumed.npy")
    undisturbed = deblur(*COMMAND, "--workers", "1", "--json")
    assert json.loads(undisturbed.out)[0]["computed"] == units
    assert shots(tmp_path / "resumed.npy") == shots(tmp_path / "out.npy")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's, whose database takes seconds to be made."""
    return tmp_path_factory.mktemp("prefect")


@pytest.mark.one_of("a run is interrupted")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["terminal", "kill -TERM", "service"],
)
def test_an_interrupted_run_goes_on(tmp_path: Path, home: Path, number: int, whole_group: bool) -> None:
    write_frames(tmp_path / "frames", count=8)
    write_job(tmp_path, kind="local")
    process = start("run", "job.toml", folder=tmp_path, home=home)
    wait_for_units(process, tmp_path / "archive", 2)
    reached = listening(process.pid)
    code, said, left, seconds = interrupt(process, whole_group, number)
    assert len(reached) >= 4  # Prefect's server, Dask's scheduler with its dashboard, workers
    assert set(reached) <= {"127.0.0.1", "::1"}
    line, *more = said.splitlines()
    assert (code, line, left) == (130, "deblur: interrupted; run the same command again to go on", [])
    assert not more or (
        whole_group and number == signal.SIGTERM
    )  # of Python, whose workers had no time to tidy up
    assert seconds < 10
    survived = records(tmp_path / "archive")
    job = load_job(tmp_path / "job.toml").model_copy(update={"cluster": Cluster(kind="serial")})
    (outcome,) = work.run(job)
    assert outcome.published
    assert outcome.computed == 2 * 4 * 2 - survived
