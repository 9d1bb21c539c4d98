"""Video's colour difference codes to RGB and back, by one mapping that rounds alike on every machine.

With n-bit codes, limited range: Y = (y - 16·2^(n-8)) / (219·2^(n-8)), Cb = (cb - 2^(n-1)) / (224·2^(n-8)),
Cr alike; full range: Y = y / (2^n - 1), Cb = (cb - 2^(n-1)) / (2^n - 1). Then, by ITU-R BT.601, BT.709 and
BT.2020, R = Y + 2(1-Kr)·Cr, B = Y + 2(1-Kb)·Cb, G = (Y - Kr·R - Kb·B) / (1-Kr-Kb), times 255 for 8-bit codes
or 65535 for deeper ones, rounded. 10-bit limited black 64 thus becomes 0 and white 940 becomes 65535. Codes
blacker than black or whiter than white, which only limited range has, end at 0 and at the top, as on screens.
Subsampled chroma is interpolated linearly (swscale's default repeats it), sited as MPEG-2 does or centred as
JPEG does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Coding:
    """How a stream's codes mean colours. `kr`, `kb`: luma weights; `bits`: of a code; `full`: full range."""

    kr: float
    kb: float
    bits: int
    full: bool
    sited_left: bool = True

    @property
    def black(self) -> int:
        return 0 if self.full else 16 << (self.bits - 8)

    @property
    def luma_span(self) -> int:
        return (1 << self.bits) - 1 if self.full else 219 << (self.bits - 8)

    @property
    def chroma_span(self) -> int:
        return (1 << self.bits) - 1 if self.full else 224 << (self.bits - 8)


BT709 = Coding(kr=0.2126, kb=0.0722, bits=8, full=False)


def to_rgb(luma: NDArray[Any], cb: NDArray[Any], cr: NDArray[Any], coding: Coding) -> NDArray[Any]:
    """(y, x) luma and chroma planes, subsampled by powers of two or not, to (3, y, x) RGB.

    uint8 for 8-bit codes, else uint16 over its full range.

    >>> grey = np.full((2, 2), 235, np.uint8)
    >>> to_rgb(grey, np.full((1, 1), 128, np.uint8), np.full((1, 1), 128, np.uint8), BT709)[:, 0, 0].tolist()
    [255, 255, 255]
    """
    from deblur.io.chroma import convert  # compiled: pictures are read without

    height, width = luma.shape
    shifts = _shift(height, cb.shape[0]), _shift(width, cb.shape[1])
    out = np.empty((3, height, width), np.uint8 if coding.bits == 8 else np.uint16)
    x_site = 0.0 if coding.sited_left else ((1 << shifts[1]) - 1) / 2
    y_site = ((1 << shifts[0]) - 1) / 2
    gains = 1 / coding.luma_span, 1 / coding.chroma_span
    top, middle = np.iinfo(out.dtype).max, 1 << (coding.bits - 1)
    numbers = np.array(
        [coding.black, gains[0], middle, gains[1], coding.kr, coding.kb, top, y_site, x_site], np.float32
    )
    convert(luma, cb, cr, numbers, 1 << shifts[0], 1 << shifts[1], out)
    return out


def expand(codes: NDArray[Any], coding: Coding) -> NDArray[Any]:
    """Limited-range grey or RGB codes of any shape to all of uint8 or uint16, as `to_rgb` does luma."""
    dtype = np.uint8 if coding.bits == 8 else np.uint16
    top = np.iinfo(dtype).max
    value = (codes.astype(np.float64) - coding.black) * (top / coding.luma_span)
    return np.asarray(np.clip(np.rint(value), 0, top).astype(dtype))


def from_rgb(image: NDArray[Any], *, subsample: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(3, y, x) RGB to BT.709 limited-range planes, chroma averaged over 2x2 when `subsample` is 2.

    uint8 gives 8-bit codes, uint16 over its full range 10-bit ones.
    """
    bits = 8 if image.dtype == np.uint8 else 10
    coding = replace(BT709, bits=bits)
    top, middle = float(np.iinfo(image.dtype).max), 1 << (bits - 1)
    red, green, blue = (plane.astype(np.float32) / np.float32(top) for plane in image)
    kr, kb = BT709.kr, BT709.kb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    differences = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    chroma = [_sited(plane) if subsample == 2 else plane for plane in differences]
    coded = [
        np.rint(coding.black + coding.luma_span * luma),
        *(np.rint(middle + coding.chroma_span * plane) for plane in chroma),
    ]
    y, cb, cr = (np.clip(plane, 0, (1 << bits) - 1).astype(image.dtype) for plane in coded)
    return y, cb, cr


def _sited(plane: NDArray[Any]) -> NDArray[Any]:
    """Half size, left-sited: weights 1 2 1 across, 1 1 down. Both sides must be even."""
    rows = (plane[::2] + plane[1::2]) / 2
    before = np.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
    return np.asarray((before + 2 * rows[:, ::2] + rows[:, 1::2]) / 4)


def _shift(full: int, part: int) -> int:
    """log2 of the subsampling: the part is the full extent over 2^shift, rounded up."""
    return next(shift for shift in range(6) if -(-full >> shift) == part)
