"""A 5x5 median in the form of a sorting network, so that the compiler works on whole rows at a time.

Median filtering between warps is what removes outliers from a motion field (Sun, Roth, Black 2010,
doi:10.1109/CVPR.2010.5539939).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deblur.types import Float

BLOCK = 256  # 25 rows of this many float32 fit a first-level cache


def _median_network(count: int) -> NDArray[np.int64]:
    """The comparators of Batcher's odd-even merge sort that matter for the median of `count` inputs.

    Batcher 1968, doi:10.1145/1468075.1468121. Rows (low, high, kind): 0 keep both, 1 only the lesser, 2 only
    the greater is needed.
    """
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < count:
        k = p
        while k >= 1:
            for j in range(k % p, count - k, 2 * k):
                for i in range(min(k, count - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    needed = {count // 2}
    kept: list[tuple[int, int, int]] = []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            kind = 0 if low in needed and high in needed else 1 if low in needed else 2
            kept.append((low, high, kind))
            needed |= {low, high}
    return np.array(kept[::-1], np.int64)


NETWORK = _median_network(25)


@njit(cache=True, nogil=True)
def _median5(plane: Float, network: NDArray[np.int64], out: Float) -> None:
    height, width = plane.shape
    padded = np.empty((5, width + 4), np.float32)
    cells = np.empty((25, BLOCK), np.float32)
    for y in range(height):
        for k in range(5):
            row = plane[min(max(y + k - 2, 0), height - 1)]
            padded[k, 2 : width + 2] = row
            padded[k, 0] = row[0]
            padded[k, 1] = row[0]
            padded[k, width + 2] = row[width - 1]
            padded[k, width + 3] = row[width - 1]
        for start in range(0, width, BLOCK):
            count = min(BLOCK, width - start)
            for k in range(5):
                for j in range(5):
                    for x in range(count):
                        cells[k * 5 + j, x] = padded[k, start + j + x]
            for n in range(network.shape[0]):
                low, high = cells[network[n, 0]], cells[network[n, 1]]
                kind = network[n, 2]
                if kind == 0:
                    for x in range(count):
                        a, b = low[x], high[x]
                        low[x] = a if a < b else b
                        high[x] = b if a < b else a
                elif kind == 1:
                    for x in range(count):
                        a, b = low[x], high[x]
                        low[x] = a if a < b else b
                else:
                    for x in range(count):
                        a, b = low[x], high[x]
                        high[x] = b if a < b else a
            for x in range(count):
                out[y, start + x] = cells[12, x]


def median5(field: Float) -> Float:
    """The median of the 5x5 pixels around each one, plane by plane of (k, y, x); borders are replicated.

    >>> float(median5(np.eye(5, dtype=np.float32)[None])[0, 2, 2])
    0.0
    """
    out = np.empty_like(field)
    for plane, result in zip(field, out, strict=True):
        _median5(plane, NETWORK, result)
    return out
