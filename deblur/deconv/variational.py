"""Restoration by least squares with a sparse-gradient prior, solved by accelerated separable surrogates.

Minimises  sum trust * huber(blur(x) - y) + regularisation * sum (|grad x|^2 + edge^2)^(power/2)  over x.
Natural images have sparse gradients: Krishnan & Fergus 2009 (NIPS), Levin et al. 2007
(doi:10.1145/1276377.1276464). Both terms are bounded by weighted squares, and those by separable ones
(Erdogan & Fessler 1999, doi:10.1088/0031-9155/44/11/311), so that every step is a division by a diagonal;
momentum as in Beck & Teboulle 2009 (doi:10.1137/080716542). No number is taken over the whole plane: what
happens at a pixel depends on its surroundings only, which is what lets windows agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from deblur.deconv.model import Blur
from deblur.errors import NumericsError
from deblur.types import Float, Iterations

NUMERICS_VERSION = 2
GROWTH = 0.8  # power of the noise with which the prior grows: best at 0.002, 0.008 and 0.02 on real frames


@dataclass(frozen=True, slots=True)
class Variational:
    """The settings; all JSON-able numbers.

    `iterations`: steps. `regularisation`: strength of the prior for noise `floor`; it grows with the noise, but
    slower: the path's errors, which the prior also has to bear, do not grow.
    `power`: 0.8 natural images, 1 total variation. `edge`: gradients below it are taken as smooth. `huber`:
    residuals beyond this many noise levels count linearly: there the path is wrong, not the noise large.
    `floor`: the noise assumed at least: paths are never exact. `reweight`: steps between new weights.
    """

    iterations: int = 30
    regularisation: float = 0.3
    power: float = 0.8
    edge: float = 0.01
    huber: float = 6.0
    floor: float = 0.004
    reweight: int = 5

    def solve(
        self, blurred: Float, model: Blur, *, noise: float, trust: Float | None
    ) -> tuple[Float, Iterations]:
        level = float(np.hypot(noise, self.floor))
        strength = np.float32(self.regularisation * (level / self.floor) ** GROWTH)
        believed = np.ones_like(blurred) if trust is None else trust
        x = model.start(blurred)
        z, previous = x.copy(), x.copy()
        data, smooth, scale = believed, np.empty_like(x), np.empty_like(x)
        momentum, change, residual = 1.0, 0.0, 0.0
        for step in range(self.iterations):
            error = model.apply(z) - blurred
            if step % self.reweight == 0:
                size = np.abs(error)
                limit = np.float32(self.huber * level)
                data = believed * np.minimum(1, limit / np.maximum(size, limit))
                _smoothness(z, np.float32(self.edge), np.float32(0.5 * self.power - 1), strength, smooth)
                scale = model.adjoint(data * model.apply(np.ones_like(x)))
                _diagonal(smooth, scale)
            residual = float(np.sqrt(np.mean(error * error, dtype=np.float64)))
            if not np.isfinite(residual):
                raise NumericsError("the restoration left the finite numbers: mask such pixels")
            error *= data
            following = 0.5 * (1 + np.sqrt(1 + 4 * momentum * momentum))
            push = np.float32((momentum - 1) / following)
            momentum = following
            previous[...] = x
            _step(z, model.adjoint(error), smooth, scale, x)
            np.subtract(x, previous, out=z)
            change = float(np.sqrt(np.mean(z * z, dtype=np.float64)))
            z *= push
            z += x
        return model.finish(x), Iterations(self.iterations, change, residual)


@njit(cache=True, nogil=True)
def _smoothness(x, edge, power, strength, out):  # type: ignore[no-untyped-def]
    """Weights of the squared forward differences that bound the prior at `x`."""
    h, w = x.shape
    top = edge * edge
    for i in range(h):
        for j in range(w):
            dy = x[i + 1, j] - x[i, j] if i + 1 < h else np.float32(0)
            dx = x[i, j + 1] - x[i, j] if j + 1 < w else np.float32(0)
            out[i, j] = strength * ((dy * dy + dx * dx) / top + np.float32(1)) ** power


@njit(cache=True, nogil=True)
def _diagonal(weight, scale):  # type: ignore[no-untyped-def]
    """Add to `scale` twice the diagonal of the weighted Laplacian: a bound on the Hessian with the blur's."""
    h, w = weight.shape
    for i in range(h):
        for j in range(w):
            total = np.float32(0)
            if i + 1 < h:
                total += weight[i, j]
            if j + 1 < w:
                total += weight[i, j]
            if i > 0:
                total += weight[i - 1, j]
            if j > 0:
                total += weight[i, j - 1]
            scale[i, j] += np.float32(2) * total + np.float32(1e-6)


@njit(cache=True, nogil=True)
def _step(z, back, weight, scale, out):  # type: ignore[no-untyped-def]
    """out = z - (back + prior's gradient at z) / scale."""
    h, w = z.shape
    for i in range(h):
        for j in range(w):
            pull = back[i, j]
            centre = z[i, j]
            if i + 1 < h:
                pull += weight[i, j] * (centre - z[i + 1, j])
            if j + 1 < w:
                pull += weight[i, j] * (centre - z[i, j + 1])
            if i > 0:
                pull += weight[i - 1, j] * (centre - z[i - 1, j])
            if j > 0:
                pull += weight[i, j - 1] * (centre - z[i, j - 1])
            out[i, j] = centre - pull / scale[i, j]
