"""Sharded Zarr arrays as deblur writes them; the only place that imports Zarr here.

Inside a shard every chunk is blosc-zstd-bitshuffle and then crc32c (plain blosc lets 9 of 10 flipped bits
pass). All-zero chunks are written too, so a chunk that is not there is always a fault and never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, StoreError
from deblur.store.durable import settle, settle_folders, store_error
from deblur.store.shards import Grid, Index, Region, key_of, missing_chunks

COMPRESSION = {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"}
SETTINGS = {
    "async.concurrency": 1,  # one heavy thread a process
    # the pipeline in Rust leaves cut shards under their final names when it is killed (zarrs-python#185)
    "codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "array.write_empty_chunks": True,  # not stored with an array: counts when it is opened
}


@contextmanager
def zarr_settings() -> Iterator[None]:
    """Zarr's settings while deblur uses it; the caller's come back afterwards."""
    import zarr

    # several threads write the blocks of a chunk in the order in which they finish: other bytes each time
    import_module("numcodecs.blosc").set_nthreads(1)
    with zarr.config.set(SETTINGS):
        yield


def codecs() -> tuple[Any, ...]:
    """Compression, then a checksum over what was compressed."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    return BloscCodec(**COMPRESSION), Crc32cCodec()


def create_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """A new Zarr v3 group at `path` with these attributes; replaces the metadata of an earlier one."""
    import zarr
    from zarr.storage import LocalStore

    with zarr_settings():
        zarr.create_group(LocalStore(path), zarr_format=3, attributes=dict(attributes), overwrite=False)


def create_array(
    path: Path, name: str, grid: Grid, dtype: str, *, names: tuple[str, ...], attributes: Mapping[str, Any]
) -> None:
    """A new sharded array `name` (with its parent groups) below the group at `path`."""
    import zarr
    from zarr.storage import LocalStore

    with zarr_settings():
        zarr.create_array(
            LocalStore(path),
            name=name,
            shape=grid.shape,
            dtype=dtype,
            chunks=grid.chunk,
            shards=grid.shard,
            compressors=codecs(),
            fill_value=0,
            zarr_format=3,
            dimension_names=names,
            attributes=dict(attributes),
        )


class ShardedArray:
    """One array below a group: whole shards in, any region out.

    Opened when first used; remembers its path only when it is pickled.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = Path(path), name
        self._grid: Grid | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedArray, (self.path, self.name)

    def __repr__(self) -> str:
        return f"ShardedArray({str(self.path)!r}, {self.name!r})"

    @cached_property
    def array(self) -> Any:
        """The Zarr array, to read. Raises StoreError where it is missing, damaged, or not sharded."""
        from zarr.storage import LocalStore

        return self._open(LocalStore(self.path, read_only=True), mode="r")

    @cached_property
    def _blank(self) -> Any:
        """The Zarr array, to write whole shards into."""
        return self._open(_blank_store()(self.path), mode="r+")

    def _open(self, store: Any, *, mode: str) -> Any:
        import zarr

        if not (self.path / self.name / "zarr.json").is_file():
            raise StoreError(f"no array {self.name!r} in {self.path}: the store is incomplete")
        with zarr_settings():
            try:
                array = zarr.open_array(store, path=self.name, mode=mode, zarr_format=3)
            except Exception as error:  # damaged metadata may break Zarr in any way
                raise StoreError(
                    f"array {self.name!r} in {self.path} can't be opened: {_line(error)}"
                ) from None
        if array.shards is None:
            raise StoreError(f"array {self.name!r} in {self.path} is not sharded: deblur did not write it")
        return array

    @property
    def grid(self) -> Grid:
        if self._grid is None:
            self._grid = Grid(tuple(self.array.shape), tuple(self.array.chunks), tuple(self.array.shards))
        return self._grid

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    def write(self, region: Region, data: NDArray[Any]) -> dict[str, str]:
        """Write whole shards; returns {key: sha256 of the file} once they are on the disk.

        Raises PlanError for a region that is not whole shards, ArrayError for data of another shape or dtype.
        """
        self.grid.require_whole(region)
        self._require(region, data)
        with zarr_settings():
            try:
                self._blank[_slices(region)] = data
            except (OSError, RuntimeError, ValueError) as error:
                raise store_error(
                    f"can't write {self.name!r} in {self.path}: {_line(error)}", error
                ) from None
        digests: dict[str, str] = {}
        folders: set[Path] = set()
        for index in self.grid.touched(region):
            key = key_of(self.name, index)
            digests[key] = settle(self.path / key)
            folders.update(_folders(self.path / self.name, self.path / key))
            self._require_complete(key, index)
        settle_folders(folders)
        return digests

    def read(self, region: Region) -> NDArray[Any]:
        """Any region. Raises StoreError where a shard of it is missing (Zarr would read zeros) or damaged."""
        for index in self.grid.touched(region):
            self._require_complete(key_of(self.name, index), index)
        with zarr_settings():
            try:
                return np.asarray(self.array[_slices(region)])
            except (OSError, RuntimeError, ValueError) as error:
                raise store_error(
                    f"{self.name!r} in {self.path} is damaged in {region}: {_line(error)}; verify the run",
                    error,
                ) from None

    def complete(self, region: Region) -> bool:
        """Whether every shard of a region was written whole."""
        try:
            for index in self.grid.touched(region):
                self._require_complete(key_of(self.name, index), index)
        except StoreError:
            return False
        return True

    def _require_complete(self, key: str, index: Index) -> None:
        """Refuse a shard that isn't there or lacks chunks: Zarr would read zeros, from an empty file too."""
        if not (self.path / key).is_file():
            raise StoreError(f"shard {key} of {self.path} is missing: verify, then repair it")
        if missing_chunks(self.path / key, self.grid, index):
            raise StoreError(f"shard {key} of {self.path} lacks chunks: it was not written whole")

    def _require(self, region: Region, data: NDArray[Any]) -> None:
        shape = tuple(stop - start for start, stop in region)
        if data.shape != shape or data.dtype != self.dtype:
            raise ArrayError(
                f"{self.name!r} wants {self.dtype} of shape {shape} here, got {data.dtype} of {data.shape}"
            )


@cache
def _blank_store() -> Any:
    """A local store in which no shard exists yet.

    Zarr merges even a whole shard with the old one: it would read that first, and a damaged one could never
    be replaced.
    """
    from zarr.storage import LocalStore

    class BlankStore(LocalStore):  # type: ignore[misc]  # zarr is untyped here
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            return None if _is_shard(key) else await super().get(key, *args, **kwargs)

        def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
            return None if _is_shard(key) else super().get_sync(key, *args, **kwargs)

    return BlankStore


def _is_shard(key: str) -> bool:
    return "c" in key.split("/")[:-1]


def _slices(region: Region) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in region)


def _folders(top: Path, file: Path) -> Iterator[Path]:
    """The folders between an array's own and one of its files: new names may be in any of them."""
    for folder in file.parents:
        yield folder
        if folder == top:
            return


def _line(error: BaseException) -> str:
    """An error of somebody else's as one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
