"""One image without neighbours, shaken as a whole: its PSF from itself, and restoration where that is to be believed.

Nothing else tells whether a PSF found blindly is true. So it is looked for in two halves of the image as well: what
shook the camera shows in both, what a texture feigns does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter

from deblur.blind import estimate_psf
from deblur.deconv.model import Convolution
from deblur.deconv.sparse import Sparse
from deblur.estimate import noise_level
from deblur.light import LUMA
from deblur.quality import Gate, clipped_at, held, ramp
from deblur.types import Bytes, Float, Iterations, Reason

NUMERICS_VERSION = 1
SIDE = 384  # pixels of the part that the PSF is found in: more would only cost time
SIZES = (31, 61, 121)  # of the PSF: the next one while it reaches the border of the last and explains more
RIM = 0.02  # share of the PSF in its outer ring that counts as reaching the border
SHARP = (6.0, 4.0)  # pixels of a line as wide as the PSF: blur from here on, and sharp below
COMPACT = (
    0.45,
    0.55,
)  # share of the light within a pixel of the PSF's brightest spot: above, most stood still
AGREE = (0.6, 0.4)  # correlation of the halves' PSFs: believed from here on, and not below
RESIDUAL = (
    3.0,
    8.0,
)  # noise levels of what the PSF leaves unexplained: believed up to here, and not from there
EVERYWHERE = (0.7, 0.5)  # share of the pixels that a PSF must explain to be believed for any


@dataclass(frozen=True, slots=True)
class RestoredStill:
    """`image`: (c, y, x) linear light; `weight`: (y, x) in [0, 1]; `reason`: (y, x), see `Reason`; `psf`: (k, k)."""

    image: Float
    weight: Float
    reason: Bytes
    psf: Float
    noise: float
    iterations: Iterations


def restore_still(frame: Float) -> RestoredStill:
    """Restore a frame (c, y, x) in linear light that a shaking camera blurred everywhere alike.

    Where the frame is sharp, too small, or its halves contradict each other, it comes back with weight 0, and
    so does one that the PSF explains in too few places.

    >>> restore_still(np.full((1, 64, 64), 0.5, np.float32)).weight.max()
    np.float32(0.0)
    """
    noise = noise_level(frame)
    light = np.tensordot(LUMA, frame, 1) if len(frame) == 3 else frame.mean(axis=0)
    light = np.asarray(light, np.float32)
    nothing = RestoredStill(
        frame.copy(), np.zeros(light.shape, np.float32), np.full(light.shape, Reason.STILL, np.uint8),
        np.ones((1, 1), np.float32), noise, Iterations(0, 0.0, 0.0),
    )  # fmt: skip
    part = _part(light)
    if min(part.shape) < 2 * SIZES[0]:
        return nothing
    psf = estimate_psf(part, size=SIZES[0])
    blurred = ramp(extent(psf), SHARP) * ramp(9 * float(uniform_filter(psf, 3).max()), COMPACT)
    if blurred == 0:
        return replace(nothing, psf=psf)
    found = _with(frame, psf, noise)
    for size in SIZES[1:]:
        rim = len(found.psf) // 10 + 1
        if found.psf[rim:-rim, rim:-rim].sum() > 1 - RIM or min(part.shape) < 3 * size:
            break
        larger = _with(frame, estimate_psf(part, size=size), noise)
        if larger.weight.mean() < found.weight.mean():
            break
        found = larger
    agreement = ramp(_agreement(part, len(found.psf)), AGREE) * ramp(float(found.weight.mean()), EVERYWHERE)
    weight = np.asarray(found.weight * np.float32(blurred * agreement), np.float32)
    weight[weight < 1 / 64] = 0
    reason = found.reason
    if blurred * agreement < 0.5:
        doubt = Reason.STILL if blurred < agreement else Reason.UNCERTAIN
        reason = np.where(reason == Reason.SATURATED, reason, np.uint8(doubt))
    return replace(found, weight=weight, reason=reason)


def _with(frame: Float, psf: Float, noise: float) -> RestoredStill:
    """The frame restored with this PSF, and where that is to be believed if the PSF is."""
    rules = Gate()
    model = Convolution(psf, (frame.shape[1], frame.shape[2]))
    solved = [Sparse().solve(plane, model, noise=noise) for plane in frame]
    image, beyond = held(frame, np.stack([plane for plane, _ in solved]), noise=noise, rules=rules)
    error = np.zeros(frame.shape[1:], np.float32)
    for seen, sharp in zip(frame, image, strict=True):
        error += (model.part(model.filtered(model.placed(sharp))) - seen) ** 2
    error = np.sqrt(uniform_filter(error / np.float32(len(frame)), 2 * rules.radius + 1).clip(0))
    residual = ramp(error / np.float32(np.hypot(noise, rules.floor)), RESIDUAL)
    overshoot = ramp(beyond, rules.overshoot)
    clipped = uniform_filter(clipped_at(frame, rules).astype(np.float32), len(psf)) > 1e-6
    weight = np.asarray(residual * overshoot, np.float32)
    weight[clipped] = 0
    reason = np.full(weight.shape, Reason.RESTORED, np.uint8)
    reason[residual < 0.5] = Reason.RESIDUAL
    reason[(overshoot < 0.5) & (overshoot < residual)] = Reason.OVERSHOOT
    reason[clipped] = Reason.SATURATED
    worst = max((record for _, record in solved), key=lambda record: record.change)
    return RestoredStill(image, weight, reason, psf, noise, worst)


def extent(psf: Float) -> float:
    """Pixels of the line whose spread is that of the PSF along its widest direction."""
    middle = (len(psf) - 1) / 2
    y, x = np.mgrid[: len(psf), : len(psf)] - middle
    spread = [
        [float((psf * a * b).sum() - (psf * a).sum() * (psf * b).sum()) for a in (y, x)] for b in (y, x)
    ]
    return float(np.sqrt(12 * max(0.0, np.linalg.eigvalsh(spread)[-1])))


def _part(light: Float) -> Float:
    """The square part with most edges."""
    height, width = light.shape
    if max(height, width) <= SIDE:
        return light
    best, found = -1.0, light
    for y in {0, max(0, height - SIDE) // 2, max(0, height - SIDE)}:
        for x in {0, max(0, width - SIDE) // 2, max(0, width - SIDE)}:
            part = light[y : y + SIDE, x : x + SIDE]
            edges = float(np.mean(np.abs(np.diff(part, axis=0)))) + float(
                np.mean(np.abs(np.diff(part, axis=1)))
            )
            if edges > best:
                best, found = edges, part
    return np.ascontiguousarray(found)


def _agreement(part: Float, size: int) -> float:
    """The correlation of the PSFs of two halves of the image, at the shift where it is largest."""
    axis = int(part.shape[1] > part.shape[0])
    halves = [np.ascontiguousarray(half) for half in np.array_split(part, 2, axis=axis)]
    if min(min(half.shape) for half in halves) < 2 * size:
        return 0.0
    one, other = (np.fft.rfft2(estimate_psf(half, size=size), s=(2 * size, 2 * size)) for half in halves)
    power = [float(np.sum(np.fft.irfft2(np.abs(v) ** 2)[:1, :1])) for v in (one, other)]
    return float(np.fft.irfft2(one * np.conj(other)).max() / np.sqrt(power[0] * power[1]))
