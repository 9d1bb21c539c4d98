"""Smaller copies of an image for viewers: level l has ceil(extent / 2^l) pixels a side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError


def levels_for(height: int, width: int, *, chunk: int = 256) -> int:
    """How many levels (the full one included) until one chunk holds the picture.

    >>> levels_for(1080, 1920)
    4
    """
    levels = 1
    while max(height, width) > chunk << (levels - 1):
        levels += 1
    return levels


def level_extent(extent: int, level: int) -> int:
    """Pixels along an axis at a level."""
    return -(-extent // (1 << level))


def halve(image: NDArray[Any]) -> NDArray[Any]:
    """The mean of 2 × 2 pixels over the last two axes; an odd edge counts its last pixels twice.

    Works on blocks that start at even coordinates with the same result as on the whole. Integers are rounded
    half up; the dtype stays. Shape (..., y, x) gives (..., ceil(y/2), ceil(x/2)).

    >>> halve(np.array([[1, 2, 9], [3, 4, 9]], np.uint8))
    array([[3, 9]], dtype=uint8)
    """
    if image.ndim < 2 or 0 in image.shape:
        raise ArrayError(f"halve wants (..., y, x) with pixels in it, got shape {image.shape}")
    even = _even(image)
    integral = image.dtype.kind in "iu"
    wide = np.dtype(np.int64 if integral else np.result_type(image.dtype, np.float32))
    total: NDArray[Any] = even[..., 0::2, 0::2].astype(wide)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        total += even[..., dy::2, dx::2]
    mean: NDArray[Any] = (total + 2) >> 2 if integral else total * wide.type(0.25)
    return mean.astype(image.dtype)


def _even(image: NDArray[Any]) -> NDArray[Any]:
    odd = [(0, 0)] * (image.ndim - 2) + [(0, image.shape[-2] % 2), (0, image.shape[-1] % 2)]
    return np.pad(image, odd, mode="edge") if any(after for _, after in odd) else image
