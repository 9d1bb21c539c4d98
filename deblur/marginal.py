"""The PSF that is likely over all sharp images, not with the one that fits best: variational Bayes.

The best single image and PSF together are no blur at all, or a PSF a little too wide; averaged over the images
that may be there, the true PSF is the likely one (Levin, Weiss, Durand & Freeman 2011,
doi:10.1109/CVPR.2011.5995308). Slopes of the image are independent and normal, each with a variance of its own
that is found on the way (Wipf & Zhang 2014, JMLR 15, 3595-3634); their uncertainty enters where the PSF is
fitted. The frame around what was seen is unknown, not invented.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from deblur.types import Float

NUMERICS_VERSION = 1
ROUNDS = 12  # of image and PSF in turn
FREE = 4  # rounds before the PSF is held to where it has been found
IMAGE_STEPS = 15  # of conjugate gradients
PSF_STEPS = 60  # of projected gradients
NOISE = 0.0012  # standard deviation assumed at least: quantisation, and blur that is not quite the same everywhere
FLATTEST = 1e-4  # variance of a slope assumed at least at first ...
LEAST = 1e-9  # ... and in the end
WEAKEST = 0.02  # share of the PSF's largest value below which it is noise
SPECK = 0.1  # a part of the PSF that nowhere reaches this share is noise


def likely_psf(plane: Float, psf: Float, *, noise: float) -> Float:
    """The likely PSF near `psf`, (k, k) with sum 1, that blurred `plane`, (y, x); cleaned of specks.

    `noise`: standard deviation of the plane's noise.

    >>> point = np.zeros((5, 5), np.float32); point[2, 2] = 1
    >>> float(likely_psf(np.full((40, 40), 0.5, np.float32), point, noise=0.0)[2, 2])
    1.0
    """
    size = len(psf)
    shape = tuple(scipy.fft.next_fast_len(n + size - 1, real=True) for n in plane.shape)
    inner = tuple(slice(size // 2, size // 2 + n - 1) for n in plane.shape)
    seen = np.zeros((2, *shape), np.float32)
    seen[0][inner] = plane[1:, :-1] - plane[:-1, :-1]
    seen[1][inner] = plane[:-1, 1:] - plane[:-1, :-1]
    known = np.zeros(shape, np.float32)
    known[inner] = 1
    level = np.float32(3 * max(noise, NOISE) ** 2)  # of a difference, and what the model can't explain
    slopes = seen.copy()
    variance = np.maximum(np.float32(0.5) * np.sum(slopes * slopes, axis=0), np.float32(FLATTEST))
    for count in range(ROUNDS):
        slopes, spread = _image(slopes, seen, known, psf, level / variance)
        spread *= level
        variance = np.maximum(np.float32(0.5) * np.sum(slopes * slopes, axis=0) + spread, np.float32(LEAST))
        place = (
            np.ones(psf.shape, bool)
            if count < FREE
            else binary_dilation(without_specks(psf) > 0, np.ones((3, 3)))
        )
        psf = _psf(slopes, seen, known, psf, 2 * float(np.sum(known * spread, dtype=np.float64)), place)
    return without_specks(psf)


def without_specks(psf: NDArray[np.floating]) -> Float:
    """What is weak is kept only where it hangs together with something strong; sum 1, a point if nothing is left."""
    kept = np.where(psf > WEAKEST * psf.max(), psf, 0).astype(np.float64)
    parts, count = label(kept > 0, np.ones((3, 3)))
    for k in range(1, count + 1):
        if kept[parts == k].max() < SPECK * psf.max():
            kept[parts == k] = 0
    if not kept.sum() > 0:
        kept[len(kept) // 2, len(kept) // 2] = 1
    return np.asarray(kept / kept.sum(), np.float32)


def _image(slopes: Float, seen: Float, known: Float, psf: Float, stiffness: Float) -> tuple[Float, Float]:
    """The mean of the slopes for this PSF, and their variance per unit of noise variance."""
    shape = known.shape
    transfer = spectrum_of(psf, shape)
    share = _filtered(known, np.conj(spectrum_of(psf * psf, shape)))
    diagonal = np.maximum(share, 0) + stiffness + np.float32(1e-8)

    def bent(x: Float) -> Float:
        return _filtered(known * _filtered(x, transfer), np.conj(transfer)) + stiffness * x

    found = np.empty_like(slopes)
    for x, y, out in zip(slopes, seen, found, strict=True):
        rest = _filtered(y, np.conj(transfer)) - bent(x)
        way = rest / diagonal
        energy = float(np.sum(rest * way, dtype=np.float64))
        for _ in range(IMAGE_STEPS):
            if energy < 1e-12:
                break
            change = bent(way)
            step = np.float32(energy / float(np.sum(way * change, dtype=np.float64)))
            x = x + step * way
            rest = rest - step * change
            scaled = rest / diagonal
            fresh = float(np.sum(rest * scaled, dtype=np.float64))
            way = scaled + np.float32(fresh / energy) * way
            energy = fresh
        out[...] = x
    return found, np.asarray(1 / diagonal, np.float32)


def _psf(
    slopes: Float, seen: Float, known: Float, psf: Float, ridge: float, place: NDArray[np.bool_]
) -> Float:
    """The PSF by least squares, not negative and 0 outside `place`; beyond the frame the model fills in."""
    size, shape = len(psf), known.shape
    transfer = spectrum_of(psf, shape)
    power, cross = np.zeros(transfer.shape), np.zeros(transfer.shape, np.complex128)
    for x, y in zip(slopes, seen, strict=True):
        spectrum = scipy.fft.rfft2(x, workers=1)
        whole = y + (1 - known) * scipy.fft.irfft2(spectrum * transfer, s=shape, workers=1)
        power += np.abs(spectrum) ** 2
        cross += np.conj(spectrum) * scipy.fft.rfft2(whole, workers=1)
    around = _about_origin(scipy.fft.irfft2(power, s=shape, workers=1), 2 * size - 1)
    target = _about_origin(scipy.fft.irfft2(cross, s=shape, workers=1), size)
    side = scipy.fft.next_fast_len(3 * size, real=True)
    gram = spectrum_of(around, (side, side)).real + ridge
    bound = float(gram.max())
    if not bound > 0:
        return psf
    found = np.where(place, psf, 0.0)
    ahead, momentum = found.copy(), 1.0
    for _ in range(PSF_STEPS):  # Beck & Teboulle 2009, doi:10.1137/080716542, restarted where it turns back
        spectrum = scipy.fft.rfft2(ahead, s=(side, side), workers=1)
        slope = scipy.fft.irfft2(gram * spectrum, s=(side, side), workers=1)[:size, :size] - target
        following = np.where(place, np.maximum(ahead - slope / bound, 0), 0)
        turned = float(np.sum((ahead - following) * (following - found))) > 0
        later = 1.0 if turned else 0.5 * (1 + (1 + 4 * momentum * momentum) ** 0.5)
        ahead = following + (momentum - 1) / later * (following - found)
        found, momentum = following, later
    total = found.sum()
    return np.asarray(found / total, np.float32) if total > 0.01 else psf  # without edges nothing is learnt


def spectrum_of(psf: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.complexfloating]:
    """The spectrum of a PSF on a ring of that shape, its middle at the origin."""
    kernel = np.zeros(shape, psf.dtype)
    kernel[: psf.shape[0], : psf.shape[1]] = psf
    return np.asarray(scipy.fft.rfft2(np.roll(kernel, [-(n // 2) for n in psf.shape], (0, 1)), workers=1))


def _filtered(plane: Float, transfer: NDArray[np.complexfloating]) -> Float:
    return np.asarray(
        scipy.fft.irfft2(scipy.fft.rfft2(plane, workers=1) * transfer, s=plane.shape, workers=1), np.float32
    )


def _about_origin(plane: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """The (size, size) around the origin of a ring."""
    return np.asarray(np.roll(plane, (size // 2, size // 2), (0, 1))[:size, :size], np.float64)
