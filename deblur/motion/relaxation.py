"""Red-black successive over-relaxation for two coupled fields, all sweeps in one walk down the image.

At each pixel the unknown (U, V) solves

    (A + S I) (U, V) = r + sum over the four neighbours of w (U_n, V_n),   S = sum of w,

with a symmetric 2x2 matrix A. Sweep s works two rows behind sweep s - 1, which gives the same numbers as one
sweep after the other while the rows stay in cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deblur.types import Float


@njit(cache=True, nogil=True)
def _row(
    y: int,
    parity: int,
    u: Float,
    v: Float,
    wx: Float,
    wy: Float,
    inverse: Float,
    rhs: Float,
    omega: np.float32,
) -> None:
    height, width = u.shape[0] - 2, u.shape[1] - 2
    if y < 0 or y >= height:
        return
    up, here, down = u[y], u[y + 1], u[y + 2]
    vup, vhere, vdown = v[y], v[y + 1], v[y + 2]
    left, above, below = wx[y], wy[y], wy[y + 1]
    m11, m12, m22 = inverse[0, y], inverse[1, y], inverse[2, y]
    r1, r2 = rhs[0, y], rhs[1, y]
    for k in range((width - parity + 1) // 2):
        x = 2 * k + parity
        wl, wr, wu, wd = left[x], left[x + 1], above[x], below[x]
        su = r1[x] + wl * here[x] + wr * here[x + 2] + wu * up[x + 1] + wd * down[x + 1]
        sv = r2[x] + wl * vhere[x] + wr * vhere[x + 2] + wu * vup[x + 1] + wd * vdown[x + 1]
        here[x + 1] += omega * (m11[x] * su + m12[x] * sv - here[x + 1])
        vhere[x + 1] += omega * (m12[x] * su + m22[x] * sv - vhere[x + 1])


@njit(cache=True, nogil=True)
def relax(
    u: Float, v: Float, wx: Float, wy: Float, inverse: Float, rhs: Float, omega: np.float32, sweeps: int
) -> None:
    """Improve `u`, `v` in place.

    `u`, `v`: (y + 2, x + 2), with a margin of one pixel that is never written. `wx` (y, x + 1), `wy` (y + 1,
    x): the weight between a pixel and the one before it; 0 at the borders. `inverse` (3, y, x): the inverse
    of A + S I as (11, 12, 22). `rhs` (2, y, x).
    """
    height = u.shape[0] - 2
    for y in range(height + 2 * sweeps):
        for s in range(sweeps):
            red = y - 2 * s
            _row(red, red & 1, u, v, wx, wy, inverse, rhs, omega)
            black = red - 1
            _row(black, (black + 1) & 1, u, v, wx, wy, inverse, rhs, omega)
