"""Restoration by least squares with a sparse-gradient prior, solved by accelerated separable surrogates.

Minimises  sum trust * huber(blur(x) - y) + regularisation * edge * sum sqrt(|grad x|^2 + edge^2)  over x:
total variation, smoothed (Rudin, Osher & Fatemi 1992, doi:10.1016/0167-2789(92)90242-F; powers below 1, as of Krishnan &
Fergus 2009, gained nothing on measured paths). Both terms are bounded by weighted squares, and those by separable ones
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
    slower: the path's errors, which the prior also has to bear, do not grow. `edge`: gradients below it are taken as
    smooth. `huber`: residuals beyond this many noise levels count linearly: there the path is wrong, not the noise
    large. `floor`: the noise assumed at least: paths are never exact. `reweight`: steps between new weights.
    """

    iterations: int = 30
    regularisation: float = 0.3
    edge: float = 0.01
    huber: float = 6.0
    floor: float = 0.004
    reweight: int = 5

    def solve(
        self, blurred: Float, model: Blur, *, noise: float, trust: Float | None
    ) -> tuple[Float, Iterations]:
        level = float(np.hypot(noise, self.floor))
        strength = np.float32(self.regularisation * (level / self.floor) ** GROWTH)
        limit = np.float32(self.huber * level)
        believed = np.ones_like(blurred) if trust is None else trust
        x = model.start(blurred)
        z, following, smooth = x.copy(), np.empty_like(x), np.empty_like(x)
        data, scale, error, before = believed, x, blurred, x
        momentum = 1.0
        for step in range(self.iterations):
            error = model.apply(z)
            error -= blurred
            if step % self.reweight == 0:
                data = believed * np.minimum(1, limit / np.maximum(np.abs(error), limit))
                scale = model.adjoint(data)  # a blur of ones is one, so this bounds the data term's curvature
                _prior(z, np.float32(self.edge), strength, smooth, scale)
            if step == self.iterations - 1:
                before = x.copy()
            error *= data
            ahead = 0.5 * (1 + np.sqrt(1 + 4 * momentum * momentum))
            _step(z, model.adjoint(error), smooth, scale, np.float32((momentum - 1) / ahead), x, following)
            z, following, momentum = following, z, ahead
        residual, change = _rms(error), _rms(x - before)
        if not np.isfinite(residual + change):
            raise NumericsError("the restoration left the finite numbers: mask such pixels")
        return model.finish(x), Iterations(self.iterations, change, residual)


def _rms(values: Float) -> float:
    return float(np.sqrt(np.mean(values * values, dtype=np.float64)))


@njit(cache=True, nogil=True)
def _prior(x, edge, strength, weight, scale):  # type: ignore[no-untyped-def]
    """Weights of the squared forward differences that bound the prior at `x`; twice the diagonal of the Laplacian so
    weighted is added to `scale`: a bound on its curvature. At the borders a difference is zero, whatever its weight."""
    h, w = x.shape
    one, two, least = np.float32(1), np.float32(2), np.float32(1e-6)
    part = one / (edge * edge)
    for i in range(h):
        here, below, out = x[i], x[min(i + 1, h - 1)], weight[i]
        for j in range(w - 1):
            dy, dx = below[j] - here[j], here[j + 1] - here[j]
            out[j] = strength / np.sqrt((dy * dy + dx * dx) * part + one)
        dy = below[w - 1] - here[w - 1]
        out[w - 1] = strength / np.sqrt(dy * dy * part + one)
        above, total = weight[max(i - 1, 0)], scale[i]
        total[0] += two * (two * out[0] + above[0]) + least
        for j in range(1, w):
            total[j] += two * (two * out[j] + above[j] + out[j - 1]) + least


@njit(cache=True, nogil=True)
def _step(z, back, weight, scale, push, x, following):  # type: ignore[no-untyped-def]
    """x = z - (back + prior's gradient at z) / scale; `following` = x + push * (x - x before)."""
    h, w = z.shape
    for i in range(h):
        up, down = max(i - 1, 0), min(i + 1, h - 1)
        above, here, below = z[up], z[i], z[down]
        rows, row, last = weight[up], weight[i], w - 1
        pulls, scales, old, out = back[i], scale[i], x[i], following[i]
        for j in range(w):
            centre = here[j]
            pull = pulls[j] + row[j] * (centre - below[j]) + rows[j] * (centre - above[j])
            out[j] = pull
        for j in range(last):
            out[j] += row[j] * (here[j] - here[j + 1])
        for j in range(1, w):
            out[j] += row[j - 1] * (here[j] - here[j - 1])
        for j in range(w):
            value = here[j] - out[j] / scales[j]
            out[j] = value + push * (value - old[j])
            old[j] = value
