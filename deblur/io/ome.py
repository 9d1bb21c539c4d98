"""What OME-XML and ImageJ's notes say of a sequence: channels, pixel size, times, exposures, bits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from deblur.errors import ReadError
from deblur.io.reader import check_inside
from deblur.types import ReadLimits

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
IMAGEJ_SECONDS = {"sec": 1.0, "s": 1.0, "msec": 1e-3, "ms": 1e-3, "min": 60.0, "minute": 60.0}
IMAGEJ_UNITS = {"micron": "µm", "microns": "µm", "um": "µm", "\\u00B5m": "µm"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one image. `exposures`, `deltas`: (t, z) -> seconds, of the first channel."""

    channels: tuple[str, ...] = ()
    bits: int | None = None
    interval: float | None = None
    pixel_size: tuple[float, float, str] | None = None
    deltas: Mapping[tuple[int, int], float] = field(default_factory=dict)
    exposures: Mapping[tuple[int, int], float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frame_rate(self) -> float | None:
        return 1.0 / self.interval if self.interval else None

    def timing(self, time: int, place: Mapping[str, int]) -> tuple[float | None, float | None]:
        """(time, exposure time) of a frame in seconds, where known: the plane's own, else by the interval."""
        key = (time, place.get("Z", 0))
        regular = None if self.interval is None else time * self.interval
        return self.deltas.get(key, regular), self.exposures.get(key)


def facts_of(tif: Any) -> Sequence[Facts]:
    """The facts of each series of an open tifffile.TiffFile. Raises ReadError for broken OME-XML."""
    count = len(tif.series)
    found = tuple(parse(tif.ome_metadata)) if tif.is_ome else (imagej(tif),)
    return (*found, *(Facts() for _ in range(count - len(found))))


def parse(text: str) -> tuple[Facts, ...]:
    """One Facts for each Image of an OME-XML document. Raises ReadError when it is none."""
    return tuple(
        _image(pixels, image.get("Name"))
        for image in _root(text).iter()
        if _is(image, "Image")
        for pixels in image
        if _is(pixels, "Pixels")
    )


def check_files(text: str, file: Path, limits: ReadLimits) -> None:
    """Raise ReadError where the OME-XML of a file names others than in its own folder: tifffile opens them."""
    folder = file.parent
    try:
        elements = [element for element in _root(text).iter() if _is(element, "UUID")]
    except ReadError as error:
        raise ReadError(f"{file}: {error}") from error
    for name in {element.get("FileName") for element in elements} - {None}:
        if not name or name in (".", "..") or "/" in name or "\\" in name:
            raise ReadError(f"{file}: its OME-XML names a file elsewhere, {name!r}: export it again")
        check_inside(folder / name, folder, limits)
        if (folder / name).exists() and not (folder / name).is_file():
            raise ReadError(f"{file}: its OME-XML names {name!r}, which is no file: export it again")


def _root(text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ReadError("the OME-XML holds a document type, which OME never does: remove it")  # entity bombs
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ReadError(f"the OME-XML is broken ({error}): export the file again") from error


def _is(element: ElementTree.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name  # the namespace holds a year


def _image(pixels: ElementTree.Element, title: str | None) -> Facts:
    channels = tuple(
        item.get("Name") or str(number)
        for number, item in enumerate(child for child in pixels if _is(child, "Channel"))
    )
    deltas: dict[tuple[int, int], float] = {}
    exposures: dict[tuple[int, int], float] = {}
    for plane in (child for child in pixels if _is(child, "Plane")):
        if plane.get("TheC", "0") != "0":
            continue
        key = (int(plane.get("TheT", "0")), int(plane.get("TheZ", "0")))
        _keep(deltas, key, duration(plane.get("DeltaT"), plane.get("DeltaTUnit", "s")))
        _keep(exposures, key, duration(plane.get("ExposureTime"), plane.get("ExposureTimeUnit", "s")))
    bits = pixels.get("SignificantBits", "")
    interval = duration(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    named = all(item.get("Name") for item in pixels if _is(item, "Channel"))
    return Facts(
        channels=channels if named else (),
        bits=int(bits) if bits.isdecimal() else None,
        interval=interval or None,
        pixel_size=_pixel_size(pixels),
        deltas=deltas,
        exposures={key: value for key, value in exposures.items() if value > 0},
        metadata=_notes(pixels, title),
    )


def _notes(pixels: ElementTree.Element, title: str | None) -> dict[str, Any]:
    """The image's title, the colours of its channels (hexadecimal RGB) and the step between its z, where told."""
    colours = [item.get("Color", "") for item in pixels if _is(item, "Channel")]
    notes: dict[str, Any] = {"title": title} if title else {}
    if colours and all(re.fullmatch(r"-?[0-9]{1,10}", colour) for colour in colours):
        notes["colours"] = [f"{(int(colour) >> 8) & 0xFFFFFF:06X}" for colour in colours]  # signed RGBA
    with suppress(ValueError):
        notes["z_size"] = [float(pixels.get("PhysicalSizeZ", "")), pixels.get("PhysicalSizeZUnit", "µm")]
    return notes


def _keep(into: dict[tuple[int, int], float], key: tuple[int, int], value: float | None) -> None:
    if value is not None:
        into[key] = value


def duration(text: str | None, unit: str) -> float | None:
    """OME's number and unit as seconds; None when absent, unreadable or negative.

    >>> duration("40", "ms")
    0.04
    """
    try:
        value = float(text) * SECONDS[unit] if text is not None else None
    except (ValueError, KeyError):
        return None
    return value if value is not None and 0 <= value < float("inf") else None


def _pixel_size(pixels: ElementTree.Element) -> tuple[float, float, str] | None:
    units = pixels.get("PhysicalSizeYUnit", "µm"), pixels.get("PhysicalSizeXUnit", "µm")
    try:
        y, x = float(pixels.get("PhysicalSizeY", "")), float(pixels.get("PhysicalSizeX", ""))
    except ValueError:
        return None
    return (y, x, units[0]) if units[0] == units[1] and y > 0 and x > 0 else None


def imagej(tif: Any) -> Facts:
    """What ImageJ notes: frame interval, labels' unit and the resolution tags."""
    notes = tif.imagej_metadata or {}
    interval = _number(notes.get("finterval"))
    scale = IMAGEJ_SECONDS.get(str(notes.get("tunit", "sec")), 0.0)
    rate = _number(notes.get("fps"))
    seconds = interval * scale if interval else (1.0 / rate if rate else 0.0)
    return Facts(interval=seconds or None, pixel_size=_imagej_size(tif.pages[0], str(notes.get("unit", ""))))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else None


def _imagej_size(page: Any, unit: str) -> tuple[float, float, str] | None:
    """Resolution tags count pixels per `unit`; without a unit they mean nothing."""
    tags = [page.tags.get(name) for name in ("YResolution", "XResolution")]
    if not unit or unit in ("pixel", "inch", "null") or None in tags:
        return None
    values = [tag.value[0] / tag.value[1] if tag.value[1] else 0.0 for tag in tags if tag is not None]
    if min(values) <= 0:
        return None
    return 1 / values[0], 1 / values[1], IMAGEJ_UNITS.get(unit, unit)
