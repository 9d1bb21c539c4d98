"""Frames to TIFF, with the notes of the pictures that they came from: EXIF, and where on the Earth they lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.io.exif import directories, exif_of
from deblur.io.geotiff import Extra, geo_tags
from deblur.types import SequenceHeader

CLASSIC = 4_000_000_000  # bytes that a TIFF with 32-bit offsets surely holds
LONG = 4


def write_tiff(
    frames: Iterable[NDArray[Any]],
    path: Path,
    *,
    header: SequenceHeader,
    count: int,
    original: Path | None = None,
) -> None:
    """A page a frame. `original`: the picture that a single frame came from, whose EXIF and geo-reference are given on."""
    import tifffile

    colour = header.shape[0] == 3
    size = int(np.prod(header.shape)) * np.dtype(header.dtype).itemsize * count
    big = size > CLASSIC
    block = None if original is None or big else exif_of(original)
    texts, parts = directories(block) if block else ((), {})
    pointers: list[Extra] = [
        (code - 1, LONG, 1, 0, True) for code in parts
    ]  # tifffile writes none of these codes
    tags = [*geo_tags(header.metadata, original), *texts, *pointers]
    with tifffile.TiffWriter(path, bigtiff=big, byteorder="<") as writer:
        for frame in frames:
            plain = colour or frame.shape[0] == 1
            writer.write(
                interleaved(frame) if plain else frame,
                photometric="rgb" if colour else "minisblack",
                planarconfig=None if plain else "separate",
                compression="zlib",
                predictor=True,
                metadata=None,
                software="deblur",
                extratags=tags,
            )
    _append(path, parts)


def interleaved(frame: NDArray[Any]) -> NDArray[Any]:
    """(y, x) of one channel, else (y, x, c)."""
    return np.ascontiguousarray(frame[0] if frame.shape[0] == 1 else np.moveaxis(frame, 0, -1))


def _append(path: Path, parts: dict[int, Any]) -> None:
    """Directories of notes behind the pixels of a classic TIFF; the tags that wait for them get their codes and places."""
    with path.open("r+b") as stream:
        for code, directory in parts.items():
            at = stream.seek(0, 2)
            at += at % 2
            stream.seek(at)
            stream.write(directory.tobytes(at))
            stream.seek(_entry(stream, code - 1))
            stream.write(struct.pack("<HHII", code, LONG, 1, at))


def _entry(stream: Any, code: int) -> int:
    """Where a tag stands in the first directory: entries of 12 bytes after their number."""
    stream.seek(4)
    (first,) = struct.unpack("<I", stream.read(4))
    stream.seek(first)
    (count,) = struct.unpack("<H", stream.read(2))
    entries = range(first + 2, first + 2 + 12 * count, 12)
    codes = [struct.unpack_from("<H", stream.read(12))[0] for _ in entries]
    return entries[codes.index(code)]


@dataclass(frozen=True, slots=True)
class Layer:
    """One sequence of a stack: its `position` and `z`, and how to come by its frames one by one."""

    header: SequenceHeader
    position: str
    z: int
    times: Sequence[float | None]
    frames: Iterable[NDArray[Any]]


def write_ome(layers: Sequence[Layer], path: Path) -> None:
    """OME-TIFF: an image a position, axes T, Z, C, Y, X, with the pixel size, interval, times, bits and channels' names.

    Layers of a position have z from 0 on, one shape and one number of frames; each is read in step with the others.
    """
    import tifffile

    positions: dict[str, list[Layer]] = {}
    for layer in sorted(layers, key=lambda layer: (layer.position, layer.z)):
        positions.setdefault(layer.position, []).append(layer)
    sizes = [
        np.prod(each.header.shape) * np.dtype(each.header.dtype).itemsize * len(each.times) for each in layers
    ]
    with tifffile.TiffWriter(path, ome=True, bigtiff=sum(sizes) > CLASSIC) as writer:
        for stack in positions.values():
            first = stack[0].header
            channels, height, width = first.shape
            colour = first.channels == ("red", "green", "blue")
            leading = (len(stack[0].times), len(stack))
            writer.write(
                _pages(stack, colour),
                shape=(*leading, height, width, 3) if colour else (*leading, channels, height, width),
                dtype=first.dtype,
                photometric="rgb" if colour else "minisblack",
                compression="zlib",
                predictor=True,
                software="deblur",
                metadata={"axes": "TZYXS" if colour else "TZCYX", **_described(stack, colour)},
            )


def _pages(stack: Sequence[Layer], colour: bool) -> Iterable[NDArray[Any]]:
    for together in zip(*(layer.frames for layer in stack), strict=True):
        for frame in together:
            if colour:
                yield interleaved(frame)
            else:
                yield from frame


def _described(stack: Sequence[Layer], colour: bool) -> dict[str, Any]:
    header = stack[0].header
    told: dict[str, Any] = {"Name": header.name.partition("/")[0]}
    if not colour:
        told["Channel"] = {"Name": list(header.channels)}
    if header.bits:
        told["SignificantBits"] = header.bits
    if header.pixel_size:
        y, x, unit = header.pixel_size
        told |= {"PhysicalSizeY": y, "PhysicalSizeX": x, "PhysicalSizeYUnit": unit, "PhysicalSizeXUnit": unit}
    if header.metadata.get("z_size"):
        told["PhysicalSizeZ"], told["PhysicalSizeZUnit"] = header.metadata["z_size"]
    if header.frame_rate:
        told |= {"TimeIncrement": 1 / header.frame_rate, "TimeIncrementUnit": "s"}
    planes = 1 if colour else header.shape[0]
    times = [time for together in zip(*(layer.times for layer in stack), strict=True) for time in together]
    if all(time is not None for time in times):
        deltas = [time for time in times for _ in range(planes)]
        told["Plane"] = {"DeltaT": deltas, "DeltaTUnit": ["s"] * len(deltas)}
    return told
