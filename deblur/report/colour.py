"""Numbers as colours: the wheel that people know for motion, ramps for amounts and for differences."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblur.errors import ArrayError
from deblur.types import Bytes, Float

UNKNOWN = 1e9  # Middlebury's convention: longer than this means that nobody knows
_ARCS = (  # how many hues lie between two neighbours of the wheel: perceived differences are not even
    (15, (255, 0, 0), (255, 255, 0)),
    (6, (255, 255, 0), (0, 255, 0)),
    (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)),
    (13, (0, 0, 255), (255, 0, 255)),
    (6, (255, 0, 255), (255, 0, 0)),
)
_RAMP = ("0d1026", "2a1f5e", "5a2a82", "91358c", "c4467d", "ea6a5c", "f89b45", "fbd04f", "fcfbc8")
_SIGNED = ("143c78", "2f6fb5", "7fb0d8", "c9dcea", "f5f4f1", "f1d3c4", "e09a7c", "c1543c", "7a1a1a")


def motion_to_rgb(motion: ArrayLike, *, longest: float | None = None) -> Bytes:
    """Motion in the Middlebury colour wheel: the hue tells the direction, the saturation the length.

    `motion`: (2, y, x), (dy, dx) in pixels. `longest`: the length that gets the full colour, longer ones are
    drawn darker; None takes the longest of the field. Unknown vectors (not finite, or beyond 1e9) are black.
    Returns (y, x, 3) uint8. Rightward is red, downward yellow, leftward cyan, upward violet.
    Raises ArrayError for another shape.

    Source: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 92 (2011),
    doi:10.1007/s11263-010-0390-2.

    >>> motion_to_rgb(np.zeros((2, 1, 1))).ravel().tolist()
    [255, 255, 255]
    """
    field = np.asarray(motion, np.float32)
    if field.ndim != 3 or field.shape[0] != 2:
        raise ArrayError(f"motion has shape {field.shape}: give (2, y, x)")
    with np.errstate(invalid="ignore"):
        known = np.isfinite(field).all(axis=0) & (np.abs(field).max(axis=0) <= UNKNOWN)
    dy, dx = np.where(known, field, 0)
    length = np.hypot(dy, dx)
    scale = float(length.max(initial=0)) if longest is None else longest
    radius = (length / max(scale, 1e-9))[..., None]
    wheel = _wheel()
    # the original's half turn and its last-to-first gap are kept: its pictures are what people compare with
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = turn.astype(np.intp)
    part = (turn - first)[..., None]
    hue = (1 - part) * wheel[first] + part * wheel[(first + 1) % len(wheel)]
    shade = np.where(radius <= 1, 1 - radius * (1 - hue), hue * 0.75)
    return np.asarray(np.floor(255 * shade * known[..., None]), np.uint8)


def motion_wheel(size: int = 160) -> Bytes:
    """The legend for `motion_to_rgb`: (size, size, 4) uint8, a disc whose rim is `longest`, clear outside.

    >>> motion_wheel(32).shape
    (32, 32, 4)
    """
    reach = (size - 1) / 2
    y, x = (np.mgrid[:size, :size] - reach) / reach
    alpha = np.clip((1 - np.hypot(y, x)) * reach + 0.5, 0, 1)
    return np.dstack([motion_to_rgb(np.stack([y, x]), longest=1.02), np.rint(255 * alpha).astype(np.uint8)])


def amount_to_rgb(values: NDArray[Any], *, largest: float) -> Bytes:
    """Amounts from 0 to `largest`, from near black through violet and orange to near white, (y, x, 3) uint8.

    Its lightness rises steadily, so it survives print and colour blindness. Values that are not finite are
    grey.
    """
    return _painted(values / np.float32(max(largest, 1e-12)), _table(_RAMP))


def signed_to_rgb(values: NDArray[Any], *, largest: float) -> Bytes:
    """Differences from -`largest` (blue) through 0 (white) to `largest` (red), (y, x, 3) uint8."""
    return _painted(values / np.float32(2 * max(largest, 1e-12)) + np.float32(0.5), _table(_SIGNED))


def ramp(size: int = 256) -> Bytes:
    """The legend for `amount_to_rgb`: (1, size, 3) uint8, small amounts to the left."""
    return amount_to_rgb(np.linspace(0, 1, size, dtype=np.float32)[None], largest=1)


def signed_ramp(size: int = 256) -> Bytes:
    """The legend for `signed_to_rgb`: (1, size, 3) uint8, negative to the left."""
    return signed_to_rgb(np.linspace(-1, 1, size, dtype=np.float32)[None], largest=1)


def _painted(values: NDArray[Any], table: Bytes) -> Bytes:
    known = np.isfinite(values)
    index = np.rint(np.clip(np.where(known, values, 0), 0, 1) * (len(table) - 1)).astype(np.intp)
    return np.where(known[..., None], table[index], np.uint8(128)).astype(np.uint8)


@cache
def _table(codes: tuple[str, ...]) -> Bytes:
    anchors = np.array([list(bytes.fromhex(code)) for code in codes], float)
    at = np.linspace(0, len(codes) - 1, 256)
    return np.stack(
        [np.rint(np.interp(at, np.arange(len(codes)), anchors[:, c])) for c in range(3)], axis=1
    ).astype(np.uint8)


@cache
def _wheel() -> Float:
    """(55, 3) hues in [0, 1], each arc's start included, its end left to the next."""
    hues = [
        [s + np.floor(255 * k / count) * np.sign(e - s) for s, e in zip(start, stop, strict=True)]
        for count, start, stop in _ARCS
        for k in range(count)
    ]
    return np.asarray(np.array(hues) / 255, np.float32)
