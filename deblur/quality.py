"""Where a restoration is to be believed: confidence in the motion, and the gate that keeps the source
elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter

from deblur.types import Bool, Bytes, Float, Reason

NUMERICS_VERSION = 2


@dataclass(frozen=True, slots=True)
class Gate:
    """The thresholds; pairs are (full trust, no trust) with a smooth step between.

    `path`: pixels, shorter paths keep the source. `consistency`: forward-backward contradiction in units of
    0.5 px + 5 % of the motion. `residual`: local rms of what the restored image, blurred again, leaves unexplained,
    as a share of what was changed there: half trust, falling with the cube. Where the path is right a small rest
    explains a large change (on real frames 5 to 20 %). `chance`: times the noise, the rest that
    chance alone explains in so small a place. `floor`: least noise. `overshoot`: beyond the source's local
    range, as a fraction of it, both as square roots; `margin`: the same fraction, to which overshoot is held;
    `agreement`: how much more than physics a correction may leave unexplained: half trust, falling with the eighth power.
    `radius`: of what is local, in pixels; `soft`: side of the square over which weights fade: a hole's rim would show as an
    outline. `white`: light from which on a sensor may have clipped.
    """

    path: tuple[float, float] = (1.5, 0.5)
    consistency: tuple[float, float] = (2.0, 8.0)
    residual: float = 0.35
    overshoot: tuple[float, float] = (0.25, 0.75)
    margin: float = 0.15
    chance: float = 1.15
    agreement: float = 1.5
    floor: float = 0.004
    radius: int = 4
    soft: int = 9
    white: float = 0.996


def confidence(motion: Float, back: Float) -> Float:
    """Trust in `motion`, (2, y, x), to a neighbour from what `back`, the neighbour's motion to here, says.

    (y, x) float32 in [0, 1]: 1 / (1 + e^2) with e the contradiction in units of 0.5 px + 5 % of the motion;
    0 where the motion leaves the frame. The check of Sundaram, Brox & Keutzer 2010
    (doi:10.1007/978-3-642-15549-9_32).

    Not `deblur.motion.consistency.confidence_of`, which ranks pixels by error with the help of the images: on
    real frames gating by that restored 0.03 to 0.09 dB less, in these units the same, at the price of images.

    >>> still = np.zeros((2, 4, 5), np.float32)
    >>> confidence(still, still).min()
    np.float32(1.0)
    """
    out = np.empty(motion.shape[1:], np.float32)
    _confidence(np.ascontiguousarray(motion), np.ascontiguousarray(back), out)
    return out


def gate(
    blurred: Float,
    restored: Float,
    again: Float,
    path: Float,
    sure: Float,
    beyond: Float,
    *,
    noise: float,
    invalid: Bool | None,
    rules: Gate,
) -> tuple[Float, Bytes]:
    """How far to believe each restored pixel, and what held it back most.

    `blurred`, `restored`, `again`: (c, y, x) linear light, the last the restored one blurred again; `path`: (2, y, x),
    or bent; `sure`: (y, x) confidence of the motion;
    `beyond`: (y, x), how far the restoration overshot (`held`); `invalid`: (y, x), pixels without
    meaning. Returns weight (y, x) float32 in [0, 1] and reason (y, x)
    uint8.
    """
    length = np.hypot(path[0], path[1])
    doubt = np.sqrt(1 / np.maximum(sure, np.float32(1e-3)) - 1)
    least_change = np.float32((noise**2 + rules.floor**2) / 4)
    expected = np.float32((rules.chance * noise) ** 2)
    rest = np.maximum(_power(again - blurred, rules) - expected, 0)
    share = np.sqrt(rest / (_power(restored - blurred, rules) + least_change))
    factors = (
        (Reason.STILL, ramp(length, rules.path)),
        (Reason.UNCERTAIN, ramp(doubt, rules.consistency)),
        (Reason.RESIDUAL, 1 / (1 + (share / np.float32(rules.residual)) ** 3)),
        (Reason.OVERSHOOT, ramp(beyond, rules.overshoot)),
    )
    weight = np.ones_like(sure)
    least = np.full_like(sure, 0.5)
    reason = np.full(sure.shape, Reason.RESTORED, np.uint8)
    for name, factor in factors:
        reason[factor < least] = name
        np.minimum(least, factor, out=least)
        weight *= factor
    weight = np.minimum(weight, uniform_filter(weight, rules.soft, mode="nearest"))  # only takes away
    weight[weight < 1 / 64] = 0
    clipped = clipped_at(blurred, rules)
    weight[clipped], reason[clipped] = 0, Reason.SATURATED
    if invalid is not None:
        weight[invalid], reason[invalid] = 0, Reason.INVALID
    return np.asarray(np.clip(weight, 0, 1), np.float32), reason


def limit(blurred: Float, path: Float, *, invalid: Bool | None, rules: Gate) -> Float:
    """(y, x): the most that any weight may be: 0 where nothing moved, where light is unknown or without meaning.

    The arguments are those of `gate`, whose weight is never above.
    """
    most = ramp(np.hypot(path[0], path[1]), rules.path)
    most[clipped_at(blurred, rules)] = 0
    if invalid is not None:
        most[invalid] = 0
    return most


def _power(planes: Float, rules: Gate) -> Float:
    """(y, x): the mean square of (c, y, x) over planes and surroundings."""
    mean = np.mean(planes * planes, axis=0, dtype=np.float32)
    return np.asarray(uniform_filter(mean, 4 * rules.radius + 1, mode="nearest"), np.float32)


def ramp(value: NDArray[np.floating] | float, ends: tuple[float, float]) -> Float:
    """1 at ends[0], 0 at ends[1], smooth between."""
    t = np.clip((np.asarray(value, np.float32) - np.float32(ends[1])) / np.float32(ends[0] - ends[1]), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def agreement(frame: Float, again: Float, other: Float, *, noise: float, rules: Gate) -> Float:
    """Trust in corrected planes: (y, x) float32 in [0, 1], near 1 where they explain the frame as physics does.

    `frame`; `again`, `other`: (c, y, x), the planes of physics and the corrected ones, both blurred again. A network
    answers with what pictures mostly look like; of one unlike those it learned from, a drawing say, that contradicts
    what the camera saw. On one with hard edges this gives back 2.8 of the 3.2 dB that a network took; on frames of a
    real clip it changes -0.03 to +0.02 dB.

    >>> flat = np.full((1, 32, 32), 0.5, np.float32)
    >>> float(agreement(flat, flat, flat + 0.1, noise=0.0, rules=Gate()).max()) < 0.01
    True
    """
    most = np.float32(rules.agreement**2) * np.maximum(
        _power(again - frame, rules), np.float32(noise**2 + rules.floor**2)
    )
    return np.asarray(1 / (1 + (_power(other - frame, rules) / most) ** 4), np.float32)


def held(blurred: Float, restored: Float, *, noise: float, rules: Gate) -> tuple[Float, Float]:
    """Restored light, held near the range of the source around it, and how far beyond that range it was.

    `blurred`, `restored`: (c, y, x) linear light. Compared as square roots, much as the eye and shot noise do:
    in linear light a black blob beside a lamp would be a small thing. Returns the image, and (y, x): the worst
    plane's overshoot as a fraction of the local range.
    """
    size = 4 * rules.radius + 1
    beyond = np.zeros(blurred.shape[1:], np.float32)
    image = np.empty_like(restored)
    for seen, sharp, out in zip(blurred, restored, image, strict=True):
        source, value = _root(seen), _root(sharp)
        low, high = source, source
        for axis in (0, 1):
            low = minimum_filter1d(low, size, axis=axis, mode="nearest")
            high = maximum_filter1d(high, size, axis=axis, mode="nearest")
        span = high - low + np.float32(4 * np.hypot(noise, rules.floor))
        np.maximum(beyond, np.maximum(value - high, low - value) / span, out=beyond)
        value = np.clip(value, low - np.float32(rules.margin) * span, high + np.float32(rules.margin) * span)
        out[...] = value * np.abs(value)
    return image, beyond


def _root(light: Float) -> Float:
    """The square root, odd: what lies below zero stays below it."""
    return np.asarray(np.copysign(np.sqrt(np.abs(light)), light), np.float32)


def clipped_at(blurred: Float, rules: Gate) -> Bool:
    """(y, x): where any plane of (c, y, x) may have been clipped."""
    return np.asarray((blurred >= np.float32(rules.white)).any(axis=0))


@njit(cache=True, nogil=True)
def _confidence(motion, back, out):  # type: ignore[no-untyped-def]
    _, h, w = motion.shape
    for y in range(h):
        for x in range(w):
            dy, dx = motion[0, y, x], motion[1, y, x]
            fy, fx = np.floor(dy), np.floor(dx)
            i, j = y + int(fy), x + int(fx)
            a, b = dy - fy, dx - fx
            i2, j2 = i + (1 if a > 0 else 0), j + (1 if b > 0 else 0)
            if i < 0 or j < 0 or i2 >= h or j2 >= w:
                out[y, x] = np.float32(0)
                continue
            error = np.float32(0)
            for k in range(2):
                top = (1 - b) * back[k, i, j] + b * back[k, i, j2]
                bottom = (1 - b) * back[k, i2, j] + b * back[k, i2, j2]
                gap = motion[k, y, x] + (1 - a) * top + a * bottom
                error += np.float32(gap * gap)
            unit = np.float32(0.5) + np.float32(0.05) * np.sqrt(dy * dy + dx * dx)
            out[y, x] = np.float32(1) / (np.float32(1) + error / (unit * unit))
