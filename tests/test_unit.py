from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur import provenance, unit
from deblur.config import JobConfig, parse_job
from deblur.errors import NumericsError, StoreError
from deblur.plan import STAGES, units
from deblur.store import Archive
from deblur.store.arrays import ShardedArray
from deblur.store.shards import Region
from deblur.unit import Task, run_unit
from tests.conftest import pan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, list[Task]]:
    """A run that is laid out but not computed."""
    folder = tmp_path_factory.mktemp("unit")
    np.save(folder / "pan.npy", pan(2, 64, 64)[0])
    job = parse_job(
        {
            "archive": str(folder / "archive"),
            "sources": [{"path": str(folder / "pan.npy"), "exposure_fraction": 0.5}],
            "tiling": {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2},
        }
    )
    (outcome,) = work.plan(job, work.ingest(job))
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence("pan")
    store.create_run(outcome.plan.run, work.run_spec(outcome.plan, store, job))
    tasks = [
        Task(job.archive, "pan", outcome.plan.run, u)
        for stage in STAGES
        for u in units(outcome.plan, store, stage)
    ]
    return job, tasks


def test_restoring_before_the_motion_is_there_is_refused(planned: tuple[JobConfig, list[Task]]) -> None:
    restore = next(task for task in planned[1] if task.unit.stage == "restore")
    store = Archive.open(restore.archive).sequence("pan")
    empty = store.create_run("without-motion", store.run(restore.run).spec)
    with pytest.raises(StoreError, match="is missing"):
        run_unit(replace(restore, run=empty.id))


def test_a_unit_done_twice_gives_the_same_bytes(planned: tuple[JobConfig, list[Task]]) -> None:
    for task in planned[1]:
        first, second = run_unit(task), run_unit(task)
        assert first["shards"] == second["shards"]
        assert first["key"] == task.unit.key


def test_a_descriptor_is_a_few_hundred_bytes(planned: tuple[JobConfig, list[Task]]) -> None:
    import pickle

    assert max(len(pickle.dumps(task)) for task in planned[1]) < 800


def test_frames_are_decoded_once_and_motion_is_computed_once_a_unit_and_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "pan.npy", pan(8, 64, 192)[0])
    tiling = {"window": 64, "chunk": 32, "shard": 64, "unit": 192, "frames": 4}
    sources = [{"path": str(tmp_path / "pan.npy"), "exposure_fraction": 0.5}]
    job = parse_job({"archive": str(tmp_path / "archive"), "sources": sources, "tiling": tiling})
    (outcome,) = work.plan(job, work.ingest(job))
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence("pan")
    store.create_run(outcome.plan.run, work.run_spec(outcome.plan, store, job))
    decoded: list[tuple[str, int, int]] = []
    refined = 0
    read, refine = ShardedArray.read, unit.refine

    def counted_read(array: ShardedArray, region: Region) -> Any:
        decoded.append((array.name, *region[0]))
        return read(array, region)

    def counted_refine(*arguments: Any, **settings: Any) -> Any:
        nonlocal refined
        refined += 1
        return refine(*arguments, **settings)

    monkeypatch.setattr(ShardedArray, "read", counted_read)
    monkeypatch.setattr(unit, "refine", counted_refine)
    for stage in STAGES:
        for task in (
            Task(job.archive, "pan", outcome.plan.run, u) for u in units(outcome.plan, store, stage)
        ):
            decoded.clear()
            refined = 0
            run_unit(task)
            first, last = max(0, task.unit.t0 - 1), min(8, task.unit.t1 + 1)
            assert len(set(decoded)) == len(decoded)
            assert sorted(at for name, *at in decoded if name == "0") == [
                [t, t + 1] for t in range(first, last)
            ]
            directions = 2 * 4 - 1  # the first frame of all has none before it, the last none after it
            assert refined == (directions * 3 if stage == "motion" else 0)  # 3 windows


def test_another_numerics_class_is_refused(
    planned: tuple[JobConfig, list[Task]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit._context.cache_clear()
    monkeypatch.setattr(unit, "numerics_class", lambda: provenance.numerics_class() | {"numpy": "1.0"})
    with pytest.raises(NumericsError, match=r"another numerics class .*numpy 1\.0 instead of"):
        run_unit(planned[1][0])
    unit._context.cache_clear()
