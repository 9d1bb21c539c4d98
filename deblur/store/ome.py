"""OME-Zarr 0.5 metadata for (t, c, y, x) images, as the Next-Generation File Format specification lays it
out.

https://ngff.openmicroscopy.org/0.5/ (Moore et al. 2023, doi:10.1007/s00418-023-02209-1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

VERSION = "0.5"
AXES = ("t", "c", "y", "x")
COLOURS = {"red": "FF0000", "r": "FF0000", "green": "00FF00", "g": "00FF00", "blue": "0000FF", "b": "0000FF"}
UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",
    "um": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
} | {
    "cm": "centimeter",
    "m": "meter",
    "pm": "picometer",
    "inch": "inch",
    "in": "inch",
    "Å": "angstrom",
}


def multiscale(
    *,
    name: str,
    paths: Sequence[str],
    channels: Sequence[str],
    dtype: str,
    largest: float | None = None,
    frame_rate: float | None = None,
    pixel_size: tuple[float, float, str] | None = None,
) -> dict[str, Any]:
    """The `ome` attribute of an image whose level l, at `paths[l]`, is reduced by 2^l along y and x.

    A reduced pixel covers whole full pixels, so its centre moves by (2^l - 1) / 2 of them: hence the
    translation. `largest`: the value to show as white; the dtype's maximum (1 for floats) by default.
    """
    height, width, unit = pixel_size or (1.0, 1.0, "")
    interval = 1 / frame_rate if frame_rate else 1.0
    return {
        "version": VERSION,
        "multiscales": [
            {
                "name": name,
                "axes": _axes(timed=bool(frame_rate), unit=UNITS.get(unit, unit)),
                "datasets": [
                    {
                        "path": path,
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [interval, 1.0, height * 2**level, width * 2**level]},
                            {"type": "translation", "translation": [0.0, 0.0, *_shift(level, height, width)]},
                        ],
                    }
                    for level, path in enumerate(paths)
                ],
                "type": "mean",
            }
        ],
        "omero": {
            "channels": [_channel(label, len(channels), dtype, largest) for label in channels],
            "rdefs": {"defaultT": 0, "defaultZ": 0, "model": "color" if len(channels) > 1 else "greyscale"},
        },
    }


def _axes(*, timed: bool, unit: str) -> list[dict[str, str]]:
    space = {"type": "space", "unit": unit} if unit else {"type": "space"}
    time = {"type": "time", "unit": "second"} if timed else {"type": "time"}
    return [
        {"name": "t", **time},
        {"name": "c", "type": "channel"},
        {"name": "y", **space},
        {"name": "x", **space},
    ]


def _shift(level: int, height: float, width: float) -> tuple[float, float]:
    pixels = (2**level - 1) / 2
    return pixels * height, pixels * width


def _channel(label: str, count: int, dtype: str, largest: float | None) -> dict[str, Any]:
    kind = np.dtype(dtype)
    integral = kind.kind in "iu"
    top = float(np.iinfo(kind).max) if integral else 1.0
    window = {"min": 0.0, "max": top, "start": 0.0, "end": float(largest or top)}
    colour = COLOURS.get(label.lower(), "FFFFFF") if count > 1 else "FFFFFF"
    return {"label": label, "color": colour, "active": True, "window": window}
