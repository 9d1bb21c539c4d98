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
# of channels without colours of their own
PALETTE = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
# Units as files name them, as OME-Zarr does. Any other is left out: viewers refuse what the format doesn't list.
UNITS = {
    "nm": "nanometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "um": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "pm": "picometer",
    "in": "inch",
    "ft": "foot",
    "Å": "angstrom",
}
LISTED = {*UNITS.values(), "inch", "foot", "decimeter", "mile", "parsec", "yard"}


def multiscale(
    *,
    name: str,
    paths: Sequence[str],
    channels: Sequence[str],
    dtype: str,
    largest: float | None = None,
    frame_rate: float | None = None,
    pixel_size: tuple[float, float, str] | None = None,
    colours: Sequence[str] = (),
) -> dict[str, Any]:
    """The `ome` attribute of an image whose level l, at `paths[l]`, is reduced by 2^l along y and x.

    A reduced pixel covers whole full pixels, so its centre moves by (2^l - 1) / 2 of them: hence the
    translation. `largest`: the value to show as white; the dtype's maximum (1 for floats) by default.
    `colours`: hexadecimal RGB, one a channel, as the source gave them; else by the channels' names.
    """
    height, width, unit = pixel_size or (1.0, 1.0, "")
    interval = 1 / frame_rate if frame_rate else 1.0
    shown = colours if len(colours) == len(channels) else _colours(channels)
    return {
        "version": VERSION,
        "multiscales": [
            {
                "name": name,
                "axes": _axes(timed=bool(frame_rate), unit=_listed(unit)),
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
            "channels": [
                _channel(label, colour, dtype, largest) for label, colour in zip(channels, shown, strict=True)
            ],
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


def _listed(unit: str) -> str:
    known = UNITS.get(unit, unit)
    return known if known in LISTED else ""


def _colours(channels: Sequence[str]) -> Sequence[str]:
    """Red, green and blue as they are called; of others each its own, since white on white can't be told apart."""
    if len(channels) == 1:
        return ("FFFFFF",)
    spare = iter(PALETTE * len(channels))
    return [COLOURS.get(label.lower()) or next(spare) for label in channels]


def _channel(label: str, colour: str, dtype: str, largest: float | None) -> dict[str, Any]:
    kind = np.dtype(dtype)
    integral = kind.kind in "iu"
    top = float(np.iinfo(kind).max) if integral else 1.0
    window = {"min": 0.0, "max": top, "start": 0.0, "end": float(largest or top)}
    return {"label": label, "color": colour, "active": True, "window": window}
