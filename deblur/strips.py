"""A frame read in strips and reduced on the way: memory doesn't grow with its height, and no bit depends on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.motion.pyramid import reduce
from deblur.tiling import Box, round_up
from deblur.types import Float

Read = Callable[[Box], NDArray[Any]]  # (c, y, x) codes of a box of one frame

VALUES = 1 << 22  # of a strip, unless it were less high than a chunk
ROWS = 256  # the height of a chunk as frames are stored by default: none is decoded twice


def of_array(frame: NDArray[Any]) -> Read:
    """A frame (c, y, x) that is in memory already."""
    return lambda box: frame[:, box.y0 : box.y1, box.x0 : box.x1]


def reduced(
    read: Read,
    height: int,
    width: int,
    *,
    factor: int,
    planes: Callable[[NDArray[Any]], Float],
    box: Box | None = None,
) -> Float:
    """Planes made from the codes of a frame, reduced by `factor` as `deblur.motion.pyramid.reduce` does it.

    `read`: of a frame of `height` × `width`; `planes`: codes (c, y, x) to (k, y, x), pixel by pixel. `box`: on the
    reduced grid, the whole frame by default. Returns (k, h, w) float32, the bits of reducing the frame at once.

    >>> frame = np.random.default_rng(0).random((1, 50, 40), np.float32)
    >>> reduced(of_array(frame), 50, 40, factor=4, planes=lambda codes: codes).shape
    (1, 13, 10)
    """
    inner = box or Box(0, -(-height // factor), 0, -(-width // factor))
    # One reduced pixel more on every side: the filter reaches that far, so the outermost is wrong within the frame.
    outer = inner.grown(1, -(-height // factor), -(-width // factor))
    y, bottom = outer.y0 * factor, min(outer.y1 * factor, height)
    left, right = outer.x0 * factor, min(outer.x1 * factor, width)
    step = round_up(max(1, VALUES // (right - left)), max(ROWS, factor))
    top, done, held, parts = outer.y0, inner.y0, None, []
    while y < bottom:
        end = min(y - y % step + step, bottom)
        made = planes(read(Box(y, end, left, right)))
        held = made if held is None else np.concatenate([held, made], axis=1)
        ready = inner.y1 if end == bottom else end // factor - 1
        if ready > done:
            small = np.stack([reduce(plane, factor) for plane in held])
            parts.append(small[:, done - top : ready - top, inner.x0 - outer.x0 : inner.x1 - outer.x0])
            held = held[:, (ready - 1 - top) * factor :].copy()
            top, done = ready - 1, ready
        y = end
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)
