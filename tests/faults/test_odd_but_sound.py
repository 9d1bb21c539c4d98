"""Frames that are odd but hold light: tiny, flat, of the other byte order. They are processed right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import deblur
from deblur import job as work
from deblur.config import load_job
from deblur.store import Archive, RunStore
from tests.conftest import pan
from tests.small import write_job


def restored(folder: Path, frames: NDArray[Any]) -> RunStore:
    """The published run that the archive job makes of an array."""
    np.save(folder / "clip.npy", frames)
    job = load_job(write_job(folder, path="clip.npy"))
    (outcome,) = work.run(job)
    assert outcome.published, outcome.faults()
    store = Archive.open(job.archive).sequence("clip")
    return store.run(str(store.current()))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (7, 9)], ids=str)
def test_frames_smaller_than_a_halo(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.ascontiguousarray(pan(3, 40, 40)[0][:, :, : size[0], : size[1]])
    run = restored(tmp_path, frames)
    found, weight = run.read("0", 0, 3), run.read("quality/weight", 0, 3)
    assert found.shape == frames.shape
    kept = np.broadcast_to(weight[:, np.newaxis] == 0, frames.shape)
    assert np.array_equal(found[kept], frames[kept])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_frames_stay_as_they_are(tmp_path: Path, level: int) -> None:
    frames = np.full((3, 1, 48, 64), level, np.uint8)
    assert np.array_equal(restored(tmp_path, frames).read("0", 0, 3), frames)


def test_the_byte_order_of_a_file_is_all_one(tmp_path: Path) -> None:
    frames = pan(3, 32, 64)[0].astype(np.uint16) * 257
    found = []
    for order in "<>":
        (tmp_path / order).mkdir()
        found.append(restored(tmp_path / order, frames.astype(f"{order}u2")).digest())
    assert found[0] == found[1]


@settings(max_examples=20)
@given(
    path=st.tuples(*[st.floats(-9, 9, width=16)] * 2),
    at=st.tuples(*[st.integers(0, 31)] * 2),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_what_is_unknown_spreads_no_further_than_the_path(
    path: tuple[float, float], at: tuple[int, int], value: float
) -> None:
    """Whoever blurs with a hole in the image finds it along the path through it (up to a pixel of interpolation)."""
    image = np.full((32, 32), 0.5, np.float32)
    image[at] = value
    field = np.broadcast_to(np.array(path, np.float32)[:, None, None], (2, 32, 32))
    for operator in (deblur.blur, deblur.blur_adjoint):
        holes = np.argwhere(~np.isfinite(operator(image, field)))
        reach = np.ceil(np.abs(path) / 2) + 1
        assert len(holes)
        assert (np.abs(holes - at) <= reach).all()
