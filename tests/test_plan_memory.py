"""What a plan says of memory is what workers take: never less, and not half as much again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import job as work
from deblur.config import parse_job
from deblur.store import Archive
from deblur.window import JOINT
from tests.conftest import texture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="peaks of a unit are Linux's to tell"
    ),
]


def as_dtype(codes: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if dtype == "float32":
        return (codes / 255).astype(np.float32)
    return np.rint(codes * (257 if dtype == "uint16" else 1)).astype(dtype)


def large_pan(side: int, channels: int) -> NDArray[np.float32]:
    """Three frames (t, c, y, x) in codes, 8 px apart and blurred by 6: `tests.conftest.pan` takes longer for them than the
    job that is measured."""
    views = np.stack([texture(side, side + 32, seed=channel) for channel in range(channels)])
    shots = [np.mean([views[..., s : s + side] for s in range(8 * t, 8 * t + 7)], axis=0) for t in range(3)]
    return 255 * np.stack(shots)


@pytest.mark.parametrize(
    ("side", "channels", "window", "unit", "method", "noise", "dtype", "motion"),
    [
        (512, 1, 512, 512, "variational", 0, "uint8", "fast"),
        (1024, 3, 512, 1024, "variational", 0, "uint8", "fast"),
        (768, 1, 256, 768, "richardson_lucy", 0, "uint16", "fast"),
        (1536, 1, None, None, "variational", 0, "uint16", "fast"),
        (1024, 1, 1024, 1024, "fast", 0, "float32", "fast"),
        (768, 1, None, None, "variational", 6, "uint8", "accurate"),
        (768, 3, None, None, "variational", 6, "uint8", "fast"),
        (768, 1, None, None, "richardson_lucy", 6, "float32", "fast"),
        (768, 3, None, None, "fast", 6, "uint16", "fast"),
        (1024, 1, None, None, "hybrid", 0, "uint8", "fast"),
        (768, 3, None, None, "hybrid", 6, "uint8", "fast"),
    ],
)
def test_the_projection_bounds_the_peak(
    tmp_path: Path,
    side: int,
    channels: int,
    window: int | None,
    unit: int | None,
    method: str,
    noise: int,
    dtype: str,
    motion: str,
) -> None:
    frames = large_pan(side, channels)  # the one in the middle has two neighbours
    grain = np.random.default_rng(0).normal(0, noise, frames.shape)
    np.save(tmp_path / "pan.npy", as_dtype(np.clip(frames + grain, 0, 255), dtype))
    told = {
        "archive": str(tmp_path / "archive"),
        "sources": [{"path": str(tmp_path / "pan.npy"), "exposure_fraction": 0.75}],
        "motion": {"method": motion},
        "restore": {"method": method, "iterations": 2},
        "tiling": {"window": window, "shard": window or 1024, "unit": unit, "frames": 3},
        "cluster": {"kind": "local", "workers": 1},
    }
    job = parse_job(told)
    (outcome,) = work.run(job)
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence("pan")
    run = store.run(outcome.plan.run)
    assert bool((store.survey_part("noise", 0, 3) >= JOINT).all()) is bool(noise)
    peak = max(record.get("peak_bytes", 0) for record in run.ledger().latest())
    print(f"{outcome.plan.cost.memory / peak:.3f} of {peak >> 20} MiB, {outcome.plan.layout}")
    assert peak <= outcome.plan.cost.memory <= 1.5 * peak
