"""The small parts that the page is made of: pictures with captions and legends, numbers in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.report import pictures
from deblur.types import Bytes

LONGEST = 1280  # pixels of a picture's longer side: enough for a desk, light enough for a phone
UNKNOWN = "&ndash;"


def figure(picture: Bytes, file: Callable[[Bytes], bytes], alt: str, caption: str, legend: str = "") -> str:
    return f"<figure>{image(picture, file, alt)}<figcaption>{caption}</figcaption>{legend}</figure>"


def image(picture: Bytes, file: Callable[[Bytes], bytes], alt: str, style: str = "") -> str:
    """`alt` must be escaped already where it holds names."""
    small = pictures.shrink(picture, longest=LONGEST)
    named = f' class="{style}"' if style else ""
    height, width = small.shape[:2]
    source = pictures.data_uri(file(small))
    return f'<img{named} src="{source}" alt="{alt}" width="{width}" height="{height}">'


def scale(colours: Bytes, low: str, high: str) -> str:
    bar = image(np.repeat(colours, 8, axis=0), pictures.to_png, "", "ramp")
    return f'<div class="legend"><span>{low}</span>{bar}<span>{high}</span></div>'


def size_words(frame: NDArray[Any]) -> str:
    channels, height, width = frame.shape
    return f"{width} &times; {height}, {channels} channel{'s' * (channels > 1)}, {frame.dtype}"


def verdict(gain: float) -> str:
    return "good" if gain > 0 else "bad" if gain < 0 else ""


def mean(values: Iterable[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else math.nan


def percent(part: float, *, digits: int = 1) -> str:
    return UNKNOWN if math.isnan(part) else f"{100 * part:.{digits}f} %"


def decibel(value: float | None) -> str:
    return UNKNOWN if value is None else "∞" if math.isinf(value) else f"{value:.2f}"


def plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
