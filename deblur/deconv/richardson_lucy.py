"""Richardson-Lucy with total variation, along a path or for one PSF, with momentum.

Richardson 1972 (doi:10.1364/JOSA.62.000055), Lucy 1974 (doi:10.1086/111605), total variation as in Dey et
al. 2006 (doi:10.1002/jemt.20294), extrapolated between steps as in Biggs & Andrews 1997
(doi:10.1364/AO.36.001766), but with Nesterov's fixed schedule: Biggs and Andrews' factor is one number for
the whole plane, so windows would disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from deblur.deconv.model import Blur
from deblur.errors import NumericsError
from deblur.types import Float, Iterations

NUMERICS_VERSION = 1
_LEAST = np.float32(1e-3)  # light below this is taken as this: the ratio would explode


@dataclass(frozen=True, slots=True)
class RichardsonLucy:
    """`iterations`: steps at most. `regularisation`: weight of total variation without noise; `noise_gain`:
    how much of it noise adds, per unit of its standard deviation. `tolerance`: stop when a step changes less
    (rms)."""

    iterations: int = 15
    regularisation: float = 0.002
    noise_gain: float = 0.5
    tolerance: float = 2e-5

    def solve(
        self, blurred: Float, model: Blur, *, noise: float, trust: Float | None
    ) -> tuple[Float, Iterations]:
        believed = np.ones_like(blurred) if trust is None else trust
        weight = np.float32(self.regularisation + self.noise_gain * noise)
        target: Float = np.maximum(blurred, _LEAST)
        share = model.adjoint(believed)
        x: Float = np.maximum(model.start(blurred), _LEAST)
        z = x.copy()
        momentum, change, residual, count = 1.0, np.inf, 0.0, 0
        while count < self.iterations and change >= self.tolerance:
            count += 1
            seen = model.apply(z)
            residual = float(np.sqrt(np.mean((seen - blurred) ** 2, dtype=np.float64)))
            if not np.isfinite(residual):
                raise NumericsError("the restoration left the finite numbers: mask such pixels")
            excess = np.asarray(target / np.maximum(seen, _LEAST) - 1, np.float32)
            ratio = model.adjoint(believed * excess)
            previous = x
            x = np.empty_like(z)
            _update(z, ratio, share, weight, x)
            following = 0.5 * (1 + np.sqrt(1 + 4 * momentum * momentum))
            z = x - previous
            change = float(np.sqrt(np.mean(z * z, dtype=np.float64)))
            z *= np.float32((momentum - 1) / following)
            z += x
            np.maximum(z, _LEAST, out=z)
            momentum = following
        return model.finish(x), Iterations(count, change, residual)


@njit(cache=True, nogil=True)
def _update(z, back, share, weight, out):  # type: ignore[no-untyped-def]
    """out = z * (1 + back / share) / (1 - weight * div(grad z / |grad z|)), held positive.

    The divergence comes from unit vectors of forward differences: at (i, j), and at its upper and left
    neighbours.
    """
    h, w = z.shape
    one, eps = np.float32(1), np.float32(1e-6)
    above = np.zeros(w, np.float32)
    for i in range(h):
        left = np.float32(0)
        for j in range(w):
            dy = z[i + 1, j] - z[i, j] if i + 1 < h else np.float32(0)
            dx = z[i, j + 1] - z[i, j] if j + 1 < w else np.float32(0)
            inverse = one / np.sqrt(dy * dy + dx * dx + eps)
            divergence = (dy + dx) * inverse - above[j] - left
            above[j], left = dy * inverse, dx * inverse
            factor = one + back[i, j] / (share[i, j] + _LEAST)
            smoothing = max(one - weight * divergence, np.float32(0.5))
            out[i, j] = max(z[i, j] * max(factor, np.float32(0.1)) / smoothing, _LEAST)
