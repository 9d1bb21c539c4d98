"""Variational motion: constancy of brightness and of its gradient, robust, with an edge-aware smooth field.

Brox, Bruhn, Papenberg, Weickert 2004 (doi:10.1007/978-3-540-24673-2_3) for the energy and the warping;
Zimmer, Bruhn, Weickert 2011 (doi:10.1007/s11263-011-0422-6) for the normalised constraints; Sun, Roth, Black
2010 (doi:10.1109/CVPR.2010.5539939) for the median between warps. The images enter as logarithms: a change of
exposure then adds a constant, which their gradients don't see, and no statistic of a frame or window is
needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from deblur.motion.median import median5
from deblur.motion.relaxation import relax
from deblur.motion.search import search
from deblur.motion.warping import warp
from deblur.types import Float

Scalar = np.float32

DARK = np.float32(0.1)  # intensity below which the logarithm turns linear
COARSE = 3  # the level from which on more work is done
PITCH = 512  # of scratch rows: a constant, so that the compiler sees that they do not overlap
CONTRAST = np.float32(5)  # brings slopes back to about ten times those of the image


@njit(cache=True, nogil=True, inline="always")
def _d1(a: Scalar, b: Scalar, c: Scalar, d: Scalar) -> Scalar:
    """The central derivative of fourth order from the values at -2, -1, 1, 2."""
    return np.float32(2.0 / 3.0) * (c - b) + np.float32(1.0 / 12.0) * (a - d)


@njit(cache=True, nogil=True)
def _gradient(image: Float, dy: Float, dx: Float) -> None:
    height, width = image.shape
    line = np.empty(width + 4, np.float32)
    for y in range(height):
        a, b = max(y - 2, 0), max(y - 1, 0)
        c, d = min(y + 1, height - 1), min(y + 2, height - 1)
        for x in range(width):
            dy[y, x] = _d1(image[a, x], image[b, x], image[c, x], image[d, x])
        for x in range(width):
            line[x + 2] = image[y, x]
        line[0], line[1] = image[y, 0], image[y, 0]
        line[width + 2], line[width + 3] = image[y, width - 1], image[y, width - 1]
        for x in range(width):
            dx[y, x] = _d1(line[x], line[x + 1], line[x + 3], line[x + 4])


@njit(cache=True, nogil=True)
def _steepness(field: Float, y: int, start: Float, total: Float) -> None:
    """`start` and a row's squared slopes; the field comes with a margin."""
    half = np.float32(0.5)
    for x in range(total.size):
        a, b = half * (field[y + 1, x + 2] - field[y + 1, x]), half * (field[y + 2, x + 1] - field[y, x + 1])
        total[x] = start[x] + (a * a + b * b)


@njit(cache=True, nogil=True, error_model="numpy")
def _smoothness(
    u: Float, v: Float, edge: Float, alpha: Scalar, eps: Scalar, g: Float, wx: Float, wy: Float
) -> None:
    """The weight between each pixel and the one before it: less where the field or the image jumps."""
    height, width = edge.shape
    half = np.float32(0.5)
    floor, part, steep = (
        np.full(width, eps, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
    )
    for field in (u, v):
        for y in range(1, height + 1):
            field[y, 0], field[y, width + 1] = field[y, 1], field[y, width]
        field[0], field[height + 1] = field[1], field[height]
    for y in range(height):
        _steepness(u, y, floor, part)
        _steepness(v, y, part, steep)
        for x in range(width):
            g[y, x] = alpha * edge[y, x] / np.sqrt(steep[x])
        for x in range(1, width):
            wx[y, x] = half * (g[y, x] + g[y, x - 1])
        if y > 0:
            for x in range(width):
                wy[y, x] = half * (g[y, x] + g[y - 1, x])


@njit(cache=True, nogil=True, error_model="numpy")
def _misfit(dy: Float, dx: Float, dt: Float, du: Float, dv: Float, zeta: Scalar, n: Float, r: Float) -> None:
    """The normalisation of one linear constraint, and how far the present field is off it."""
    for x in range(dt.size):
        n[x] = np.float32(1.0) / (dy[x] * dy[x] + dx[x] * dx[x] + zeta)
    for x in range(dt.size):
        r[x] = dt[x] + (dy[x] * du[x] + dx[x] * dv[x])


@njit(cache=True, nogil=True, error_model="numpy")
def _weigh_alone(seen: Float, weight: Scalar, eps: Scalar, n: Float, r: Float) -> None:
    """The robust weight of one constraint, in place of its normalisation."""
    for x in range(seen.size):
        n[x] = seen[x] * weight * n[x] / np.sqrt(n[x] * r[x] * r[x] + eps)


@njit(cache=True, nogil=True, error_model="numpy")
def _weigh_both(seen: Float, weight: Scalar, eps: Scalar, n: Float, r: Float, m: Float, q: Float) -> None:
    """The robust weight of two constraints together, in place of their normalisations."""
    for x in range(seen.size):
        w = seen[x] * weight / np.sqrt(n[x] * r[x] * r[x] + m[x] * q[x] * q[x] + eps)
        n[x] *= w
        m[x] *= w


@njit(cache=True, nogil=True)
def _accumulate(dy: Float, dx: Float, w: Float, r: Float, sums: Float) -> None:
    """Add one weighted constraint to the normal equations: a11, a12, a22, b1, b2 in rows of PITCH."""
    for x in range(dy.size):
        wy, wx = w[x] * dy[x], w[x] * dx[x]
        sums[x] += wy * dy[x]
        sums[PITCH + x] += wy * dx[x]
        sums[2 * PITCH + x] += wx * dx[x]
        sums[3 * PITCH + x] -= wy * r[x]
        sums[4 * PITCH + x] -= wx * r[x]


@njit(cache=True, nogil=True, error_model="numpy")
def _invert(u: Float, v: Float, left: Float, above: Float, below: Float, s: Float) -> None:
    """Normal equations about the field become what `relax` needs: the inverse (11, 12, 22), then rhs."""
    for x in range(u.size):
        a11, a12, a22 = s[x], s[PITCH + x], s[2 * PITCH + x]
        s[3 * PITCH + x] += a11 * u[x] + a12 * v[x]
        s[4 * PITCH + x] += a12 * u[x] + a22 * v[x]
        sides = (left[x] + left[x + 1]) + (above[x] + below[x]) + np.float32(1e-9)
        a11 += sides
        a22 += sides
        scale = np.float32(1.0) / (a11 * a22 - a12 * a12)
        s[x], s[PITCH + x], s[2 * PITCH + x] = a22 * scale, -a12 * scale, a11 * scale


@njit(cache=True, nogil=True)
def _less(a: Float, b: Float, out: Float) -> None:
    for x in range(a.size):
        out[x] = a[x] - b[x]


@njit(cache=True, nogil=True)
def _copy(row: Float, out: Float) -> None:
    for x in range(out.size):
        out[x] = row[x]


@njit(cache=True, nogil=True)
def _assemble(
    d: Float, seen: Float, base: Float, u: Float, v: Float, wx: Float, wy: Float,
    bright: Scalar, grad: Scalar, zeta: Scalar, eps: Scalar, inverse: Float, rhs: Float,
) -> None:  # fmt: skip
    """The 2x2 system of each pixel for `relax`, its robust weights taken at the present field (lagged).

    Stage after stage over a stretch of a row, so that few arrays meet in any loop, and with the sums a
    constant PITCH apart: the compiler then sees that they don't overlap and works on whole vectors.
    """
    height, width = seen.shape
    du, dv = np.empty(PITCH, np.float32), np.empty(PITCH, np.float32)
    n0, n1, n2 = np.empty(PITCH, np.float32), np.empty(PITCH, np.float32), np.empty(PITCH, np.float32)
    r0, r1, r2 = np.empty(PITCH, np.float32), np.empty(PITCH, np.float32), np.empty(PITCH, np.float32)
    sums = np.empty(5 * PITCH, np.float32)
    for y in range(height):
        for a in range(0, width, PITCH):
            b = min(a + PITCH, width)
            uu, vv, here = u[y + 1, a + 1 : b + 1], v[y + 1, a + 1 : b + 1], seen[y, a:b]
            iy, ix, jy = d[0, y, a:b], d[1, y, a:b], d[3, y, a:b]
            jx, ky, kx = d[4, y, a:b], d[6, y, a:b], d[7, y, a:b]
            sums[:] = np.float32(0.0)
            _less(uu, base[0, y, a:b], du)
            _less(vv, base[1, y, a:b], dv)
            _misfit(iy, ix, d[2, y, a:b], du, dv, zeta, n0, r0)
            _misfit(jy, jx, d[5, y, a:b], du, dv, zeta, n1, r1)
            _misfit(ky, kx, d[8, y, a:b], du, dv, zeta, n2, r2)
            _weigh_alone(here, bright, eps, n0, r0)
            _weigh_both(here, grad, eps, n1, r1, n2, r2)
            _accumulate(iy, ix, n0, r0, sums)
            _accumulate(jy, jx, n1, r1, sums)
            _accumulate(ky, kx, n2, r2, sums)
            _invert(uu, vv, wx[y, a : b + 1], wy[y, a:b], wy[y + 1, a:b], sums)
            for c in range(3):
                _copy(sums[c * PITCH : (c + 1) * PITCH], inverse[c, y, a:b])
            for c in range(2):
                _copy(sums[(3 + c) * PITCH : (4 + c) * PITCH], rhs[c, y, a:b])


def compress(image: Float) -> Float:
    """The logarithm of an image (nominally in [0, 1]), with a floor that keeps the noise of the dark small.

    >>> float(np.ptp(compress(np.linspace(0, 1, 5, dtype=np.float32)))) < 12
    True
    """
    return np.log(np.maximum(image, np.float32(0)) + DARK) * CONTRAST


@dataclass(frozen=True, slots=True)
class Variational:
    """The method's numbers, tuned on Middlebury's pairs and on averaged 240 fps frames; optima are flat."""

    NUMERICS_VERSION: int = 3
    smoothness: float = 1.0  # weight of the smoothness term at full resolution ...
    decay: float = 0.7  # ... and what each coarser level multiplies it by: small things must be able to leave
    brightness: float = 0.07  # weight of brightness constancy
    gradient: float = 1.0  # weight of gradient constancy
    noise: float = 0.1  # slope of the compressed image that counts as noise (about 2.5/255 a pixel)
    edge: float = 1.0  # how much edges of the image lower the smoothness
    eps_data: float = 0.01  # px: below these the Charbonnier penalties turn quadratic
    eps_smooth: float = 0.006
    warps: int = 2  # linearisations a level, each followed by a median
    fine_warps: int = 2  # the same at full resolution; without any, its field is that of half resolution
    sweeps: int = 4  # of over-relaxation for each set of weights
    coarse_warps: int = 6  # the same from COARSE on, where it costs little and large motion is found
    coarse_sweeps: int = 10
    steps: int = 2  # sets of robust weights a warp
    smallest: int = 32  # px: the shorter side of the coarsest level
    omega: float = 1.8

    @property
    def reach(self) -> int:
        """`reach_for(3)`: enough for every `levels` up to 3."""
        return self.reach_for(3)

    def reach_for(self, levels: int) -> int:
        """Px of input beyond which motion changes by less than 0.05 px, given `initial` and `levels`.

        Measured (tests/motion/test_windows.py); the displacement itself comes on top.

        >>> Variational().reach_for(2)
        64
        """
        return 16 << levels

    def first_guess(self, reference: Float, moving: Float) -> Float:
        """A field (2, y, x) in whole pixels for the coarsest level, by semi-global matching."""
        channels = []
        for image in (reference, moving):
            value = compress(image)
            slopes = np.empty((2, *value.shape), np.float32)
            _gradient(value, slopes[0], slopes[1])
            channels.append(np.stack([value, *slopes]))
        return median5(search(channels[0], channels[1]))

    def solve_level(self, reference: Float, moving: Float, field: Float, level: int) -> Float:
        """Improve `field` (2, y, x) at one level; images (y, x), values and result in its pixels."""
        height, width = reference.shape
        warps, sweeps = (
            (self.warps, self.sweeps) if level < COARSE else (self.coarse_warps, self.coarse_sweeps)
        )
        warps = self.fine_warps if level == 0 else warps
        if warps == 0:
            return field
        one, other = compress(reference), compress(moving)
        d = np.empty((9, height, width), np.float32)
        _gradient(one, d[0], d[1])
        edge = np.exp(np.float32(-self.edge) * np.hypot(d[0], d[1])).astype(np.float32)
        u, v = np.zeros((2, height + 2, width + 2), np.float32)
        inner = (slice(1, -1), slice(1, -1))
        wx, wy = np.zeros((height, width + 1), np.float32), np.zeros((height + 1, width), np.float32)
        inverse, rhs = np.empty((3, height, width), np.float32), np.empty((2, height, width), np.float32)
        alpha = np.float32(self.smoothness * self.decay**level)
        bright, grad, zeta = np.float32(self.brightness), np.float32(self.gradient), np.float32(self.noise**2)
        eps_data, eps_smooth = np.float32(self.eps_data**2), np.float32(self.eps_smooth**2)
        for _ in range(warps):
            inside = _derivatives(one, other, field, d)
            u[inner], v[inner] = field
            for _ in range(self.steps):
                _smoothness(u, v, edge, alpha, eps_smooth, inverse[0], wx, wy)
                _assemble(d, inside, field, u, v, wx, wy, bright, grad, zeta, eps_data, inverse, rhs)
                relax(u, v, wx, wy, inverse, rhs, np.float32(self.omega), sweeps)
            field = median5(np.stack([u[inner], v[inner]]))
        return field


FAST = Variational(fine_warps=0, smallest=16)


def _derivatives(one: Float, other: Float, field: Float, d: Float) -> Float:
    """Fill `d` (9, y, x): (d/dy, d/dx, difference) of the image, of its d/dy and of its d/dx."""
    moved, inside = warp(other, field)
    _gradient((one + moved) * np.float32(0.5), d[0], d[1])
    np.subtract(moved, one, out=d[2])
    _gradient(d[0], d[3], d[4])
    _gradient(d[1], d[6], d[7])
    _gradient(d[2], d[5], d[8])
    return inside.astype(np.float32)
