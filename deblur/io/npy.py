"""NumPy's .npy: (t, y, x) or (t, c, y, x), memory-mapped, never unpickled."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.reader import (
    Reader,
    ReadOptions,
    channel_names,
    check_count,
    check_dtype,
    check_index,
    check_size,
    stem,
)
from deblur.io.reader import native as native_copy
from deblur.types import FrameInfo, Lazy, SequenceHeader


def matches(path: str) -> bool:
    """One .npy file."""
    return Path(path).suffix.lower() == ".npy" and Path(path).is_file()


def open_npy(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The array as one sequence. Raises ReadError for pickles, damage, other shapes, beyond limits."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TokenError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy would recommend to load it all the same
            reason = "it is none, or one of Python objects"
        raise ReadError(
            f"{path} is broken or no plain array ({reason}): save it again with numpy.save"
        ) from error
    dtype = check_dtype(path, array.dtype)
    frames = _as_frames(path, array)
    _, channels, height, width = frames.shape
    check_count(path, frames.shape[0], options.limits)
    check_size(path, (channels, height, width), dtype, limits=options.limits)
    header = SequenceHeader(
        name=stem(path),
        shape=(channels, height, width),
        dtype=dtype,
        channels=channel_names(channels),
        metadata={"format": "NumPy"},
    )
    return (NpyReader(header, Path(path), frames),)


def _as_frames(path: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[1] > 4:
        raise ReadError(f"{path} is {array.shape}, channels last: save numpy.moveaxis(array, -1, 1)")
    if array.ndim == 3:
        return array[:, np.newaxis]
    if array.ndim == 4:
        return array
    raise ReadError(f"{path} has {array.ndim} axes: save it as (t, y, x) or (t, c, y, x)")


class NpyReader(Reader):
    """Frames of a memory-mapped array."""

    def __init__(self, header: SequenceHeader, path: Path, frames: NDArray[Any]) -> None:
        self.header = header
        self.frames = Lazy(frames.shape[0], lambda number: FrameInfo(f"{path.name}#{number}"))
        self._array: NDArray[Any] | None = frames
        self._path = path

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        if self._array is None:
            raise ReadError(
                f"{self.frames[index].name} was asked for after its reader was closed: open it again"
            )
        return native_copy(self._frame(self._array, index))

    def _frame(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Read rather than mapped where it can be: a mapped file that somebody cuts kills the process."""
        if not (isinstance(array, np.memmap) and array.flags.c_contiguous):
            mapped: NDArray[Any] = array[index]
            return mapped
        shape, at = array.shape[1:], array.offset + index * array[0].nbytes
        frame: NDArray[Any] = np.fromfile(self._path, array.dtype, array[0].size, offset=at)
        if frame.size != array[0].size:
            raise ReadError(f"{self.frames[index].name}: the file ends before it: copy it again")
        return frame.reshape(shape)

    def close(self) -> None:
        self._array = None  # the mapping goes with its last array
