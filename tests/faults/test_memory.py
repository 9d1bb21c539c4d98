"""What a plan says of memory is what workers take: never less, and not half as much again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import parse_job
from deblur.sequence import JOINT
from deblur.store import Archive
from tests.conftest import pan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="peaks of a unit are Linux's to tell"
    ),
]


@pytest.mark.parametrize(
    ("side", "channels", "window", "unit", "method", "noise"),
    [
        (512, 1, 512, 512, "variational", 0),
        (1024, 1, 1024, 1024, "variational", 0),
        (1024, 3, 512, 1024, "variational", 0),
        (768, 1, 256, 768, "richardson_lucy", 0),
        (2048, 1, 1024, 2048, "variational", 0),
        (1024, 1, 1024, 1024, "variational", 6),
        (768, 3, 768, 768, "variational", 6),
        (768, 1, 768, 768, "richardson_lucy", 6),
    ],
)
def test_the_projection_bounds_the_peak(
    tmp_path: Path, side: int, channels: int, window: int, unit: int, method: str, noise: int
) -> None:
    frames = pan(3, side, side, channels=channels)[0]  # the one in the middle has two neighbours
    grain = np.random.default_rng(0).normal(0, noise, frames.shape)
    np.save(tmp_path / "pan.npy", np.clip(np.rint(frames + grain), 0, 255).astype(np.uint8))
    told = {
        "archive": str(tmp_path / "archive"),
        "sources": [{"path": str(tmp_path / "pan.npy"), "exposure_fraction": 0.75}],
        "restore": {"method": method, "iterations": 6},
        "tiling": {"window": window, "chunk": 256, "shard": window, "unit": unit, "frames": 3},
        "cluster": {"kind": "local", "workers": 1},
    }
    job = parse_job(told)
    (outcome,) = work.run(job)
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence("pan")
    run = store.run(outcome.plan.run)
    assert bool((store.survey_part("noise", 0, 3) >= JOINT).all()) is bool(noise)
    peak = max(record.get("peak_bytes", 0) for record in run.ledger().latest())
    assert peak <= outcome.plan.cost.memory <= 1.5 * peak
