"""Wiener's filter for one PSF, with the spectrum of natural images as prior.

Wiener 1949; the prior's power falls with the square of frequency (Field 1987, doi:10.1364/JOSAA.4.002379).
The image is continued beyond its border so that it closes on itself smoothly (Liu & Jia 2008,
doi:10.1109/ICIP.2008.4711802, do it by minimal curvature; here the continuation is blurred along itself).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from deblur.types import Float

NUMERICS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Wiener:
    """`strength`: of the prior, per noise variance; `floor`: the noise assumed at least, quantisation for
    one."""

    strength: float = 300.0
    floor: float = 0.0015

    def restore(self, blurred: Float, psf: Float, *, noise: float) -> Float:
        """Restore one plane (y, x) blurred by `psf` (k, l), odd sides, sum 1."""
        radius = [max(8, 2 * n) for n in psf.shape]
        shape = [
            scipy.fft.next_fast_len(n + 2 * r, real=True) for n, r in zip(blurred.shape, radius, strict=True)
        ]
        before = [(s - n) // 2 for s, n in zip(shape, blurred.shape, strict=True)]
        inner = tuple(slice(b, b + n) for b, n in zip(before, blurred.shape, strict=True))
        kernel = np.zeros(shape, np.float32)
        kernel[: psf.shape[0], : psf.shape[1]] = psf
        kernel = np.roll(kernel, [-(n // 2) for n in psf.shape], axis=(0, 1))
        transfer = scipy.fft.rfft2(kernel)
        extended = closed(blurred, before, shape)
        spectrum = scipy.fft.rfft2(extended, workers=1)
        smooth = scipy.fft.irfft2(spectrum * transfer, s=shape, workers=1)
        mask = np.zeros(shape, np.float32)
        mask[inner] = 1
        blend = scipy.fft.irfft2(scipy.fft.rfft2(mask) * transfer, s=shape, workers=1)
        tapered = extended * blend + smooth * (1 - blend)
        tapered[inner] = blurred  # taper outside only: inside is what was seen
        spectrum = scipy.fft.rfft2(tapered, workers=1)
        variance = self.strength * (noise**2 + self.floor**2)
        spectrum *= np.conj(transfer) / (np.abs(transfer) ** 2 + variance * _prior(shape))
        return np.ascontiguousarray(scipy.fft.irfft2(spectrum, s=shape, workers=1)[inner], np.float32)


def _prior(shape: list[int]) -> Float:
    """One over the relative power of natural images at each frequency: its square, four times at Nyquist."""
    fy = scipy.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(shape[1]).astype(np.float32)[None]
    return np.asarray((2 * np.pi) ** 2 * (fy**2 + fx**2) + np.float32(1e-6), np.float32)


def closed(plane: Float, before: list[int], shape: list[int]) -> Float:
    """The plane in a larger one, its border continued so that opposite edges of the larger one meet."""
    pads = [(b, s - n - b) for b, s, n in zip(before, shape, plane.shape, strict=True)]
    out = np.pad(plane, pads, mode="edge")
    for axis, (low, high) in enumerate(pads):
        moved = np.moveaxis(out, axis, 0)
        n = moved.shape[0]
        first, last = moved[low].copy(), moved[n - high - 1].copy()
        t = (np.arange(low + high, dtype=np.float32) + 1) / (low + high + 1)
        bridge = last + (first - last) * (t * t * (3 - 2 * t))[:, None]
        moved[n - high :], moved[:low] = bridge[:high], bridge[high:]
    return out
