"""The path that a pixel took during the exposure: blur along it, the exact adjoint of that, and its picture
(PSF).

A path is a (2, y, x) field, (dy, dx) in pixels: the displacement over the whole exposure, centred on
mid-exposure, a straight line at constant speed. With four planes, (dy, dx, by, bx), it is a parabola: at time
s in [-1/2, 1/2] the pixel is displaced by d s + 4 b s², so b is what both ends gain over the middle (a
camera that changed its speed or turned).

A path of extent L along its longer axis touches about L + 2 columns (or rows): each gets one sample, by linear
interpolation across. So a path of length zero is the identity, and the weights are continuous in the path.

Neighbouring paths are alike. A field is cut into cells of 16x16, 8x8, 4x4 pixels, down to single ones, within
which no path is further than `TOLERANCE` from their middle; a cell is blurred by one list of taps, whole rows
at a time. Within a cell offsets are whole pixels relative to its own: two windows whose origins agree modulo
16 give the same bits where they see the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.smear import CELL, cut_cells, extend, fold, gather, render, scatter
from deblur.types import Float

NUMERICS_VERSION = 3
LINE = 16  # pixels in a line of the cache: rows of an odd number of them don't crowd the same few places
LONGEST = 4096  # pixels that a path may reach to a side
TOLERANCE = 0.125  # pixels by which a path may differ from the one of its cell
SHORTEST = 0.25  # intervals: motion against a rolling shutter can't make the time between frames shorter


@dataclass(frozen=True, slots=True)
class Trails:
    """A path field made ready: its cells (k, 4) = (y, x, height, width), the `path` (k, 4) of each, and each
    cell's taps, from `first[k]` to `first[k + 1]`; none for a single pixel. Taps come in pairs, one below the
    other: the `weight` (n, 2) of each, and the flat `offset` (n,) of the upper one in a plane of the shape `room`. That
    holds a plane of `shape` at `margin`: pixels, (y, x), that the paths reach beyond it."""

    shape: tuple[int, int]
    margin: tuple[int, int]
    room: tuple[int, int]
    cells: NDArray[np.int32]
    path: Float
    first: NDArray[np.int64]
    offset: NDArray[np.int32]
    weight: Float

    def blur(self, planes: Float) -> Float:
        """Blur one plane (y, x), or several (c, y, x), of the path's size. Raises ArrayError for other shapes."""
        out, room = np.empty(np.shape(planes), np.float32), np.empty(self.room, np.float32)
        for plane, to in zip(self._each(planes), self._each(out), strict=True):
            extend(plane, *self.margin, room)
            gather(room, *self.margin, self.path, self.cells, self.first, self.offset, self.weight, to)
        return out

    def adjoint(self, planes: Float) -> Float:
        """The transpose of `blur`."""
        out, room = np.empty(np.shape(planes), np.float32), np.empty(self.room, np.float32)
        for plane, to in zip(self._each(planes), self._each(out), strict=True):
            room[:] = 0
            scatter(plane, self.path, self.cells, self.first, self.offset, self.weight, *self.margin, room)
            fold(room, *self.margin, to)
        return out

    def _each(self, planes: Float) -> Float:
        """Contiguous float32 planes (c, y, x); no copy where they are that already."""
        if np.shape(planes)[-2:] != self.shape:
            raise ArrayError(f"planes of shape {np.shape(planes)} don't fit a path of {self.shape}")
        return np.ascontiguousarray(planes, np.float32).reshape(-1, *self.shape)


def trails(path: NDArray[Any], *, tolerance: float = TOLERANCE, smallest: int = 1) -> Trails:
    """Make a path field, (2, y, x) or (4, y, x), ready for many uses. Raises ArrayError for other shapes,
    for what isn't finite or reaches too far.

    `tolerance`: pixels by which a path may differ from its cell's; more of it is faster. `smallest`: side of the
    cells, 1, 4, 8 or 16, at which that no longer counts.

    >>> trails(np.ones((2, 32, 40), np.float32)).cells.tolist()[-1]
    [16, 32, 16, 8]
    """
    field = np.ascontiguousarray(path, np.float32)
    if field.ndim != 3 or field.shape[0] not in (2, 4) or field.size == 0:
        raise ArrayError(f"path of shape {field.shape} is none: use (2, y, x) or (4, y, x)")
    if not np.isfinite(field).all():
        raise ArrayError("path holds NaN or infinity: replace what is unknown by zero")
    h, w = field.shape[1:]
    cells, middle = cut_cells(field, np.float32(tolerance), smallest)
    reach = np.ceil(np.abs(middle[:, :2]) / 2 + np.abs(middle[:, 2:])).max(axis=0)
    if reach.max() > LONGEST:
        raise ArrayError(f"path reaches {reach.max():.0f} px to a side: no more than {LONGEST} is blur")
    top, left = min(int(reach[0]) + 1, h), -(-min(int(reach[1]) + 1, w) // LINE) * LINE
    lines = -(-(left + w + CELL + left) // LINE)  # a cell that the border cuts is worked on as a whole
    room = (top + h + CELL + top, (lines | 1) * LINE)
    first, offset, weight = render(middle, cells, (h, w), room[1])
    return Trails((h, w), (top, left), room, cells, middle, first, offset, weight)


def blur(image: NDArray[Any], path: NDArray[Any]) -> Float:
    """Blur `image`, (y, x) or (c, y, x), along the path of each pixel; what lies outside repeats the border.

    `path`: (2, y, x), pixels over the whole exposure, or (4, y, x), bent. Returns float32 of the image's
    shape. Raises ArrayError when the shapes don't match or the path isn't finite. The line model of Whyte et
    al. 2012 (doi:10.1007/s11263-011-0502-7) and Dai & Wu 2008 (doi:10.1109/CVPR.2008.4587582), with one path
    per pixel.

    >>> spot = np.zeros((1, 7), np.float32); spot[0, 3] = 1
    >>> path = np.zeros((2, 1, 7), np.float32); path[1] = 2
    >>> blur(spot, path)[0, 2:5].tolist()
    [0.25, 0.5, 0.25]
    """
    planes, ready = _checked(image, path)
    return ready.blur(planes)


def blur_adjoint(image: NDArray[Any], path: NDArray[Any]) -> Float:
    """The exact adjoint (transpose) of `blur`: every pixel is scattered along its path with the same weights.

    Same arguments, result and errors as `blur`.

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random((2, 8, 9), np.float32)
    >>> path = rng.normal(0, 3, (2, 8, 9)).astype(np.float32)
    >>> bool(abs((blur(a, path) * b).sum() - (a * blur_adjoint(b, path)).sum()) < 1e-4)
    True
    """
    planes, ready = _checked(image, path)
    return ready.adjoint(planes)


def psf_of(vector: Sequence[float], *, size: int | None = None) -> Float:
    """The PSF (k, k) of one path `vector` = (dy, dx) or (dy, dx, by, bx): k is odd, the sum is 1.

    `size`: k, if given. Raises ArrayError when it is even or too small to hold the path.

    >>> psf_of((0, 2)).round(2).tolist()
    [[0.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]
    """
    values = [float(v) for v in vector]
    reach = [abs(d) / 2 + abs(b) for d, b in zip(values[:2], values[2:] or (0.0, 0.0), strict=True)]
    need = 2 * int(np.ceil(max(reach))) + 1
    k = need if size is None else size
    if k % 2 == 0 or k < need:
        raise ArrayError(f"size {k} can't hold the path {tuple(values)}: use an odd size of at least {need}")
    spot = np.zeros((k, k), np.float32)
    spot[k // 2, k // 2] = 1
    path = np.empty((len(values), k, k), np.float32)
    path[...] = np.array(values, np.float32)[:, None, None]
    return blur(spot, path)


def exposure_path(
    motions: Sequence[Float],
    scales: Sequence[float],
    confidences: Sequence[Float],
    lacks: Sequence[tuple[float, float]] | None = None,
    *,
    row_time: float = 0.0,
) -> Float:
    """The path over one exposure from the motion to each neighbour: their mean, weighted by trust in each.

    `motions`: (2, y, x) each, pixels to that neighbour; `scales`: exposure time / signed time to that
    neighbour; `confidences`: (y, x) each, in [0, 1]; `lacks`: (dy, dx) each, in pixels, to add to what that
    neighbour suggests. The weights are the cubes of the confidences: two
    equally sure sides are averaged, and at an occlusion the side that sees the pixel wins. Where no side is
    sure, all count alike.

    `row_time`: how many frame intervals a row is seen after the one above it: 0 for a global shutter,
    readout / height of the whole frame for a rolling one. What moves down by d rows is then seen d row times
    later in the next frame, and its own exposure lasts longer by the same ratio: at an even speed the two
    cancel, and the path is the same as that of a global shutter. Only where the speed changes do the sides
    span unlike times; the speed at the row's own time is then the line through both.
    """
    spans: list[Any] = [np.float32(1) for _ in motions]
    if row_time:
        spans = [elapsed(m, np.copysign(row_time, scale)) for m, scale in zip(motions, scales, strict=True)]
    weights = [(sure**3 + np.float32(1e-3)) / span for sure, span in zip(confidences, spans, strict=True)]
    total = np.sum(weights, axis=0, dtype=np.float32)
    path = np.zeros_like(motions[0])
    down = np.zeros_like(total)  # rows per interval
    for motion, scale, weight, lack, span in zip(
        motions, scales, weights, lacks or [(0.0, 0.0)] * len(motions), spans, strict=True
    ):
        share = weight / total
        for k in range(2):
            path[k] += share * (np.float32(scale) * motion[k] / span + np.float32(lack[k]))
        if row_time:
            down += share * (np.float32(np.sign(scale)) * motion[0] / span)
    if row_time:
        path /= np.maximum(1 - down * np.float32(row_time), np.float32(SHORTEST))
    return path


def elapsed(motion: Float, row_time: float) -> Float:
    """Frame intervals (y, x) between the two sightings that `motion`, (2, y, x), connects.

    `row_time`: as for `exposure_path`, negative for motion to the previous frame.

    >>> elapsed(np.full((2, 1, 1), 10, np.float32), 0.01).round(3).tolist()
    [[1.1]]
    """
    return np.asarray(np.maximum(1 + motion[0] * np.float32(row_time), np.float32(SHORTEST)), np.float32)


def bent(path: Float, bend: tuple[float, float]) -> Float:
    """The (4, y, x) path with the same `bend`, (by, bx), everywhere; `path` itself where that is zero."""
    if not any(bend):
        return path
    ends = np.broadcast_to(np.array(bend, np.float32)[:, None, None], path.shape)
    return np.concatenate([path, ends])


def _checked(image: NDArray[Any], path: NDArray[Any]) -> tuple[Float, Trails]:
    """The image as float32 and the path made ready, or ArrayError."""
    planes = np.asarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"image of shape {planes.shape} can't be blurred: use (y, x) or (c, y, x)")
    if np.ndim(path) != 3 or np.shape(path)[1:] != planes.shape[-2:]:
        raise ArrayError(
            f"path of shape {np.shape(path)} doesn't fit the image: use {(2, *planes.shape[-2:])}"
        )
    return planes, trails(path)
