"""How long a plan says that it will take: what is measured is what will be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur import probe
from deblur.config import load_job, with_settings
from deblur.io.export import export_frames
from deblur.types import SequenceHeader
from deblur.window import JOINT, RestoreSettings
from tests.conftest import pan
from tests.small import COUNT, HEIGHT, WIDTH, write_job


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The windows that the probe restored, each with its neighbours."""
    seen: list[dict[str, Any]] = []
    restore_window = probe.restore_window

    def watched(frame: Any, neighbours: Any, **options: Any) -> Any:
        seen.append({"neighbours": neighbours, "shape": frame.shape} | options)
        return restore_window(frame, neighbours, **options)

    monkeypatch.setattr(probe, "restore_window", watched)
    probe._measured.cache_clear()
    return seen


@pytest.mark.parametrize("noise", [0.0, 2 * JOINT])
def test_the_window_is_as_the_frames_are(windows: list[dict[str, Any]], noise: float) -> None:
    """Two neighbours that agree, paths as long, noise on the same side of what makes it a joint restoration."""
    settings = RestoreSettings(iterations=2)
    found = probe.seconds_per_megapixel(settings, noise=noise, path=8.0)
    assert min(found.values()) > 0
    last = windows[-1]
    assert last["shape"] == (1, probe.SIDE, probe.SIDE)
    assert last["settings"] == settings
    assert (last["noise"] >= JOINT) is (noise >= JOINT)
    after, before = last["neighbours"]
    for beside in (after, before):
        np.testing.assert_array_equal(beside.motion, -beside.back)
        assert np.hypot(*(beside.scale * beside.motion)).mean() == pytest.approx(8.0)
    np.testing.assert_array_equal(after.scale * after.motion, before.scale * before.motion)


def test_frames_alike_are_measured_once(windows: list[dict[str, Any]]) -> None:
    settings = RestoreSettings(iterations=1)
    found = [probe.seconds_per_megapixel(settings, path=path) for path in (7.9, 8.0, 8.2, 500.0, 1000.0)]
    assert len(windows) == 2 * 2  # each after a small one, for which kernels are compiled
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]


@pytest.mark.parametrize("noise", [0, 6])
def test_a_plan_asks_for_frames_like_those_of_the_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: int
) -> None:
    asked: list[dict[str, Any]] = []

    def told(settings: RestoreSettings, motion_method: str, **kind: float) -> dict[str, float]:
        asked.append(kind | {"settings": settings, "motion": motion_method})
        return {"motion": 2.0, "restore": 30.0}

    monkeypatch.setattr(probe, "seconds_per_megapixel", told)
    frames = pan(COUNT, HEIGHT, WIDTH, channels=3)[0]
    frames = np.clip(frames + np.random.default_rng(0).normal(0, noise, frames.shape), 0, 255).astype(
        np.uint8
    )
    header = SequenceHeader("frames", frames.shape[1:], "uint8", ("red", "green", "blue"))
    export_frames(iter(frames), tmp_path / "frames", header=header, names=[f"{k}" for k in range(COUNT)])
    job = with_settings(load_job(write_job(tmp_path)), {"motion.method": "accurate", "restore.iterations": 7})
    (outcome,) = work.plan(job, work.ingest(job), check=True)
    (kind,) = asked
    assert (kind["settings"].iterations, kind["motion"]) == (7, "accurate")
    assert kind["path"] == pytest.approx(0.75 * 8, rel=0.1)
    assert (kind["noise"] >= JOINT) is bool(noise)
    assert outcome.plan is not None
    megapixels = COUNT * HEIGHT * WIDTH / 1e6 * outcome.plan.cost.compute_amplification
    assert outcome.projected_seconds == pytest.approx((2 + 3 * 30) * megapixels)
