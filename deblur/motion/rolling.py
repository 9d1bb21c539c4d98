"""Rolling shutter: rows are exposed one after the other, so frames are not seen at one time.

Row y of a frame is seen `readout * y / rows` frame intervals after row 0. A point that moves by (dy, dx)
from one frame to the next is therefore seen `1 + readout * dy / rows` intervals later, and its motion per
interval follows; with that, each row is carried to one common time (Liu, Cui, Larsson, Pollefeys 2020,
doi:10.1109/CVPR42600.2020.00597; Forssén & Ringaby 2010, doi:10.1109/CVPR.2010.5539932). Only displacements
and row numbers enter, so a window of a frame gives what the whole frame gives there.

The blur needs less: at an even speed the row that a point leaves and the row that it enters are late by the
same ratio in the next frame and in the blur, so the displacement between frames as it was seen, times the
exposure fraction, is the path in the frame's own geometry (`deblur.paths.exposure_path` has the rest).
"""

from __future__ import annotations

import numpy as np

from deblur.errors import ArrayError
from deblur.motion.warping import warp
from deblur.paths import elapsed
from deblur.types import Float

STEPS = 8  # of the fixed point: the error shrinks by the field's slope times the readout each time


def motion_per_interval(motion: Float, *, readout: float, rows: int, step: int = 1) -> Float:
    """Motion per frame interval from `motion` (2, y, x) measured between two rolling-shutter frames.

    `readout`: time from the first row to the last as a fraction of the frame interval; 0: global shutter,
    nothing changes. `rows`: height of the whole frame. `step`: 1 for motion to the next frame, -1 to the
    previous one; the result keeps that direction. Raises ArrayError for another shape, readout or step.

    >>> down = np.zeros((2, 4, 4), np.float32) + np.float32([[[10]], [[0]]])
    >>> round(float(motion_per_interval(down, readout=1.0, rows=100)[0, 0, 0]), 3)  # seen 1.1 intervals later
    9.091
    """
    _check(motion, readout, rows)
    if step not in (1, -1):
        raise ArrayError(f"step is {step}: use 1 for the next frame, -1 for the previous one")
    if readout == 0:
        return motion.copy()
    return np.asarray(motion / elapsed(motion, step * readout / rows), np.float32)


def to_global_shutter(
    image: Float, motion: Float, *, readout: float, rows: int, row0: int = 0, at: float = 0.5
) -> Float:
    """The image as if every row had been seen when the row at height `at` (0 first, 1 last) was.

    `image`: (y, x) or (c, y, x) float32. `motion`: (2, y, x), pixels per interval towards the next frame,
    see `motion_per_interval` (of motion to the previous frame: its opposite). `readout`, `rows`: as there.
    `row0`: the row of the frame that the image begins with. Beyond the border the image repeats. Raises
    ArrayError for shapes that don't fit.

    >>> frame = np.random.default_rng(0).random((8, 8), np.float32)
    >>> bool((to_global_shutter(frame, np.zeros((2, 8, 8), np.float32), readout=1.0, rows=8) == frame).all())
    True
    """
    _check(motion, readout, rows)
    if image.shape[-2:] != motion.shape[1:] or image.ndim not in (2, 3):
        raise ArrayError(f"image of shape {image.shape} doesn't fit motion {motion.shape}")
    source = _source_of(np.ascontiguousarray(motion, np.float32), readout, rows, row0, at)
    planes = np.ascontiguousarray(image, np.float32).reshape(-1, *image.shape[-2:])
    return np.stack([warp(plane, source)[0] for plane in planes]).reshape(image.shape)


def _source_of(motion: Float, readout: float, rows: int, row0: int, at: float) -> Float:
    """The displacement (2, y, x) from each pixel at the common time to where its row saw it."""
    share = np.float32(readout / rows)
    y = np.arange(row0, row0 + motion.shape[1], dtype=np.float32)[:, None] - np.float32(at * (rows - 1))
    source = motion * (share * y)  # at row y the point is late by that much, so it has moved on
    for _ in range(STEPS):
        local = np.stack([warp(plane, source)[0] for plane in motion])
        source = local * (share * (y + source[0]))
    return source


def _check(motion: Float, readout: float, rows: int) -> None:
    if motion.ndim != 3 or motion.shape[0] != 2:
        raise ArrayError(f"motion has shape {motion.shape}: give (2, y, x)")
    check_readout(readout)
    if rows < 1:
        raise ArrayError(f"rows is {rows}: give the height of the whole frame")


def check_readout(readout: float) -> float:
    """`readout`, or ArrayError when it is no fraction of the frame interval."""
    if not 0 <= readout <= 1:
        raise ArrayError(f"readout is {readout}: give it as a fraction of the frame interval, 0 to 1")
    return readout
