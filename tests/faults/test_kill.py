"""Real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.store import Archive
from deblur.upkeep import verify_archive
from tests.conftest import pan

JOB = """
archive = "{archive}"
[[sources]]
path = "pan.npy"
exposure_fraction = 0.75
[tiling]
window = 64
chunk = 32
shard = 64
unit = 64
frames = 2
[cluster]
kind = "{kind}"
workers = 2
"""
RUN = """
import sys
from pathlib import Path
from deblur import job
from deblur.config import load_job
job.run(load_job(Path(sys.argv[1])))
"""


def prepare(folder: Path, archive: str, kind: str) -> Path:
    if not (folder / "pan.npy").exists():
        np.save(folder / "pan.npy", pan(6, 96, 160)[0])
    path = folder / f"{archive}.toml"
    path.write_text(JOB.format(archive=archive, kind=kind))
    return path


def records(archive: Path) -> int:
    return sum(
        path.read_bytes().count(b"\n") for path in archive.glob("sequences/*/runs/*/provenance/units/*.jsonl")
    )


def outputs(archive: Path) -> dict[str, str]:
    """Every shard's digest, as the ledger of the published run has it."""
    store = Archive.open(archive).sequence("pan")
    return store.run(str(store.current())).ledger().shards()


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_bits_on_either_executor(tmp_path: Path) -> None:
    calm = prepare(tmp_path, "calm", "serial")
    (undisturbed,) = work.run(load_job(calm))
    assert undisturbed.published

    job = prepare(tmp_path, "killed", "local")
    process = subprocess.Popen([sys.executable, "-c", RUN, str(job)], start_new_session=True)
    deadline = time.monotonic() + 240
    while records(tmp_path / "killed") < 9 and process.poll() is None:
        assert time.monotonic() < deadline, "the run never got going"
        time.sleep(0.05)  # waiting for another process, which tells of its progress in files only
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    survived = records(tmp_path / "killed")

    (resumed,) = work.run(load_job(job))
    assert resumed.published
    assert resumed.plan is not None
    assert resumed.computed <= resumed.plan.cost.units - survived + 1
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "calm")
    assert verify_archive(tmp_path / "killed") == []
    assert json.loads((tmp_path / "killed/sequences/pan/current.json").read_text())["run"] == resumed.plan.run
