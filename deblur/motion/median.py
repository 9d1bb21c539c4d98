"""A 5x5 median without a branch, so that the compiler works on many pixels at a time.

Median filtering between warps is what removes outliers from a motion field (Sun, Roth, Black 2010,
doi:10.1109/CVPR.2010.5539939). Columns of five are sorted once for the five windows that share them. Were the
ranks then sorted across as well, 13 of the 25 could still be the middle, by how many are known to lie on
either side of them; only those are picked, and their median is found by forgetting extremes (Paeth 1990,
doi:10.1016/B978-0-08-050753-8.50039-8).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Float

Scalar = np.float32

BLOCK = 252  # columns at a time
PITCH = 256  # of the scratch rows: a constant, so that the compiler sees that they don't overlap


@njit(cache=True, nogil=True, inline="always")
def _upper2(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar) -> tuple[Scalar, Scalar]:
    """The two greatest of five."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    a = c if a < c else a
    b, d = (b if b < d else d), (d if b < d else b)
    b = b if a < b else a
    e, d = (e if e < d else d), (d if e < d else e)
    b = e if b < e else b
    return b, d


@njit(cache=True, nogil=True, inline="always")
def _lower2(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar) -> tuple[Scalar, Scalar]:
    """The two least of five."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    d = b if b < d else d
    a, c = (a if a < c else c), (c if a < c else a)
    c = c if c < d else d
    a, e = (a if a < e else e), (e if a < e else a)
    c = c if c < e else e
    return a, c


@njit(cache=True, nogil=True, inline="always")
def _upper3(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The three greatest of five, in no order."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    a, c = (a if a < c else c), (c if a < c else a)
    b, d = (b if b < d else d), (d if b < d else b)  # a is the least of four
    b, c = (b if b < c else c), (c if b < c else b)
    a, e = (a if a < e else e), (e if a < e else a)
    b, e = (b if b < e else e), (e if b < e else b)
    return c, d, e


@njit(cache=True, nogil=True, inline="always")
def _lower3(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The three least of five, in no order."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    a, c = (a if a < c else c), (c if a < c else a)
    b, d = (b if b < d else d), (d if b < d else b)  # d is the greatest of four
    b, c = (b if b < c else c), (c if b < c else b)
    e, d = (e if e < d else d), (d if e < d else e)
    e, c = (e if e < c else c), (c if e < c else e)
    return a, b, e


@njit(cache=True, nogil=True, inline="always")
def _middle3(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Without the least and the greatest of five."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    a, c = (a if a < c else c), (c if a < c else a)
    b, d = (b if b < d else d), (d if b < d else b)
    a, e = (a if a < e else e), (e if a < e else a)
    e, d = (e if e < d else d), (d if e < d else e)
    return b, c, e


@njit(cache=True, nogil=True, inline="always")
def _middle13(
    a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar, f: Scalar, g: Scalar,
    h: Scalar, i: Scalar, j: Scalar, k: Scalar, l: Scalar, m: Scalar,
) -> Scalar:  # fmt: skip
    """The median of 13: neither extreme of any 8 of them can be it, and so on with one more each time."""
    a, b = (a if a < b else b), (b if a < b else a)
    c, d = (c if c < d else d), (d if c < d else c)
    e, f = (e if e < f else f), (f if e < f else e)
    g, h = (g if g < h else h), (h if g < h else g)
    a, c = (a if a < c else c), (c if a < c else a)
    e, g = (e if e < g else g), (g if e < g else e)
    a, e = (a if a < e else e), (e if a < e else a)
    b, d = (b if b < d else d), (d if b < d else b)
    f, h = (f if f < h else h), (h if f < h else f)
    d, h = (d if d < h else h), (h if d < h else d)
    a, h = i, b  # c d e f g remain, with b and the next one
    a, c = (a if a < c else c), (c if a < c else a)
    d, e = (d if d < e else e), (e if d < e else d)
    f, g = (f if f < g else g), (g if f < g else f)
    a, d = (a if a < d else d), (d if a < d else a)
    a, f = (a if a < f else f), (f if a < f else a)
    c, e = (c if c < e else e), (e if c < e else c)
    e, g = (e if e < g else g), (g if e < g else e)
    a, h = (a if a < h else h), (h if a < h else a)
    h, g = (h if h < g else g), (g if h < g else h)
    a, b = j, c  # b d e f h remain
    a, b = (a if a < b else b), (b if a < b else a)
    d, e = (d if d < e else e), (e if d < e else d)
    f, h = (f if f < h else h), (h if f < h else f)
    a, d = (a if a < d else d), (d if a < d else a)
    a, f = (a if a < f else f), (f if a < f else a)
    b, e = (b if b < e else e), (e if b < e else b)
    e, h = (e if e < h else h), (h if e < h else e)
    a, c = k, b  # c d e f remain
    a, c = (a if a < c else c), (c if a < c else a)
    d, e = (d if d < e else e), (e if d < e else d)
    a, d = (a if a < d else d), (d if a < d else a)
    c, e = (c if c < e else e), (e if c < e else c)
    a, f = (a if a < f else f), (f if a < f else a)
    f, e = (f if f < e else e), (e if f < e else f)
    a, b = l, c  # b d f remain
    a, b = (a if a < b else b), (b if a < b else a)
    d, f = (d if d < f else f), (f if d < f else d)
    a, d = (a if a < d else d), (d if a < d else a)
    b, f = (b if b < f else f), (f if b < f else b)
    b, d = (b if b < d else d), (d if b < d else b)
    m = m if m > b else b
    return m if m < d else d


@njit(cache=True, nogil=True)
def _sort_columns(rows: Float, ranks: Float, count: int) -> None:
    """Five rows in scratch sorted pixel by pixel; both one-dimensional, a row every PITCH."""
    for x in range(count):
        a, b, c = rows[x], rows[PITCH + x], rows[2 * PITCH + x]
        d, e = rows[3 * PITCH + x], rows[4 * PITCH + x]
        a, b = (a if a < b else b), (b if a < b else a)
        d, e = (d if d < e else e), (e if d < e else d)
        a, c = (a if a < c else c), (c if a < c else a)
        b, c = (b if b < c else c), (c if b < c else b)
        a, d = (a if a < d else d), (d if a < d else a)
        c, d = (c if c < d else d), (d if c < d else c)
        b, e = (b if b < e else e), (e if b < e else b)
        b, c = (b if b < c else c), (c if b < c else b)
        d, e = (d if d < e else e), (e if d < e else d)
        ranks[x], ranks[PITCH + x], ranks[2 * PITCH + x] = a, b, c
        ranks[3 * PITCH + x], ranks[4 * PITCH + x] = d, e


@njit(cache=True, nogil=True)
def _select(r: Float, out: Float, count: int) -> None:
    """The medians of `count` neighbouring 5x5 windows from their sorted columns."""
    p, q, s, t = PITCH, 2 * PITCH, 3 * PITCH, 4 * PITCH
    for x in range(count):
        d0, e0 = _upper2(r[x], r[x + 1], r[x + 2], r[x + 3], r[x + 4])
        c1, d1, e1 = _upper3(r[p + x], r[p + x + 1], r[p + x + 2], r[p + x + 3], r[p + x + 4])
        b2, c2, d2 = _middle3(r[q + x], r[q + x + 1], r[q + x + 2], r[q + x + 3], r[q + x + 4])
        a3, b3, c3 = _lower3(r[s + x], r[s + x + 1], r[s + x + 2], r[s + x + 3], r[s + x + 4])
        a4, b4 = _lower2(r[t + x], r[t + x + 1], r[t + x + 2], r[t + x + 3], r[t + x + 4])
        out[x] = _middle13(d0, e0, c1, d1, e1, b2, c2, d2, a3, b3, c3, a4, b4)


@njit(cache=True, nogil=True)
def _median5(plane: Float, out: Float) -> None:
    height, width = plane.shape
    rows, ranks = np.empty(5 * PITCH, np.float32), np.empty(5 * PITCH, np.float32)
    middle = np.empty(BLOCK, np.float32)
    for y in range(height):
        for start in range(0, width, BLOCK):
            count = min(BLOCK, width - start)
            for k in range(5):
                row = plane[min(max(y + k - 2, 0), height - 1)]
                for x in range(2):
                    rows[k * PITCH + x] = row[max(start + x - 2, 0)]
                    rows[k * PITCH + count + 2 + x] = row[min(start + count + x, width - 1)]
                rows[k * PITCH + 2 : k * PITCH + 2 + count] = row[start : start + count]
            _sort_columns(rows, ranks, count + 4)
            _select(ranks, middle, count)
            out[y, start : start + count] = middle[:count]


def median5(field: Float) -> Float:
    """The median of the 5x5 pixels around each one, plane by plane of (k, y, x); borders are replicated.

    >>> float(median5(np.eye(5, dtype=np.float32)[None])[0, 2, 2])
    0.0
    """
    out = np.empty_like(field)
    for plane, result in zip(field, out, strict=True):
        _median5(plane, result)
    return out
