"""What every reader is, and the checks that they share: limits before decoding, and no silent narrowing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deblur.errors import ReadError
from deblur.place import Place
from deblur.types import FrameInfo, Isolation, Lazy, ReadLimits, SequenceHeader

Order = Literal["name", "time"]
DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
GREY = ("grey",)
RGB = ("red", "green", "blue")
SMALL = 1 << 26  # bytes; below this no compression ratio is suspicious: black frames compress a thousandfold


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to open a source. `order`: of picture files, by name (numbers count as numbers) or by EXIF time. `isolation`:
    None decodes in this process."""

    limits: ReadLimits = field(default_factory=ReadLimits)
    order: Order = "name"
    isolation: Isolation | None = None


class Reader(Protocol):
    """One sequence of frames. A context manager; frames may be read in any order, by one thread at a time.

    `header` and `frames` are known without decoding. `frames[i]` never fails, not even for a broken frame.
    """

    header: SequenceHeader
    frames: Sequence[FrameInfo]

    def read(self, index: int) -> NDArray[Any]:
        """Frame `index` as a (c, y, x) array of its own, native byte order, dtype and shape of the header.

        Raises ReadError, naming the frame, when it is broken or unlike the header; other frames stay
        readable.
        """
        ...

    def file(self, index: int) -> Place | None:
        """The file or object that holds this frame and nothing else, or None where one holds many."""
        return None

    def digest(self, index: int) -> str | None:
        """The sha256 of that file's bytes."""
        file = self.file(index)
        if not isinstance(file, Path):
            return None
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def source_files(self) -> Sequence[Place]:
        """The files with a frame each, in order; else the objects that all come from; of local files nothing."""

        def one(index: int) -> Place:
            file = self.file(index)
            assert file is not None, "of one reader all frames have files of their own, or none has"
            return file

        return Lazy(len(self.frames), one) if self.frames and self.file(0) is not None else ()

    def close(self) -> None:
        """Let go of files. Reading afterwards is an error; closing twice is not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Opener:
    """A line of the registry: does this reader take the path (looking at names only), and how to open it."""

    matches: Callable[[str], bool]
    open: Callable[[str, ReadOptions], tuple[Reader, ...]]


def check_dtype(name: str, dtype: DTypeLike) -> str:
    """NumPy's name of a supported dtype; raises ReadError for any other."""
    kind = np.dtype(dtype)
    if kind.name not in DTYPES:
        raise ReadError(
            f"{name} holds {kind.name} pixels, which are not read: convert it to uint8, uint16 or float32"
        )
    return kind.name


def check_chunk(name: str, size: int, limits: ReadLimits) -> None:
    """Raise ReadError when so many bytes would have to be read at once."""
    if size > limits.max_bytes:
        raise ReadError(
            f"{name} has chunks of {size} bytes, over max_bytes = {limits.max_bytes}: raise limits.max_bytes"
        )


def check_size(
    name: str, shape: tuple[int, int, int], dtype: DTypeLike, *, limits: ReadLimits, stored: int | None = None
) -> None:
    """Raise ReadError when a frame of this (c, y, x) is empty or over a limit. `stored`: its file bytes."""
    pixels = shape[1] * shape[2]
    size = shape[0] * pixels * np.dtype(dtype).itemsize
    if min(shape) < 1:
        raise ReadError(f"{name} has no pixels (channels, height, width: {shape}): leave it out")
    if pixels > limits.max_pixels:
        raise ReadError(
            f"{name} has {pixels} pixels, over max_pixels = {limits.max_pixels}: raise limits.max_pixels"
        )
    if size > limits.max_bytes:
        raise ReadError(
            f"{name} decodes to {size} bytes, over max_bytes = {limits.max_bytes}: raise limits.max_bytes"
        )
    if stored is not None and size > SMALL and size > limits.max_ratio * stored:
        raise ReadError(
            f"{name} would decode to {size} bytes from {stored}, over max_ratio = {limits.max_ratio:g}: "
            "if you trust the file, raise limits.max_ratio"
        )


def check_count(name: str, count: int, limits: ReadLimits) -> None:
    """Raise ReadError when a sequence has no frame, or more than the limit."""
    if count < 1:
        raise ReadError(f"{name} holds no frame: leave it out")
    if count > limits.max_pages:
        raise ReadError(
            f"{name} holds {count} frames, over max_pages = {limits.max_pages}: raise limits.max_pages"
        )


def check_inside(path: str | Path, folder: str | Path, limits: ReadLimits) -> None:
    """Raise ReadError for what symbolic links, or dots in a name, take out of a folder."""
    if limits.links == "anywhere":
        return
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ReadError(
            f"{path} leads out of {folder}, which is read: copy what it leads to, or set limits.links = 'anywhere'"
        )


def check_like(name: str, shape: tuple[int, int, int], dtype: DTypeLike, header: SequenceHeader) -> None:
    """Raise ReadError, naming both, when a frame's (c, y, x) or dtype differs from its sequence's."""
    if (shape, np.dtype(dtype).name) != (header.shape, header.dtype):
        raise unlike(name, describe(shape, dtype), describe(header.shape, header.dtype))


def unlike(name: str, found: str, expected: str) -> ReadError:
    """The error for a frame that is of another kind than its sequence."""
    return ReadError(
        f"{name} is {found}, the sequence is {expected}: put other frames in a sequence of their own"
    )


def check_index(header: SequenceHeader, index: int, count: int) -> None:
    """Raise IndexError unless 0 <= index < count: no counting from the end, it hides mistakes."""
    if not 0 <= index < count:
        raise IndexError(f"{header.name} has frames 0 to {count - 1}, not {index}")


def describe(shape: tuple[int, int, int], dtype: DTypeLike) -> str:
    """A frame's kind in words.

    >>> describe((3, 480, 640), "uint8")
    '640x480, 3 channels, uint8'
    """
    plural = "" if shape[0] == 1 else "s"
    return f"{shape[2]}x{shape[1]}, {shape[0]} channel{plural}, {np.dtype(dtype).name}"


def native(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous, writable copy in native byte order, never a view of the reader's memory."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def channel_names(count: int) -> tuple[str, ...]:
    """Names for channels that the file doesn't name: grey, red/green/blue, or numbers."""
    if count == 1:
        return GREY
    return RGB if count == 3 else tuple(str(number) for number in range(count))


def natural(text: str) -> str:
    """A sort key that takes runs of digits as numbers. One string, since as many are held as there are files.

    Numbers go before text, and text by its case last; each part says where it ends.

    >>> sorted(["f10.png", "f9.png", "f010.png"], key=natural)
    ['f9.png', 'f010.png', 'f10.png']
    """
    parts = (part for part in re.split(r"([0-9]+)", text) if part)
    return (
        "".join(_number(part) if part.isdecimal() else f"\2{part.casefold()}\0" for part in parts)
        + f"\2{text}\0"
    )


def _number(digits: str) -> str:
    """Numbers of more digits are larger ones."""
    plain = str(int(digits))
    return f"\1{chr(len(plain))}{plain}"


def stem(path: str) -> str:
    """A sequence's name from its file's: no folder, no suffixes that name the format.

    >>> stem("data/run 2.5.ome.tif")
    'run 2.5'
    """
    name = Path(path).name
    known = (".ome.tif", ".ome.tiff", ".ome.zarr", Path(name).suffix)
    suffix = next((end for end in known if end and name.lower().endswith(end.lower())), "")
    return name[: len(name) - len(suffix)] or name
