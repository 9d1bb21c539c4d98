"""TIFF: multi-page, ImageJ and OME, read page by page through tifffile; z and positions become planes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io import ome
from deblur.io.geotiff import geo_notes, ground_size
from deblur.io.pictures import Picture, seconds
from deblur.io.planes import Plane, layout
from deblur.io.reader import (
    Reader,
    ReadOptions,
    channel_names,
    check_count,
    check_dtype,
    check_index,
    check_like,
    check_size,
    describe,
    native,
    stem,
    unlike,
)
from deblur.io.stack import BROKEN, OpenFile, broken
from deblur.types import FrameInfo, SequenceHeader

PHOTOMETRIC = {
    0: "white as zero: invert it to black as zero",
    3: "a palette, which holds no light to deblur: convert it to RGB or grey",
    4: "a transparency mask: leave it out",
    5: "CMYK inks: convert it to RGB",
    8: "CIE L*a*b* colours: convert it to RGB",
    9: "ICC L*a*b* colours: convert it to RGB",
    10: "ITU L*a*b* colours: convert it to RGB",
    32803: "a colour filter array (raw): develop it to RGB",
    34892: "linear raw colours: develop it to RGB",
}


def matches(path: str) -> bool:
    """One TIFF file."""
    return Path(path).suffix.lower() in (".tif", ".tiff", ".btf", ".tf8") and Path(path).is_file()


def open_tiff(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The sequences of one TIFF file: one, or one for each z, position or other axis beside time and channel.

    Axes of OME and ImageJ are honoured; the pages of any other TIFF are frames in time. Raises ReadError for
    damage, for kinds refused by name, and beyond the limits.
    """
    shared = _Shared(Path(path))
    try:
        described = shared.tif.is_ome or shared.tif.is_imagej
        readers = _series_readers(shared, options) if described else (_pages_reader(shared, options),)
    except BROKEN as error:
        shared.force_close()
        raise _broken(path, error) from error
    except ReadError:
        shared.force_close()
        raise
    return readers


def read_single_header(path: Path) -> Picture:
    """The header of a TIFF of one picture. Raises ReadError for several, damage, and refused kinds."""
    with _Shared(path) as shared:
        try:
            if len(shared.tif.pages) > 1:
                raise ReadError(f"{path} holds {len(shared.tif.pages)} pages: open such a file by itself")
            page = shared.tif.pages[0]
            _refuse(str(path), page)
            exposure = _exposure(page)
            dtype = check_dtype(str(path), page.dtype)
            notes = {name: value for name, value in geo_notes(page).items() if name == "crs"}
            return Picture(
                _page_shape(page), dtype, _bits(page), None, None, exposure, notes, ground_size(page)
            )
        except BROKEN as error:
            raise _broken(str(path), error) from error


def read_single_pixels(path: Path) -> NDArray[Any]:
    """The (c, y, x) pixels of a TIFF that holds one picture. Raises ReadError when it is broken."""
    with _Shared(path) as shared:
        return _decode(str(path), shared.tif.pages[0])


def open_pages(path: Path) -> Any:
    """An open tifffile.TiffFile. Raises ReadError where it is none."""
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except (*BROKEN, tifffile.TiffFileError) as error:
        raise _broken(str(path), error) from error


class _Shared(OpenFile):
    """An open TIFF file."""

    def __init__(self, path: Path) -> None:
        self.tif = open_pages(path)
        super().__init__(path, self.tif.close)

    def __enter__(self) -> _Shared:
        return self

    def __exit__(self, *_: object) -> None:
        self.force_close()


@dataclass(slots=True)
class TiffReader(Reader):
    """Frames are groups of pages: one page a frame, or one for each channel."""

    header: SequenceHeader
    frames: Sequence[FrameInfo]
    shared: _Shared
    pages: Any  # a sequence of pages; None where OME metadata names one that isn't there
    groups: Sequence[Sequence[int]]
    names: Sequence[str]
    _open: bool = field(default=True)

    def __post_init__(self) -> None:
        self.shared.users += 1

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        name = f"{self.shared.path}#{self.names[index]}"
        with self.shared.lock:
            parts = [self._page(name, number) for number in self.groups[index]]
        image = parts[0] if len(parts) == 1 else np.concatenate(parts)
        check_like(name, image.shape, image.dtype, self.header)
        return native(image)

    def _page(self, name: str, number: int) -> NDArray[Any]:
        expected = (self.header.shape[0] // len(self.groups[0]), *self.header.shape[1:])
        try:
            page = self.pages[number]
            if page is None:
                raise ReadError(f"{name} is missing although the metadata announce it: export the file again")
            page = page.aspage() if hasattr(page, "aspage") else page
            shape, dtype = _page_shape(page), np.dtype(page.dtype) if page.dtype is not None else None
        except IndexError as error:
            raise ReadError(f"{name} is missing, the file is cut off before it: copy it again") from error
        except BROKEN as error:
            raise _broken(name, error) from error
        if shape != expected or dtype is None or dtype.name != self.header.dtype:
            found = describe(shape, dtype) if dtype is not None else "of an unknown type"
            raise unlike(name, found, describe(expected, self.header.dtype))
        return _decode(name, page)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.shared.release()


def _pages_reader(shared: _Shared, options: ReadOptions) -> TiffReader:
    """Plain TIFF: page after page in time. Pages unlike the first are broken frames, not another sequence."""
    tif, name = shared.tif, str(shared.path)
    if name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise ReadError(
            f"{name} is named OME but its OME-XML is missing or lost: copy it again, or rename it .tif"
        )
    first = tif.pages[0]
    _refuse(name, first)
    shape = _page_shape(first)
    dtype = check_dtype(name, first.dtype)
    series = tif.series[0] if tif.is_shaped and len(tif.pages) == 1 else None
    if series is not None and len(series.shape) > len(first.shape):
        raise ReadError(f"{name} keeps its frames behind a single page: save it with one page a frame")
    check_size(name, shape, dtype, limits=options.limits, stored=sum(first.databytecounts))
    count = len(tif.pages) + _cut_off(
        tif
    )  # what was cut off counts as one broken frame, so that it is noticed
    check_count(name, count, options.limits)
    title = stem(name)
    exposure = _exposure(first)
    header = SequenceHeader(
        name=title,
        shape=shape,
        dtype=dtype,
        channels=channel_names(shape[0]),
        bits=_bits(first) if dtype.startswith("uint") else None,
        pixel_size=ground_size(first),
        metadata={"format": "TIFF", **geo_notes(first)},
    )
    file = shared.path.name
    frames = tuple(FrameInfo(f"{file}#{number}", None, exposure) for number in range(count))
    numbers = tuple(str(number) for number in range(count))
    return TiffReader(header, frames, shared, tif.pages, tuple((number,) for number in range(count)), numbers)


def _series_readers(shared: _Shared, options: ReadOptions) -> tuple[TiffReader, ...]:
    """OME and ImageJ: axes from the metadata, one series a position."""
    if shared.tif.is_ome:
        ome.check_files(shared.tif.ome_metadata, shared.path, options.limits)
    facts = ome.facts_of(shared.tif)
    several = len(shared.tif.series) > 1
    readers: list[TiffReader] = []
    for position, series in enumerate(shared.tif.series):
        prefix = f"/p{position:03d}" if several else ""
        readers += _planes_of(shared, series, facts[position], prefix, options)
    return tuple(readers)


def _planes_of(
    shared: _Shared, series: Any, facts: ome.Facts, prefix: str, options: ReadOptions
) -> list[TiffReader]:
    name = str(shared.path)
    page = series.keyframe
    _refuse(name, page)
    shape = _page_shape(page)
    dtype = check_dtype(name, page.dtype)
    check_size(name, shape, dtype, limits=options.limits, stored=max(sum(page.databytecounts), 1))
    axes, extent = _page_axes(name, series, page)
    planes = layout(axes, extent)
    if planes:
        check_count(name, len(planes) * len(planes[0].groups), options.limits)
    pages = series.pages
    if len(pages) == 1 and math.prod(extent) > 1:
        pages = _Contiguous(name, series, page, math.prod(extent))
    return [_plane_reader(shared, pages, plane, facts, prefix, page) for plane in planes]


def _page_axes(name: str, series: Any, page: Any) -> tuple[str, tuple[int, ...]]:
    """The axes that run over pages, slowest first, and their lengths."""
    depth = len(page.shape)
    lead = len(series.shape) - depth
    if lead < 0 or tuple(series.shape[lead:]) != tuple(page.shape):
        raise ReadError(
            f"{name} lays its axes {series.axes} out in a way that is not read: save it page by page"
        )
    return series.axes[:lead], tuple(series.shape[:lead])


def _plane_reader(
    shared: _Shared, pages: Any, plane: Plane, facts: ome.Facts, prefix: str, page: Any
) -> TiffReader:
    shape = _page_shape(page)
    dtype = np.dtype(page.dtype).name
    channels = shape[0] * len(plane.groups[0])
    title = stem(str(shared.path)) + prefix + plane.suffix
    header = SequenceHeader(
        name=title,
        shape=(channels, *shape[1:]),
        dtype=dtype,
        channels=facts.channels if len(facts.channels) == channels else channel_names(channels),
        bits=(facts.bits or _bits(page)) if dtype.startswith("uint") else None,
        frame_rate=facts.frame_rate if len(plane.groups) > 1 else None,
        pixel_size=facts.pixel_size,
        metadata={"format": "OME-TIFF" if shared.tif.is_ome else "ImageJ TIFF", **facts.metadata},
    )
    numbers = tuple(str(time) for time in range(len(plane.groups)))
    file = shared.path.name + prefix + plane.suffix
    infos = tuple(
        FrameInfo(f"{file}#{number}", *facts.timing(time, plane.place)) for time, number in enumerate(numbers)
    )
    return TiffReader(header, infos, shared, pages, plane.groups, numbers)


def _cut_off(tif: Any) -> bool:
    """Does the chain of pages end in the void? tifffile then takes the pages before for all there are."""
    position, size = tif.pages.next_page_offset, tif.tiff.offsetsize
    tif.filehandle.seek(position)
    offset = tif.filehandle.read(size)
    return len(offset) < size or any(offset)


class _Contiguous:
    """Pages of an ImageJ file beyond 4 GB: one page describes them all, the pixels follow it without gaps."""

    def __init__(self, name: str, series: Any, page: Any, count: int) -> None:
        if series.dataoffset is None:
            raise ReadError(f"{name} announces {count} planes and holds one: export it again")
        dtype = np.dtype(series.parent.byteorder + np.dtype(page.dtype).char)
        self._pages = np.memmap(name, dtype, "r", int(series.dataoffset), (count, *page.shape))
        self._page = page

    def __getitem__(self, number: int) -> _RawPage:
        return _RawPage(self._page, self._pages[number])


@dataclass(frozen=True, slots=True)
class _RawPage:
    """A page's description with the pixels of another plane."""

    like: Any
    pixels: NDArray[Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.like, name)

    def aspage(self) -> _RawPage:
        return self

    def asarray(self) -> NDArray[Any]:
        return np.asarray(self.pixels)


def _refuse(name: str, page: Any) -> None:
    """Raise ReadError for what can't be read without loss or doesn't hold light."""
    photometric = int(page.photometric) if page.photometric is not None else 1
    if page.dtype is None:
        raise ReadError(
            f"{name} holds {page.bitspersample}-bit pixels of a rare kind: convert it to 8 or 16 bits"
        )
    if _bits(page) < 8:
        raise ReadError(f"{name} has {_bits(page)} bit(s) a pixel, too few to deblur: give 8 or 16")
    if photometric in PHOTOMETRIC:
        raise ReadError(f"{name} holds {PHOTOMETRIC[photometric]}")
    if photometric == 6 and int(page.compression) not in (6, 7):
        raise ReadError(f"{name} holds YCbCr colours outside JPEG: convert it to RGB")
    if any(int(kind) in (1, 2) for kind in page.extrasamples):
        raise ReadError(f"{name} has an alpha channel, which is not read: flatten it, or remove the channel")
    if page.imagedepth != 1:
        raise ReadError(f"{name} packs a volume in a page: save it with one page a plane")


def _page_shape(page: Any) -> tuple[int, int, int]:
    return int(page.samplesperpixel), int(page.imagelength), int(page.imagewidth)


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return int(min(bits) if isinstance(bits, tuple) else bits)


def _exposure(page: Any) -> float | None:
    """EXIF ExposureTime of a page: tifffile gives the directory as a dict of names."""
    tag = page.tags.get("ExifTag")
    return seconds(tag.value.get("ExposureTime")) if tag is not None and isinstance(tag.value, dict) else None


def _decode(name: str, page: Any) -> NDArray[Any]:
    import tifffile

    try:
        if max(page.databytecounts, default=0) > page.parent.filehandle.size:
            raise ValueError(
                "its pixels are said to be larger than the file"
            )  # memory is taken for them as told
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            image = np.asarray(page.asarray())
    except (*BROKEN, RuntimeWarning, tifffile.TiffFileError) as error:
        raise _broken(name, error) from error
    shape = _page_shape(page)
    if image.ndim == 2:
        image = image[np.newaxis]
    elif image.shape[-1] == shape[0] and image.shape[:2] == shape[1:]:
        image = np.moveaxis(image, -1, 0)
    if image.shape != shape or image.dtype.itemsize < np.dtype(page.dtype).itemsize:
        raise ReadError(
            f"{name} decodes to {image.shape} {image.dtype}, its header says {describe(shape, page.dtype)}: "
            "convert it with another program"
        )
    return image


def _broken(name: str, error: Exception) -> ReadError:
    return broken(name, error, kind="TIFF")
