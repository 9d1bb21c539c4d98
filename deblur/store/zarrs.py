"""Zarr's stores over a place: one to read arrays, and one to write whole shards of them.

Zarr reads a shard that isn't there as zeros, and merges even a whole shard with the old one. Local shards are looked
at before they are read; those in object stores as they are read, which saves a request a shard.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deblur.errors import StoreError
from deblur.place import Place
from deblur.store.shards import Grid, Index, absent_chunks, index_of, parse_table, table_size


def reading(path: Place) -> tuple[Any, str]:
    """A read-only store, and the path in it at which the group at `path` lies."""
    from zarr.storage import LocalStore, ObjectStore

    if isinstance(path, Path):
        return LocalStore(path, read_only=True), ""
    return ObjectStore(path.client, read_only=True), path.key


def shards_in(path: Place, name: str) -> tuple[Any, str]:
    """The same for one array, of which regions are read."""
    if isinstance(path, Path):
        store, _ = reading(path)
        return store, name
    return _stores()[1](path), (path / name).key


def blank(path: Place, name: str) -> tuple[Any, str]:
    """A store to write into, in which no shard exists yet: Zarr would read it first, and a damaged one could never be
    replaced. In an object store it remembers in `made` what was put: {key below `path`: (sha256, its last bytes)}."""
    if isinstance(path, Path):
        return _stores()[0](path), name
    return _stores()[2](path), (path / name).key


@cache
def _stores() -> tuple[Any, Any, Any]:
    """The classes, made when first used: they need Zarr."""
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest
    from zarr.storage import LocalStore, ObjectStore

    class BlankStore(LocalStore):  # type: ignore[misc]  # zarr is untyped here
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            return None if _is_shard(key) else await super().get(key, *args, **kwargs)

        def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
            return None if _is_shard(key) else super().get_sync(key, *args, **kwargs)

    class Below(ObjectStore):  # type: ignore[misc]
        """The bucket, seen from one place in it."""

        def __init__(self, place: Any, *, read_only: bool = False) -> None:
            super().__init__(place.client, read_only=read_only)
            self.place = place

        def below(self, key: str) -> str:
            return key.removeprefix(f"{self.place.key}/")

    class CheckedObjects(Below):
        """Missing and incomplete shards are faults; the chunks of a region come by one request a shard."""

        def __init__(self, place: Any) -> None:
            super().__init__(place, read_only=True)
            self.grid: Grid | None = None
            self.wanted: dict[Index, tuple[slice, ...]] = {}  #: of each shard the chunks about to be read
            self._held: dict[tuple[str, int], bytes] = {}

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            name = self.below(key)
            if not _is_shard(name):
                return await super().get(key, prototype, byte_range)
            if isinstance(byte_range, RangeByteRequest):
                held = self._held.pop((key, byte_range.start), None)
                if held is not None:
                    return prototype.buffer.from_bytes(held)
            found = await super().get(key, prototype, byte_range)
            if found is None:
                raise StoreError(f"shard {name} of {self.place} is missing: verify, then repair it")
            if self.grid is not None and not isinstance(byte_range, RangeByteRequest):
                index = index_of(name)[1]
                tail = found.to_bytes()[-table_size(self.grid) :]
                table = parse_table(tail, f"{self.place}/{name}", self.grid)
                if absent_chunks(table, self.grid, index):
                    raise StoreError(f"shard {name} of {self.place} lacks chunks: it was not written whole")
                if isinstance(byte_range, SuffixByteRequest):
                    await self._fetch(key, table[self.wanted.get(index, (slice(0),))])
            return found

        async def _fetch(self, key: str, places: Any) -> None:
            import obstore

            starts, lengths = places.reshape(-1, 2).astype(np.int64).T
            if len(starts):
                found = await obstore.get_ranges_async(
                    self.store, key, starts=starts.tolist(), lengths=lengths.tolist()
                )
                self._held |= {
                    (key, start): bytes(b) for start, b in zip(starts.tolist(), found, strict=True)
                }

        def expect(self, wanted: dict[Index, tuple[slice, ...]]) -> None:
            self.wanted, self._held = wanted, {}

    class BlankObjects(Below):
        """Takes whole shards by one PUT each, and hashes what it puts: nothing needs to be read back."""

        def __init__(self, place: Any) -> None:
            super().__init__(place)
            self.made: dict[str, tuple[str, bytes]] = {}
            self.tail = 0  #: how many of its last bytes

        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            return None if _is_shard(self.below(key)) else await super().get(key, *args, **kwargs)

        async def set(self, key: str, value: Any) -> None:
            import obstore

            data = value.to_bytes()
            await obstore.put_async(self.store, key, data, use_multipart=False)
            self.made[self.below(key)] = hashlib.sha256(data).hexdigest(), data[-self.tail :]

    return BlankStore, CheckedObjects, BlankObjects


def _is_shard(key: str) -> bool:
    return "c" in key.split("/")[:-1]
