"""Storage that is full, slow, forbidden, or hiccups: a clear word, nothing published is touched, and later all is equal."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deblur.execute as execute
from deblur import job as work
from deblur.config import with_settings
from deblur.store import verify_run
from tests.faults.disk import Disk, Failing, Step
from tests.faults.world import UNITS, World, child, contents, end_of, finish, partials, sequence

pytestmark = pytest.mark.slow
NAMES = {"full": errno.ENOSPC, "quota": errno.EDQUOT, "forbidden": errno.EACCES, "read-only": errno.EROFS}


def of_a_shard(step: Step) -> bool:
    return "/c/" in str(step.path)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each unit was begun."""
    found: Counter[str] = Counter()
    real, run = execute.run_unit, work.run_tasks

    def counted(task: Any) -> Any:
        found[task.unit.key] += 1
        return real(task)

    monkeypatch.setattr(work, "run_tasks", lambda tasks, **told: run(tasks, **{**told, "work": counted}))
    return found


@pytest.mark.one_of("storage stays wrong")
@pytest.mark.parametrize("kind", NAMES)
def test_what_stays_wrong_is_tried_once_and_named(
    world: World, tmp_path: Path, tried: Counter[str], kind: str
) -> None:
    job = world.copy(tmp_path)
    finish(job)
    before, current = contents(job), sequence(job).current()
    changed = with_settings(job, {"restore.iterations": 16})
    tried.clear()
    broken = Failing(NAMES[kind], lambda step: of_a_shard(step) and "/motion/" not in str(step.path))
    with Disk(Path(job.archive), broken).watched():
        (outcome,) = work.run(changed)
    assert broken.happened
    assert not outcome.published
    assert outcome.failures
    assert max(tried.values()) == 1
    assert all(os.strerror(NAMES[kind]) in text and "\n" not in text for text in outcome.faults())
    assert (contents(job), sequence(job).current()) == (before, current)
    assert verify_run(sequence(job).run(str(current))) == ()

    calm = world.copy(tmp_path / "calm")
    finish(with_settings(calm, {"restore.iterations": 16}))
    finish(changed)
    assert contents(changed) == contents(calm)
    assert partials(job) == []


@pytest.mark.seeds(2)
def test_a_hiccup_is_tried_again(world: World, tmp_path: Path, tried: Counter[str], seed: int) -> None:
    """Wherever it strikes while units are computed and recorded, nobody has to start anything again."""
    job = world.copy(tmp_path)
    rng = np.random.default_rng(seed)
    at = iter(sorted(rng.choice(300, 3, replace=False)))
    due, passed = next(at), 0

    def now_and_then(step: Step) -> bool:
        nonlocal due, passed
        if not (of_a_shard(step) or step.path.suffix == ".jsonl"):
            return False
        passed += 1
        if passed < due:
            return False
        due = next(at, 10**9)
        return True

    broken = Failing(errno.EIO, now_and_then)
    with Disk(Path(job.archive), broken).watched():
        outcome = finish(job)
    assert len(broken.happened) >= 2
    assert outcome.failures == ()
    assert contents(job) == world.equal
    attempts = [record["attempt"] for record in _records(job)]
    again = sum(attempts) - len(attempts)
    shards = sum(of_a_shard(step) for step in broken.happened)
    assert (
        min(1, shards) <= again <= shards
    )  # one that strikes while another is cleaned up costs nothing more
    assert sum(tried.values()) == UNITS + again
    assert partials(job) == []


def _records(job: Any) -> list[dict[str, Any]]:
    store = sequence(job)
    return [told for told in store.run(str(store.current())).ledger().latest() if told["stage"] != "pyramid"]


def test_a_hiccup_without_end_is_given_up(world: World, tmp_path: Path, tried: Counter[str]) -> None:
    job = world.copy(tmp_path)
    broken = Failing(errno.EIO, lambda step: "/motion/forward/c/0/0/0/0" in str(step.path))
    with Disk(Path(job.archive), broken).watched():
        (outcome,) = work.run(job)
    assert not outcome.published
    (failure,) = [f for f in outcome.failures if f.task.unit.stage == "motion"]
    assert tried[failure.task.unit.key] == execute.ATTEMPTS
    assert "Input/output error" in str(failure)
    finish(job)
    assert contents(job) == world.equal


@pytest.mark.seeds(2)
def test_a_hiccup_anywhere_leaves_nothing_that_a_second_run_does_not_mend(
    world: World, tmp_path: Path, seed: int
) -> None:
    job = world.copy(tmp_path)
    at = int(np.random.default_rng(seed).integers(560))
    broken = Failing(errno.EIO, lambda step: step.number >= at, times=1)
    with Disk(Path(job.archive), broken).watched():
        outcomes = attempt(job)
    assert len(broken.happened) == 1
    if not outcomes or not all(outcome.published for outcome in outcomes):
        finish(job)
    assert contents(job) == world.equal
    assert partials(job) == []


def attempt(job: Any) -> list[Any]:
    """A run that may fail, but only in one clear line."""
    try:
        outcomes = work.run(job)
    except OSError as error:  # the command line says this in one line too
        return [] if error.filename else pytest.fail(f"nobody knows where: {error}")
    for outcome in outcomes:
        assert outcome.published or (outcome.faults() and all("\n" not in text for text in outcome.faults()))
    return outcomes or []


def test_slow_storage_is_only_slow(world: World, tmp_path: Path) -> None:
    job = world.copy(tmp_path)
    slept: list[int] = []

    def slow(step: Step) -> None:
        slept.append(step.number)
        time.sleep(0.002)  # the fault itself

    with Disk(Path(job.archive), slow).watched():
        finish(job)
    assert len(slept) > 100
    assert contents(job) == world.equal


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "deblur-test", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"this machine mounts nothing: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(world: World, tmp_path: Path, small_disk: Path) -> None:
    job = world.copy(small_disk)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    ballast.write_bytes(bytes(free - 160 * 1024))  # room for some units, not for all

    def act() -> None:
        (outcome,) = attempt(job)
        assert not outcome.published
        assert all("No space left" in text for text in outcome.faults())

    assert end_of(child(act)) == 0
    ballast.unlink()
    assert finish(job).computed <= UNITS
    assert contents(job) == world.equal
    assert partials(job) == []
