"""A first guess of any motion: semi-global matching over whole-pixel displacements of a tiny image.

Hirschmüller 2008 (doi:10.1109/TPAMI.2007.1166), with the label space of two dimensions. Linearised methods
follow a displacement only as far as the image is smooth; this finds displacements up to a third of the frame.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Float

LONGEST = 16  # px of the tiny image: the largest displacement tried along an axis
AREA = 1 << 14  # px: larger images are not searched, memory would be (2 LONGEST + 1)^2 times theirs
BRIGHTNESS = np.float32(0.15)  # what a difference in value counts, against one in slope
TOP = np.float32(1.5)  # a difference beyond this is a mismatch, however large
NEAR = np.float32(0.4)  # penalty of a step to a neighbouring displacement ...
FAR = np.float32(4)  # ... and of any jump
LEAVING = np.float32(0.65)  # what leaves the frame costs this share of the mean over what stays
LENGTH = np.float32(0.001)  # a px of displacement: decides where there is nothing to see


@njit(cache=True, nogil=True)
def _costs(one: Float, other: Float, radius: int, out: Float) -> None:
    """Matching cost (y, x, label) of the channels (3, y, x): value, d/dy, d/dx."""
    height, width = one.shape[1:]
    side = 2 * radius + 1
    for y in range(height):
        for x in range(width):
            cell = out[y, x]
            total, seen = np.float32(0.0), 0
            for j in range(side):
                for i in range(side):
                    yy, xx = y + j - radius, x + i - radius
                    if yy < 0 or yy >= height or xx < 0 or xx >= width:
                        cell[j * side + i] = np.float32(-1.0)
                        continue
                    slope = abs(one[1, y, x] - other[1, yy, xx]) + abs(one[2, y, x] - other[2, yy, xx])
                    value = abs(one[0, y, x] - other[0, yy, xx])
                    cost = min(slope, TOP) + BRIGHTNESS * min(value, np.float32(4.0))
                    cell[j * side + i] = cost
                    total += cost
                    seen += 1
            unseen = LEAVING * total / np.float32(seen)
            for j in range(side):
                for i in range(side):
                    k = j * side + i
                    if cell[k] < np.float32(0.0):
                        cell[k] = unseen
                    cell[k] += LENGTH * np.float32(abs(j - radius) + abs(i - radius))


@njit(cache=True, nogil=True)
def _step(before: Float, cost: Float, side: int, after: Float, total: Float) -> None:
    """One pixel further along a path: messages `before` -> `after`, which carry a margin of one label."""
    pitch = side + 2
    least = before[pitch + 1]
    for j in range(side):
        for i in range(side):
            least = min(least, before[(j + 1) * pitch + i + 1])
    jump = least + FAR
    for j in range(side):
        for i in range(side):
            at = (j + 1) * pitch + i + 1
            step = (
                min(min(before[at - 1], before[at + 1]), min(before[at - pitch], before[at + pitch])) + NEAR
            )
            value = cost[j * side + i] + min(min(before[at], step), jump) - least
            after[at] = value
            total[j * side + i] += value


@njit(cache=True, nogil=True)
def _aggregate(cost: Float, side: int, total: Float) -> None:
    """The sum of the four path costs: from the left, the right, above and below."""
    height, width = cost.shape[:2]
    margin = np.float32(1e9)
    for axis in range(2):
        lines, steps = (height, width) if axis == 0 else (width, height)
        for line in range(lines):
            for way in range(2):
                before = np.full((side + 2) * (side + 2), margin, np.float32)
                after = before.copy()
                for j in range(side):
                    before[(j + 1) * (side + 2) + 1 : (j + 1) * (side + 2) + 1 + side] = np.float32(0.0)
                for n in range(steps):
                    k = n if way == 0 else steps - 1 - n
                    y, x = (line, k) if axis == 0 else (k, line)
                    _step(before, cost[y, x], side, after, total[y, x])
                    before, after = after, before


def search(one: Float, other: Float) -> Float:
    """The displacement (2, y, x), in whole pixels, that carries `one` to `other`; both (3, y, x).

    Channels: value, d/dy, d/dx of an image as a method sees it. Images beyond AREA give zeros.
    """
    height, width = one.shape[1:]
    radius = min(LONGEST, (min(height, width) + 2) // 3)
    if height * width > AREA:
        return np.zeros((2, height, width), np.float32)
    side = 2 * radius + 1
    cost = np.empty((height, width, side * side), np.float32)
    _costs(one, other, radius, cost)
    total = np.zeros_like(cost)
    _aggregate(cost, side, total)
    best = np.argmin(total, axis=2)
    return np.stack([best // side - radius, best % side - radius]).astype(np.float32)
