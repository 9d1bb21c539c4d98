"""Whether motion forward and backward tell the same story: confidence, occlusion, cuts.

The occlusion rule is Sundaram, Brox, Keutzer 2010 (doi:10.1007/978-3-642-15549-9_32).
"""

from __future__ import annotations

import numpy as np

from deblur.motion.warping import warp
from deblur.types import Bool, Float, Motion

CLOSED = 0.5  # px: a round trip that misses by this much is half trusted, for short motion
RELATIVE = 0.1  # ... and so is one that misses by this share of the way
CUT_CLOSED = 0.2  # below this share of closed round trips ...
CUT_LIKENESS = 0.5  # ... and this correlation after motion the frames show different scenes


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


def confidence_of(forward: Float, backward: Float) -> tuple[Float, Bool]:
    """Confidence (y, x) in [0, 1] of `forward`, and where its target is hidden or outside.

    The confidence is 1 for a round trip that closes, 1/2 where it misses by CLOSED px + RELATIVE of the way,
    0 where the motion leaves the frame.
    """
    miss, inside = round_trip(forward, backward)
    way = np.hypot(forward[0], forward[1])
    allowed = np.float32(CLOSED) + np.float32(RELATIVE) * way
    confidence = np.where(inside, np.float32(1) / (np.float32(1) + (miss / allowed) ** 2), np.float32(0))
    occluded = ~inside | (miss * miss > np.float32(0.5) + np.float32(0.02) * way * way)
    return np.asarray(confidence, np.float32), occluded


def pair(a: Float, b: Float, forward: Float, backward: Float) -> Motion:
    """Put both fields together; of two frames that don't show the same scene only `cut` and zeros remain."""
    confidence, occluded = confidence_of(forward, backward)
    moved, inside = warp(b, forward)
    if np.mean(~occluded) < CUT_CLOSED and _likeness(a[inside], moved[inside]) < CUT_LIKENESS:
        nothing = np.zeros_like(forward)
        return Motion(nothing, nothing.copy(), np.zeros_like(confidence), np.ones_like(occluded), True)
    return Motion(forward, backward, confidence, occluded, False)


def _likeness(a: Float, b: Float) -> float:
    """The correlation coefficient; 0 where one of the two is constant or empty."""
    if a.size < 2:
        return 0.0
    one, other = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    power = float(np.sqrt(np.vdot(one, one) * np.vdot(other, other)))
    return float(np.vdot(one, other)) / power if power > 0 else 0.0
