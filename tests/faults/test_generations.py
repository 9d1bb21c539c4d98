"""Settings, code, clocks and people that change between one start and the next: what belongs together stays together."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deblur.store.lease as leases
from deblur import job as work
from deblur import window as maths
from deblur.config import JobConfig, with_settings
from deblur.errors import NumericsError
from deblur.plan import units
from deblur.store import Archive, Ledger, verify_run
from deblur.unit import Task, run_unit
from tests.faults.disk import Disk, Step
from tests.faults.world import NAME, UNITS, World, child, contents, end_of, finish, sequence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be killed"),
]
OTHER = {"restore.iterations": 16}


def die_after(job: JobConfig, records: int) -> int:
    """Run the job in a process that is killed once it has recorded so many units; how it ended."""

    def act() -> None:
        append, seen = Ledger.append, []

        def counted(ledger: Ledger, record: Any) -> None:
            append(ledger, record)
            seen.append(record)
            if len(seen) == records:
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "append", counted)
            finish(job)

    return end_of(child(act))


def test_killed_at_10_50_and_90_percent(world: World, tmp_path: Path) -> None:
    job = world.copy(tmp_path)
    done = 0
    for share in (0.1, 0.5, 0.9):
        more = max(1, round(share * UNITS) - done)
        assert die_after(job, more) == -signal.SIGKILL
        done += more
    assert finish(job).computed == UNITS - done
    assert contents(job) == world.equal
    store = sequence(job)
    assert len(list(store.run(str(store.current())).ledger().read_all())) == UNITS + 1  # nothing twice


def test_other_parameters_after_a_kill_are_another_run(world: World, tmp_path: Path) -> None:
    job = world.copy(tmp_path)
    changed = with_settings(job, OTHER)
    assert die_after(job, 6) == -signal.SIGKILL
    (begun,) = sequence(job).runs()
    before = set(sequence(job).run(begun).ledger().finished())
    assert finish(changed).computed == UNITS
    assert contents(changed) == contents_of(world, tmp_path / "calm", OTHER)
    assert set(sequence(job).run(begun).ledger().finished()) == before
    assert begun != sequence(job).current()


def contents_of(world: World, folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    job = with_settings(world.copy(folder), settings)
    finish(job)
    return contents(job)


def test_other_code_after_a_kill_is_another_run_and_old_workers_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.copy(tmp_path)
    assert die_after(job, 6) == -signal.SIGKILL
    (begun,) = sequence(job).runs()
    monkeypatch.setattr(maths, "NUMERICS_VERSION", maths.NUMERICS_VERSION + 1)
    (outcome,) = work.plan(job, work.ingest(job))
    assert outcome.plan is not None
    assert outcome.plan.run != begun
    store = sequence(job)
    run = store.create_run(outcome.plan.run, work.run_spec(outcome.plan, store, job))
    unit = next(iter(units(outcome.plan, store, "motion")))
    monkeypatch.undo()  # a worker that was not updated
    with pytest.raises(NumericsError, match=r"version .* give all workers the same deblur"):
        run_unit(Task(job.archive, store.id, outcome.plan.run, unit))
    assert run.ledger().finished() == {}
    monkeypatch.setattr(maths, "NUMERICS_VERSION", maths.NUMERICS_VERSION + 1)
    assert finish(job).computed == UNITS  # nothing of the older generation was taken over
    assert sequence(job).current() == outcome.plan.run


@pytest.mark.seeds(1)
def test_a_clock_that_jumps_a_day(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    job = world.copy(tmp_path)
    rng = np.random.default_rng(seed)
    real, jumped, seen = time.time, [0.0], set[float]()

    def clock() -> float:
        return real() + jumped[0]

    append, failing = Ledger.append, {"armed": True}

    def jumping(ledger: Ledger, record: Any) -> None:
        jumped[0] += float(rng.choice([-86400, 86400]))
        seen.add(jumped[0])
        append(ledger, record)

    def once(task: Task) -> dict[str, Any]:
        if failing["armed"] and task.unit.stage == "restore":
            raise NumericsError("the first night it fails")
        return run_unit(task)

    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setitem(Ledger.__init__.__kwdefaults__, "clock", clock)
    monkeypatch.setattr(Ledger, "append", jumping)
    run = work.run_tasks
    monkeypatch.setattr(work, "run_tasks", lambda tasks, **told: run(tasks, **{**told, "work": once}))
    (outcome,) = work.run(job)
    assert len(outcome.failures) == UNITS // 2
    failing["armed"] = False
    jumped[0] -= 86400  # what is recorded now is a day older than the failures
    finish(job)
    assert min(seen) < max(seen)
    assert contents(job) == world.equal
    assert finish(job).computed == 0


@pytest.mark.seeds(1)
def test_two_runs_from_nothing_on_one_archive(world: World, tmp_path: Path, seed: int) -> None:
    """Both may find that they are needed: for ingest, for the survey, for every unit."""
    job = world.job.model_copy(update={"archive": str(tmp_path / "archive")})
    rng = np.random.default_rng(seed)
    paces = [float(pace) for pace in rng.choice([0, 0.001, 0.003], 2)]

    def act(number: int) -> None:
        def slow(step: Step) -> None:
            time.sleep(paces[number])  # who is ahead of whom is the seed's choice

        with Disk(tmp_path, slow).watched():
            outcomes = attempt(job)
        (tmp_path / f"said-{number}").write_text(json.dumps(outcomes))

    pids = [child(lambda number=number: act(number)) for number in (0, 1)]  # type: ignore[misc]
    assert [end_of(pid) for pid in pids] == [0, 0]
    said = [json.loads((tmp_path / f"said-{number}").read_text()) for number in (0, 1)]
    assert [] in said, said  # one at least has done all of it
    for line in (line for faults in said for line in faults):
        assert any(
            words in line for words in ("is being worked on by", "somebody else", "another process")
        ), line
    finish(job)
    assert contents(job) == world.equal
    archive = Archive.open(job.archive)
    assert archive.sequences() == (NAME,)
    assert len(sequence(job).runs()) == 1


def attempt(job: JobConfig) -> list[str]:
    """The faults of a run, in the words a person would see."""
    try:
        return [text for outcome in work.run(job) for text in outcome.faults()]
    except work.DeblurError as error:
        return [str(error)]


def test_a_second_run_leaves_with_a_clear_word(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "GLANCE", 0.05)
    job = world.copy(tmp_path)

    def slow(step: Step) -> None:
        time.sleep(0.02 if "/c/" in str(step.path) else 0)  # it must be at work still when the other comes

    def act() -> None:
        with Disk(Path(job.archive), slow).watched():
            finish(job)

    first = child(act)
    while not (sequence(job).path / "lease.json").exists():
        time.sleep(0.01)  # waiting for another process, which tells of its progress in files only
    (outcome,) = work.run(job)
    assert f"sequence {NAME} is being worked on by process {first} on" in str(outcome.error)
    assert outcome.faults() == [str(outcome.error)]
    assert end_of(first) == 0
    assert contents(job) == world.equal
    assert finish(job).computed == 0
    store = sequence(job)
    assert verify_run(store.run(str(store.current()))) == ()
    assert replace(outcome, error=None).sound


def test_a_survey_that_was_replaced_meanwhile(world: World, tmp_path: Path) -> None:
    """Of two jobs with settings of their own, the one that planned first does not compute from the other's survey, which
    nobody puts in its place while he does."""
    job = world.copy(tmp_path)
    planned = work.plan(job, work.ingest(job))
    other, before = (
        with_settings(job, {"motion.method": "accurate"}),
        leases.highest_claim(sequence(job).path),
    )
    work.plan(other, work.ingest(other))
    assert leases.highest_claim(sequence(job).path) == before + 1, "its turn was taken for it"
    (outcome,) = work.compute(job, planned)
    assert "surveyed with other settings meanwhile: run again" in str(outcome.error)
    assert sequence(job).runs() == ()
    finish(job)
    assert contents(job) == world.equal
