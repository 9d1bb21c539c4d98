"""The image pyramid that every part of deblur shares.

A pixel `i` of an image reduced by `f` covers the pixels `[i f, (i + 1) f)`: its centre lies at `(i + 0.5) f -
0.5` of the full image. The filter of `halve` is symmetric about that centre, so nothing shifts from level to
level, and a window that starts at a multiple of `f` sees the very same reduced pixels as the whole frame
(borders aside).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.errors import ArrayError
from deblur.types import Float


@njit(cache=True, nogil=True)
def _halve(image: Float, out: Float) -> None:
    height, width = image.shape
    three, eighth = np.float32(3.0), np.float32(0.125)
    line = np.empty(width, np.float32)
    for y in range(out.shape[0]):
        above, first = image[max(2 * y - 1, 0)], image[2 * y]
        second, below = image[min(2 * y + 1, height - 1)], image[min(2 * y + 2, height - 1)]
        for x in range(width):
            line[x] = eighth * (above[x] + below[x] + three * (first[x] + second[x]))
        for x in range(out.shape[1]):
            left, right = line[max(2 * x - 1, 0)], line[min(2 * x + 2, width - 1)]
            out[y, x] = eighth * (left + right + three * (line[2 * x] + line[min(2 * x + 1, width - 1)]))


@njit(cache=True, nogil=True)
def _upsample(field: Float, factor: np.float32, y0: int, x0: int, out: Float) -> None:
    planes, rows, columns = field.shape
    half, one = np.float32(0.5), np.float32(1.0)
    height, width = out.shape[1:]
    left = np.empty(width, np.int64)
    share = np.empty(width, np.float32)
    for x in range(width):
        at = min(max((np.float32(x0 + x) + half) / factor - half, np.float32(0.0)), np.float32(columns - 1))
        left[x] = min(int(at), max(columns - 2, 0))
        share[x] = at - np.float32(left[x])
    line = np.empty(columns, np.float32)
    for y in range(height):
        at = min(max((np.float32(y0 + y) + half) / factor - half, np.float32(0.0)), np.float32(rows - 1))
        top = min(int(at), max(rows - 2, 0))
        part = at - np.float32(top)
        bottom = min(top + 1, rows - 1)
        for c in range(planes):
            for x in range(columns):
                line[x] = field[c, top, x] * (one - part) + field[c, bottom, x] * part
            for x in range(width):
                here = left[x]
                out[c, y, x] = line[here] * (one - share[x]) + line[min(here + 1, columns - 1)] * share[x]


def halve(image: Float) -> Float:
    """Reduce an image (y, x) to half its size, odd extents rounded up: the binomial filter 1 3 3 1 both ways.

    Borders are replicated. Raises ArrayError unless `image` is two-dimensional and not empty.

    >>> halve(np.ones((5, 4), np.float32)).shape
    (3, 2)
    """
    plane = np.ascontiguousarray(image, np.float32)
    if plane.ndim != 2 or plane.size == 0:
        raise ArrayError(f"halve needs an image (y, x), got shape {plane.shape}: pass one plane at a time")
    out = np.empty(((plane.shape[0] + 1) // 2, (plane.shape[1] + 1) // 2), np.float32)
    _halve(plane, out)
    return out


def reduce(image: Float, factor: int) -> Float:
    """Reduce an image (y, x) by `factor`, a power of two, by halving it again and again; 1 copies.

    Raises ArrayError for any other factor.

    >>> reduce(np.ones((16, 24), np.float32), 4).shape
    (4, 6)
    """
    if factor < 1 or factor & (factor - 1):
        raise ArrayError(f"factor {factor} is not a power of two: use 1, 2, 4, 8 ...")
    plane = np.array(image, np.float32, order="C")
    while factor > 1:
        plane = halve(plane)
        factor //= 2
    return plane


def upsample(field: Float, *, factor: int, y0: int, x0: int, height: int, width: int) -> Float:
    """A window of a field stored at 1/`factor` of the resolution, bilinear; values stay as they are.

    `field`: (k, y, x) on the reduced grid of the whole frame. The result, (k, height, width), starts at pixel
    (y0, x0) of the full frame. Beyond the outermost reduced centres the field is constant. Raises ArrayError
    for a field that is not (k, y, x).

    >>> coarse = np.ones((2, 3, 4), np.float32)
    >>> upsample(coarse, factor=4, y0=4, x0=0, height=8, width=16).shape
    (2, 8, 16)
    """
    planes = np.ascontiguousarray(field, np.float32)
    if planes.ndim != 3 or planes.size == 0:
        raise ArrayError(f"upsample needs a field (k, y, x), got shape {planes.shape}")
    out = np.empty((planes.shape[0], height, width), np.float32)
    _upsample(planes, np.float32(factor), y0, x0, out)
    return out
