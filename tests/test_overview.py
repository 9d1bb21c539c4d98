"""The survey of a stored sequence: the values of one call, whoever computes its blocks and however often it is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur import overview
from deblur.config import JobConfig, parse_job
from deblur.errors import StoreError
from deblur.execute import run_tasks
from deblur.plan import source_light
from deblur.store import Archive, SequenceStore
from deblur.survey import survey
from deblur.unit import Task
from tests.conftest import pan

COUNT, CUT = 9, 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = pan(COUNT, 96, 160, step=12, fraction=0.75)[0].copy()
    frames[CUT + 1 :] = frames[CUT + 1 :, :, ::-1]
    path = tmp_path_factory.mktemp("clip") / "pan.npy"
    np.save(path, frames)
    return path


def job_of(clip: Path, archive: Path, fraction: float | None = 0.75) -> dict[str, Any]:
    return {
        "archive": str(archive),
        "sources": [{"path": str(clip), "exposure_fraction": fraction, "transfer": "linear"}],
        "tiling": {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2},
        "cluster": {"kind": "serial"},
    }


def ingested(clip: Path, archive: Path, fraction: float | None = 0.75) -> tuple[JobConfig, SequenceStore]:
    job = parse_job(job_of(clip, archive, fraction))
    (found,) = work.ingest(job)
    return job, Archive.open(archive).sequence(found.id)


@pytest.fixture(scope="module")
def undisturbed(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    job, store = ingested(clip, tmp_path_factory.mktemp("undisturbed") / "archive")
    return surveyed(job, store)


def surveyed(
    job: JobConfig, store: SequenceStore, progress: Callable[[str, int, int], None] = work.silent
) -> SequenceStore:
    share = lambda need: nullcontext(None)  # noqa: E731
    overview.ensure_survey(job, job.sources[0], store, connection=share, progress=progress)
    return store


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, *, fails_at: int = -1) -> Iterator[list[int]]:
    """The first frames of the blocks that are surveyed; at one of them a fault."""
    began: list[int] = []
    usual = overview.survey_unit

    def unit(task: Task) -> dict[str, Any]:
        if task.unit.t0 == fails_at:
            raise RuntimeError("no luck")
        began.append(task.unit.t0)
        return usual(task)

    with monkeypatch.context() as patch:
        patch.setattr(overview, "survey_unit", unit)
        yield began


def everything(store: SequenceStore) -> dict[str, Any]:
    names = (*overview.KEPT, "forward", "backward")
    return {name: store.survey_part(name, 0, COUNT) for name in names}


def test_blocks_say_what_one_call_says(clip: Path, undisturbed: SequenceStore) -> None:
    light = source_light(parse_job(job_of(clip, clip.parent)).sources[0], undisturbed.source)
    whole = survey(np.load(clip), light=light, motion_method="fast", fraction=0.75)
    found = everything(undisturbed)
    for name in ("forward", "linked", "noise", "noise_curve", "shake", "unsteady"):
        assert np.array_equal(found[name], getattr(whole, name)), name
    assert np.array_equal(found["backward"][:-1], whole.backward[1:])  # its rows are pairs
    assert np.flatnonzero(~found["linked"]).tolist() == [CUT, COUNT - 1]
    assert found["shake"].any()
    attrs = undisturbed.survey_attrs()
    assert (attrs["longest"], attrs["reduction"]) == (whole.longest, whole.reduction)


@pytest.mark.parametrize("rows", [(1, 1), (4, 3)])
def test_the_size_of_blocks_does_not_change_a_bit(
    clip: Path,
    undisturbed: SequenceStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: tuple[int, int],
) -> None:
    monkeypatch.setattr(overview, "BLOCK", rows[0])
    monkeypatch.setattr(overview, "ROWS", rows[1])
    assert surveyed(*ingested(clip, tmp_path / "archive")).survey_digest() == undisturbed.survey_digest()


def test_an_estimate_is_that_of_one_call(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur import estimate_exposure_fraction

    told = estimate_exposure_fraction(np.load(clip), transfer="linear")
    job, store = ingested(clip, tmp_path / "archive", None)
    assert surveyed(job, store).survey_attrs()["exposure"] == {
        "value": told.value,
        "uncertainty": told.uncertainty,
    }
    assert [path.name for path in store.path.glob(".*")] == []


def test_a_survey_that_is_there_is_not_made_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = ingested(clip, tmp_path / "archive")
    with counted(monkeypatch) as began:
        for _ in range(2):
            surveyed(job, store)
    assert began == [0, 8]
    other = job.model_copy(
        update={"sources": (job.sources[0].model_copy(update={"exposure_fraction": 0.5}),)}
    )
    before = store.survey_digest()
    assert surveyed(other, store).survey_digest() != before


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_after_a_kill_only_what_was_in_flight_is_surveyed_again(
    clip: Path, undisturbed: SequenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "BLOCK", 3)
    job, store = ingested(clip, tmp_path / "archive")
    reports: list[int] = []

    def dying(stage: str, done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == 2:
            raise Killed

    with counted(monkeypatch) as first, pytest.raises(Killed):
        surveyed(job, store, dying)
    assert not store.has_survey()
    with counted(monkeypatch) as second:
        surveyed(job, store)
    assert (first, second) == ([0, 3], [6])
    assert undisturbed.survey_digest() == store.survey_digest()
    assert [path.name for path in store.path.iterdir() if path.name.startswith(".")] == []


def test_a_block_that_fails_is_named_and_the_rest_is_kept(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "BLOCK", 3)
    job, store = ingested(clip, tmp_path / "archive")
    with (
        counted(monkeypatch, fails_at=3) as first,
        pytest.raises(StoreError, match=r"survey frames 3–5.*no luck"),
    ):
        surveyed(job, store)
    with counted(monkeypatch) as second:
        surveyed(job, store)
    assert (first, second) == ([0, 6], [3])


def test_somebody_else_may_be_faster(
    clip: Path, undisturbed: SequenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = ingested(clip, tmp_path / "archive")

    def slower(tasks: Any, **options: Any) -> Any:
        monkeypatch.setattr(overview, "run_tasks", run_tasks)
        surveyed(job, store)
        return run_tasks(tasks, **options)

    monkeypatch.setattr(overview, "run_tasks", slower)
    assert surveyed(job, store).survey_digest() == undisturbed.survey_digest()
    assert np.array_equal(store.survey_part("shake", 0, COUNT), undisturbed.survey_part("shake", 0, COUNT))


@pytest.mark.slow
def test_workers_give_the_same_survey(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur.config import with_settings
    from deblur.crew import Crew

    monkeypatch.setattr(overview, "WORTH", 0)
    monkeypatch.setattr(overview, "BLOCK", 3)
    found = []
    for kind, fraction in (("serial", None), ("local", None)):
        job, store = ingested(clip, tmp_path / kind, fraction)
        job = with_settings(job, {"cluster.kind": kind, "cluster.workers": 2})
        with Crew(job) as crew:
            overview.ensure_survey(job, job.sources[0], store, connection=crew.share, progress=work.silent)
        found.append(store.survey_digest())
    assert found[0] == found[1]
