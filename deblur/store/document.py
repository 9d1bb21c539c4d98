"""The `zarr.json` of groups and of arrays as deblur lays them out, written and understood without Zarr.

Inside a shard every chunk is blosc-zstd-bitshuffle and then crc32c (plain blosc lets 9 of 10 flipped bits pass).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deblur.place import Place
from deblur.store.shards import Grid

COMPRESSION: dict[str, Any] = {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"}
KINDS = "biuf"  # of dtypes that are stored


def create_group(path: Place, attributes: Mapping[str, Any]) -> None:
    """A new Zarr v3 group at `path` with these attributes; replaces the metadata of an earlier one."""
    _write(path, {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"})


def create_array(
    path: Place, name: str, grid: Grid, dtype: str, *, names: tuple[str, ...], attributes: Mapping[str, Any]
) -> None:
    """A new sharded array `name` below the group at `path`, and below those groups that its name says."""
    _write(path / name, _array(grid, np.dtype(dtype), names, attributes))


def _write(folder: Place, document: dict[str, Any]) -> None:
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_bytes(json.dumps(document, indent=2).encode())


def laid_out(path: Path) -> tuple[Grid, np.dtype[Any]] | None:
    """Grid and dtype of the array whose zarr.json this is, where it is one as `create_array` makes them; else None."""
    try:
        told = json.loads(path.read_bytes())
        shard = told["chunk_grid"]["configuration"]["chunk_shape"]
        chunk = told["codecs"][0]["configuration"]["chunk_shape"]
        grid = Grid(*(tuple(map(_length, sides)) for sides in (told["shape"], chunk, shard)))
        dtype = np.dtype(str(told["data_type"])).newbyteorder("<")
        same = told == _array(grid, dtype, told["dimension_names"], told["attributes"])
    except (OSError, ValueError, KeyError, TypeError, LookupError):
        return None
    if not len(grid.shape) == len(grid.chunk) == len(grid.shard) == len(told["dimension_names"]):
        return None
    whole = not any(side % step for side, step in zip(grid.shard, grid.chunk, strict=True))
    return (grid, dtype) if same and whole and dtype.kind in KINDS else None


def _length(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value


def _array(
    grid: Grid, dtype: np.dtype[Any], names: Sequence[str], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    packing = {"typesize": dtype.itemsize, **COMPRESSION, "blocksize": 0}
    inner = [
        little if dtype.itemsize > 1 else {"name": "bytes"},
        {"name": "blosc", "configuration": packing},
        {"name": "crc32c"},
    ]
    sharding = {
        "chunk_shape": list(grid.chunk),
        "codecs": inner,
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "shape": list(grid.shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(grid.shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.type(0).item(),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": dict(attributes),
        "dimension_names": list(names),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
