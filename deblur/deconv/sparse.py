"""Restoration for one PSF by total variation of first and second order, with an unknown border.

Minimises  1/2 |m (k * x - y)|² + regularisation * (|Dx| + second * |DDx|)  over x by ADMM: every step is a few
FFTs and soft thresholds. The frame `m` around what was seen is split off from the convolution (Almeida &
Figueiredo 2013, doi:10.1109/TIP.2013.2258354), so no border is invented or tapered. Sparse first and second
differences as in Levin et al. 2007 (doi:10.1145/1276377.1276464); soft thresholds instead of their 0.8 power
gave the same PSNR on real shaken images in less than half the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from deblur.deconv.model import Convolution
from deblur.errors import NumericsError
from deblur.types import Float, Iterations

NUMERICS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sparse:
    """`iterations`: at most; `regularisation`: for noise `floor`, it grows with the noise's square; `second`:
    weight of second differences; `data`, `smooth`: ADMM's two penalties; `tolerance`: stop when a step changes
    less (rms)."""

    iterations: int = 40
    regularisation: float = 2e-4
    floor: float = 0.006
    second: float = 0.25
    data: float = 0.1
    smooth: float = 0.02
    tolerance: float = 1e-4

    def solve(self, blurred: Float, model: Convolution, *, noise: float) -> tuple[Float, Iterations]:
        """Restore one plane (y, x) blurred by `model`; `noise`: its standard deviation."""
        transfer, shape = model.transfer, model.fast
        ratio = np.float32(max(1.0, noise / self.floor) ** 2)
        data, smooth = np.float32(self.data) * ratio**0.5, np.float32(self.smooth) * ratio
        limit = np.float32(self.regularisation) * ratio / smooth
        steps: list[tuple[np.float32, tuple[int, ...]]] = [(limit, (0,)), (limit, (1,))]
        steps += [(limit * np.float32(self.second), axes) for axes in ((0, 0), (1, 1), (0, 1))]
        denominator = data * np.abs(transfer) ** 2 + smooth * _power(steps, shape) + np.float32(1e-7)
        back = data * np.conj(transfer)
        x = model.placed(blurred)
        seen = model.filtered(x)
        gap = np.zeros_like(x)
        gaps = [np.zeros_like(x) for _ in steps]
        change, residual, count = np.inf, 0.0, 0
        while count < self.iterations and change >= self.tolerance:
            count += 1
            pull = np.zeros_like(x)
            for held, (bound, axes) in zip(gaps, steps, strict=True):
                held += _difference(x, axes)
                kept = held - np.clip(held, -bound, bound)
                held -= kept
                pull += _transposed(kept - held, axes)
            gap += seen
            known = gap.copy()
            model.part(known)[...] = (blurred + data * model.part(gap)) / (1 + data)
            gap -= known
            spectrum = back * scipy.fft.rfft2(known - gap, workers=1)
            spectrum += smooth * scipy.fft.rfft2(pull, workers=1)
            spectrum /= denominator
            previous, x = x, np.asarray(scipy.fft.irfft2(spectrum, s=shape, workers=1), np.float32)
            seen = np.asarray(scipy.fft.irfft2(spectrum * transfer, s=shape, workers=1), np.float32)
            change = float(np.sqrt(np.mean((x - previous) ** 2, dtype=np.float64)))
            residual = float(np.sqrt(np.mean((model.part(seen) - blurred) ** 2, dtype=np.float64)))
            if not np.isfinite(residual):
                raise NumericsError("the restoration left the finite numbers: mask such pixels")
        return model.part(x).copy(), Iterations(count, change, residual)


def _difference(plane: Float, axes: tuple[int, ...]) -> Float:
    """Forward differences along each of `axes` in turn, closed into a ring."""
    for axis in axes:
        plane = np.roll(plane, -1, axis) - plane
    return plane


def _transposed(plane: Float, axes: tuple[int, ...]) -> Float:
    for axis in axes:
        plane = np.roll(plane, 1, axis) - plane
    return plane


def _power(steps: list[tuple[np.float32, tuple[int, ...]]], shape: tuple[int, ...]) -> Float:
    """The summed power of all differences at each frequency."""
    spot = np.zeros(shape, np.float32)
    spot[0, 0] = 1
    total = sum(np.abs(scipy.fft.rfft2(_difference(spot, axes))) ** 2 for _, axes in steps)
    return np.asarray(total, np.float32)
