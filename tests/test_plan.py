from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import JobConfig, Source, parse_job
from deblur.errors import ConfigError
from deblur.plan import (
    Exposure,
    Parameters,
    make_plan,
    nominal_interval,
    source_exposure,
    units,
)
from deblur.store import Archive, SequenceStore, SourceStore
from deblur.tiling import Layout
from deblur.types import Estimate, FrameInfo, SequenceHeader
from tests.conftest import pan


def source_store(folder: Path, infos: list[FrameInfo], **header: object) -> SourceStore:
    frames = np.zeros((len(infos), 1, 16, 16), np.uint8)
    told = SequenceHeader("s", (1, 16, 16), "uint8", ("grey",), **header)  # type: ignore[arg-type]
    with SourceStore.create(
        folder / "source.ome.zarr", told, infos, chunk=16, shard_frames=4, shard_size=16
    ) as writer:
        for t in range(0, len(infos), 4):
            writer.write(t, frames[t : t + 4])
        return writer.finish()


def timed(*times: float | None, exposure: float | None = None) -> list[FrameInfo]:
    return [FrameInfo(f"{k}", time, exposure) for k, time in enumerate(times)]


def test_what_the_job_says_goes_before_what_the_files_say(tmp_path: Path) -> None:
    store = source_store(tmp_path, timed(0.0, 0.1, 0.2, exposure=0.05), exposure_fraction=0.9)
    assert source_exposure(Source(path="x", exposure_fraction=0.3), store) == Exposure(
        0.3, pytest.approx(0.1), "given"
    )
    assert source_exposure(Source(path="x"), store) == Exposure(0.9, pytest.approx(0.1), "metadata")


def test_exposure_time_and_frame_rate_make_the_fraction(tmp_path: Path) -> None:
    bare = source_store(tmp_path / "a", timed(None, None))
    assert source_exposure(
        Source(path="x", exposure_time=0.01, frame_rate=25), bare
    ).fraction == pytest.approx(0.25)
    exif = source_store(tmp_path / "b", timed(None, None, exposure=0.02))
    assert source_exposure(Source(path="x", frame_rate=25), exif) == Exposure(0.5, None, "metadata")
    video = source_store(tmp_path / "c", timed(0.0, 0.04, 0.08, exposure=0.01))
    assert source_exposure(Source(path="x"), video) == Exposure(0.25, pytest.approx(0.04), "metadata", True)


def test_an_unknown_exposure_is_the_estimate_and_an_impossible_one_refused(tmp_path: Path) -> None:
    store = source_store(tmp_path, timed(None, None, exposure=0.02))
    assert source_exposure(Source(path="x"), store) is None
    estimate = Estimate(0.6, 0.05)
    assert source_exposure(Source(path="x"), store, estimate=estimate) == Exposure(
        0.6, None, "estimated", uncertainty=0.05
    )
    given = Source(path="x", exposure_fraction=0.3)
    assert source_exposure(given, store, estimate=estimate) == Exposure(0.3, None, "given")
    with pytest.raises(ConfigError, match=r"exposure time × frame rate is 2, beyond \(0, 1\]"):
        source_exposure(Source(path="x", frame_rate=100), store)


def test_a_longer_interval_means_a_smaller_share_of_the_motion() -> None:
    exposure = Exposure(0.5, 0.1, "given")
    near, far = FrameInfo("b", 0.1), FrameInfo("c", 0.2)
    here = FrameInfo("a", 0.0)
    assert exposure.scale(here, near) == pytest.approx(0.5)
    assert exposure.scale(here, far) == pytest.approx(0.25)
    assert exposure.scale(far, here) == pytest.approx(0.25)
    own = Exposure(0.5, 0.1, "metadata", per_frame=True)
    assert own.scale(FrameInfo("a", 0.0, 0.02), near) == pytest.approx(0.2)


def test_the_nominal_interval_is_the_median_and_needs_all_times() -> None:
    assert nominal_interval(tuple(timed(0.0, 0.1, 0.2, 0.9, 1.0))) == pytest.approx(0.1)
    assert nominal_interval(tuple(timed(0.0, None, 0.2))) is None


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobConfig, SequenceStore]:
    folder = tmp_path_factory.mktemp("plan")
    np.save(folder / "pan.npy", pan(4, 96, 160)[0])
    job = parse_job(
        {
            "archive": str(folder / "archive"),
            "sources": [{"path": str(folder / "pan.npy"), "exposure_fraction": 0.5}],
            "tiling": {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2},
        }
    )
    work.plan(job, work.ingest(job))
    return job, Archive.open(job.archive).sequence("pan")


def test_parameters_survive_json(planned: tuple[JobConfig, SequenceStore]) -> None:
    import json

    job, store = planned
    parameters = make_plan(job, job.sources[0], store).parameters
    assert Parameters.load(json.loads(json.dumps(parameters.dump()))) == parameters


def test_keys_name_results_by_what_goes_into_them(planned: tuple[JobConfig, SequenceStore]) -> None:
    job, store = planned
    plan = make_plan(job, job.sources[0], store)
    again = make_plan(job, job.sources[0], store)
    keys = {stage: [unit.key for unit in units(plan, store, stage)] for stage in ("motion", "restore")}
    assert plan == again
    assert len({key for found in keys.values() for key in found}) == plan.cost.units
    other = make_plan(job, job.sources[0].model_copy(update={"exposure_fraction": 0.6}), store)
    assert other.run != plan.run
    assert [u.key for u in units(other, store, "motion")] == keys["motion"]
    assert not {u.key for u in units(other, store, "restore")} & set(keys["restore"])


def test_a_later_plan_keeps_the_layout_of_the_published_run(tmp_path: Path) -> None:
    np.save(tmp_path / "pan.npy", pan(4, 96, 160)[0])
    sources = [{"path": str(tmp_path / "pan.npy"), "exposure_fraction": 0.5}]
    given = {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2}
    told = {"archive": str(tmp_path / "archive"), "sources": sources, "cluster": {"kind": "serial"}}
    first = parse_job(told | {"tiling": given})
    (before,) = work.run(first)
    later = parse_job(told | {"tiling": {"chunk": 32, "shard": 64}, "restore": {"iterations": 2}})
    (after,) = work.plan(later, work.ingest(later))
    assert before.plan is not None
    assert after.plan is not None
    assert after.plan.layout == before.plan.layout
    assert after.plan.run != before.plan.run
    (checked,) = work.plan(later, work.ingest(later), check=True)
    assert checked.carried == checked.missing == before.plan.cost.units // 2
    other = parse_job(told | {"tiling": given | {"window": 128, "unit": 128}})
    (changed,) = work.plan(other, work.ingest(other))
    assert changed.plan is not None
    assert changed.plan.layout == Layout(128, 32, 64, 128, 2)
