"""Which shard files a region of an array touches; integers and file names, no Zarr."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblur.errors import PlanError, StoreError
from deblur.place import Place, read_tail
from deblur.tiling import Box

Region = tuple[tuple[int, int], ...]  #: half-open range along every axis
Index = tuple[int, ...]
MISSING = np.uint64(2**64 - 1)  # Zarr's mark for a chunk that is not in its shard


@dataclass(frozen=True, slots=True)
class Grid:
    """The shards of one array of `shape`; the array is not padded, so shards at the far edges are cut."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many shards along every axis."""
        return tuple(-(-extent // size) for extent, size in zip(self.shape, self.shard, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.counts)

    @property
    def chunks_per_shard(self) -> tuple[int, ...]:
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def region(self, t0: int, t1: int, box: Box) -> Region:
        """Frames t0..t1 of a box of pixels, with all channels. Raises PlanError where that leaves the
        array."""
        middle = ((0, self.shape[1]),) if len(self.shape) == 4 else ()
        region = ((t0, t1), *middle, (box.y0, box.y1), (box.x0, box.x1))
        for (start, stop), extent in zip(region, self.shape, strict=True):
            if not 0 <= start < stop <= extent:
                raise PlanError(f"frames {t0}..{t1} of {box} leave an array of shape {self.shape}")
        return region

    def require_whole(self, region: Region) -> None:
        """Refuse a region that is not made of whole shards: two writers in one shard lose data silently."""
        for (start, stop), size, extent in zip(region, self.shard, self.shape, strict=True):
            if start % size or (stop % size and stop != extent):
                raise PlanError(
                    f"region {region} is not made of whole shards {self.shard} of {self.shape}: "
                    "make the unit a multiple of the shard"
                )

    def touched(self, region: Region) -> Iterator[Index]:
        """The shards that hold any pixel of a region, in C order."""
        spans = [range(a // size, -(-b // size)) for (a, b), size in zip(region, self.shard, strict=True)]
        yield from itertools.product(*spans)

    def indices(self) -> Iterator[Index]:
        """Every shard, in C order."""
        yield from itertools.product(*(range(count) for count in self.counts))

    def ordinal(self, index: Index) -> int:
        """The place of a shard in C order."""
        place = 0
        for i, count in zip(index, self.counts, strict=True):
            place = place * count + i
        return place

    def chunks(self, index: Index, region: Region) -> tuple[slice, ...]:
        """The slices of a shard's chunk index that hold any pixel of a region."""
        return tuple(
            slice(max(0, a - i * s) // c, -(-min(s, b - i * s) // c))
            for (a, b), i, s, c in zip(region, index, self.shard, self.chunk, strict=True)
        )

    def present(self, index: Index) -> tuple[slice, ...]:
        """The slices of a shard's chunk index that lie within the array."""
        return tuple(
            slice(0, -(-min(shard, extent - i * shard) // chunk))
            for i, shard, chunk, extent in zip(index, self.shard, self.chunk, self.shape, strict=True)
        )


def key_of(array: str, index: Index) -> str:
    """A shard's path below its Zarr group.

    >>> key_of("motion/forward", (3, 0, 1, 2))
    'motion/forward/c/3/0/1/2'
    """
    return "/".join((array, "c", *map(str, index)))


def index_of(key: str) -> tuple[str, Index]:
    """The array and the shard index of a key; the inverse of `key_of`.

    >>> index_of("motion/forward/c/3/0/1/2")
    ('motion/forward', (3, 0, 1, 2))
    """
    array, _, tail = key.rpartition("/c/")
    try:
        return array, tuple(int(part) for part in tail.split("/"))
    except ValueError:
        raise StoreError(
            f"{key!r} is not the key of a shard: the ledger or the digests are damaged"
        ) from None


def table_size(grid: Grid) -> int:
    """Bytes at the end of a shard that are its own index, the checksum included."""
    return 16 * math.prod(grid.chunks_per_shard) + 4


def chunk_table(path: Place, grid: Grid) -> NDArray[np.uint64]:
    """A shard's own index: (offset, length) of every chunk, shape chunks per shard + (2,).

    Read from the file's end without Zarr, because Zarr reads a missing chunk as zeros and says nothing.
    Raises StoreError where the file is missing, cut, or its index has a wrong checksum.
    """
    try:
        tail, _ = read_tail(path, table_size(grid))
    except OSError as error:
        raise StoreError(f"can't read shard {path}: {error.strerror}") from None
    return parse_table(tail, str(path), grid)


def parse_table(tail: bytes, shard: str, grid: Grid) -> NDArray[np.uint64]:
    """The same from the last bytes of a shard (`table_size` of them, or all there are)."""
    import google_crc32c  # comes with zarr; only verification needs it

    length = table_size(grid) - 4
    if len(tail) < length + 4:
        raise StoreError(f"shard {shard} is cut short: {len(tail)} bytes")
    if google_crc32c.value(tail[:length]) != int.from_bytes(tail[length:], "little"):
        raise StoreError(f"the index of shard {shard} has a wrong checksum: its bytes were changed")
    return np.frombuffer(tail[:length], "<u8").reshape(*grid.chunks_per_shard, 2).astype(np.uint64)


def absent_chunks(table: NDArray[np.uint64], grid: Grid, index: Index) -> int:
    """How many chunks that should be in a shard are not in its index."""
    return int(np.count_nonzero(table[grid.present(index)][..., 0] == MISSING))


def missing_chunks(path: Place, grid: Grid, index: Index) -> int:
    """How many chunks that should be in a shard are not."""
    return absent_chunks(chunk_table(path, grid), grid, index)
