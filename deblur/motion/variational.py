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
from deblur.types import Bool, Float

Scalar = np.float32

DARK = np.float32(0.1)  # intensity below which the logarithm turns linear
COARSE = 3  # the level from which on more work is done
CONTRAST = np.float32(5)  # brings slopes back to about ten times those of the image


@njit(cache=True, nogil=True, inline="always")
def _d1(a: np.float32, b: np.float32, c: np.float32, d: np.float32) -> np.float32:
    """The central derivative of fourth order from the values at -2, -1, 1, 2."""
    return np.float32(2.0 / 3.0) * (c - b) + np.float32(1.0 / 12.0) * (a - d)


@njit(cache=True, nogil=True)
def _gradient(image: Float, dy: Float, dx: Float) -> None:
    height, width = image.shape
    for y in range(height):
        a, b = image[max(y - 2, 0)], image[max(y - 1, 0)]
        c, d = image[min(y + 1, height - 1)], image[min(y + 2, height - 1)]
        here = image[y]
        for x in range(width):
            dy[y, x] = _d1(a[x], b[x], c[x], d[x])
        for x in range(2, width - 2):
            dx[y, x] = _d1(here[x - 2], here[x - 1], here[x + 1], here[x + 2])
        for x in range(width):
            if x < 2 or x >= width - 2:
                last = width - 1
                dx[y, x] = _d1(
                    here[max(x - 2, 0)], here[max(x - 1, 0)], here[min(x + 1, last)], here[min(x + 2, last)]
                )


@njit(cache=True, nogil=True)
def _smoothness(
    u: Float, v: Float, edge: Float, alpha: Scalar, eps: Scalar, g: Float, wx: Float, wy: Float
) -> None:
    """The weight between each pixel and the one before it: less where the field or the image jumps."""
    height, width = edge.shape
    half = np.float32(0.5)
    for y in range(height):
        up, down = max(y - 1, 0) + 1, min(y + 1, height - 1) + 1
        for x in range(width):
            lo, hi = max(x - 1, 0) + 1, min(x + 1, width - 1) + 1
            ux, uy = half * (u[y + 1, hi] - u[y + 1, lo]), half * (u[down, x + 1] - u[up, x + 1])
            vx, vy = half * (v[y + 1, hi] - v[y + 1, lo]), half * (v[down, x + 1] - v[up, x + 1])
            g[y, x] = alpha * edge[y, x] / np.sqrt(ux * ux + uy * uy + vx * vx + vy * vy + eps)
        for x in range(1, width):
            wx[y, x] = half * (g[y, x] + g[y, x - 1])
        if y > 0:
            for x in range(width):
                wy[y, x] = half * (g[y, x] + g[y - 1, x])


@njit(cache=True, nogil=True)
def _assemble(
    d: Float, inside: Bool, base: Float, u: Float, v: Float, wx: Float, wy: Float,
    bright: Scalar, grad: Scalar, zeta: Scalar, eps: Scalar, inverse: Float, rhs: Float,
) -> None:  # fmt: skip
    """The 2x2 system of each pixel for `relax`, its robust weights taken at the present field (lagged)."""
    height, width = inside.shape
    one, tiny = np.float32(1.0), np.float32(1e-9)
    for y in range(height):
        for x in range(width):
            iy, ix, it = d[0, y, x], d[1, y, x], d[2, y, x]
            ayy, ayx, ayt = d[3, y, x], d[4, y, x], d[5, y, x]
            axy, axx, axt = d[6, y, x], d[7, y, x], d[8, y, x]
            u0, v0 = base[0, y, x], base[1, y, x]
            du, dv = u[y + 1, x + 1] - u0, v[y + 1, x + 1] - v0
            n0 = one / (iy * iy + ix * ix + zeta)
            ny = one / (ayy * ayy + ayx * ayx + zeta)
            nx = one / (axy * axy + axx * axx + zeta)
            r = it + iy * du + ix * dv
            ry = ayt + ayy * du + ayx * dv
            rx = axt + axy * du + axx * dv
            seen = one if inside[y, x] else np.float32(0.0)
            w0 = seen * bright * n0 / np.sqrt(n0 * r * r + eps)
            wg = seen * grad / np.sqrt(ny * ry * ry + nx * rx * rx + eps)
            wyy, wxx = wg * ny, wg * nx
            a11 = w0 * iy * iy + wyy * ayy * ayy + wxx * axy * axy
            a12 = w0 * iy * ix + wyy * ayy * ayx + wxx * axy * axx
            a22 = w0 * ix * ix + wyy * ayx * ayx + wxx * axx * axx
            rhs[0, y, x] = a11 * u0 + a12 * v0 - (w0 * iy * it + wyy * ayy * ayt + wxx * axy * axt)
            rhs[1, y, x] = a12 * u0 + a22 * v0 - (w0 * ix * it + wyy * ayx * ayt + wxx * axx * axt)
            s = wx[y, x] + wx[y, x + 1] + wy[y, x] + wy[y + 1, x] + tiny
            a11 += s
            a22 += s
            scale = one / (a11 * a22 - a12 * a12)
            inverse[0, y, x] = a22 * scale
            inverse[1, y, x] = -a12 * scale
            inverse[2, y, x] = a11 * scale


def compress(image: Float) -> Float:
    """The logarithm of an image (nominally in [0, 1]), with a floor that keeps the noise of the dark small.

    >>> float(np.ptp(compress(np.linspace(0, 1, 5, dtype=np.float32)))) < 12
    True
    """
    return np.log(np.maximum(image, np.float32(0)) + DARK) * CONTRAST


@dataclass(frozen=True, slots=True)
class Variational:
    """The method's numbers, tuned on Middlebury's pairs and on averaged 240 fps frames; optima are flat."""

    NUMERICS_VERSION: int = 1
    smoothness: float = 1.0  # weight of the smoothness term at full resolution ...
    decay: float = 0.7  # ... and what each coarser level multiplies it by: small things must be able to leave
    brightness: float = 0.07  # weight of brightness constancy
    gradient: float = 1.0  # weight of gradient constancy
    noise: float = 0.1  # slope of the compressed image that counts as noise (about 2.5/255 a pixel)
    edge: float = 1.0  # how much edges of the image lower the smoothness
    eps_data: float = 0.01  # px: below these the Charbonnier penalties turn quadratic
    eps_smooth: float = 0.006
    warps: int = 3  # linearisations a level, each followed by a median
    sweeps: int = 5  # of over-relaxation for each set of weights
    coarse_warps: int = 6  # the same from COARSE on, where it costs little and large motion is found
    coarse_sweeps: int = 15
    steps: int = 2  # sets of robust weights a warp
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


def _derivatives(one: Float, other: Float, field: Float, d: Float) -> Bool:
    """Fill `d` (9, y, x): (d/dy, d/dx, difference) of the image, of its d/dy and of its d/dx."""
    moved, inside = warp(other, field)
    _gradient((one + moved) * np.float32(0.5), d[0], d[1])
    np.subtract(moved, one, out=d[2])
    _gradient(d[0], d[3], d[4])
    _gradient(d[1], d[6], d[7])
    _gradient(d[2], d[5], d[8])
    return inside
