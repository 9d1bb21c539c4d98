import numpy as np
import pytest

from deblur import job as work
from deblur import provenance, unit
from deblur.config import JobConfig, parse_job
from deblur.errors import NumericsError, StoreError
from deblur.plan import STAGES, units
from deblur.store import Archive
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
    with pytest.raises(StoreError, match="is missing"):
        run_unit(restore)


def test_a_unit_done_twice_gives_the_same_bytes(planned: tuple[JobConfig, list[Task]]) -> None:
    for task in planned[1]:
        first, second = run_unit(task), run_unit(task)
        assert first["shards"] == second["shards"]
        assert first["key"] == task.unit.key


def test_a_descriptor_is_a_few_hundred_bytes(planned: tuple[JobConfig, list[Task]]) -> None:
    import pickle

    assert max(len(pickle.dumps(task)) for task in planned[1]) < 800


def test_another_numerics_class_is_refused(
    planned: tuple[JobConfig, list[Task]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit._context.cache_clear()
    monkeypatch.setattr(unit, "numerics_class", lambda: provenance.numerics_class() | {"numpy": "1.0"})
    with pytest.raises(NumericsError, match=r"another numerics class .*numpy 1\.0 instead of"):
        run_unit(planned[1][0])
    unit._context.cache_clear()
