"""Derivatives of images in space and time: each a single compiled pass over the pixels, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.types import Float

SIZES = (3, 5, 7)


@njit(cache=True, nogil=True, inline="always")
def _mirror(i: int, extent: int) -> int:
    """Index `i` reflected into [0, extent) about the outermost pixels (OpenCV's default border, 101)."""
    while i < 0 or i >= extent:
        if extent == 1:
            return 0
        i = -i if i < 0 else 2 * extent - 2 - i
    return i


@njit(cache=True, nogil=True)
def _extend(line: Float, radius: int, width: int) -> None:
    """Fill the margins of a row that holds its pixels from `radius` on."""
    for k in range(1, radius + 1):
        line[radius - k] = line[radius + _mirror(-k, width)]
        line[radius + width - 1 + k] = line[radius + _mirror(width - 1 + k, width)]


@njit(cache=True, nogil=True)
def _columns(image: NDArray[Any], y: int, smooth: Float, slope: Float, even: Float, odd: Float) -> None:
    """Both vertical filters of row `y`, using that one is symmetric and the other antisymmetric."""
    height, width = image.shape
    radius = smooth.size // 2
    here = image[y]
    for x in range(width):
        even[x + radius] = smooth[radius] * np.float32(here[x])
        odd[x + radius] = np.float32(0.0)
    for k in range(1, radius + 1):
        above, below = image[_mirror(y - k, height)], image[_mirror(y + k, height)]
        s, d = smooth[radius + k], slope[radius + k]
        for x in range(width):
            a, b = np.float32(above[x]), np.float32(below[x])
            even[x + radius] += s * (a + b)
            odd[x + radius] += d * (b - a)


@njit(cache=True, nogil=True)
def _three(image: NDArray[Any], side: np.float32, middle: np.float32, out: Float) -> None:
    """Smoothing (side, middle, side) across the difference of two neighbours."""
    height, width = image.shape
    even, odd = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    for y in range(height):
        p, q, r = image[_mirror(y - 1, height)], image[y], image[_mirror(y + 1, height)]
        for x in range(width):
            a, b, c = np.float32(p[x]), np.float32(q[x]), np.float32(r[x])
            even[x + 1] = side * (a + c) + middle * b
            odd[x + 1] = c - a
        _extend(even, 1, width)
        _extend(odd, 1, width)
        dy, dx = out[0, y], out[1, y]
        for x in range(width):
            dy[x] = side * (odd[x] + odd[x + 2]) + middle * odd[x + 1]
            dx[x] = even[x + 2] - even[x]


@njit(cache=True, nogil=True)
def _sobel5(image: NDArray[Any], out: Float) -> None:
    height, width = image.shape
    two, four, six = np.float32(2.0), np.float32(4.0), np.float32(6.0)
    even, odd = np.empty(width + 4, np.float32), np.empty(width + 4, np.float32)
    for y in range(height):
        p, q, r = image[_mirror(y - 2, height)], image[_mirror(y - 1, height)], image[y]
        s, t = image[_mirror(y + 1, height)], image[_mirror(y + 2, height)]
        for x in range(width):
            a, b, c = np.float32(p[x]), np.float32(q[x]), np.float32(r[x])
            d, e = np.float32(s[x]), np.float32(t[x])
            even[x + 2] = a + e + four * (b + d) + six * c
            odd[x + 2] = e - a + two * (d - b)
        _extend(even, 2, width)
        _extend(odd, 2, width)
        dy, dx = out[0, y], out[1, y]
        for x in range(width):
            dy[x] = odd[x] + odd[x + 4] + four * (odd[x + 1] + odd[x + 3]) + six * odd[x + 2]
            dx[x] = even[x + 4] - even[x] + two * (even[x + 3] - even[x + 1])


@njit(cache=True, nogil=True)
def _sobel7(image: NDArray[Any], out: Float) -> None:
    height, width = image.shape
    four, five, six = np.float32(4.0), np.float32(5.0), np.float32(6.0)
    fifteen, twenty = np.float32(15.0), np.float32(20.0)
    even, odd = np.empty(width + 6, np.float32), np.empty(width + 6, np.float32)
    for y in range(height):
        p, q, r = image[_mirror(y - 3, height)], image[_mirror(y - 2, height)], image[_mirror(y - 1, height)]
        s, t, u = image[_mirror(y + 1, height)], image[_mirror(y + 2, height)], image[_mirror(y + 3, height)]
        here = image[y]
        for x in range(width):
            a, b, c = np.float32(p[x]), np.float32(q[x]), np.float32(r[x])
            d, e, f = np.float32(s[x]), np.float32(t[x]), np.float32(u[x])
            even[x + 3] = a + f + six * (b + e) + fifteen * (c + d) + twenty * np.float32(here[x])
            odd[x + 3] = f - a + four * (e - b) + five * (d - c)
        _extend(even, 3, width)
        _extend(odd, 3, width)
        dy, dx = out[0, y], out[1, y]
        for x in range(width):
            near = six * (odd[x + 1] + odd[x + 5]) + fifteen * (odd[x + 2] + odd[x + 4])
            dy[x] = odd[x] + odd[x + 6] + near + twenty * odd[x + 3]
        for x in range(width):
            near = four * (even[x + 5] - even[x + 1]) + five * (even[x + 4] - even[x + 2])
            dx[x] = even[x + 6] - even[x] + near


@njit(cache=True, nogil=True)
def _any_size(image: NDArray[Any], smooth: Float, slope: Float, out: Float) -> None:
    height, width = image.shape
    radius = smooth.size // 2
    even, odd = np.empty(width + 2 * radius, np.float32), np.empty(width + 2 * radius, np.float32)
    for y in range(height):
        _columns(image, y, smooth, slope, even, odd)
        _extend(even, radius, width)
        _extend(odd, radius, width)
        dy, dx = out[0, y], out[1, y]
        for x in range(width):
            dy[x] = smooth[radius] * odd[x + radius]
            dx[x] = np.float32(0.0)
        for k in range(1, radius + 1):
            s, d = smooth[radius + k], slope[radius + k]
            for x in range(width):
                dy[x] += s * (odd[x + radius - k] + odd[x + radius + k])
                dx[x] += d * (even[x + radius + k] - even[x + radius - k])


def sobel(image: NDArray[Any], *, size: int = 5) -> Float:
    """The derivatives of an image along y and x by Sobel's filters, not normalised.

    `image`: (y, x) -> (2, y, x), or (c, y, x) -> (c, 2, y, x), as (d/dy, d/dx) in float32; integers or
    floats. `size`: 3, 5 or 7 taps. Equals OpenCV's `Sobel` with that `ksize` and its default border (the
    image mirrored about its outermost pixels) to float rounding. A unit slope gives 8, 128 and 2048 for sizes
    3, 5 and 7.

    Raises ArrayError for another shape, type or size. Source: Sobel and Feldman 1968; the larger ones:
    Danielsson and Seger 1990, doi:10.1016/B978-0-12-261050-1.50009-8.

    >>> ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> [float(v) for v in sobel(ramp, size=3)[:, 4, 4]]
    [64.0, 8.0]
    """
    if size not in SIZES:
        raise ArrayError(f"size {size} is not a Sobel size: use 3, 5 or 7")
    if size == 3:
        return _planes(image, "sobel", lambda plane, out: _three(plane, np.float32(1), np.float32(2), out))
    return _planes(image, "sobel", _sobel5 if size == 5 else _sobel7)


def scharr(image: NDArray[Any]) -> Float:
    """The derivatives of an image by Scharr's 3x3 filters, whose direction is truer than Sobel's.

    `image`, result, borders and errors as for `sobel`; equals OpenCV's `Scharr`. A unit slope gives 32.
    Source: Scharr 2000, "Optimale Operatoren in der digitalen Bildverarbeitung",
    doi:10.11588/heidok.00000962.

    >>> ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> [float(v) for v in scharr(ramp)[:, 4, 4]]
    [256.0, 32.0]
    """
    return _planes(image, "scharr", lambda plane, out: _three(plane, np.float32(3), np.float32(10), out))


def gaussian_gradient(image: NDArray[Any], *, sigma: float = 1.0) -> Float:
    """The derivatives of an image smoothed by a Gaussian of standard deviation `sigma` pixels.

    `image`, result and borders as for `sobel`, but normalised: a unit slope gives 1. The taps end at 4 sigma.
    Raises ArrayError for another shape or type, or a sigma that is not within 0.3 to 100. Source: Canny 1986,
    doi:10.1109/TPAMI.1986.4767851.

    >>> ramp = np.arange(400, dtype=np.float32).reshape(20, 20)
    >>> [round(float(v), 3) for v in gaussian_gradient(ramp, sigma=1.5)[:, 10, 10]]
    [20.0, 1.0]
    """
    if not 0.3 <= sigma <= 100:
        raise ArrayError(f"sigma is {sigma}: use 0.3 to 100 pixels")
    at = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
    bell = np.exp(-0.5 * (at / sigma) ** 2)
    smooth, slope = (
        (bell / bell.sum()).astype(np.float32),
        (at * bell / (at * at * bell).sum()).astype(np.float32),
    )
    return _planes(image, "gaussian_gradient", lambda plane, out: _any_size(plane, smooth, slope, out))


def _planes(image: NDArray[Any], name: str, kernel: Callable[[NDArray[Any], Float], None]) -> Float:
    """Both derivatives of every plane: (y, x) -> (2, y, x), (c, y, x) -> (c, 2, y, x)."""
    planes = _numeric(image, "image")
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"{name} needs (y, x) or (c, y, x), got shape {planes.shape}")
    out = np.empty((*planes.shape[:-2], 2, *planes.shape[-2:]), np.float32)
    if planes.ndim == 2:
        kernel(planes, out)
        return out
    for plane, result in zip(planes, out, strict=True):
        kernel(plane, result)
    return out


def temporal_difference(previous: NDArray[Any], following: NDArray[Any]) -> Float:
    """The central difference in time, `(following - previous) / 2` per frame, float32.

    Both of one shape, any number of axes; unsigned integers don't wrap. Raises ArrayError for different
    shapes.

    >>> temporal_difference(np.array([3], np.uint8), np.array([1], np.uint8)).tolist()
    [-1.0]
    """
    before, after = _numeric(previous, "previous"), _numeric(following, "following")
    if before.shape != after.shape:
        raise ArrayError(
            f"previous is {before.shape} and following {after.shape}: both must have the same shape"
        )
    change = after.astype(np.float32)
    change -= before
    change *= np.float32(0.5)
    return change


def _numeric(image: NDArray[Any], name: str) -> NDArray[Any]:
    """`image` in native byte and C order; wider types become float32. Raises ArrayError."""
    given = np.asarray(image)
    if given.dtype.kind not in "uif":
        raise ArrayError(f"{name} has dtype {given.dtype}: give integers or floats")
    narrow = given.dtype.kind in "ui" and given.dtype.itemsize <= 2
    return np.ascontiguousarray(given, given.dtype.newbyteorder("=") if narrow else np.float32)
