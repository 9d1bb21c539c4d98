"""What the readers of files with many frames share: one open file under several readers, and how its faults are told."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError, ReadError
from deblur.io.reader import Reader, check_index, check_like, native
from deblur.types import FrameInfo, SequenceHeader

# What decoders of damaged files raise; anything else is a fault of ours and should be seen.
BROKEN = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
    struct.error, zlib.error,
)  # fmt: skip
WIDENED = {"int8": "float32", "int16": "float32", "int32": "float64", "uint32": "float64"}


def library(module: str, *, what: str, extra: str) -> Any:
    """A module of an extra, imported when first needed. Raises ConfigError that names the extra where it is absent."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"{what} can't be read here ({error}): pip install 'deblur[{extra}]'") from None


def widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that frames of `dtype` are given as: signed and 32-bit integers as floats that hold every value.

    >>> widened(np.dtype(">i2")).name, widened(np.dtype("uint8")).name
    ('float32', 'uint8')
    """
    return np.dtype(WIDENED.get(dtype.name, dtype))


def stored(dtype: np.dtype[Any]) -> dict[str, str]:
    """A note for a header's metadata: how the file holds the pixels, where that isn't how frames are given."""
    return {"stored": dtype.name} if dtype.name in WIDENED else {}


def broken(name: str, error: Exception, *, kind: str) -> ReadError:
    """The error for damage: `kind` is what the file claims to be."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ReadError(f"{name} is broken or no {kind} ({reason}): copy it again or leave it out")


class OpenFile:
    """One open file under several readers; it closes with the last of them."""

    def __init__(self, path: Path, close: Callable[[], object]) -> None:
        self.path = path
        self.lock = Lock()
        self.users = 0
        self._close = close

    def release(self) -> None:
        self.users -= 1
        if self.users <= 0:
            self.force_close()

    def force_close(self) -> None:
        self._close()


class StackReader(Reader):
    """Frames that a function decodes, by their numbers, from one open file of a `kind`."""

    def __init__(
        self,
        header: SequenceHeader,
        frames: Sequence[FrameInfo],
        file: OpenFile,
        load: Callable[[int], NDArray[Any]],
        *,
        kind: str,
    ) -> None:
        self.header, self.frames = header, frames
        self._file: OpenFile | None = file
        self._load, self._kind = load, kind
        file.users += 1

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        name = self.frames[index].name
        if self._file is None:
            raise ReadError(f"{name} was asked for after its reader was closed: open it again")
        with self._file.lock:
            try:
                image = self._load(index)
            except BROKEN as error:
                raise broken(name, error, kind=self._kind) from error
        image = image.astype(widened(image.dtype), copy=False)
        check_like(name, image.shape, image.dtype, self.header)
        return native(image)

    def close(self) -> None:
        if self._file is not None:
            self._file.release()
        self._file = None
