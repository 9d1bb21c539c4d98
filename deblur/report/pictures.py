"""Arrays as pictures: frames as the eye sees them, maps in readable colours, sheets, details, files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deblur.errors import ArrayError
from deblur.light import Light, decode, encode
from deblur.report.colour import amount_to_rgb, motion_to_rgb, signed_to_rgb
from deblur.tiling import Box
from deblur.types import Bytes, Float, Reason

SRGB = Light(0.0, 255.0, "srgb")
REASON_COLOURS = {  # apart for every kind of colour vision (after Okabe and Ito)
    Reason.RESTORED: (0, 158, 115),
    Reason.STILL: (150, 150, 150),
    Reason.NO_NEIGHBOUR: (230, 159, 0),
    Reason.UNCERTAIN: (86, 180, 233),
    Reason.RESIDUAL: (213, 94, 0),
    Reason.OVERSHOOT: (204, 121, 167),
    Reason.SATURATED: (240, 228, 66),
    Reason.INVALID: (0, 0, 0),
    Reason.LEARNED: (0, 114, 178),
}
REASON_WORDS = {
    Reason.RESTORED: "restored: nothing held it back",
    Reason.STILL: "still: too little motion to have blurred anything",
    Reason.NO_NEIGHBOUR: "no neighbour: no frame beside it shows the same scene",
    Reason.UNCERTAIN: "uncertain: motion forward and backward contradict each other, or leave the frame",
    Reason.RESIDUAL: "residual: blurring the result again does not give the source",
    Reason.OVERSHOOT: "overshoot: the result left the range of the source around it",
    Reason.SATURATED: "saturated: the sensor clipped here",
    Reason.INVALID: "invalid: not a number in the source",
    Reason.LEARNED: "doubted: the network takes what physics restored here for wrong",
}


def display(frame: NDArray[Any], light: Light, *, white: float = 1.0) -> Bytes:
    """A frame's codes as an sRGB picture, (y, x, 3) uint8.

    `frame`: (y, x) or (c, y, x). `white`: the linear light that becomes white (see `white_point`): choose it
    once for all pictures that are to be compared. Three channels are red, green, blue; any other number is
    averaged. Raises ArrayError for another shape.
    """
    codes = frame[None] if frame.ndim == 2 else frame
    if codes.ndim != 3:
        raise ArrayError(f"frame has shape {frame.shape}: give (y, x) or (c, y, x)")
    linear = np.nan_to_num(decode(codes, light)) / np.float32(white)
    if codes.shape[0] != 3:
        linear = np.repeat(linear.mean(axis=0, keepdims=True), 3, axis=0)
    shown = np.clip(np.rint(encode(np.clip(linear, 0, 1), SRGB)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def white_point(frame: NDArray[Any], light: Light) -> float:
    """The linear light to show as white: 1 for encoded data, just above the 99.9th percentile for linear."""
    if light.transfer == "srgb":
        return 1.0
    linear = decode(frame, light)
    return max(float(np.percentile(linear[np.isfinite(linear)], 99.9)) * 1.05, 1e-6) if linear.size else 1.0


def gradient_picture(gradient: Float, *, largest: float | None = None) -> Bytes:
    """The magnitude of a gradient (2, y, x), as its root; `largest` None takes the 99.5th percentile."""
    magnitude = np.hypot(gradient[0], gradient[1])
    return amount_to_rgb(np.sqrt(magnitude), largest=np.sqrt(largest or typical_largest(magnitude)))


def difference_picture(difference: Float, *, largest: float | None = None) -> Bytes:
    """A temporal difference (y, x), blue where it got darker and red where it got brighter."""
    return signed_to_rgb(difference, largest=largest or typical_largest(difference))


def length_picture(path: Float, *, largest: float | None = None) -> Bytes:
    """The length of a path or motion (2, y, x) as a picture."""
    length = np.hypot(path[0], path[1])
    return amount_to_rgb(length, largest=largest or typical_largest(length))


def motion_picture(motion: Float, *, longest: float | None = None) -> Bytes:
    """A motion (2, y, x) in the colour wheel; `longest` None takes a length that few outliers can stretch."""
    return motion_to_rgb(motion, longest=longest or typical_largest(np.hypot(motion[0], motion[1])))


def weight_picture(weight: Float) -> Bytes:
    """A weight (y, x) from 0, dark, to 1, bright."""
    return amount_to_rgb(weight, largest=1.0)


def reason_picture(reason: Bytes, frame: Bytes) -> Bytes:
    """Reasons (y, x) in their colours over a pale grey `frame` (y, x, 3): what was kept where."""
    table = np.zeros((256, 3), np.float32)
    table[:] = (255, 0, 255)
    for kind, tone in REASON_COLOURS.items():
        table[kind] = tone
    grey = (0.45 * frame.astype(np.float32).mean(axis=2, keepdims=True) + 115).astype(np.float32)
    share = np.where(reason == Reason.RESTORED, np.float32(0.28), np.float32(0.72))[..., None]
    return np.asarray(np.rint(grey * (1 - share) + table[reason] * share), np.uint8)


def typical_largest(values: NDArray[Any]) -> float:
    """A scale's top that a few outliers don't move: the 99.5th percentile of the magnitude, above 0."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, 99.5)), 1e-6) if known.size else 1.0


def busiest_box(picture: Bytes, *, height: int, width: int) -> Box:
    """Where a detail shows most: the box of that size with the most contrast, off the border."""
    grey = picture.astype(np.float32).mean(axis=2)
    height, width = min(height, grey.shape[0]), min(width, grey.shape[1])
    contrast = ndimage.gaussian_gradient_magnitude(grey, 1.0)
    total = np.pad(contrast.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    box = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    rim = [min(grey.shape[axis] // 12, (box.shape[axis] - 1) // 2) for axis in (0, 1)]
    inner = box[rim[0] : box.shape[0] - rim[0], rim[1] : box.shape[1] - rim[1]]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    y0, x0 = int(y) + rim[0], int(x) + rim[1]
    return Box(y0, y0 + height, x0, x0 + width)


def crop(picture: Bytes, box: Box) -> Bytes:
    """The part of a picture (y, x, c) that a box covers."""
    return np.ascontiguousarray(picture[box.slices])


def shrink(picture: Bytes, *, longest: int) -> Bytes:
    """A picture at most `longest` on its longer side, by averaging whole blocks."""
    factor = -(-max(picture.shape[:2]) // longest)
    if factor <= 1:
        return picture
    down, across = min(factor, picture.shape[0]), min(factor, picture.shape[1])
    height, width = picture.shape[0] // down, picture.shape[1] // across
    blocks = picture[: height * down, : width * across].reshape(height, down, width, across, -1)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)), np.uint8)


def contact_sheet(pictures: Sequence[Bytes], *, columns: int = 4, gap: int = 4, cell: int = 240) -> Bytes:
    """Small pictures in rows, (y, x, 4) uint8 with clear gaps; all must have the same shape.

    Raises ArrayError for no pictures or unequal shapes.
    """
    if not pictures or len({p.shape for p in pictures}) != 1:
        raise ArrayError("a contact sheet needs at least one picture, all of the same shape")
    small = [shrink(p, longest=cell) for p in pictures]
    height, width = small[0].shape[:2]
    columns = min(columns, len(small))
    rows = -(-len(small) // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for k, picture in enumerate(small):
        y, x = k // columns * (height + gap), k % columns * (width + gap)
        sheet[y : y + height, x : x + width, :3] = picture[..., :3]
        sheet[y : y + height, x : x + width, 3] = 255
    return sheet


def to_png(picture: Bytes) -> bytes:
    """A PNG file of (y, x), (y, x, 3) or (y, x, 4) uint8, without loss.

    >>> to_png(np.zeros((2, 2, 3), np.uint8))[1:4]
    b'PNG'
    """
    from PIL import Image  # slow to import, and only reports need it

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", optimize=True)
    return out.getvalue()


def to_jpeg(picture: Bytes) -> bytes:
    """A JPEG file of (y, x, 3) uint8, for what is only illustration: a quarter of the PNG's size."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=88, subsampling=0)
    return out.getvalue()


def data_uri(file: bytes) -> str:
    """A PNG or JPEG file as text that a page can hold."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"
