"""Death and sleep in the middle of a write, wherever that is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.plan import units
from deblur.store import verify_run
from deblur.store.durable import sha256_file
from deblur.unit import Task, run_unit
from tests.faults.disk import Disk, Fault, Step, die_at, hang_at
from tests.faults.world import (
    UNITS,
    World,
    child,
    contents,
    end_of,
    finish,
    partials,
    sequence,
    wait_for_stop,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be killed"),
]


@pytest.fixture(scope="module")
def steps(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The steps of an undisturbed run, and once more those that write the bytes of a shard, which are the longest."""
    job = world.copy(tmp_path_factory.mktemp("count"))
    shards: list[int] = []

    def note(step: Step) -> None:
        if step.kind == "write" and "/c/" in step.path.as_posix():
            shards.append(step.number)

    with Disk(Path(job.archive), note).watched() as disk:
        finish(job)
    assert contents(job) == world.equal
    return [*range(disk.steps), *shards * 4]


@pytest.mark.seeds(3)
def test_killed_in_the_middle_of_a_write(world: World, tmp_path: Path, steps: list[int], seed: int) -> None:
    job = world.copy(tmp_path)
    at = int(np.random.default_rng(seed).choice(steps))

    def act() -> None:
        with Disk(Path(job.archive), die_at(at)).watched():
            finish(job)

    assert end_of(child(act)) == -signal.SIGKILL
    store = sequence(job)
    survived = 0
    for run_id in store.runs():  # at most one, and none if it died early
        run = store.run(run_id)
        survived += len(run.ledger().index())
        for problem in verify_run(run):
            assert problem.kind == "unrecorded", problem
        for path in run.path.rglob("c/**/*"):  # whole or not there: never short under its final name
            if path.is_file() and not path.name.endswith(".partial"):
                name = path.relative_to(run.path).as_posix()
                assert sha256_file(path) == world.equal[name], name
    outcome = finish(job)
    assert outcome.computed >= UNITS - survived - 1 or not outcome.computed
    assert outcome.computed <= max(0, UNITS - survived)
    assert contents(job) == world.equal
    assert partials(job) == []


def late(world: World, folder: Path, fault: Fault) -> tuple[work.JobConfig, int]:
    """A worker that got stuck in its first unit: the job, and the process."""
    job = world.copy(folder)
    (outcome,) = work.plan(job, work.ingest(job))
    assert outcome.plan is not None
    store = sequence(job)
    store.create_run(outcome.plan.run, work.run_spec(outcome.plan, store, job))
    unit = next(iter(units(outcome.plan, store, "motion")))
    task = Task(job.archive, store.id, outcome.plan.run, unit)

    def act() -> None:
        with Disk(Path(job.archive), fault).watched():
            run_unit(task)

    return job, child(act)


@pytest.mark.one_of("a worker hangs and comes back")
@pytest.mark.seeds(1)
def test_a_write_that_comes_after_everything_is_done(world: World, tmp_path: Path, seed: int) -> None:
    job, stuck = late(world, tmp_path, hang_at(int(np.random.default_rng(seed).integers(8))))
    try:
        wait_for_stop(stuck)
        finish(job)
        assert contents(job) == world.equal
    finally:
        os.kill(stuck, signal.SIGCONT)
        end_of(stuck)  # its write was refused, or done: either is fine
    assert contents(job) == world.equal
    store = sequence(job)
    assert verify_run(store.run(str(store.current()))) == ()
