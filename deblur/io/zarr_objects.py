"""A Zarr store in a bucket as one listing saw it: what is read is of that moment, or a fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import obstore
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ObjectStore

from deblur.place import ObjectPlace


def seen_store(root: ObjectPlace, files: Sequence[Any]) -> SeenStore:
    """The store below `root`; `files` is all that was seen there."""
    start = len(root.key) + 1 if root.key else 0
    return SeenStore(root, {file.key[start:]: file for file in files})


class SeenStore(ObjectStore):  # type: ignore[misc]  # zarr is untyped here
    """Read-only. A key that was not seen is not there; one that was and now isn't, or is another, raises StoreError:
    Zarr would read zeros."""

    def __init__(self, root: ObjectPlace, files: dict[str, Any]) -> None:
        super().__init__(root.client, read_only=True)
        self._root, self._files = root, files

    def with_read_only(self, read_only: bool = True) -> SeenStore:
        return self

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        file = self._files.get(key)
        if file is None:
            return None
        options = file.condition | _range(byte_range, file.seen.st_size)
        with file.unchanged():
            found = await obstore.get_async(self.store, file.key, options=options)
            file.check(found.meta)
            return prototype.buffer.from_bytes(await found.bytes_async())

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        return key in self._files

    async def getsize(self, key: str) -> int:
        return int(self._files[key].seen.st_size)

    async def list(self) -> AsyncIterator[str]:
        for key in self._files:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._files:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in sorted({key[len(start) :].split("/")[0] for key in self._files if key.startswith(start)}):
            yield name


def _range(wanted: Any, size: int) -> dict[str, Any]:
    """obstore's option for a part of an object of this size."""
    if isinstance(wanted, RangeByteRequest):
        return {"range": (wanted.start, wanted.end)}
    if isinstance(wanted, OffsetByteRequest):
        return {"range": (wanted.offset, size)}
    if isinstance(wanted, SuffixByteRequest):  # Azure knows no suffixes
        return {"range": (max(0, size - wanted.suffix), size)}
    return {}
