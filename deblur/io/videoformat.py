"""What streams say of their frames: pixel formats and how their planes become arrays, rate, shutter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.colour import Coding, expand, to_rgb

# Other orders of the same numbers: the scaler only moves bytes here.
REPACKED = {
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "nv12": "yuv420p", "nv21": "yuv420p",
    "nv16": "yuv422p", "nv24": "yuv444p", "p010le": "yuv420p10le", "p210le": "yuv422p10le", "bgr24": "rgb24",
    "bgr0": "rgb24", "rgb0": "rgb24", "0rgb": "rgb24", "0bgr": "rgb24", "bgr48le": "rgb48le",
}  # fmt: skip
MATRICES = {  # ITU-T H.273 matrix coefficients: name, Kr, Kb
    1: ("bt709", 0.2126, 0.0722), 4: ("fcc", 0.30, 0.11), 5: ("bt601", 0.299, 0.114), 6: ("bt601", 0.299,
    0.114), 7: ("smpte240m", 0.212, 0.087), 9: ("bt2020", 0.2627, 0.0593),
}  # fmt: skip
UNSPECIFIED = 2
UNTOLD = (0, 2, 3)  # reserved, unspecified, reserved: codes that say nothing
LIMITED, FULL = 1, 2  # AVColorRange
Layout = Literal["grey", "packed", "planar", "yuv"]


@dataclass(frozen=True, slots=True)
class Format:
    """How frames of one stream become arrays. `bits`: significant ones in `dtype`."""

    layout: Layout
    channels: int
    dtype: str
    bits: int
    coding: Coding
    facts: Mapping[str, Any]

    @property
    def encoded(self) -> bool:
        return self.layout == "yuv"


def format_of(path: str, frame: Any, *, codec: str) -> Format:
    """The format of a stream from one of its frames. Raises ReadError for kinds refused by name.

    Where tags are missing, colour differences are taken as limited range (full for MJPEG's formats), BT.709
    when wider than 1279 or higher than 576 and BT.601 below, as players do; grey and RGB as full range.
    """
    name = _refuse(path, frame.format)
    bits = max(component.bits for component in frame.format.components)
    layout = _layout(path, name)
    full = frame.color_range == FULL or (frame.color_range != LIMITED and (layout != "yuv" or "yuvj" in name))
    matrix, kr, kb = _matrix(path, frame) if layout == "yuv" else ("none", 0.2126, 0.0722)
    coding = Coding(kr, kb, bits, full, sited_left=codec not in ("mjpeg", "mpeg1video"))
    facts: dict[str, Any] = {
        "colour_range": "full" if full else "limited",
        "colour_range_tagged": frame.color_range != 0,
        "code_bits": bits,
    }
    tags = {"colour_transfer": frame.color_trc, "colour_primaries": frame.color_primaries}
    facts |= {key: int(code) for key, code in tags.items() if int(code) not in UNTOLD}
    if layout == "yuv":
        facts |= {"colour_matrix": matrix, "colour_matrix_tagged": frame.colorspace != UNSPECIFIED}
    dtype = "uint8" if bits == 8 else "uint16"
    kept = full and layout != "yuv"  # the codes themselves, however many bits
    return Format(
        layout, 1 if layout == "grey" else 3, dtype, bits if kept or bits == 8 else 16, coding, facts
    )


def frame_array(frame: Any, kind: Format) -> NDArray[Any]:
    """The (c, y, x) array of a decoded frame, which may be a view of its memory."""
    if frame.format.name in REPACKED:
        frame = frame.reformat(format=REPACKED[frame.format.name])
    planes = [_plane(frame, number) for number in range(len(frame.planes))]
    if kind.layout == "yuv":
        luma, cb, cr = (np.ascontiguousarray(plane, plane.dtype.newbyteorder("=")) for plane in planes)
        return to_rgb(luma, cb, cr, kind.coding)
    if kind.layout == "packed":
        image = np.moveaxis(planes[0].reshape(frame.height, frame.width, 3), -1, 0)
    elif kind.layout == "planar":
        image = np.stack([planes[2], planes[0], planes[1]])  # FFmpeg's order is green, blue, red
    else:
        image = planes[0][np.newaxis]
    return image if kind.coding.full else expand(image, kind.coding)


def _refuse(path: str, pixels: Any) -> str:
    """The name of the format after repacking; raises ReadError for what can't be read without loss."""
    name = REPACKED.get(str(pixels.name), str(pixels.name))
    remedy = "convert it (ffmpeg -i IN -c:v ffv1 -pix_fmt rgb48le OUT.mkv)"
    if pixels.has_palette:
        raise ReadError(f"{path} has a palette, which holds no light to deblur: {remedy}")
    if any(component.is_alpha for component in pixels.components):
        raise ReadError(f"{path} has an alpha channel ({pixels.name}), which is not read: {remedy}")
    if pixels.is_bit_stream or min(component.bits for component in pixels.components) < 8:
        raise ReadError(
            f"{path} has fewer than 8 bits a channel ({pixels.name}), too few to deblur: {remedy}"
        )
    if pixels.is_bayer or "f16" in name or "f32" in name or "xyz" in name:
        raise ReadError(f"{path} has {pixels.name} pixels, which are not read: {remedy}")
    return name


def _layout(path: str, name: str) -> Layout:
    if name.startswith("gray"):
        return "grey"
    if name in ("rgb24", "rgb48le", "rgb48be"):
        return "packed"
    if name.startswith("gbrp"):
        return "planar"
    if name.startswith(("yuv4", "yuvj4")) and "p" in name[6:]:
        return "yuv"
    raise ReadError(
        f"{path} has {name} pixels, which are not read: convert it (ffmpeg -i IN -c:v ffv1 OUT.mkv)"
    )


def _matrix(path: str, frame: Any) -> tuple[str, float, float]:
    tag = int(frame.colorspace)
    if tag == UNSPECIFIED:
        tag = 1 if frame.width >= 1280 or frame.height > 576 else 6
    if tag not in MATRICES:
        raise ReadError(
            f"{path} codes its colours by matrix {tag} of H.273, which is not read: convert it to BT.709"
        )
    return MATRICES[tag]


def _plane(frame: Any, number: int) -> NDArray[Any]:
    """One plane as (rows, samples), without the padding that ends its lines."""
    plane = frame.planes[number]
    deep = max(component.bits for component in frame.format.components) > 8
    dtype = np.dtype((">u2" if frame.format.is_big_endian else "<u2") if deep else "u1")
    samples = plane.width * (3 if frame.format.name in ("rgb24", "rgb48le", "rgb48be") else 1)
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
    return lines[:, : samples * dtype.itemsize].copy().view(dtype)


def frame_rate(stamps: Sequence[int], base: Fraction, told: Fraction | None) -> tuple[Fraction | None, bool]:
    """The frame rate, and whether it is constant up to the clock's ticks (Matroska's are a millisecond)."""
    count = len(stamps) - 1
    if count < 1:
        return told, True
    measured = Fraction(count) / ((stamps[-1] - stamps[0]) * base)
    step = (
        np.asarray(stamps, np.float64) - stamps[0] - np.arange(count + 1) * ((stamps[-1] - stamps[0]) / count)
    )
    constant = bool(np.abs(step).max() <= 1.0)
    if constant and told and abs(told / measured - 1) * count * (1 / told / base) <= 1:
        return told, True  # the exact fraction, which agrees with the stamps to a tick
    return measured.limit_denominator(1_000_000), constant


def shutter_angle(notes: Mapping[str, str]) -> float | None:
    """A shutter angle in degrees from the notes that cameras write, under whatever prefix."""
    for key, value in notes.items():
        if re.sub(r"[^a-z]", "", key.lower()).endswith("shutterangle"):
            number = re.match(r"\s*([0-9]+(?:\.[0-9]+)?)", value)
            if number and 0 < float(number[1]) <= 360:
                return float(number[1])
    return None
