"""Paint and brushes: colours in linear light, noise with a grain, cut-outs that cast a shadow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deblur.light import Light, decode
from deblur.types import Float

Array = NDArray[np.floating]


def colour(code: str) -> Float:
    """The linear light of an sRGB code.

    >>> colour("ffffff").tolist()
    [1.0, 1.0, 1.0]
    """
    return decode(np.frombuffer(bytes.fromhex(code), np.uint8), Light(0.0, 255.0, "srgb"))


def grain(rng: np.random.Generator, shape: tuple[int, int], along: float, across: float) -> Float:
    """(y, x) noise of mean 0 and variance 1, smooth over `along` rows and `across` columns."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(shape, np.float32), (along, across), mode="wrap", truncate=3
    )
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9), np.float32)


def disc(y: Array, x: Array, radius: float) -> Float:
    """Coverage of a disc about the origin of the coordinates, half a pixel soft."""
    return np.clip(radius + 0.5 - np.hypot(y, x), 0, 1).astype(np.float32)


def ring(y: Array, x: Array, radius: float, width: float) -> Float:
    """Coverage of a circle drawn with a pen `width` wide."""
    return np.clip(width / 2 + 0.5 - abs(np.hypot(y, x) - radius), 0, 1).astype(np.float32)


def bar(y: Array, x: Array, box: tuple[float, float, float, float], corner: float = 0.0) -> Float:
    """Coverage of the rectangle (y0, y1, x0, x1) with round corners."""
    y0, y1, x0, x1 = box
    dy = abs(y - (y0 + y1) / 2) - (y1 - y0) / 2 + corner
    dx = abs(x - (x0 + x1) / 2) - (x1 - x0) / 2 + corner
    distance = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0)) + np.minimum(np.maximum(dy, dx), 0) - corner
    return np.asarray(np.clip(0.5 - distance, 0, 1), np.float32)


def grid(height: int, width: int) -> tuple[Array, Array]:
    """Pixel centres from the top left corner."""
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    return y, x


def cover(picture: Float, mask: Float, paint: Float) -> Float:
    """`picture` (y, x, 3) with `paint` (3,) or (y, x, 3) where `mask` is 1."""
    return np.asarray(picture + (paint - picture) * mask[..., None], np.float32)


def stamp(picture: Float, mask: Float, centre: tuple[float, float], paint: Float) -> Float:
    """`picture` with a small `mask` painted about `centre` (y, x); what falls outside is cut."""
    out = picture.copy()
    area, part = _overlap(
        picture.shape, mask.shape, round(centre[0] - mask.shape[0] / 2), round(centre[1] - mask.shape[1] / 2)
    )
    shade = paint if paint.ndim == 1 else paint[area]
    out[area] = cover(out[area], mask[part], shade)
    return out


def cutout(picture: Float, alpha: Float) -> Float:
    """(y, x, 4): a picture with its shape."""
    return np.dstack([picture, alpha]).astype(np.float32)


def turned(patch: Float, degrees: float) -> Float:
    """A cut-out turned counter-clockwise, its edges kept clean."""
    solid = patch.copy()
    solid[..., :3] *= patch[..., 3:]
    solid = ndimage.rotate(solid, degrees, axes=(0, 1), order=1, prefilter=False)
    solid[..., :3] /= np.maximum(solid[..., 3:], 1e-3)
    return np.asarray(solid, np.float32)


def lay(
    canvas: Float,
    patch: Float,
    top: int,
    left: int,
    *,
    shadow: tuple[int, int] = (8, 12),
    soft: float = 9,
    depth: float = 0.6,
) -> None:
    """Lay a cut-out on `canvas` (y, x, 3), in place: first the shadow it casts, then itself."""
    room = int(3 * soft)
    shape = ndimage.gaussian_filter(np.pad(patch[..., 3], room), soft, truncate=3)
    area, part = _overlap(canvas.shape, shape.shape, top - room + shadow[0], left - room + shadow[1])
    canvas[area] *= 1 - depth * shape[part][..., None]
    area, part = _overlap(canvas.shape, patch.shape, top, left)
    canvas[area] = cover(canvas[area], patch[part][..., 3], patch[part][..., :3])


def _overlap(
    outer: tuple[int, ...], inner: tuple[int, ...], top: int, left: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a rectangle placed at (top, left) meets the canvas: slices of the canvas, and of itself."""
    y0, x0 = min(max(top, 0), outer[0]), min(max(left, 0), outer[1])
    y1, x1 = max(min(top + inner[0], outer[0]), y0), max(min(left + inner[1], outer[1]), x0)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
