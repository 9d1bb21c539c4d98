"""A Zarr store in a folder, of which nothing beyond is read, wherever its metadata or its links point."""

from __future__ import annotations

from typing import Any

from zarr.storage import LocalStore

from deblur.io.reader import check_inside
from deblur.types import ReadLimits


class FencedStore(LocalStore):  # type: ignore[misc]  # zarr is untyped here
    """Read-only. What links or names lead out of it to raises ReadError."""

    def __init__(self, root: str, limits: ReadLimits) -> None:
        super().__init__(root, read_only=True)
        self._limits = limits

    def with_read_only(self, read_only: bool = True) -> FencedStore:
        return self

    async def get(self, key: str, *told: Any, **named: Any) -> Any:
        check_inside(self.root / key, self.root, self._limits)
        return await super().get(key, *told, **named)

    def get_sync(self, key: str, *told: Any, **named: Any) -> Any:
        check_inside(self.root / key, self.root, self._limits)
        return super().get_sync(key, *told, **named)
