"""Shards on a disk, read and written without Zarr, which hands each chunk through an event loop and two threads: reading
a VGA frame took 30 ms of CPU time that way and takes 2 ms this way, writing three of them 90 and 15.

The bytes are Zarr's, to the last one. Arrays are those of `deblur.store.document`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import StoreError
from deblur.store.document import COMPRESSION
from deblur.store.shards import MISSING, Grid, Index, Region, absent_chunks, key_of, parse_table, table_size

CHECKSUM = 4  # bytes behind every chunk: its crc32c


def read_region(path: Path, name: str, grid: Grid, dtype: np.dtype[Any], region: Region) -> NDArray[Any]:
    """A region of the array `name` of the group at `path`.

    Raises StoreError for a shard that is missing, that lacks chunks, or whose chunks are not what was written.
    """
    out = np.empty([stop - start for start, stop in region], dtype)
    for index in grid.touched(region):
        key = key_of(name, index)
        try:
            with (path / key).open("rb", buffering=0) as file:
                _read_shard(file, f"{key} of {path}", grid, index, region, out)
        except (FileNotFoundError, IsADirectoryError):
            raise StoreError(f"shard {key} of {path} is missing: verify, then repair it") from None
        except OSError as error:
            raise StoreError(f"can't read shard {path / key}: {error.strerror}") from None
    return out


def _read_shard(file: Any, shard: str, grid: Grid, index: Index, region: Region, out: NDArray[Any]) -> None:
    """Copy what a region has of one shard into `out`, which is the whole region."""
    file.seek(max(0, file.seek(0, 2) - table_size(grid)))
    table = parse_table(file.read(), shard, grid)
    if absent_chunks(table, grid, index):
        raise StoreError(f"shard {shard} lacks chunks: it was not written whole")
    for at in product(*(range(span.start, span.stop) for span in grid.chunks(index, region))):
        offset, length = map(int, table[at])
        file.seek(offset)
        into, part = _shared(grid, index, at, region)
        out[into] = _decoded(file.read(length), shard, grid, out.dtype)[part]


def _shared(grid: Grid, index: Index, at: Index, region: Region) -> tuple[tuple[slice, ...], ...]:
    """Where chunk `at` of a shard and a region meet, as slices of the region and of the chunk."""
    into, part = [], []
    for i, a, side, step, (start, stop) in zip(index, at, grid.shard, grid.chunk, region, strict=True):
        first = i * side + a * step
        low, high = max(start, first), min(stop, first + step)
        into.append(slice(low - start, high - start))
        part.append(slice(low - first, high - first))
    return tuple(into), tuple(part)


def _decoded(data: bytes, shard: str, grid: Grid, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One chunk. Raises StoreError where it isn't what was written."""
    import google_crc32c  # comes with zarr

    packed, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if google_crc32c.value(packed) != int.from_bytes(checksum, "little"):
        raise StoreError(f"shard {shard} is damaged: a chunk has a wrong checksum; verify the run")
    try:
        return np.frombuffer(_blosc().decompress(packed), dtype).reshape(grid.chunk)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"shard {shard} is damaged: {error}; verify the run") from None


def write_region(
    path: Path, name: str, grid: Grid, dtype: np.dtype[Any], region: Region, data: NDArray[Any]
) -> None:
    """Write a region of whole shards; each appears under its name when all of it is in the file. Raises OSError."""
    for index in grid.touched(region):
        file = path / key_of(name, index)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{uuid.uuid4().hex}.partial")
        try:
            with beside.open("wb") as out:
                out.write(b"".join(_shard(grid, dtype, index, region, data)))
            beside.replace(file)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _shard(
    grid: Grid, dtype: np.dtype[Any], index: Index, region: Region, data: NDArray[Any]
) -> Iterator[bytes]:
    """The file of one shard, chunk by chunk, its own index last."""
    import google_crc32c

    table, offset = np.full((*grid.chunks_per_shard, 2), MISSING, "<u8"), 0
    present = grid.present(index)
    for at in _morton(tuple(span.stop for span in present)):
        into, part = _shared(grid, index, at, region)
        chunk = np.ascontiguousarray(data[into], dtype)
        if chunk.shape != grid.chunk:
            chunk, edge = np.zeros(grid.chunk, dtype), chunk
            chunk[part] = edge
        packed = _packed(chunk)
        yield packed + google_crc32c.value(packed).to_bytes(CHECKSUM, "little")
        table[at] = offset, len(packed) + CHECKSUM
        offset += len(packed) + CHECKSUM
    told = table.tobytes()
    yield told + google_crc32c.value(told).to_bytes(CHECKSUM, "little")


def _packed(chunk: NDArray[Any]) -> bytes:
    blosc = _blosc()
    found: bytes = blosc.compress(
        chunk, COMPRESSION["cname"].encode(), COMPRESSION["clevel"], blosc.BITSHUFFLE
    )
    return found


def _blosc() -> Any:
    """Several threads write the blocks of a chunk in the order in which they finish: other bytes each time."""
    blosc = import_module("numcodecs.blosc")
    blosc.set_nthreads(1)
    return blosc


@lru_cache(maxsize=64)
def _morton(counts: Index) -> tuple[Index, ...]:
    """Chunks in the order in which Zarr writes them: by their indices' bits, interlaced, those of the first axis lowest.

    >>> _morton((2, 3))
    ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2))
    """
    axes = np.indices(counts).reshape(len(counts), -1)
    code, place = np.zeros(axes.shape[1], np.int64), 0
    bits = [(count - 1).bit_length() for count in counts]
    for bit in range(max(bits)):
        for axis, most in enumerate(bits):
            if bit < most:
                code |= ((axes[axis] >> bit) & 1) << place
                place += 1
    return tuple(tuple(map(int, at)) for at in axes[:, np.argsort(code)].T)
