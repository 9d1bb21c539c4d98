"""From a camera's codes to light and back: black and white level, the transfer curve, luma.

Light adds up linearly, so blur is undone in linear light; 8-bit photographs and video are encoded (IEC 61966-2-1,
sRGB). Everything here is decided once for a sequence (`resolve`), never for a frame or a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deblur.errors import ArrayError, ConfigError
from deblur.types import Float

Transfer = Literal["srgb", "linear"]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601: what the eye weighs, also for encoded values


@dataclass(frozen=True, slots=True)
class Light:
    """How codes of one sequence become light: `(code - black) / (white - black)`, then the transfer curve."""

    black: float
    white: float
    transfer: Transfer

    @property
    def scale(self) -> float:
        return self.white - self.black


def resolve(dtype: DTypeLike, *, transfer: str = "auto", largest: float, bits: int | None = None) -> Light:
    """Decide the light of a sequence from its dtype, its largest value and what the file said.

    `transfer` "auto" takes 8-bit images as sRGB, everything else as linear. White is the full range of 8-bit data
    or of `bits`; else of the fewest bits that hold `largest` (12-bit cameras write 16-bit files); for floats, 1,
    or `largest` when that is above 1. Raises ConfigError for an unknown transfer.

    >>> resolve("uint16", largest=3000.0)
    Light(black=0.0, white=4095.0, transfer='linear')
    """
    kind = np.dtype(dtype)
    if transfer not in ("auto", "srgb", "linear"):
        raise ConfigError(f"transfer is {transfer!r}: use 'auto', 'srgb' or 'linear'")
    curve: Transfer = "srgb" if transfer == "srgb" or (transfer == "auto" and kind == np.uint8) else "linear"
    if kind == np.uint8:
        return Light(0.0, 255.0, curve)
    if kind.kind in "ui":
        needed = max(int(largest).bit_length(), 8)
        return Light(0.0, float(2 ** max(needed, bits or 0) - 1), curve)
    if kind.kind == "f":
        return Light(0.0, max(1.0, float(largest)), curve)
    raise ArrayError(f"frames of dtype {kind} are not supported: use unsigned integers or floats")


def decode(codes: NDArray[Any], light: Light) -> Float:
    """Codes of any shape to linear light, float32, nominally in [0, 1]."""
    if codes.dtype == np.uint8:
        table = _to_linear((np.arange(256) - light.black) / light.scale, light.transfer).astype(np.float32)
        return np.asarray(table[codes], np.float32)
    scaled = (codes.astype(np.float32) - np.float32(light.black)) / np.float32(light.scale)
    return np.asarray(_to_linear(scaled, light.transfer), np.float32)


def encode(linear: Float, light: Light) -> Float:
    """Linear light to codes, float32, neither rounded nor clipped."""
    value = linear
    if light.transfer == "srgb":
        low = linear * np.float32(12.92)
        high = np.float32(1.055) * np.maximum(linear, np.float32(0.0031308)) ** np.float32(
            1 / 2.4
        ) - np.float32(0.055)
        value = np.where(linear <= 0.0031308, low, high)
    return np.asarray(value * np.float32(light.scale) + np.float32(light.black), np.float32)


def merge(source: NDArray[Any], restored: Float, weight: Float, light: Light) -> NDArray[Any]:
    """Blend restored light into the source's codes: `source` where `weight` is 0, bit for bit.

    `source`, `restored`: (c, y, x); `weight`: (y, x). Integers are rounded and held within their dtype's range,
    which is what a sensor would have done.
    """
    mixed = encode(decode(source, light) * (1 - weight) + restored * weight, light)
    if source.dtype.kind in "ui":
        top = np.iinfo(source.dtype).max if light.white > np.iinfo(source.dtype).max else light.white
        mixed = np.clip(np.rint(mixed), 0, top)
    return np.where(weight > 0, mixed.astype(source.dtype), source)


def luma(codes: NDArray[Any], light: Light) -> Float:
    """Encoded luma of (c, y, x) codes, float32, nominally in [0, 1]: what motion is measured on.

    Three channels are taken as red, green and blue; any other number is averaged.
    """
    weights = LUMA if codes.shape[0] == 3 else np.full(codes.shape[0], 1 / codes.shape[0], np.float32)
    total = np.zeros(codes.shape[1:], np.float32)
    for plane, weight in zip(codes, weights, strict=True):
        total += plane.astype(np.float32) * weight
    return (total - np.float32(light.black)) / np.float32(light.scale)


def _to_linear(value: NDArray[Any], transfer: Transfer) -> NDArray[Any]:
    if transfer == "linear":
        return value
    return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0) + 0.055) / 1.055) ** 2.4)
