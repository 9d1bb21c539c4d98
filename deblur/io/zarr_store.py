"""Zarr v2 and v3: single arrays and OME-Zarr 0.4/0.5 (images, positions of bioformats2raw, plates).

Not named after its library, so that nobody reads `import zarr` here twice. A chunk that is missing reads as
the fill value: by Zarr's rules that is what an empty chunk looks like, so it can't be told from a lost one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import DeblurError, ReadError
from deblur.io.planes import suffix as plane_suffix
from deblur.io.reader import (
    Reader,
    ReadOptions,
    channel_names,
    check_chunk,
    check_count,
    check_dtype,
    check_index,
    check_size,
    native,
    natural,
    stem,
)
from deblur.io.stack import stored, widened
from deblur.place import Place
from deblur.types import FrameInfo, ReadLimits, SequenceHeader

CODECS = {
    "bytes", "transpose", "sharding_indexed", "blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "shuffle", "delta",
    "crc32c", "crc32", "adler32", "fletcher32", "fixedscaleoffset", "bitround", "quantize", "astype",
}  # fmt: skip
MARKS = ("zarr.json", ".zarray", ".zgroup")
# What Zarr and we meet with in metadata that are not what they should be.
BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError)
GUESS = {3: "tyx", 4: "tcyx", 5: "tczyx"}
SECONDS = {
    "second": 1.0,
    "millisecond": 1e-3,
    "microsecond": 1e-6,
    "nanosecond": 1e-9,
    "minute": 60.0,
    "hour": 3600.0,
}
COLOUR = re.compile("[0-9A-Fa-f]{6}")
UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "meter": "m"}


@dataclass(frozen=True, slots=True)
class Image:
    """One array, Zarr's or another that is sliced alike, with what its metadata say: axis letters, their steps, units."""

    array: Any
    axes: str
    scale: Mapping[str, float]
    units: Mapping[str, str]
    channels: tuple[str, ...]
    kind: str
    suffix: str = ""
    times: Sequence[float] = ()  # seconds, one a frame, where they are known one by one
    exposure: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)  # for the header's metadata


def matches(path: str) -> bool:
    """A folder that is a Zarr array or group."""
    return Path(path).is_dir() and any((Path(path) / mark).is_file() for mark in MARKS)


def open_zarr(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The sequences of an array or group; z, positions and fields of a plate give one each.

    Of a multiscale image the finest level is read. Raises ReadError for damage, for other axes or types, and
    for a plain group of several arrays.
    """
    from deblur.io.zarr_local import FencedStore

    return open_store(FencedStore(path, options.limits), path, options)


def open_store(
    store: Any, path: str, options: ReadOptions, *, origin: Sequence[Place] = ()
) -> tuple[Reader, ...]:
    """The same in one of Zarr's stores. `path`: what to call it; `origin`: the objects that it consists of."""
    import zarr

    readers: list[ZarrReader] = []
    try:
        node = zarr.open(store, mode="r")
        images = [_plain(path, node, "")] if isinstance(node, zarr.Array) else _images(path, node, "")
        for image in images:
            _check_storage(path + image.suffix, image.array, options.limits)
            readers += readers_of(path, image, options)
    except BROKEN as error:
        raise _broken(path, error) from error
    for reader in readers:
        reader.origin = origin
    check_count(path, sum(len(reader.frames) for reader in readers), options.limits)
    return tuple(readers)


def _images(path: str, group: Any, suffix: str) -> list[Image]:
    """The images of a group: its own, a plate's fields, numbered positions, or its only array."""
    notes = group.attrs.asdict()
    ome = notes.get("ome", notes)
    try:
        if "multiscales" in ome:
            return [_multiscale(path, group, ome, suffix)]
        if "plate" in ome:
            wells = [str(well["path"]) for well in ome["plate"]["wells"]]
            return [
                image for well in wells for image in _images(path, group[well], f"{suffix}/{_flat(well)}")
            ]
        if "well" in ome:
            fields = [str(field["path"]) for field in ome["well"]["images"]]
            return [
                image
                for field in fields
                for image in _images(path, group[field], f"{suffix}/f{_flat(field)}")
            ]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ReadError(
            f"{path} has OME metadata that don't hold together ({error!r}): export it again"
        ) from error
    if "bioformats2raw.layout" in ome:
        names = sorted((name for name in group.group_keys() if name.isdecimal()), key=natural)
        return [image for name in names for image in _images(path, group[name], f"{suffix}/p{int(name):03d}")]
    arrays = sorted(group.array_keys())
    if len(arrays) != 1:
        found = ", ".join(arrays) or "none"
        raise ReadError(
            f"{path} is a group without OME metadata and {len(arrays)} arrays ({found}): name the array"
        )
    return [_plain(path, group[arrays[0]], suffix)]


def _flat(name: str) -> str:
    return name.replace("/", "-")


def _multiscale(path: str, group: Any, ome: Mapping[str, Any], suffix: str) -> Image:
    image = ome["multiscales"][0]
    finest = image["datasets"][0]
    array = group[finest["path"]]
    named = [
        axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes", GUESS[array.ndim])
    ]
    axes = "".join(letter(str(axis["name"])) for axis in named)
    scale = dict.fromkeys(axes, 1.0)
    for transformation in (
        *finest.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ):
        if transformation.get("type") == "scale":
            steps = zip(axes, transformation["scale"], strict=True)
            scale |= {axis: scale[axis] * float(step) for axis, step in steps}
    units = {letter: str(axis["unit"]) for letter, axis in zip(axes, named, strict=True) if axis.get("unit")}
    shown = ome.get("omero", {}).get("channels", ())
    labels = tuple(str(channel.get("label", "")) for channel in shown)
    colours = [str(channel.get("color", "")) for channel in shown]
    notes: dict[str, Any] = {"colours": colours} if colours and all(map(COLOUR.fullmatch, colours)) else {}
    if "z" in units:
        notes["z_size"] = [scale["z"], UNITS.get(units["z"], units["z"])]
    return Image(array, axes, scale, units, labels if all(labels) else (), "OME-Zarr", suffix, notes=notes)


def _plain(path: str, array: Any, suffix: str) -> Image:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if names and all(names):
        axes = "".join(letter(str(name)) for name in names)
    elif array.ndim in GUESS:
        axes = GUESS[array.ndim]
    else:
        raise ReadError(f"{path} has {array.ndim} axes without names: store it as (t, y, x) or (t, c, y, x)")
    return Image(array, axes, {}, {}, (), "Zarr", suffix)


def letter(name: str) -> str:
    """t, c, z, y, x, also by what they are often called; else the first letter, in upper case."""
    known = {
        "time": "t",
        "frame": "t",
        "channel": "c",
        "row": "y",
        "column": "x",
        "height": "y",
        "width": "x",
    }
    lower = name.lower()
    return known.get(lower, lower if lower in "tczyx" and len(lower) == 1 else lower[:1].upper())


def readers_of(path: str, image: Image, options: ReadOptions) -> list[ZarrReader]:
    """One reader for each step of the axes beside t, c, y and x. Raises ReadError for other axes, types, over limits."""
    axes, array = image.axes, image.array
    if len(axes) != array.ndim or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise ReadError(
            f"{path}{image.suffix} has axes {axes!r} on {array.ndim}: y and x are needed, each axis once"
        )
    dtype = check_dtype(path + image.suffix, widened(array.dtype))
    length = dict(zip(axes, array.shape, strict=True))
    shape = (length.get("c", 1), length["y"], length["x"])
    check_size(path + image.suffix, shape, dtype, limits=options.limits)
    others = [axis for axis in axes if axis not in "tcyx"]
    extent = tuple(length[axis] for axis in others)
    check_count(path + image.suffix, length.get("t", 1) * math.prod(extent), options.limits)
    block = _block(array, axes, shape, dtype, options)
    return [
        ZarrReader(path, image, dict(zip(others, map(int, steps), strict=True)), _header(path, image, shape,
        dtype),
                   plane_suffix(others, extent, tuple(map(int, steps))), block)
        for steps in np.ndindex(extent)
    ]  # fmt: skip


def _check_storage(name: str, array: Any, limits: ReadLimits) -> None:
    """Raise ReadError for codecs that are not known to be harmless, and for chunks that nothing should be read for."""
    for codec in _codecs(array):
        if codec.removeprefix("numcodecs.") not in CODECS:
            raise ReadError(
                f"{name} is stored by the codec {codec!r}, which is not read: store it with zstd or blosc"
            )
    size = math.prod(array.chunks) * array.dtype.itemsize
    if array.shards is not None:  # its index is read as one
        size = max(size, 16 * math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True)))
    check_chunk(name, size, limits)


def _codecs(array: Any) -> Iterator[str]:
    """The names of all that an array is coded by, those inside of shards as well."""
    told = array.metadata.to_dict()
    if array.metadata.zarr_format == 2:
        found = [told.get("compressor"), *(told.get("filters") or ())]
        yield from (codec["id"] if isinstance(codec, Mapping) else codec.codec_id for codec in found if codec)
        return
    waiting = list(told["codecs"])
    while waiting:
        codec = waiting.pop()
        yield codec["name"]
        inner = codec.get("configuration") or {}
        waiting += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]


def _block(array: Any, axes: str, shape: tuple[int, int, int], dtype: str, options: ReadOptions) -> int:
    """Frames to read at once: those of a chunk, as far as they stay within the byte limit of one frame."""
    if "t" not in axes:
        return 1
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    together = array.chunks[axes.index("t")] if array.chunks else 1
    return int(max(1, min(together, min(options.limits.max_bytes, 1 << 28) // size)))


def _header(path: str, image: Image, shape: tuple[int, int, int], dtype: str) -> SequenceHeader:
    units, scale = image.units, image.scale
    interval = scale.get("t", 0.0) * SECONDS.get(units.get("t", ""), 0.0)
    sized = "y" in units and units.get("y") == units.get("x")
    return SequenceHeader(
        name=stem(str(Path(path).resolve())),
        shape=shape,
        dtype=dtype,
        channels=image.channels if len(image.channels) == shape[0] else channel_names(shape[0]),
        frame_rate=1 / interval if interval > 0 else None,
        pixel_size=(scale["y"], scale["x"], UNITS.get(units["y"], units["y"])) if sized else None,
        metadata={"format": image.kind, **image.notes, **stored(image.array.dtype)},
    )


class ZarrReader(Reader):
    """Frames of one plane of an array; a chunk of several frames is decoded once for frames in order."""

    def __init__(
        self,
        path: str,
        image: Image,
        place: Mapping[str, int],
        header: SequenceHeader,
        suffix: str,
        block: int,
    ) -> None:
        from dataclasses import replace

        name = Path(path).resolve().name + image.suffix + suffix
        self.header = replace(header, name=header.name + image.suffix + suffix)
        count = image.array.shape[image.axes.index("t")] if "t" in image.axes else 1
        rate = header.frame_rate
        regular = [None if rate is None else number / rate for number in range(count)]
        times: Sequence[float | None] = image.times or regular
        self.frames = tuple(
            FrameInfo(f"{name}#{number}", time, image.exposure) for number, time in enumerate(times)
        )
        self._image: Image | None = image
        self._place = place
        self._size = block
        self._block: tuple[int, NDArray[Any]] | None = None
        self.origin: Sequence[Place] = ()

    def source_files(self) -> Sequence[Place]:
        return self.origin

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        name = self.frames[index].name
        if self._image is None:
            raise ReadError(f"{name} was asked for after its reader was closed: open it again")
        start = index - index % self._size
        if self._block is None or self._block[0] != start:
            self._block = None  # let go of the old one before reading the new
            try:
                stop = min(start + self._size, len(self.frames))
                self._block = start, self._load(self._image, start, stop)
            except ReadError:
                return native(
                    self._load(self._image, index, index + 1)[0]
                )  # only this chunk's frames are lost
        return native(self._block[1][index - start])

    def _load(self, image: Image, start: int, stop: int) -> NDArray[Any]:
        """Frames start..stop as (t, c, y, x)."""
        selection = tuple(slice(start, stop) if axis == "t" else self._place.get(axis, slice(None))
                          for axis in image.axes)  # fmt: skip
        try:
            data = np.asarray(image.array[selection])
        except DeblurError:
            raise  # the store's fault, not the frame's
        except Exception as error:  # codecs raise whatever they like for a damaged chunk
            raise _broken(self.frames[start].name, error) from error
        data = data.astype(widened(data.dtype), copy=False)
        left = [axis for axis in image.axes if axis in "tcyx"]
        for missing in (axis for axis in "tc" if axis not in left):
            data, left = data[np.newaxis], [missing, *left]
        return data.transpose([left.index(axis) for axis in "tcyx"])

    def close(self) -> None:
        self._image = None
        self._block = None


def _broken(name: str, error: Exception) -> ReadError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ReadError(f"{name} is broken ({reason}): copy the store again or leave it out")
