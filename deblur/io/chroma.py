"""The kernel of `deblur.io.colour`, which says what it computes."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def convert(luma, cb, cr, numbers, y_step, x_step, out):  # type: ignore[no-untyped-def]
    black, luma_gain, middle, chroma_gain, kr, kb, top, y_site, x_site = numbers
    height, width = luma.shape
    rows, columns = cb.shape
    one, two, half, zero = np.float32(1), np.float32(2), np.float32(0.5), np.float32(0)
    kg = one - kr - kb
    blue_row = np.empty(columns, np.float32)
    red_row = np.empty(columns, np.float32)
    for y in range(height):
        v = (np.float32(y) - y_site) / np.float32(y_step)
        base = int(np.floor(v))
        weight = v - np.float32(base)
        upper, lower = min(max(base, 0), rows - 1), min(base + 1, rows - 1)
        for x in range(columns):
            blue_row[x] = ((one - weight) * cb[upper, x] + weight * cb[lower, x] - middle) * chroma_gain
            red_row[x] = ((one - weight) * cr[upper, x] + weight * cr[lower, x] - middle) * chroma_gain
        for x in range(width):
            u = (np.float32(x) - x_site) / np.float32(x_step)
            base = int(np.floor(u))
            part = u - np.float32(base)
            left, right = min(max(base, 0), columns - 1), min(base + 1, columns - 1)
            value = (np.float32(luma[y, x]) - black) * luma_gain
            blue = value + two * (one - kb) * ((one - part) * blue_row[left] + part * blue_row[right])
            red = value + two * (one - kr) * ((one - part) * red_row[left] + part * red_row[right])
            green = (value - kr * red - kb * blue) / kg
            out[0, y, x] = int(min(max(red * top + half, zero), top))
            out[1, y, x] = int(min(max(green * top + half, zero), top))
            out[2, y, x] = int(min(max(blue * top + half, zero), top))
