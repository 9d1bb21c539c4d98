"""A rolling shutter through the whole: frames rendered row by row, each row over its own exposure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur.config import parse_job
from deblur.errors import ArrayError, ConfigError
from deblur.motion.rolling import motion_per_interval
from deblur.paths import exposure_path
from deblur.plan import make_plan, units
from deblur.sequence import restore
from deblur.store import Archive
from tests.motion.scenes import texture

HEIGHT, WIDTH, READOUT, FRACTION = 96, 128, 1.0, 0.6
SPEED, GROWTH = (
    np.array([9.0, 5.0]),
    np.array([8.0, -3.0]),
)  # px an interval, and by how much that grows in one


def moved(time: Any, growth: np.ndarray = GROWTH) -> Any:
    return SPEED[:, None, None] * time + growth[:, None, None] * time**2 / 2


def view(middle: float, *, exposure: float, growth: np.ndarray = GROWTH) -> np.ndarray:
    """Frame `middle`: row y is open for `exposure` about the time middle + READOUT y / HEIGHT."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    total = np.zeros(y.shape)
    count = 15 if exposure else 1
    for share in (np.arange(count) + 0.5) / count - 0.5:
        dy, dx = moved(middle + READOUT * y / HEIGHT + share * exposure, growth)
        total += texture(y - dy, x - dx, 3)
    return np.asarray(total / count, np.float32)


def displacement(step: int, growth: np.ndarray) -> np.ndarray:
    """From where frame 0 saw a point to where frame `step` does: a fixed point, since rows differ in time."""
    y = np.mgrid[:HEIGHT, :WIDTH][0].astype(float)
    here = READOUT * y / HEIGHT
    way = np.zeros((2, HEIGHT, WIDTH))
    for _ in range(60):
        way = moved(step + READOUT * (y + way[0]) / HEIGHT, growth) - moved(here, growth)
    return way.astype(np.float32)


def true_path(growth: np.ndarray) -> np.ndarray:
    y = np.mgrid[:HEIGHT, :WIDTH][0].astype(float)
    speed = SPEED[:, None, None] + growth[:, None, None] * (READOUT * y / HEIGHT)
    return speed * FRACTION / (1 - speed[0] * READOUT / HEIGHT)  # its rows come later as it moves down


@pytest.fixture(scope="module")
def seen() -> np.ndarray:
    return np.stack([view(t, exposure=FRACTION) for t in (-1.0, 0.0, 1.0)])


@pytest.mark.parametrize(("growth", "worst"), [(0.0, 1e-3), (1.0, 0.12)])
def test_the_path_is_that_of_the_rows_own_exposure(growth: float, worst: float) -> None:
    there, back = (displacement(step, GROWTH * growth) for step in (1, -1))
    sure = np.ones((HEIGHT, WIDTH), np.float32)
    found, plain = (
        exposure_path([there, back], [FRACTION, -FRACTION], [sure, sure], row_time=row_time)
        for row_time in (READOUT / HEIGHT, 0.0)
    )
    errors = [np.hypot(*(path - true_path(GROWTH * growth))).max() for path in (found, plain)]
    assert errors[0] < worst
    assert errors[0] < errors[1] / 2 or growth == 0  # at an even speed both are right


def test_one_side_alone_keeps_its_path() -> None:
    there, sure = displacement(1, GROWTH), np.ones((HEIGHT, WIDTH), np.float32)
    with_rows = exposure_path([there], [FRACTION], [sure], row_time=READOUT / HEIGHT)
    np.testing.assert_allclose(with_rows, exposure_path([there], [FRACTION], [sure]), rtol=1e-4)


def test_frames_that_speed_up_are_restored_better_with_their_readout(seen: np.ndarray) -> None:
    truth = view(0.0, exposure=0)
    inner = (slice(24, -24), slice(24, -24))

    def error(frame: np.ndarray) -> float:
        return float(np.mean((frame - truth)[inner] ** 2))

    known, ignored = (restore(seen, exposure_fraction=FRACTION, readout=r) for r in (READOUT, 0.0))
    assert error(known.frames[1]) < error(ignored.frames[1]) < error(seen[1])
    per_interval = motion_per_interval(ignored.motion[1], readout=READOUT, rows=HEIGHT)
    np.testing.assert_array_equal(known.motion[1], per_interval)


def test_an_archive_computes_what_the_numpy_function_does(seen: np.ndarray, tmp_path: Path) -> None:
    codes = np.rint(seen * 255).astype(np.uint8)
    np.save(tmp_path / "pan.npy", codes)
    source = {"path": str(tmp_path / "pan.npy"), "exposure_fraction": FRACTION, "transfer": "linear"}
    job = parse_job(
        {
            "archive": str(tmp_path / "archive"),
            "sources": [source | {"readout": READOUT}],
            "tiling": {"window": 192, "chunk": 32, "shard": 64, "unit": 192, "frames": 3},
            "cluster": {"kind": "serial"},
        }
    )
    outcome = work.run(job)[0]
    assert outcome.published, outcome.faults()
    store = Archive.open(job.archive).sequence("pan")
    result = restore(codes, exposure_fraction=FRACTION, transfer="linear", readout=READOUT)
    np.testing.assert_array_equal(store.run(str(store.current())).read("0", 0, 3)[:, 0], result.frames)
    plain = job.sources[0].model_copy(update={"readout": 0.0})
    plans = [make_plan(job, s, store) for s in (job.sources[0], plain)]
    keys = [
        {stage: {u.key for u in units(p, store, stage)} for stage in ("motion", "restore")} for p in plans
    ]
    assert keys[0]["motion"] == keys[1]["motion"]  # motion is what was seen: no readout has a say
    assert not keys[0]["restore"] & keys[1]["restore"]
    assert job.digest != job.model_copy(update={"sources": (plain,)}).digest


@pytest.mark.parametrize("readout", [-0.1, 1.5, float("nan")])
def test_no_fraction_of_the_interval_is_refused_in_one_line(readout: float) -> None:
    with pytest.raises(ArrayError, match="readout"):
        restore(np.zeros((2, 8, 8), np.float32), exposure_fraction=0.5, readout=readout)
    with pytest.raises(ConfigError, match=r"sources\.0\.readout"):
        parse_job({"archive": "a", "sources": [{"path": "x", "readout": readout}]})
