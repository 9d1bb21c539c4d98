"""A first guess of any motion: semi-global matching over whole-pixel displacements of a tiny image.

Hirschmüller 2008 (doi:10.1109/TPAMI.2007.1166), with the label space of two dimensions. Linearised methods
follow a displacement only as far as the image is smooth; this finds displacements up to a third of the frame.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Float

LONGEST = 16  # px of the tiny image: the largest displacement tried along an axis
FOUR = np.float32(4)
AREA = 1 << 14  # px: larger images are not searched, memory would be (2 LONGEST + 1)^2 times theirs
BRIGHTNESS = np.float32(0.15)  # what a difference in value counts, against one in slope
TOP = np.float32(1.5)  # a difference beyond this is a mismatch, however large
NEAR = np.float32(0.4)  # penalty of a step to a neighbouring displacement ...
FAR = np.float32(4)  # ... and of any jump
LEAVING = np.float32(0.65)  # what leaves the frame costs this share of the mean over what stays
LENGTH = np.float32(0.001)  # a px of displacement: decides where there is nothing to see


@njit(cache=True, nogil=True)
def _row(one: Float, other: Float, y: int, x: int, j: int, out: Float) -> None:
    """The matching costs of one row of labels; `other` comes with a margin of side // 2."""
    side = out.shape[2]
    value, down, right = one[0, y, x], one[1, y, x], one[2, y, x]
    up = np.float32(abs(j - side // 2))
    plane = other.shape[1] * other.shape[2]
    flat = other.ravel()
    first = np.uint64((y + j) * other.shape[2] + x)
    second, third = np.uint64(first + np.uint64(plane)), np.uint64(first + np.uint64(2 * plane))
    for i in range(side):
        k = np.uint64(i)
        slope = abs(down - flat[second + k]) + abs(right - flat[third + k])
        slope = slope if slope < TOP else TOP
        change = abs(value - flat[first + k])
        change = change if change < FOUR else FOUR
        away = up + abs(np.float32(i) - np.float32(side // 2))
        out[y, x, j, i] = slope + BRIGHTNESS * change + LENGTH * away


@njit(cache=True, nogil=True)
def _leave(out: Float, y: int, x: int) -> None:
    """Labels that lead out of the frame cost a share of the mean of the others."""
    height, width, side = out.shape[:3]
    radius = side // 2
    top, bottom = max(0, radius - y), min(side, height + radius - y)
    left, right = max(0, radius - x), min(side, width + radius - x)
    if top == 0 and left == 0 and bottom == side and right == side:
        return
    total = np.float32(0.0)
    for j in range(top, bottom):
        for i in range(left, right):
            total += out[y, x, j, i]
    mean = LEAVING * total / np.float32((bottom - top) * (right - left))
    for j in range(side):
        for i in range(side):
            if j < top or j >= bottom or i < left or i >= right:
                out[y, x, j, i] = mean + LENGTH * np.float32(abs(j - radius) + abs(i - radius))


@njit(cache=True, nogil=True)
def _costs(one: Float, other: Float, out: Float) -> None:
    """Matching cost (y, x, label, label) of the channels (3, y, x): value, d/dy, d/dx."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for j in range(out.shape[2]):
                _row(one, other, y, x, j, out)
            _leave(out, y, x)


@njit(cache=True, nogil=True)
def _least(messages: Float, line: Float) -> np.float32:
    """The least of all messages: column by column first, which compiles to whole vectors."""
    side = line.size
    for i in range(side):
        line[i] = messages[1, i + 1]
    for j in range(2, side + 1):
        for i in range(side):
            line[i] = messages[j, i + 1] if messages[j, i + 1] < line[i] else line[i]
    least: np.float32 = line[0]
    for i in range(1, side):
        least = line[i] if line[i] < least else least
    return least


@njit(cache=True, nogil=True)
def _step(before: Float, cost: Float, y: int, x: int, after: Float, total: Float, line: Float) -> None:
    """One pixel further along a path: messages `before` -> `after`, which carry a margin of one label."""
    least = _least(before, line)
    jump = least + FAR
    for j in range(line.size):
        for i in range(line.size):
            a, b = before[j + 1, i], before[j + 1, i + 2]
            c, d = before[j, i + 1], before[j + 2, i + 1]
            a = a if a < b else b
            c = c if c < d else d
            a = (a if a < c else c) + NEAR
            b = before[j + 1, i + 1]
            a = a if a < b else b
            a = a if a < jump else jump
            value = cost[y, x, j, i] + (a - least)
            after[j + 1, i + 1] = value
            total[y, x, j, i] += value


@njit(cache=True, nogil=True)
def _aggregate(cost: Float, total: Float) -> None:
    """The sum of the four path costs: from the left, the right, above and below."""
    height, width, side = cost.shape[:3]
    before = np.full((side + 2, side + 2), np.float32(1e9), np.float32)
    after, line = before.copy(), np.empty(side, np.float32)
    for axis in range(2):
        lines, steps = (height, width) if axis == 0 else (width, height)
        for at in range(lines):
            for way in range(2):
                before[1 : side + 1, 1 : side + 1] = np.float32(0.0)
                for n in range(steps):
                    k = n if way == 0 else steps - 1 - n
                    y, x = (at, k) if axis == 0 else (k, at)
                    _step(before, cost, y, x, after, total, line)
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
    cost = np.empty((height, width, side, side), np.float32)
    margin = ((0, 0), (radius, radius), (radius, radius))
    _costs(one, np.pad(other, margin, mode="edge"), cost)
    total = np.zeros_like(cost)
    _aggregate(cost, total)
    best = np.argmin(total.reshape(height, width, side * side), axis=2)
    return np.stack([best // side - radius, best % side - radius]).astype(np.float32)
