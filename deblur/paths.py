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
from deblur.smear import cut_cells, gather, render, scatter
from deblur.types import Float

NUMERICS_VERSION = 2
TOLERANCE = 0.125  # pixels by which a path may differ from the one of its cell
SHORTEST = 0.25  # intervals: motion against a rolling shutter can't make the time between frames shorter


@dataclass(frozen=True, slots=True)
class Trails:
    """A path field made ready: its cells (k, 4) = (y, x, height, width), and each cell's taps, from
    `first[k]` to `first[k + 1]` in `offset` (n, 2) and `weight`; none for a single pixel."""

    path: Float
    cells: NDArray[np.int32]
    first: NDArray[np.int64]
    offset: NDArray[np.int32]
    weight: Float

    def blur(self, plane: Float) -> Float:
        """Blur one plane (y, x), contiguous float32, of the path's size."""
        out = np.zeros_like(plane)
        gather(plane, self.path, self.cells, self.first, self.offset, self.weight, out)
        return out

    def adjoint(self, plane: Float) -> Float:
        """The transpose of `blur`."""
        out = np.zeros_like(plane)
        scatter(plane, self.path, self.cells, self.first, self.offset, self.weight, out)
        return out


def trails(path: NDArray[Any], *, tolerance: float = TOLERANCE, smallest: int = 1) -> Trails:
    """Make a path field, (2, y, x) or (4, y, x), ready for many uses. Raises ArrayError for other shapes.

    `tolerance`: pixels by which a path may differ from its cell's; more of it is faster. `smallest`: side of the
    cells, 1, 4, 8 or 16, at which that no longer counts.

    >>> trails(np.ones((2, 32, 40), np.float32)).cells.tolist()[-1]
    [16, 32, 16, 8]
    """
    field = np.asarray(path, np.float32)
    if field.ndim != 3 or field.shape[0] not in (2, 4) or field.size == 0:
        raise ArrayError(f"path of shape {field.shape} is none: use (2, y, x) or (4, y, x)")
    if not np.isfinite(field).all():
        raise ArrayError("path holds NaN or infinity: replace what is unknown by zero")
    full = np.zeros((4, *field.shape[1:]), np.float32)
    full[: len(field)] = field
    cells = cut_cells(full, np.float32(tolerance), smallest)
    first = np.zeros(len(cells) + 1, np.int64)
    render(full, cells, first, np.empty((0, 2), np.int32), np.empty(0, np.float32))
    offset = np.empty((int(first[-1]), 2), np.int32)
    weight = np.empty(int(first[-1]), np.float32)
    render(full, cells, first, offset, weight)
    return Trails(full, cells, first, offset, weight)


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
    return np.stack([ready.blur(plane) for plane in planes]).reshape(np.shape(image))


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
    return np.stack([ready.adjoint(plane) for plane in planes]).reshape(np.shape(image))


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
    *,
    row_time: float = 0.0,
) -> Float:
    """The path over one exposure from the motion to each neighbour: their mean, weighted by trust in each.

    `motions`: (2, y, x) each, pixels to that neighbour; `scales`: exposure time / signed time to that
    neighbour; `confidences`: (y, x) each, in [0, 1]. The weights are the cubes of the confidences: two
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
    for motion, scale, weight, span in zip(motions, scales, weights, spans, strict=True):
        share = np.float32(scale) * weight / total / span
        path += motion * share
        down += motion[0] * (share / np.float32(abs(scale)))
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


def _checked(image: NDArray[Any], path: NDArray[Any]) -> tuple[Float, Trails]:
    """Contiguous float32 planes (c, y, x) and the path made ready, or ArrayError."""
    planes = np.ascontiguousarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"image of shape {planes.shape} can't be blurred: use (y, x) or (c, y, x)")
    if np.ndim(path) != 3 or np.shape(path)[1:] != planes.shape[-2:]:
        raise ArrayError(
            f"path of shape {np.shape(path)} doesn't fit the image: use {(2, *planes.shape[-2:])}"
        )
    return planes.reshape(-1, *planes.shape[-2:]), trails(path)
