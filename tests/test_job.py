"""The engine as a whole: the promises of the archive job, on small synthetic sequences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import job as work
from deblur.config import JobConfig, parse_job, with_settings
from deblur.errors import ConfigError, PlanError
from deblur.execute import ATTEMPTS
from deblur.outcome import Outcome
from deblur.store import Archive, RunStore
from deblur.unit import Task, run_unit
from tests.conftest import pan

FRAMES, HEIGHT, WIDTH = 5, 96, 160


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    frames, truth = pan(FRAMES, HEIGHT, WIDTH)
    path = tmp_path_factory.mktemp("clip") / "pan.npy"
    np.save(path, frames)
    return path, truth


def job_for(clip: Path, archive: Path, **tiling: int) -> JobConfig:
    small = {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2} | tiling
    source = {"path": str(clip), "exposure_fraction": 0.75, "transfer": "linear"}
    return parse_job(
        {"archive": str(archive), "sources": [source], "tiling": small, "cluster": {"kind": "serial"}}
    )


def published(job: JobConfig, outcome: Outcome) -> RunStore:
    assert outcome.published, outcome.faults()
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence(outcome.plan.sequence)
    return store.run(str(store.current()))


def pixels(run: RunStore) -> dict[str, NDArray[Any]]:
    return {
        name: run.read(name, 0, FRAMES)
        for name in ("0", "motion/forward", "motion/backward", "quality/weight")
    }


@pytest.fixture(scope="module")
def first(clip: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, RunStore]:
    """One undisturbed run, which the others are compared with."""
    job = job_for(clip[0], tmp_path_factory.mktemp("first") / "archive")
    (outcome,) = work.run(job)
    return job, published(job, outcome)


def test_the_job_improves_a_known_pan(
    first: tuple[JobConfig, RunStore], clip: tuple[Path, NDArray[np.uint8]]
) -> None:
    frames, truth = np.load(clip[0]), clip[1]
    restored = first[1].read("0", 0, FRAMES)
    cut = (..., slice(16, -16), slice(16, -16))

    def error(image: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(((image[cut].astype(float) - truth[cut]) ** 2).mean(axis=(1, 2, 3)))

    gain = 10 * np.log10(error(frames) / error(restored))
    assert gain.min() > -0.1
    assert gain.mean() > 1.0


@pytest.mark.parametrize(
    "tiling",
    [
        {"unit": 128, "shard": 128, "frames": 2},
        {"unit": 192, "shard": 32, "frames": 3},
        {"unit": 64, "shard": 32, "frames": 1},
    ],
)
def test_units_and_shards_do_not_change_a_bit(
    first: tuple[JobConfig, RunStore], clip: tuple[Path, Any], tmp_path: Path, tiling: dict[str, int]
) -> None:
    job = job_for(clip[0], tmp_path / "archive", **tiling)
    (outcome,) = work.run(job)
    expected, found = pixels(first[1]), pixels(published(job, outcome))
    for name in expected:
        assert np.array_equal(expected[name], found[name]), name


def test_a_second_run_computes_nothing(first: tuple[JobConfig, RunStore]) -> None:
    (outcome,) = work.run(first[0])
    assert (outcome.computed, outcome.carried, outcome.published) == (0, 0, True)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_after_a_kill_only_missing_units_are_computed(
    first: tuple[JobConfig, RunStore], clip: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(clip[0], tmp_path / "archive")
    survived = 5
    ran: list[Task] = []

    def dying(task: Task) -> dict[str, Any]:
        if len(ran) == survived:
            raise Killed
        ran.append(task)
        return run_unit(task)

    outcomes = work.plan(job, work.ingest(job))
    monkeypatch.setattr(work, "run_tasks", lambda tasks, done, **_: _serially(tasks, done, dying))
    with pytest.raises(Killed):
        work.compute(job, outcomes)
    monkeypatch.undo()
    (outcome,) = work.run(job)
    assert outcome.plan is not None
    assert outcome.computed == outcome.plan.cost.units - survived
    expected, found = pixels(first[1]), pixels(published(job, outcome))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def _serially(tasks: list[Task], done: Any, work_on: Any) -> list[Any]:
    for task in tasks:
        done(task, work_on(task))
    return []


def test_reprocessing_the_last_stage_keeps_the_motion(clip: tuple[Path, Any], tmp_path: Path) -> None:
    job = job_for(clip[0], tmp_path / "archive")
    (before,) = work.run(job)
    changed = with_settings(job, {"restore.iterations": 2})
    outcomes = work.plan(changed, work.published(changed))
    (after,) = work.publish(changed, work.verify(changed, work.compute(changed, outcomes)))
    assert before.plan is not None
    assert after.plan is not None
    assert after.plan.run != before.plan.run
    assert after.parent == before.plan.run
    assert after.carried == after.computed == after.plan.cost.units // 2
    old, new = (Archive.open(job.archive).sequence("pan").run(o.plan.run) for o in (before, after) if o.plan)
    assert np.array_equal(old.read("motion/forward", 0, FRAMES), new.read("motion/forward", 0, FRAMES))
    assert not np.array_equal(old.read("0", 0, FRAMES), new.read("0", 0, FRAMES))


def test_a_failing_unit_is_named_and_the_rest_is_done(
    clip: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deblur.execute

    job = job_for(clip[0], tmp_path / "archive")
    tried: list[str] = []

    def poisoned(task: Task) -> dict[str, Any]:
        if (
            task.unit.stage == "restore"
            and task.unit.t0 == 2
            and task.unit.box.x0 == 64
            and task.unit.box.y0 == 0
        ):
            tried.append(task.unit.key)
            raise RuntimeError("poison")
        return run_unit(task)

    monkeypatch.setattr(
        work,
        "run_tasks",
        lambda tasks, done, **_: deblur.execute.run_tasks(tasks, done=done, work=poisoned),
    )
    (outcome,) = work.run(job)
    assert len(tried) == ATTEMPTS
    assert not outcome.published
    assert [str(f).split(":")[0] for f in outcome.failures] == [
        "pan restore frames 2–3 box Box(y0=0, y1=64, x0=64, x1=128)"
    ]
    assert outcome.plan is not None
    assert outcome.computed == outcome.plan.cost.units - 1


def test_a_plan_over_the_memory_limit_is_refused(clip: tuple[Path, Any], tmp_path: Path) -> None:
    job = with_settings(job_for(clip[0], tmp_path / "archive"), {"limits.memory": "200 MiB"})
    with pytest.raises(PlanError, match=r"a unit needs \d+ MiB, limits\.memory is 200 MiB"):
        work.run(job)
    assert Archive.open(job.archive).sequence("pan").runs() == ()


def without_exposure(job: JobConfig) -> JobConfig:
    source = job.sources[0].model_copy(update={"exposure_fraction": None})
    return job.model_copy(update={"sources": (source,)})


def test_an_exposure_that_nobody_tells_is_estimated_and_recorded(tmp_path: Path) -> None:
    frames = pan(4, 96, 160, step=12)[0]
    np.save(tmp_path / "fast.npy", frames)
    job = without_exposure(
        job_for(tmp_path / "fast.npy", tmp_path / "archive", window=128, unit=128, shard=128)
    )
    (outcome,) = work.run(job)
    told = published(job, outcome).parameters["exposure"]
    assert told["origin"] == "estimated"
    assert abs(told["fraction"] - 0.75) < 3 * told["uncertainty"]
    assert 0 < told["uncertainty"] < 0.2
    surveyed = Archive.open(job.archive).sequence("fast").survey_attrs()["exposure"]
    assert surveyed == {"value": told["fraction"], "uncertainty": told["uncertainty"]}
    (again,) = work.run(job)
    assert again.computed == 0


@pytest.mark.parametrize(
    ("count", "words"), [(2, "2 frames can't tell it: give exposure_fraction"), (4, "move enough")]
)
def test_an_exposure_that_cannot_be_told_is_refused(tmp_path: Path, count: int, words: str) -> None:
    np.save(tmp_path / "still.npy", np.repeat(pan(1, 64, 96)[0], count, axis=0))
    with pytest.raises(ConfigError, match=f"exposure fraction unknown.*{words}") as caught:
        work.run(without_exposure(job_for(tmp_path / "still.npy", tmp_path / "archive")))
    assert "\n" not in str(caught.value)


def test_an_exposure_that_cannot_be_told_is_what_the_job_says(tmp_path: Path) -> None:
    np.save(tmp_path / "still.npy", np.repeat(pan(1, 64, 96)[0], 4, axis=0))
    plain = without_exposure(job_for(tmp_path / "still.npy", tmp_path / "archive"))

    def told(fraction: float | None) -> JobConfig:
        return plain.model_copy(
            update={"sources": (plain.sources[0].model_copy(update={"exposure_otherwise": fraction}),)}
        )

    for fraction in (0.25, 0.5):
        run = published(plain, work.run(told(fraction))[0])
        assert run.parameters["exposure"] == {
            "fraction": fraction, "interval": None, "origin": "assumed", "per_frame": False, "uncertainty": None,
        }  # fmt: skip
        assert work.run(told(fraction))[0].computed == 0
    with pytest.raises(ConfigError, match="move enough"):
        work.run(told(None))


def test_gradients_are_stored_when_asked_for(clip: tuple[Path, Any], tmp_path: Path) -> None:
    from deblur.gradients import sobel
    from deblur.light import Light, luma

    job = with_settings(job_for(clip[0], tmp_path / "archive"), {"outputs": ["gradients"]})
    run = published(job, work.run(job)[0])
    frames = [luma(frame, Light(0, 255, "linear")) for frame in np.load(clip[0])]
    assert np.allclose(run.read("gradients/spatial", 2, 3)[0], sobel(frames[2]), atol=1e-5)
    assert np.allclose(run.read("gradients/temporal", 2, 3)[0], (frames[3] - frames[1]) / 2, atol=1e-6)


def test_the_ledger_and_the_crate_tell_the_story(first: tuple[JobConfig, RunStore]) -> None:
    run = first[1]
    records = list(run.ledger().finished().values())
    shards = [key for record in records for key in record["shards"]]
    assert len(shards) == len(set(shards)) == run.expected_shards()
    assert all(
        {"host", "pid", "seconds", "box", "attempt"} <= set(r) for r in records if r["stage"] != "pyramid"
    )
    crate = json.loads((run.path / "ro-crate-metadata.json").read_text())
    text = json.dumps(crate)
    assert Archive.open(first[0].archive).sequence("pan").source.digest in text
    assert run.id in text


def test_one_window_gives_what_the_numpy_function_gives(clip: tuple[Path, Any], tmp_path: Path) -> None:
    import deblur

    job = job_for(clip[0], tmp_path / "archive", window=192, unit=192)
    run = published(job, work.run(job)[0])
    result = deblur.restore(np.load(clip[0]), exposure_fraction=0.75, transfer="linear")
    assert np.array_equal(run.read("0", 0, FRAMES), result.frames)
    assert np.array_equal(run.read("quality/weight", 0, FRAMES), np.rint(result.weight * 255))
    assert np.array_equal(run.read("quality/reason", 0, FRAMES), result.reason)
