"""What a plan says of memory is what workers take: never less, and not half as much again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import parse_job
from deblur.store import Archive
from tests.conftest import pan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="peaks of a unit are Linux's to tell"
    ),
]


@pytest.mark.parametrize(
    ("side", "channels", "window", "unit", "method"),
    [
        (512, 1, 512, 512, "variational"),
        (1024, 1, 1024, 1024, "variational"),
        (1024, 3, 512, 1024, "variational"),
        (768, 1, 256, 768, "richardson_lucy"),
        (2048, 1, 1024, 2048, "variational"),
    ],
)
def test_the_projection_bounds_the_peak(
    tmp_path: Path, side: int, channels: int, window: int, unit: int, method: str
) -> None:
    np.save(tmp_path / "pan.npy", pan(2, side, side, channels=channels)[0])
    told = {
        "archive": str(tmp_path / "archive"),
        "sources": [{"path": str(tmp_path / "pan.npy"), "exposure_fraction": 0.75}],
        "restore": {"method": method},
        "tiling": {"window": window, "chunk": 256, "shard": window, "unit": unit, "frames": 2},
        "cluster": {"kind": "local", "workers": 1},
    }
    job = parse_job(told)
    (outcome,) = work.run(job)
    assert outcome.plan is not None
    run = Archive.open(job.archive).sequence("pan").run(outcome.plan.run)
    peak = max(record.get("peak_bytes", 0) for record in run.ledger().latest())
    assert peak <= outcome.plan.cost.memory <= 1.5 * peak
