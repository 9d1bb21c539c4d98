"""Optical flow, called motion here (a flow is Prefect's): where each pixel of one frame lies in another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, ConfigError, meant
from deblur.motion.consistency import pair
from deblur.motion.driver import Method, as_image, coarse_to_fine, depth
from deblur.motion.rolling import motion_per_interval
from deblur.motion.variational import FAST, Variational
from deblur.types import Float, Motion

METHODS: dict[str, Method] = {"accurate": Variational(), "fast": FAST}


def estimate_motion(
    reference: NDArray[Any],
    moving: NDArray[Any],
    *,
    method: str = "accurate",
    initial: NDArray[Any] | None = None,
    levels: int | None = None,
    reduced: int = 1,
) -> Float:
    """Where each pixel of `reference` lies in `moving`: `moving[y + dy, x + dx]` ≈ `reference[y, x]`.

    `reference`, `moving`: (y, x), encoded luma; floats nominally in [0, 1], integers are divided by their
    dtype's largest value. `initial`: (2, y, x), a first guess in pixels. `levels`: how many pyramid levels to
    use, each half the size of the one before; with a good `initial` a few do, by default enough for any
    displacement. `reduced`: the factor by which both images were reduced beforehand (a survey of reduced
    frames), so that the method treats them as that level of a pyramid; the result is in pixels of the images
    as given all the same. Returns (2, y, x) float32, (dy, dx) in pixels, always finite; exactly zero between
    identical frames.

    Raises ArrayError for shapes that don't fit or values that are not finite, ConfigError for an unknown
    method. Source: the file of the method under `deblur/motion`.

    >>> frame = np.random.default_rng(0).random((32, 32), np.float32)
    >>> float(np.abs(estimate_motion(frame, frame)).max())
    0.0
    """
    if method not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise ConfigError(f"motion method {method!r} is unknown{meant(method, METHODS)}: use one of {known}")
    one, other = as_image(reference, "reference"), as_image(moving, "moving")
    if one.shape != other.shape:
        raise ArrayError(f"reference is {one.shape} and moving {other.shape}: both must have the same size")
    guess = None if initial is None else np.ascontiguousarray(initial, np.float32)
    if guess is not None and guess.shape != (2, *one.shape):
        raise ArrayError(
            f"initial has shape {guess.shape}: it must be {(2, *one.shape)}, (dy, dx) for each pixel"
        )
    if guess is not None and not np.isfinite(guess).all():
        raise ArrayError("initial holds values that are not finite: replace them by 0")
    if levels is not None and levels < 1:
        raise ArrayError(f"levels is {levels}: use 1 or more, or None")
    if reduced < 1 or reduced & (reduced - 1):
        raise ArrayError(
            f"reduced is {reduced}: use the power of two by which both images were reduced, or 1"
        )
    if np.array_equal(one, other):
        return np.zeros((2, *one.shape), np.float32)
    return coarse_to_fine(
        one,
        other,
        METHODS[method],
        guess,
        levels or depth(one.shape, METHODS[method].smallest),
        reduced.bit_length() - 1,
    )


def estimate_motion_pair(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    method: str = "accurate",
    initial: NDArray[Any] | None = None,
    reduced: int = 1,
    readout: float = 0.0,
) -> Motion:
    """Motion between two frames both ways, with confidence, occlusion, and whether it is a cut.

    `a`, `b`: (y, x) as for `estimate_motion`. `initial`: (2, y, x), a first guess from `a` to `b`; the way
    back starts from its opposite. `reduced`: as for `estimate_motion`. `readout`: the time from the first row
    to the last as a fraction of the frame interval, for a rolling shutter; the fields are then motion per
    interval, as if both rows had been seen one interval apart, instead of the displacement between the frames
    (`deblur.motion.rolling` carries a frame to one time with it).

    Returns a `Motion`: its `confidence` ranks pixels by the error to expect (1/2 at half a pixel),
    `occluded` is what `a` shows and `b` hides. Raises as `estimate_motion` does, ArrayError for a readout
    outside [0, 1].

    >>> frame = np.random.default_rng(0).random((32, 32), np.float32)
    >>> estimate_motion_pair(frame, frame).cut
    False
    """
    forward = estimate_motion(a, b, method=method, initial=initial, reduced=reduced)
    opposite = None if initial is None else -np.asarray(initial, np.float32)
    backward = estimate_motion(b, a, method=method, initial=opposite, reduced=reduced)
    found = pair(as_image(a, "a"), as_image(b, "b"), forward, backward)
    rows = forward.shape[1]
    return replace(
        found,
        forward=motion_per_interval(found.forward, readout=readout, rows=rows),
        backward=motion_per_interval(found.backward, readout=readout, rows=rows, step=-1),
    )
