"""Red-black successive over-relaxation for two coupled fields, all sweeps in one walk down the image.

At each pixel the unknown (U, V) solves

    (A + S I) (U, V) = r + sum over the four neighbours of w (U_n, V_n),   S = sum of w,

with a symmetric 2x2 matrix A. Sweep s works two rows behind sweep s - 1, which gives the same numbers as
one sweep after the other while the rows stay in cache. Whole rows are computed and the pixels of the other
colour keep their value by a weight of zero: twice the arithmetic, but in full vectors, each loop with few
enough arrays for the compiler to check that they don't overlap.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Float


@njit(cache=True, nogil=True)
def _row(
    y: int,
    step: Float,
    u: Float,
    v: Float,
    wx: Float,
    wy: Float,
    inverse: Float,
    rhs: Float,
    su: Float,
    sv: Float,
) -> None:
    """One colour of one row; whole arrays go in, because cutting rows out costs as much as the sums."""
    width = su.size
    for x in range(width):
        across = wx[y, x] * u[y + 1, x] + wx[y, x + 1] * u[y + 1, x + 2]
        su[x] = rhs[0, y, x] + across + (wy[y, x] * u[y, x + 1] + wy[y + 1, x] * u[y + 2, x + 1])
    for x in range(width):
        across = wx[y, x] * v[y + 1, x] + wx[y, x + 1] * v[y + 1, x + 2]
        sv[x] = rhs[1, y, x] + across + (wy[y, x] * v[y, x + 1] + wy[y + 1, x] * v[y + 2, x + 1])
    for x in range(width):
        new = inverse[0, y, x] * su[x] + inverse[1, y, x] * sv[x]
        u[y + 1, x + 1] += step[x] * (new - u[y + 1, x + 1])
    for x in range(width):
        new = inverse[1, y, x] * su[x] + inverse[2, y, x] * sv[x]
        v[y + 1, x + 1] += step[x] * (new - v[y + 1, x + 1])


@njit(cache=True, nogil=True)
def relax(
    u: Float, v: Float, wx: Float, wy: Float, inverse: Float, rhs: Float, omega: np.float32, sweeps: int
) -> None:
    """Improve `u`, `v` in place.

    `u`, `v`: (y + 2, x + 2), with a margin of one pixel that is never written. `wx` (y, x + 1), `wy` (y + 1,
    x): the weight between a pixel and the one before it; 0 at the borders. `inverse` (3, y, x): the inverse
    of A + S I as (11, 12, 22). `rhs` (2, y, x).
    """
    height, width = rhs.shape[1:]
    su, sv = np.empty(width, np.float32), np.empty(width, np.float32)
    steps = np.zeros((2, width), np.float32)
    steps[0, 0::2] = omega
    steps[1, 1::2] = omega
    for y in range(height + 2 * sweeps):
        for s in range(sweeps):
            red = y - 2 * s
            if 0 <= red < height:
                _row(red, steps[red & 1], u, v, wx, wy, inverse, rhs, su, sv)
            if 0 <= red - 1 < height:
                _row(red - 1, steps[red & 1], u, v, wx, wy, inverse, rhs, su, sv)
