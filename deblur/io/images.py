"""Folders and globs of pictures (PNG, JPEG, single-page TIFF, FITS, DICOM, raw photographs): a file a frame."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError, ReadError
from deblur.io import dicom, fits, pictures, raw, tiff
from deblur.io.isolation import Decoder
from deblur.io.pictures import Picture
from deblur.io.reader import (
    Reader,
    ReadOptions,
    channel_names,
    check_count,
    check_index,
    check_inside,
    check_like,
    check_size,
    describe,
    native,
    natural,
    stem,
)
from deblur.place import Place
from deblur.types import FrameInfo, Lazy, ReadLimits, SequenceHeader

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    **dict.fromkeys(fits.SUFFIXES, "FITS"),
    **dict.fromkeys(dicom.SUFFIXES, dicom.FORMAT),
    **dict.fromkeys(raw.SUFFIXES, "raw"),
}
BY_NAME = {suffix: module for module in (fits, dicom, raw) for suffix in module.SUFFIXES}
NONE_THERE = "holds no PNG, JPEG or TIFF picture: name the folder or file that does"
log = logging.getLogger("deblur.io")


def matches(path: str) -> bool:
    """A folder, a glob, or one PNG, JPEG or raw file."""
    single = (".png", ".jpg", ".jpeg", *raw.SUFFIXES)
    return os.path.isdir(path) or is_glob(path) or Path(path).suffix.lower() in single


def is_glob(path: str) -> bool:
    """Does the path hold wildcards, and isn't it the name of something that exists?"""
    return glob.has_magic(path) and not os.path.lexists(path)


def open_images(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The pictures of a folder or glob as one sequence.

    The first sound file gives the header; files unlike it raise ReadError when they are read. Raises
    ReadError when there is no picture, when kinds are mixed, or when none can be read; ConfigError for an
    unknown order.
    """
    files, name, root = _listing(path)
    return open_files(path, files, name=name, root=root, options=options, fence=_fence(path))


def is_there(file: Path) -> None:
    """Nothing needs to be done before a local file is opened."""


def open_files(
    path: str,
    files: Sequence[Path],
    *,
    name: str,
    root: Path,
    options: ReadOptions,
    ready: Callable[[Path], None] = is_there,
    fence: Path | None = None,
) -> tuple[Reader, ...]:
    """The same for pictures that somebody listed. `ready`: told of each file before it is opened; `fence`: the folder
    that links may not lead out of."""
    if options.order not in ("name", "time"):
        raise ConfigError(f"order is {options.order!r}: use 'name' or 'time'")
    check_count(path, len(files), options.limits)
    _refuse_mixture(path, files)
    return (ImagesReader(files, name=name, root=root, options=options, ready=ready, fence=fence),)


def root_of(path: str) -> Path:
    """The folder that the names of a source's frames start from. Raises ReadError where there is no picture."""
    return _listing(path)[2]


def _listing(path: str) -> tuple[Sequence[Path], str, Path]:
    """The picture files in natural order, the sequence's name, the folder that frame names start from."""
    if os.path.isdir(path):
        root = Path(path)
        with os.scandir(root) as entries:
            names = [one.name for one in entries if _is_picture(one.name) and (root / one.name).is_file()]
        if not names:
            raise ReadError(f"{path} {NONE_THERE}")
        return _in_order(root, names), root.resolve().name or "images", root
    if is_glob(path):
        found = (
            Path(entry) for entry in glob.iglob(path, recursive=True) if _is_picture(os.path.basename(entry))
        )
        names = [file.as_posix() for file in found if file.is_file()]
        if not names:
            raise ReadError(f"{path} matches no PNG, JPEG or TIFF picture: check the pattern")
        root = common_root(map(Path, names))
        names = [Path(name).relative_to(root).as_posix() for name in names]
        return _in_order(root, names), root.resolve().name or "images", root
    return [Path(path)], stem(path), Path(path).parent


def _in_order(root: Path, names: list[str]) -> Sequence[Path]:
    """Files below a folder in natural order; what is held are their names."""
    names.sort(key=lambda name: natural(f"/{name}"))
    return Lazy(len(names), lambda place: root / names[place])


def _fence(path: str) -> Path | None:
    """Of a folder itself, of a glob what stands before its wildcards; a file is what somebody named."""
    if is_glob(path):
        return Path(*takewhile(lambda part: not glob.has_magic(part), Path(path).parts))
    return Path(path) if os.path.isdir(path) else None


def pictures_of(entries: Iterable[Path]) -> list[Path]:
    """What is named as pictures are, in natural order."""
    found = (entry for entry in entries if _is_picture(entry.name))
    return sorted(found, key=lambda entry: natural(entry.as_posix()))


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def common_root(files: Iterable[Path]) -> Path:
    """The folder that the names of a glob's frames start from."""
    return Path(os.path.commonpath({file.parent for file in files}))


def _refuse_mixture(path: str, files: Sequence[Path]) -> None:
    kinds = sorted({SUFFIXES[file.suffix.lower()] for file in files})
    if len(kinds) > 1:
        raise ReadError(
            f"{path} mixes {' and '.join(kinds)} pictures: name one kind by a pattern such as '*.png'"
        )


class ImagesReader(Reader):
    """A file a frame."""

    def __init__(
        self,
        files: Sequence[Path],
        *,
        name: str,
        root: Path,
        options: ReadOptions,
        ready: Callable[[Path], None] = is_there,
        fence: Path | None = None,
    ) -> None:
        self._root = root
        self._limits, self._ready, self._fence = options.limits, ready, fence
        self._decoder = Decoder(options) if options.isolation else None
        self._files = _by_time(files, self._head) if options.order == "time" else files
        self._known = np.zeros(len(files), bool)  # frames that were read: no need to open them again
        self._times = np.full((len(files), 2), np.nan)  # their times and exposures
        first, picture = _first_sound(self._files, self._head)
        self.header = SequenceHeader(
            name=name,
            shape=picture.shape,
            dtype=picture.dtype,
            channels=channel_names(picture.shape[0]),
            bits=picture.bits if picture.dtype.startswith("uint") else None,
            transfer=picture.transfer,
            pixel_size=picture.pixel_size,
            metadata={"format": SUFFIXES.get(first.suffix.lower(), "picture"), **picture.metadata},
        )
        self.frames: Sequence[FrameInfo] = Lazy(len(self._files), self._info)

    def _head(self, file: Path) -> Picture:
        self._ready(file)
        if self._fence is not None:
            check_inside(file, self._fence, self._limits)
        return self._decoder.header(file) if self._decoder else header_of(file, self._limits)

    def _info(self, index: int) -> FrameInfo:
        if not self._known[index]:
            with suppress(ReadError):  # `read` says what is wrong with it
                self._note(index, self._head(self._files[index]))
            self._known[index] = True
        name = self._files[index].relative_to(self._root).as_posix()
        time, exposure = (None if np.isnan(value) else float(value) for value in self._times[index])
        return FrameInfo(name, time, exposure)

    def _note(self, index: int, picture: Picture) -> None:
        told = (picture.time, picture.exposure_time)
        self._times[index] = [np.nan if value is None else value for value in told]
        self._known[index] = True

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self._files))
        file = self._files[index]
        picture = self._head(file)
        self._note(index, picture)
        check_like(str(file), picture.shape, picture.dtype, self.header)
        image = self._decoder.pixels(file, picture) if self._decoder else pixels_of(file)
        if image.shape != picture.shape or image.dtype.name != picture.dtype:
            raise ReadError(
                f"{file} decodes to {describe(image.shape, image.dtype)} but its header says "
                f"{describe(picture.shape, picture.dtype)}: convert it with another program"
            )
        return image

    def file(self, index: int) -> Place | None:
        return self._files[index]

    def close(self) -> None:
        if self._decoder is not None:  # files are open only while they are read
            self._decoder.close()


def header_of(file: Path, limits: ReadLimits) -> Picture:
    """What the header of a picture says. Raises ReadError beyond the limits, for damage, and for refused kinds."""
    decoder, kind = _decoder(file)
    picture: Picture = decoder.read_single_header(file) if decoder else pictures.read_header(file, kind)
    check_size(str(file), picture.shape, picture.dtype, limits=limits, stored=file.stat().st_size)
    return picture


def pixels_of(file: Path) -> NDArray[Any]:
    """Its (c, y, x) pixels, in native byte order. Raises ReadError when it is broken."""
    decoder, kind = _decoder(file)
    return native(decoder.read_single_pixels(file) if decoder else pictures.read_pixels(file, kind))


def _decoder(file: Path) -> tuple[Any, str]:
    """(who reads a picture, its kind): raw photographs begin as TIFF does, so names come before first bytes."""
    known = BY_NAME.get(file.suffix.lower())
    if known is not None:
        return known, ""
    kind = pictures.kind_of(file)
    return (tiff if kind == "tiff" else None), kind


def _first_sound(files: Sequence[Path], head: Callable[[Path], Picture]) -> tuple[Path, Picture]:
    """The first file whose header can be read: a broken first frame must not hide the rest."""
    failure: ReadError | None = None
    for file in files[:100]:
        try:
            return file, head(file)
        except ReadError as error:
            failure = failure or error
            log.warning("%s", error)
    raise failure or ReadError("no file was given: name a folder of pictures")


def _by_time(files: Sequence[Path], head: Callable[[Path], Picture]) -> Sequence[Path]:
    """Files by EXIF time, those of one time by name. Raises ReadError when any has none."""
    times = np.empty(len(files))
    for place, file in enumerate(files):
        try:
            time = head(file).time
        except ReadError as error:
            raise ReadError(f"{error} (its time is needed for order='time'; or use order='name')") from error
        if time is None:
            raise ReadError(f"{file} has no EXIF DateTimeOriginal with SubSecTimeOriginal: use order='name'")
        times[place] = time
    order = np.argsort(times, kind="stable")  # equal times stay in the order of names
    return Lazy(len(files), lambda place: files[order[place]])
