"""The exposure fraction of a sequence from its frames: how much of the motion between them blurred each one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.light import decode, resolve
from deblur.motion.pyramid import reduce
from deblur.paths import exposure_path
from deblur.quality import confidence
from deblur.shake import LEAST_PATH, explain
from deblur.survey import Survey, survey
from deblur.types import Estimate, Float

NUMERICS_VERSION = 1
START = 0.6  # the fraction that the search starts from
BOUNDS = (0.05, 1.0)
LONGEST_PATH = 7.0  # reduced pixels; longer blur is looked at on a smaller frame, where edges are sharper


def estimate_exposure_fraction(
    frames: NDArray[Any], *, transfer: str = "auto", motion_method: str = "fast"
) -> Estimate:
    """Exposure time × frame rate of a stack of frames from one camera, with its standard uncertainty.

    `frames`, `transfer`: as for `deblur.restore`; `motion_method`: from `deblur.motion.METHODS`. For each frame
    with neighbours on both sides, the share of the motion between them is found that explains the frame's blur
    (see `deblur.shake`); the median over the frames is the answer. A shaking hand spreads those shares, so give
    seven frames or more. Raises ArrayError for a wrong stack, or where no frame moves enough to tell.

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
    seen = survey(stack, light=light, motion_method=motion_method)
    shares = []
    for t in range(1, len(stack) - 1):
        if seen.linked[t - 1] and seen.linked[t]:
            share = _share(reduce(decode(stack[t], light).mean(axis=0), seen.reduction), seen, t)
            if share is not None:
                shares.append(share)
    if not shares:
        raise ArrayError("no frame moves enough to tell the exposure: give exposure_fraction")
    middle = float(np.median(shares))
    spread = 1.4826 * float(np.median(np.abs(np.array(shares) - middle)))
    return Estimate(float(np.clip(middle, *BOUNDS)), max(spread, 0.2) * 1.25 / len(shares) ** 0.5)


def _share(blurred: Float, seen: Survey, t: int) -> float | None:
    """The exposure fraction that frame `t` alone suggests; None when it moves too little."""
    one = np.float32(1 / seen.reduction)
    motions = [seen.forward[t] * one, seen.backward[t] * one]
    backs = [seen.backward[t + 1] * one, seen.forward[t - 1] * one]
    sure = [confidence(motion, back) for motion, back in zip(motions, backs, strict=True)]
    whole = exposure_path(motions, [1.0, -1.0], sure)
    length = float(np.median(np.hypot(whole[0], whole[1])))
    if length * START < 2 * LEAST_PATH:
        return None
    trust = np.max(sure, axis=0)
    while length * START > LONGEST_PATH and min(blurred.shape) > 128:
        blurred, trust = reduce(blurred, 2), reduce(trust, 2)
        whole = np.stack([reduce(plane, 2) for plane in whole]) * np.float32(0.5)
        length /= 2
    unit = np.asarray(whole / np.float32(length), np.float32)
    start = np.asarray(whole * np.float32(START), np.float32)
    return START + float(explain(blurred, start, trust, [unit])[0]) / length
