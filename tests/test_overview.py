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

COUNT, CUT = 11, 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = pan(COUNT, 96, 160, step=12, fraction=0.75)[0].copy()
    frames[CUT + 1 :] = frames[CUT + 1 :, :, ::-1]
    path = tmp_path_factory.mktemp("clip") / "pan.npy"
    np.save(path, frames)
    return path


def ingested(clip: Path, archive: Path, fraction: float | None = 0.75) -> tuple[JobConfig, SequenceStore]:
    job = parse_job(
        {
            "archive": str(archive),
            "sources": [{"path": str(clip), "exposure_fraction": fraction, "transfer": "linear"}],
            "tiling": {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2},
            "cluster": {"kind": "serial"},
        }
    )
    (found,) = work.ingest(job)
    return job, Archive.open(archive).sequence(found.id)


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


@pytest.mark.parametrize("rows", [(8, 4096), (2, 4), (1, 1), (4, 3)])
def test_blocks_say_what_one_call_says(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: tuple[int, int]
) -> None:
    monkeypatch.setattr(overview, "BLOCK", rows[0])
    monkeypatch.setattr(overview, "ROWS", rows[1])
    job, store = ingested(clip, tmp_path / "archive")
    surveyed(job, store)
    whole = survey(
        np.load(clip),
        light=source_light(job.sources[0], store.source),
        motion_method=job.motion.method,
        fraction=0.75,
    )
    found = everything(store)
    for name in ("forward", "linked", "noise", "noise_curve", "shake", "unsteady"):
        assert np.array_equal(found[name], getattr(whole, name)), name
    assert np.array_equal(found["backward"][:-1], whole.backward[1:])  # its rows are pairs
    assert np.flatnonzero(~found["linked"]).tolist() == [CUT, COUNT - 1]
    attrs = store.survey_attrs()
    assert (attrs["longest"], attrs["reduction"]) == (whole.longest, whole.reduction)
    other, again = ingested(clip, tmp_path / "other")
    monkeypatch.setattr(overview, "BLOCK", 8)
    monkeypatch.setattr(overview, "ROWS", 4096)
    assert surveyed(other, again).survey_digest() == store.survey_digest()


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


@pytest.mark.parametrize("at", range(1, 4))
def test_after_a_kill_only_what_was_in_flight_is_surveyed_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(overview, "BLOCK", 3)
    job, store = ingested(clip, tmp_path / "archive")
    reports: list[int] = []

    def dying(stage: str, done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == at:
            raise Killed

    with counted(monkeypatch) as first, pytest.raises(Killed):
        surveyed(job, store, dying)
    assert not store.has_survey()
    with counted(monkeypatch) as second:
        surveyed(job, store)
    assert first + second == [0, 3, 6, 9]
    assert second
    other, undisturbed = ingested(clip, tmp_path / "other")
    assert surveyed(other, undisturbed).survey_digest() == store.survey_digest()
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
    assert (first, second) == ([0, 6, 9], [3])


def test_somebody_else_may_be_faster(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, store = ingested(clip, tmp_path / "archive")

    def slower(tasks: Any, **options: Any) -> Any:
        monkeypatch.setattr(overview, "run_tasks", run_tasks)
        surveyed(job, store)
        return run_tasks(tasks, **options)

    monkeypatch.setattr(overview, "run_tasks", slower)
    expected = surveyed(job, store).survey_digest()
    assert store.survey_part("shake", 0, COUNT).any()
    other, alone = ingested(clip, tmp_path / "other")
    assert surveyed(other, alone).survey_digest() == expected


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
