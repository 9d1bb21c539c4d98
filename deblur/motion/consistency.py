"""How far to believe a motion field, what is hidden, and whether two frames show one scene.

Three things tell where a field errs, without any truth: the round trip forward and backward that doesn't
close (Sundaram, Brox, Keutzer 2010, doi:10.1007/978-3-642-15549-9_32), a field that varies nearby (borders
between motions are where methods smooth), and a difference in brightness that is large for the texture
there. What no pixel of the other frame leads to is hidden in it (Leordeanu, Zanfir, Sminchisescu 2013,
doi:10.1109/ICCV.2013.216).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.ndimage import uniform_filter

from deblur.motion.variational import compress
from deblur.motion.warping import warp
from deblur.types import Bool, Float, Motion

TRUSTED = 0.5  # px: where this much error is expected, the confidence is 1/2
RELATIVE = 0.02  # ... and this share of the way more
SPREAD = 0.5  # px of error expected for a px that the field varies by nearby
RESIDUAL = 0.3  # ... and for a difference as large as the slope of the texture
NOISE = 0.2  # slope of the compressed image that is no texture
LEFT = 10.0  # px of error expected where the motion leaves the frame
COVERED = 0.8  # a pixel that fewer pixels than this lead to is hidden
CUT_CLOSED = 0.3  # below this share of closed round trips ...
CUT_LIKENESS = 0.6  # ... and this correlation after motion the frames show different scenes


def round_trip(forward: Float, backward: Float) -> tuple[Float, Bool]:
    """`|forward + backward at the place it leads to|` in pixels, and whether that place lies in the frame.

    Both (2, y, x) float32. Returns (y, x) float32 and bool.

    >>> there = np.zeros((2, 8, 8), np.float32)
    >>> float(round_trip(there + 1, there - 1)[0].max())
    0.0
    """
    back_y, inside = warp(np.ascontiguousarray(backward[0]), forward)
    back_x, _ = warp(np.ascontiguousarray(backward[1]), forward)
    return np.hypot(forward[0] + back_y, forward[1] + back_x), inside


def expected_error(a: Float, b: Float, forward: Float, backward: Float) -> Float:
    """The error (y, x) in pixels to expect of `forward`, from what can be seen: see the module's first lines.

    `a`, `b`: (y, x) images. Calibrated to rank pixels; it is no standard deviation.
    """
    miss, inside = round_trip(forward, backward)
    total = np.sqrt(_local(miss * miss).clip(0)) + np.where(inside, np.float32(0), np.float32(LEFT))
    varies = np.sum([_local((plane - _local(plane)) ** 2, 7) for plane in forward], axis=0)
    one = compress(a)
    residual = _local((warp(compress(b), forward)[0] - one) ** 2).clip(0)
    slopes = _local(
        np.square(np.diff(one, axis=0, append=one[-1:])) + np.square(np.diff(one, axis=1, append=one[:, -1:]))
    ).clip(0)
    total += np.float32(SPREAD) * np.sqrt(varies.clip(0))
    total += np.float32(RESIDUAL) * np.sqrt(residual) / (np.sqrt(slopes) + np.float32(NOISE))
    return np.asarray(total, np.float32)


def confidence_of(a: Float, b: Float, forward: Float, backward: Float) -> Float:
    """Confidence (y, x) in [0, 1] of `forward`: 1/2 where TRUSTED px + RELATIVE of the way may be wrong."""
    allowed = np.float32(TRUSTED) + np.float32(RELATIVE) * np.hypot(forward[0], forward[1])
    error = expected_error(a, b, forward, backward) / allowed
    return np.asarray(1 / (1 + error * error), np.float32)


def occlusion_of(forward: Float, backward: Float) -> Bool:
    """(y, x): seen in the first frame only, because it leaves, or too little of the second leads to it."""
    miss, inside = round_trip(forward, backward)
    hits = np.zeros(miss.shape, np.float32)
    _splat(np.ascontiguousarray(backward), hits)
    far = miss * miss > np.float32(2) + np.float32(0.02) * (forward[0] ** 2 + forward[1] ** 2)
    return np.asarray(~inside | far | (_local(hits, 3) < np.float32(COVERED)), np.bool_)


@njit(cache=True, nogil=True)
def _splat(field: Float, hits: Float) -> None:
    """Every pixel of the other frame leaves one hit, shared among the four pixels around where it leads."""
    height, width = hits.shape
    one, far = np.float32(1.0), np.float32(1e6)
    for y in range(height):
        for x in range(width):
            fy, fx = np.floor(field[0, y, x]), np.floor(field[1, y, x])
            py, px = field[0, y, x] - fy, field[1, y, x] - fx
            i, j = y + int(min(max(fy, -far), far)), x + int(min(max(fx, -far), far))
            for k in range(2):
                for m in range(2):
                    if 0 <= i + k < height and 0 <= j + m < width:
                        hits[i + k, j + m] += (py if k == 1 else one - py) * (px if m == 1 else one - px)


def _local(plane: Float, size: int = 5) -> Float:
    """The mean of the pixels around each one."""
    return np.asarray(uniform_filter(plane, size, mode="nearest"), np.float32)


def pair(a: Float, b: Float, forward: Float, backward: Float) -> Motion:
    """Put both fields together; of two frames that don't show the same scene only `cut` and zeros remain."""
    miss, inside = round_trip(forward, backward)
    closed = inside & (
        miss * miss <= np.float32(0.5) + np.float32(0.02) * (forward[0] ** 2 + forward[1] ** 2)
    )
    moved, _ = warp(b, forward)
    if np.mean(closed) < CUT_CLOSED and _likeness(a[inside], moved[inside]) < CUT_LIKENESS:
        nothing, everywhere = np.zeros_like(forward), np.ones(a.shape, np.bool_)
        return Motion(nothing, nothing.copy(), np.zeros_like(a), everywhere, True)
    return Motion(
        forward, backward, confidence_of(a, b, forward, backward), occlusion_of(forward, backward), False
    )


def _likeness(a: Float, b: Float) -> float:
    """The correlation coefficient; 0 where one of the two is constant or empty."""
    if a.size < 2:
        return 0.0
    one, other = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    power = float(np.sqrt(np.vdot(one, one) * np.vdot(other, other)))
    return float(np.vdot(one, other)) / power if power > 0 else 0.0
