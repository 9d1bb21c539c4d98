"""A unit that kills its process each time, and one that memory does not suffice for: named, and the others are done."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deblur.unit as unit
from deblur import job as work
from deblur.clusters import SETTINGS
from deblur.config import Cluster
from deblur.outcome import Outcome
from tests.faults import poison
from tests.faults.world import UNITS, World, child, contents, end_of, finish
from tests.small import command

ALLOWED = "distributed.scheduler.allowed-failures"


@pytest.mark.slow
def test_a_poison_unit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    job = world.copy(tmp_path, cluster=Cluster(kind="local", workers=2))
    real = work.run_tasks
    usual = request.config.getoption("seeds", None)
    failures = SETTINGS[ALLOWED] if usual else 1  # each is a worker to be started
    with monkeypatch.context() as patch:
        patch.setitem(SETTINGS, ALLOWED, failures)
        patch.setattr(work, "run_tasks", lambda tasks, **told: real(tasks, **{**told, "work": poison.work}))
        (outcome,) = work.run(job)
    killed = Path(job.archive, "killed").read_text().split()
    assert len(set(killed)) > failures  # workers, each by it
    assert not outcome.published
    (failure,) = outcome.failures
    assert poison.is_poison(failure.task)
    assert "pan restore frames 2–3" in str(failure)
    assert "KilledWorker" in str(failure)
    assert outcome.computed == UNITS - 1
    assert finish(job).computed == 1
    assert contents(job) == world.equal


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be limited")
def test_memory_that_does_not_suffice(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.copy(tmp_path)
    real = unit._restore
    held: list[Any] = []

    def hungry(context: Any, wanted: Any) -> Any:
        if wanted.t0 == 2 and wanted.box.x0 == 64:
            held.append(1)
            np.ones(1 << 34, np.uint8)  # 16 GiB: the system says no
        return real(context, wanted)

    def act() -> None:
        monkeypatch.setattr(unit, "_restore", hungry)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), resource.RLIM_INFINITY))
        (outcome,) = work.run(job)
        (tmp_path / "said").write_bytes(pickle.dumps((len(held), outcome)))

    assert end_of(child(act)) == 0
    tried, outcome = pickle.loads((tmp_path / "said").read_bytes())  # written above, by this test
    assert isinstance(outcome, Outcome)
    assert tried == 3
    (failure,) = outcome.failures
    assert "MemoryError" in str(failure)
    assert "pan restore frames 2–3" in str(failure)
    assert outcome.computed == UNITS - 1
    assert finish(job).computed == 1
    assert contents(job) == world.equal


MEMORY = 1280 << 20  # for a client and two workers: they take half of it
IN_A_GROUP = """
import os, pickle, sys
from pathlib import Path
folder, group = map(Path, sys.argv[1:])
(group / "cgroup.procs").write_text(str(os.getpid()))
from deblur import job as work
from deblur.config import JobConfig
from tests.faults import poison
if __name__ == "__main__":
    real = work.run_tasks
    work.run_tasks = lambda tasks, **told: real(tasks, **{**told, "work": poison.devour})
    (outcome,) = work.run(JobConfig.model_validate_json((folder / "job.json").read_text()))
    (folder / "said").write_bytes(pickle.dumps(outcome))
"""


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A control group below that of this process, with a limit on memory."""
    if not request.config.getoption("seeds", None):
        pytest.skip("45 s of CPU: `pytest tests/faults --seeds 1` runs it")
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mine = {names: path for _, names, path in groups}
    top = Path(
        "/sys/fs/cgroup", *(("memory", mine["memory"][1:]) if "memory" in mine else (mine.get("", "/")[1:],))
    )
    made = top / f"deblur-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"control groups can't be made here: {error}")
    try:
        limits = [made / name for name in ("memory.limit_in_bytes", "memory.max") if (made / name).exists()]
        if not limits:
            pytest.skip(f"{top} gives its groups no limit on memory")
        limits[0].write_text(str(MEMORY))
        yield made
    finally:
        made.rmdir()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="control groups are Linux's")
def test_memory_that_the_system_takes_back(world: World, tmp_path: Path, group: Path) -> None:
    """A worker that the kernel kills for its memory, each time: the unit is named, the others are done."""
    job = world.copy(tmp_path, cluster=Cluster(kind="local", workers=2))
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "hungry.py").write_text(IN_A_GROUP)
    subprocess.run(
        [sys.executable, tmp_path / "hungry.py", tmp_path, group],
        check=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    outcome = pickle.loads((tmp_path / "said").read_bytes())  # written above, by this test
    assert isinstance(outcome, Outcome)
    assert len(set(Path(job.archive, "killed").read_text().split())) >= 3
    (failure,) = outcome.failures
    assert poison.is_poison(failure.task)
    assert "KilledWorker" in str(failure)
    assert outcome.computed == UNITS - 1
    assert finish(job.model_copy(update={"cluster": Cluster(kind="serial")})).computed == 1
    assert contents(job) == world.equal


def test_what_was_given_up_is_exit_1(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = world.copy(tmp_path)

    def never(context: Any, wanted: Any) -> Any:
        raise ValueError("this one never works")

    monkeypatch.setattr(unit, "_restore", never)
    source = job.sources[0]
    said = command(capsys)(
        *("restore", source.path, tmp_path / "out.npy", "-e", "0.75", "--workers", "1"),
        *("--set", "tiling.window=64", "--set", "tiling.chunk=32"),
    )
    assert said.code == 1
    assert all("this one never works" in fault for fault in said.faults)
