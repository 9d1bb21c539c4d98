"""Sampling an image at displaced positions: cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711)."""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Bool, Float


@njit(cache=True, nogil=True, inline="always")
def _cubic(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    half, one, two = np.float32(0.5), np.float32(1.0), np.float32(2.0)
    square = t * t
    cube = square * t
    a = half * (two * square - cube - t)
    b = half * (np.float32(3.0) * cube - np.float32(5.0) * square + two)
    c = half * (np.float32(4.0) * square - np.float32(3.0) * cube + t)
    return a, b, c, one - a - b - c


@njit(cache=True, nogil=True)
def _warp(image: Float, field: Float, out: Float, inside: Bool) -> None:
    height, width = image.shape
    zero, half, far = np.float32(0.0), np.float32(0.5), np.float32(1e6)
    bottom, right = height - 1, width - 1
    for y in range(height):
        for x in range(width):
            # Whole and broken part apart: the same bits wherever a window lies in the frame.
            fy, fx = np.floor(field[0, y, x]), np.floor(field[1, y, x])
            py, px = field[0, y, x] - fy, field[1, y, x] - fx
            iy, ix = y + int(min(max(fy, -far), far)), x + int(min(max(fx, -far), far))
            rows = (0 <= iy < bottom) or (iy == -1 and py >= half) or (iy == bottom and py <= half)
            columns = (0 <= ix < right) or (ix == -1 and px >= half) or (ix == right and px <= half)
            inside[y, x] = rows and columns
            if iy < 0 or iy >= bottom:
                iy, py = min(max(iy, 0), bottom), zero
            if ix < 0 or ix >= right:
                ix, px = min(max(ix, 0), right), zero
            a0, a1, a2, a3 = _cubic(py)
            b0, b1, b2, b3 = _cubic(px)
            top, left = max(iy - 1, 0), max(ix - 1, 0)
            y2, y3 = min(iy + 1, height - 1), min(iy + 2, height - 1)
            x2, x3 = min(ix + 1, width - 1), min(ix + 2, width - 1)
            p, q, r, s = image[top], image[iy], image[y2], image[y3]
            r0 = b0 * p[left] + b1 * p[ix] + b2 * p[x2] + b3 * p[x3]
            r1 = b0 * q[left] + b1 * q[ix] + b2 * q[x2] + b3 * q[x3]
            r2 = b0 * r[left] + b1 * r[ix] + b2 * r[x2] + b3 * r[x3]
            r3 = b0 * s[left] + b1 * s[ix] + b2 * s[x2] + b3 * s[x3]
            out[y, x] = a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3


def warp(image: Float, field: Float) -> tuple[Float, Bool]:
    """`image[y + dy, x + dx]` for every pixel, and where that lies inside the image.

    `image`: (y, x) float32; `field`: (2, y, x) float32, (dy, dx) in pixels. Outside, the border is
    replicated; a pixel's area counts as inside, so half a pixel beyond its centre still is.

    >>> picture = np.arange(12, dtype=np.float32).reshape(3, 4)
    >>> moved, inside = warp(picture, np.ones((2, 3, 4), np.float32))
    >>> float(moved[1, 1]), bool(inside[2, 3])
    (10.0, False)
    """
    out = np.empty_like(image)
    inside = np.empty(image.shape, np.bool_)
    _warp(image, field, out, inside)
    return out, inside
