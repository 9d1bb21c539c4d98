"""Sharded Zarr arrays as deblur writes them; the only place that imports Zarr here.

Inside a shard every chunk is blosc-zstd-bitshuffle and then crc32c (plain blosc lets 9 of 10 flipped bits
pass). All-zero chunks are written too, so a chunk that is not there is always a fault and never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, StoreError
from deblur.place import ObjectPlace, Place, told
from deblur.store import zarrs
from deblur.store.durable import settle, settle_folders
from deblur.store.shards import (
    Grid,
    Index,
    Region,
    absent_chunks,
    key_of,
    missing_chunks,
    parse_table,
    table_size,
)

REQUESTS = 16  #: to an object store, which answers each after a while; on a disk one heavy thread a process
COMPRESSION = {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"}
SETTINGS = {
    # the pipeline in Rust leaves cut shards under their final names when it is killed (zarrs-python#185)
    "codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "array.write_empty_chunks": True,  # not stored with an array: counts when it is opened
}


@contextmanager
def zarr_settings(*, requests: int = 1) -> Iterator[None]:
    """Zarr's settings while deblur uses it; the caller's come back afterwards. `requests`: under way at once."""
    import zarr

    # several threads write the blocks of a chunk in the order in which they finish: other bytes each time
    import_module("numcodecs.blosc").set_nthreads(1)
    with zarr.config.set(SETTINGS | {"async.concurrency": requests}):
        yield


def codecs() -> tuple[Any, ...]:
    """Compression, then a checksum over what was compressed."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    return BloscCodec(**COMPRESSION), Crc32cCodec()


def create_group(path: Place, attributes: Mapping[str, Any]) -> None:
    """A new Zarr v3 group at `path` with these attributes; replaces the metadata of an earlier one."""
    import zarr
    from zarr.storage import LocalStore

    with zarr_settings(), _metadata(path, "zarr.json") as folder:
        zarr.create_group(LocalStore(folder), zarr_format=3, attributes=dict(attributes), overwrite=False)


@contextmanager
def _metadata(path: Place, name: str) -> Iterator[Path]:
    """Where Zarr may write metadata for `path`. To an object store only the file `name` of it goes: Zarr would write
    the parents' too, and with that of a group the group is there."""
    if isinstance(path, Path):
        yield path
        return
    with TemporaryDirectory(prefix="deblur-") as folder:
        yield Path(folder)
        (path / name).write_bytes((Path(folder) / name).read_bytes())


def create_array(
    path: Place, name: str, grid: Grid, dtype: str, *, names: tuple[str, ...], attributes: Mapping[str, Any]
) -> None:
    """A new sharded array `name` (with its parent groups) below the group at `path`."""
    import zarr
    from zarr.storage import LocalStore

    with zarr_settings(), _metadata(path, f"{name}/zarr.json") as folder:
        zarr.create_array(
            LocalStore(folder),
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

    def __init__(self, path: Place, name: str) -> None:
        self.path, self.name = path, name
        self._grid: Grid | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedArray, (self.path, self.name)

    def __repr__(self) -> str:
        return f"ShardedArray({str(self.path)!r}, {self.name!r})"

    @cached_property
    def array(self) -> Any:
        """The Zarr array, to read. Raises StoreError where it is missing, damaged, or not sharded."""
        return self._open(*zarrs.shards_in(self.path, self.name), mode="r")

    @cached_property
    def _blank(self) -> Any:
        """The Zarr array, to write whole shards into."""
        return self._open(*zarrs.blank(self.path, self.name), mode="r+")

    def _open(self, store: Any, path: str, *, mode: str) -> Any:
        import zarr

        if not (self.path / self.name / "zarr.json").is_file():
            raise StoreError(f"no array {self.name!r} in {self.path}: the store is incomplete")
        with zarr_settings():
            try:
                with told(self.path):
                    array = zarr.open_array(store, path=path, mode=mode, zarr_format=3)
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
                with told(self.path):
                    self._target()[_slices(region)] = data
            except (OSError, RuntimeError, ValueError) as error:
                raise StoreError(f"can't write {self.name!r} in {self.path}: {_line(error)}") from None
        return self._settled(self.path, region) if isinstance(self.path, Path) else self._put(region)

    def _target(self) -> Any:
        if isinstance(self.path, ObjectPlace):
            self._blank.store_path.store.tail = table_size(self.grid)
        return self._blank

    def _put(self, region: Region) -> dict[str, str]:
        """The digests of shards that were put into an object store, where they are durable by that."""
        made = self._blank.store_path.store.made
        digests: dict[str, str] = {}
        for index in self.grid.touched(region):
            key = key_of(self.name, index)
            digests[key], tail = made.pop(key)
            if absent_chunks(parse_table(tail, key, self.grid), self.grid, index):
                raise StoreError(f"shard {key} of {self.path} lacks chunks: it was not written whole")
        return digests

    def _settled(self, path: Path, region: Region) -> dict[str, str]:
        """The digests of shards that were written to a disk, once they are there."""
        digests: dict[str, str] = {}
        folders: set[Path] = set()
        for index in self.grid.touched(region):
            key = key_of(self.name, index)
            digests[key] = settle(path / key)
            folders.update(_folders(path / self.name, path / key))
            self._require_complete(key, index)
        settle_folders(folders)
        return digests

    def read(self, region: Region) -> NDArray[Any]:
        """Any region. Raises StoreError where a shard of it is missing (Zarr would read zeros) or damaged."""
        if isinstance(self.path, ObjectPlace):  # there they are looked at as they are read
            self._announce(region)
        else:
            for index in self.grid.touched(region):
                self._require_complete(key_of(self.name, index), index)
        with zarr_settings(requests=1 if isinstance(self.path, Path) else REQUESTS):
            try:
                with told(self.path):
                    return np.asarray(self.array[_slices(region)])
            except (OSError, RuntimeError, ValueError) as error:
                raise StoreError(
                    f"{self.name!r} in {self.path} is damaged in {region}: {_line(error)}; verify the run"
                ) from None

    def complete(self, region: Region) -> bool:
        """Whether every shard of a region was written whole."""
        try:
            for index in self.grid.touched(region):
                self._require_complete(key_of(self.name, index), index)
        except StoreError:
            return False
        return True

    def _announce(self, region: Region) -> None:
        store = self.array.store_path.store
        store.grid = self.grid
        store.expect({index: self.grid.chunks(index, region) for index in self.grid.touched(region)})

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
