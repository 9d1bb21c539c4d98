"""Promise 2: no seams. Windows against one whole-frame window, on frames whose motion crosses windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import job as work
from deblur.config import parse_job
from deblur.store import Archive
from tests.conftest import pan


def restored(
    clip: Path, archive: Path, window: int, fraction: float, whole: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    job = parse_job(
        {
            "archive": str(archive),
            "sources": [{"path": str(clip), "exposure_fraction": fraction, "transfer": "linear"}],
            "tiling": {"window": window, "chunk": 64, "shard": whole, "unit": whole, "frames": 1},
            "cluster": {"kind": "serial"},
        }
    )
    (outcome,) = work.run(job)
    assert outcome.published
    store = Archive.open(archive).sequence(outcome.sequence.id)
    run = store.run(str(store.current()))
    count = store.source.shape[0]
    return run.read("0", 0, count), run.read("motion/forward", 0, count).astype(np.float32) / 64


def check(clip: Path, folder: Path, *, window: int, whole: int, fraction: float) -> None:
    tiled, _ = restored(clip, folder / "tiled", window, fraction, whole)
    single, _ = restored(clip, folder / "single", whole, fraction, whole)
    apart = np.abs(tiled.astype(int) - single.astype(int))
    assert (apart <= 1).mean() >= 0.999
    assert (apart <= 5).mean() >= 0.99999
    assert abs(jump(tiled, window) / jump(single, window) - 1) <= 0.02


def jump(image: NDArray[np.uint8], window: int) -> float:
    """Mean gradient across the window borders over that between all other neighbours."""
    ratios = []
    for axis in (-2, -1):
        steps = np.abs(np.diff(image.astype(float), axis=axis))
        at = np.arange(window - 1, steps.shape[axis], window)
        across = np.take(steps, at, axis)
        inside = np.delete(steps, at, axis)
        ratios.append(across.mean() / inside.mean())
    return float(np.mean(ratios))


def test_windows_leave_no_seams_on_a_pan(tmp_path: Path) -> None:
    frames, _ = pan(2, 192, 448, step=40, fraction=0.4)
    np.save(tmp_path / "pan.npy", frames)
    check(tmp_path / "pan.npy", tmp_path, window=128, whole=512, fraction=0.4)


@pytest.mark.slow
def test_windows_leave_no_seams_on_real_frames(data: Path, tmp_path: Path) -> None:
    from PIL import Image

    files = sorted((data / "gopro240").glob("*.png"))
    stacks = [
        [np.asarray(Image.open(f).convert("L"), np.float64) for f in files[k * 12 : k * 12 + 11]]
        for k in range(2)
    ]
    frames = np.stack([np.rint(np.mean(stack, 0)).astype(np.uint8)[None] for stack in stacks])
    np.save(tmp_path / "gopro.npy", frames)
    check(tmp_path / "gopro.npy", tmp_path, window=512, whole=1536, fraction=11 / 12)
