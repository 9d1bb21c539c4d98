"""The exposure fraction of a sequence from its frames: how much of the motion between them blurred each one.

An edge that moved while the shutter was open left two marks, where it was at first and where it was in the end: the
second derivative along the motion has the edge twice, with opposite signs. So its correlation with itself, moved
along the motion, has a trough at the path's length (Yitzhaky & Kopeika 1997, doi:10.1006/gmip.1997.0435). Here every
pixel looks along its own motion, by a share of it that is the same for all: the trough is at the exposure fraction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deblur.errors import ArrayError
from deblur.light import Light, decode, resolve
from deblur.motion.pyramid import upsample
from deblur.paths import exposure_path
from deblur.quality import confidence
from deblur.strips import Read, of_array, reduced
from deblur.survey import LARGEST_SIDE, Survey, middle, reduction_for, survey
from deblur.types import Estimate, Float

NUMERICS_VERSION = 3
STRETCH = 16  # frames to estimate from: more would only cost time
BOUNDS = (0.05, 1.0)
SHARES = np.arange(1, 36, dtype=np.float32) * np.float32(0.04)  # beyond 1: a hand is faster in one frame
REDUCED = 12.0  # pixels that the motion keeps at least where frames are reduced: that takes away noise
SHORTEST = 3.0  # reduced pixels; a trough nearer than that is the edge's own width
SHALLOWEST = -0.04  # correlation; a trough that is less deep is chance
SMOOTH = (0.7, 1.2, 1.8)  # reduced pixels, before the second derivative: more where noise hides the trough
AROUND = 2.0  # reduced pixels over which the direction of edges is averaged
LOUDNESS = 8.0  # the same for their strength, so that a few strong edges don't decide alone
BORDER = 8  # reduced pixels without a say: light came in from outside
UNSTEADY = 0.2  # how far one frame of a hand-held camera is from the mean
LEAST_SPREAD = 0.02
DOUBT = 0.3  # reduced pixels by which the trough is off for other reasons than chance
HOPELESS = "no frame moves enough to tell the exposure: give exposure_fraction"


def estimate_exposure_fraction(
    frames: NDArray[Any], *, transfer: str = "auto", motion_method: str = "fast"
) -> Estimate:
    """Exposure time × frame rate of a stack of frames from one camera, with its standard uncertainty.

    `frames`, `transfer`: as for `deblur.restore`; `motion_method`: from `deblur.motion.METHODS`. Each frame with
    neighbours on both sides tells by which share of the motion between them it was blurred; a shaking hand spreads
    those shares, their mean is the answer: give seven frames or more. Raises ArrayError for a wrong stack, or
    where no frame moves enough to tell.

    >>> estimate_exposure_fraction(np.zeros((3, 40, 40), np.float32))
    Traceback (most recent call last):
    deblur.errors.ArrayError: no frame moves enough to tell the exposure: give exposure_fraction
    """
    stack = np.ascontiguousarray(frames)
    if stack.ndim not in (3, 4) or len(stack) < 3:
        raise ArrayError(f"frames of shape {stack.shape} don't tell the exposure: give three frames or more")
    if stack.dtype.kind == "f" and not np.isfinite(stack).all():
        raise ArrayError("frames hold NaN or infinity: fill what is unknown first")
    stack = stack if stack.ndim == 4 else stack[:, None]
    light = resolve(stack.dtype, transfer=transfer, largest=float(stack.max()))
    return exposure_of(stack, survey(stack, light=light, motion_method=motion_method), light)


def exposure_of(frames: Iterable[NDArray[Any]], found: Survey, light: Light) -> Estimate:
    """The same from a survey of the frames, (c, y, x) codes each, in order. Raises ArrayError where none can tell."""
    told = []
    for t, frame in enumerate(frames):
        if t > 0 and found.linked[t - 1] and found.linked[t]:
            before, after = (
                (found.forward[t - 1], found.backward[t]),
                (found.forward[t], found.backward[t + 1]),
            )
            told.append(share_of(of_array(frame), *frame.shape[1:], light=light, before=before, after=after))
    return estimate_from(told)


def estimate_from(told: Iterable[tuple[float, float] | None]) -> Estimate:
    """What the frames told (`share_of`), in order, taken together. Raises ArrayError where none could."""
    sure = np.array([one for one in told if one is not None])
    if not len(sure):
        raise ArrayError(HOPELESS)
    shares, doubts = sure.T
    chance = max(float(shares.std(ddof=1)) if len(shares) > 1 else UNSTEADY, LEAST_SPREAD)
    spread = chance / len(shares) ** 0.5  # as of independent frames: a hand's swings rather cancel
    return Estimate(float(np.clip(shares.mean(), *BOUNDS)), float(np.hypot(spread, np.mean(doubts))))


def share_of(
    read: Read,
    height: int,
    width: int,
    *,
    light: Light,
    before: tuple[Float, Float],
    after: tuple[Float, Float],
) -> tuple[float, float] | None:
    """The share of its motion that blurred a frame, and by how much that may be off; None: it can't tell.

    `before`, `after`: the survey's fields forward and backward between the frame before and it, and between it and
    the next one. Of a very large frame only the middle is looked at.
    """
    motions, backs = [after[0], before[1]], [after[1], before[0]]
    factor = reduction_for(height, width)
    one = np.float32(1 / factor)
    sure = [confidence(m * one, b * one) for m, b in zip(motions, backs, strict=True)]
    path = exposure_path(motions, [1.0, -1.0], sure)
    length = float(np.median(np.hypot(path[0], path[1])))
    by = 1
    while by < factor and length >= 2 * by * REDUCED:
        by *= 2
    box = middle(-(-height // by), -(-width // by), LARGEST_SIDE)
    if length / by < 2 * SHORTEST or min(box.shape) < 6 * BORDER:
        return None
    (plane,) = reduced(
        read, height, width, factor=by, planes=lambda codes: decode(codes, light).mean(axis=0)[None], box=box
    )
    fields = np.concatenate([path / np.float32(by), np.max(sure, axis=0)[None]])
    fine = upsample(
        fields, factor=factor // by, y0=box.y0, x0=box.x0, height=box.shape[0], width=box.shape[1]
    )
    whole, trust = np.ascontiguousarray(fine[:2]), fine[2]
    for smooth in SMOOTH:
        share = _trough(*_marks(gaussian_filter(plane, smooth), whole, trust), whole, SHORTEST * by / length)
        if share is not None:
            return share, DOUBT * by / length
    return None


def _trough(marks: Float, weight: Float, whole: Float, least: float) -> float | None:
    """The share at which the marks cancel most, beyond `least`; None where they hardly do."""
    echo = np.array([_echo(marks, weight, whole, share) for share in SHARES])
    echo[least > SHARES] = 1
    k = int(np.argmin(echo))
    if k in (0, len(SHARES) - 1) or echo[k - 1] == 1 or echo[k] > SHALLOWEST:
        return None
    before, deepest, after = echo[k - 1 : k + 2]
    shift = 0.5 * (before - after) / (before - 2 * deepest + after)
    return float(SHARES[k]) + float(SHARES[0]) * float(shift)


def _marks(plane: Float, whole: Float, sure: Float) -> tuple[Float, Float]:
    """The second derivative along `whole`, of even loudness and times its weight; and that weight.

    Weight goes to edges that the motion crosses; those along it are as long as they are, whatever the exposure.
    """
    second, along, across = (np.zeros_like(plane) for _ in range(3))
    _derivatives(plane, whole, second, along, across)
    crossed, followed = gaussian_filter(along * along, AROUND), gaussian_filter(across * across, AROUND)
    weight = sure * (crossed / (crossed + followed + np.float32(1e-9))) ** 2
    inner = np.zeros(plane.shape, bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    weight = np.where(inner, weight, np.float32(0))
    quiet = np.float32(1.5 * np.median(np.abs(second)) + 1e-6)
    loudness = np.sqrt(gaussian_filter(second * second, LOUDNESS) + quiet * quiet)
    return np.asarray(weight * second / loudness, np.float32), np.asarray(weight, np.float32)


@njit(cache=True, nogil=True)
def _at(plane, y, x):  # type: ignore[no-untyped-def]
    """Linear between pixels; 0 outside."""
    i, j = int(np.floor(y)), int(np.floor(x))
    if i < 0 or j < 0 or i + 1 >= plane.shape[0] or j + 1 >= plane.shape[1]:
        return np.float32(0)
    a, b = np.float32(y - i), np.float32(x - j)
    one = np.float32(1)
    top = plane[i, j] * (one - b) + plane[i, j + 1] * b
    return top * (one - a) + (plane[i + 1, j] * (one - b) + plane[i + 1, j + 1] * b) * a


@njit(cache=True, nogil=True)
def _derivatives(plane, whole, second, along, across):  # type: ignore[no-untyped-def]
    """Along the motion the second and the first derivative, and the first across it; 0 at the border."""
    h, w = plane.shape
    for y in range(2, h - 2):
        for x in range(2, w - 2):
            dy, dx = whole[0, y, x], whole[1, y, x]
            length = np.sqrt(dy * dy + dx * dx) + np.float32(1e-6)
            dy, dx = dy / length, dx / length
            ahead, behind = _at(plane, y + dy, x + dx), _at(plane, y - dy, x - dx)
            second[y, x] = ahead - 2 * plane[y, x] + behind
            along[y, x] = ahead - behind
            across[y, x] = _at(plane, y - dx, x + dy) - _at(plane, y + dx, x - dy)


@njit(cache=True, nogil=True)
def _echo(marks, weight, whole, share):  # type: ignore[no-untyped-def]
    """Correlation of the marks with themselves, `share` of the motion further on."""
    h, w = marks.shape
    both, here, there = 0.0, 0.0, 0.0
    for y in range(h):
        for x in range(w):
            if weight[y, x] > 0:
                v, u = y + share * whole[0, y, x], x + share * whole[1, y, x]
                if _at(weight, v, u) > 0:
                    a, b = marks[y, x], _at(marks, v, u)
                    both += a * b
                    here += a * a
                    there += b * b
    return both / np.sqrt(here * there) if here * there > 0 else 1.0
