"""The path that a pixel took during the exposure: blur along it, the exact adjoint of that, and its picture
(PSF).

A path is a (2, y, x) field, (dy, dx) in pixels: the displacement over the whole exposure, centred on
mid-exposure and taken as a straight line at constant speed. A line of length L along its longer axis touches
about L + 2 columns (or rows): each is sampled once, by linear interpolation across, with the exact integral
of the linear interpolant along as its weight. So a path of length zero is the identity, and the weights are
continuous in the path.

Every offset is computed relative to its pixel: a window and the whole frame give the same bits where they see
the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.types import Float

NUMERICS_VERSION = 1
SHORTEST = np.float32(0.01)  # pixels; a shorter line is a point: its weights would drown in rounding


def blur(image: NDArray[Any], path: NDArray[Any]) -> Float:
    """Blur `image`, (y, x) or (c, y, x), along the path of each pixel; what lies outside repeats the border.

    `path`: (2, y, x), pixels over the whole exposure. Returns float32 of the image's shape. Raises
    ArrayError when the shapes don't match or the path isn't finite. The line model of Whyte et al. 2012
    (doi:10.1007/s11263-011-0502-7) and Dai & Wu 2008 (doi:10.1109/CVPR.2008.4587582), with one straight
    line per pixel.

    >>> spot = np.zeros((1, 7), np.float32); spot[0, 3] = 1
    >>> path = np.zeros((2, 1, 7), np.float32); path[1] = 2
    >>> blur(spot, path)[0, 2:5].tolist()
    [0.25, 0.5, 0.25]
    """
    planes, field = _checked(image, path)
    out = np.empty_like(planes)
    for plane, target in zip(planes, out, strict=True):
        _gather(plane, field, target)
    return out.reshape(np.shape(image))


def blur_adjoint(image: NDArray[Any], path: NDArray[Any]) -> Float:
    """The exact adjoint (transpose) of `blur`: every pixel is scattered along its path with the same weights.

    Same arguments, result and errors as `blur`.

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random((2, 8, 9), np.float32)
    >>> path = rng.normal(0, 3, (2, 8, 9)).astype(np.float32)
    >>> bool(abs((blur(a, path) * b).sum() - (a * blur_adjoint(b, path)).sum()) < 1e-4)
    True
    """
    planes, field = _checked(image, path)
    out = np.zeros_like(planes)
    for plane, target in zip(planes, out, strict=True):
        _scatter(plane, field, target)
    return out.reshape(np.shape(image))


def psf_of(vector: Sequence[float], *, size: int | None = None) -> Float:
    """The PSF (k, k) of one path `vector` = (dy, dx): k is odd, the sum is 1.

    `size`: k, if given. Raises ArrayError when it is even or too small to hold the path.

    >>> psf_of((0, 2)).round(2).tolist()
    [[0.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]
    """
    dy, dx = (float(v) for v in vector)
    need = 2 * int(np.ceil(max(abs(dy), abs(dx)) / 2)) + 1
    k = need if size is None else size
    if k % 2 == 0 or k < need:
        raise ArrayError(f"size {k} can't hold the path ({dy:g}, {dx:g}): use an odd size of at least {need}")
    spot = np.zeros((k, k), np.float32)
    spot[k // 2, k // 2] = 1
    path = np.empty((2, k, k), np.float32)
    path[0], path[1] = dy, dx
    return blur_adjoint(spot, path)


def exposure_path(motions: Sequence[Float], scales: Sequence[float], confidences: Sequence[Float]) -> Float:
    """The path over one exposure from the motion to each neighbour: their mean, weighted by trust in each.

    `motions`: (2, y, x) each, pixels to that neighbour; `scales`: exposure time / signed time to that
    neighbour; `confidences`: (y, x) each, in [0, 1]. The weights are the cubes of the confidences: two
    equally sure sides are averaged, and at an occlusion the side that sees the pixel wins. Where no side is
    sure, all count alike.
    """
    weights = [confidence**3 + np.float32(1e-3) for confidence in confidences]
    total = np.sum(weights, axis=0, dtype=np.float32)
    path = np.zeros_like(motions[0])
    for motion, scale, weight in zip(motions, scales, weights, strict=True):
        path += motion * (np.float32(scale) * weight / total)
    return path


def _checked(image: NDArray[Any], path: NDArray[Any]) -> tuple[Float, Float]:
    """Contiguous float32 planes (c, y, x) and path, or ArrayError."""
    planes = np.ascontiguousarray(image, np.float32)
    field = np.ascontiguousarray(path, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"image of shape {planes.shape} can't be blurred: use (y, x) or (c, y, x)")
    if field.shape != (2, *planes.shape[-2:]):
        raise ArrayError(f"path of shape {field.shape} doesn't fit the image: use {(2, *planes.shape[-2:])}")
    if not np.isfinite(field).all():
        raise ArrayError("path holds NaN or infinity: replace what is unknown by zero")
    return planes.reshape(-1, *planes.shape[-2:]), field


@njit(cache=True, nogil=True, inline="always")
def _tent(s):  # type: ignore[no-untyped-def]
    """The integral of the linear interpolation kernel up to `s`."""
    if s <= -1.0:
        return np.float32(0.0)
    if s <= 0.0:
        return np.float32(0.5) * (np.float32(1.0) + s) * (np.float32(1.0) + s)
    if s < 1.0:
        return np.float32(1.0) - np.float32(0.5) * (np.float32(1.0) - s) * (np.float32(1.0) - s)
    return np.float32(1.0)


@njit(cache=True, nogil=True, inline="always")
def _tap(k, length):  # type: ignore[no-untyped-def]
    """The weight of the tap at distance `k` on a line of `length` (not below SHORTEST)."""
    half = np.float32(0.5) * length
    return (_tent(half - np.float32(k)) - _tent(-half - np.float32(k))) / length


@njit(cache=True, nogil=True, inline="always")
def _line(dy, dx):  # type: ignore[no-untyped-def]
    """(along x?, length along the longer axis, slope across, taps to each side)."""
    along_x = abs(dx) >= abs(dy)
    length = abs(dx) if along_x else abs(dy)
    if length < SHORTEST:
        return along_x, np.float32(0.0), np.float32(0.0), 0
    slope = dy / dx if along_x else dx / dy
    return along_x, length, slope, int(np.ceil(np.float32(0.5) * length))


@njit(cache=True, nogil=True)
def _gather(image, path, out):  # type: ignore[no-untyped-def]
    h, w = image.shape
    one = np.float32(1.0)
    flat = image.ravel()
    for y in range(h):
        for x in range(w):
            along_x, length, slope, n = _line(path[0, y, x], path[1, y, x])
            plain = one / max(length, SHORTEST)
            main, cross = (1, w) if along_x else (w, 1)
            inside = n < y < h - n - 1 and n < x < w - n - 1
            total = image[y, x] if n == 0 else np.float32(0.0)
            for k in range(-n, n + 1 if n > 0 else 0):
                weight = plain if 2 * (abs(k) + 1) <= length else _tap(k, length)
                across = np.float32(k) * slope
                low = int(np.floor(across))
                f = across - np.float32(low)
                if inside:
                    at = np.uint64(y * w + x + k * main + low * cross)
                    other = np.uint64(y * w + x + k * main + (low + 1) * cross)
                else:
                    at, other = _held(y, x, k, low, along_x, h, w)
                total += weight * ((one - f) * flat[at] + f * flat[other])
            out[y, x] = total


@njit(cache=True, nogil=True)
def _scatter(image, path, out):  # type: ignore[no-untyped-def]
    h, w = image.shape
    one = np.float32(1.0)
    flat = out.ravel()
    for y in range(h):
        for x in range(w):
            along_x, length, slope, n = _line(path[0, y, x], path[1, y, x])
            value = image[y, x]
            plain = value / max(length, SHORTEST)
            main, cross = (1, w) if along_x else (w, 1)
            inside = n < y < h - n - 1 and n < x < w - n - 1
            if n == 0:
                out[y, x] += value
            for k in range(-n, n + 1 if n > 0 else 0):
                v = plain if 2 * (abs(k) + 1) <= length else value * _tap(k, length)
                across = np.float32(k) * slope
                low = int(np.floor(across))
                f = across - np.float32(low)
                if inside:
                    at = np.uint64(y * w + x + k * main + low * cross)
                    other = np.uint64(y * w + x + k * main + (low + 1) * cross)
                else:
                    at, other = _held(y, x, k, low, along_x, h, w)
                flat[at] += (one - f) * v
                flat[other] += f * v


@njit(cache=True, nogil=True, inline="always")
def _held(y, x, k, low, along_x, h, w):  # type: ignore[no-untyped-def]
    """The flat indices of a tap's two pixels, held within the image: the border repeats."""
    if along_x:
        j = min(max(x + k, 0), w - 1)
        return np.uint64(min(max(y + low, 0), h - 1) * w + j), np.uint64(
            min(max(y + low + 1, 0), h - 1) * w + j
        )
    i = min(max(y + k, 0), h - 1) * w
    return np.uint64(i + min(max(x + low, 0), w - 1)), np.uint64(i + min(max(x + low + 1, 0), w - 1))
