"""Shards and metadata that deblur writes by itself are Zarr's, byte for byte, and are read as Zarr reads them."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec

from deblur.errors import StoreError
from deblur.store.arrays import ShardedArray
from deblur.store.document import create_array, create_group, laid_out
from deblur.store.shards import Grid, key_of

DTYPES = ("bool", "uint8", "int16", "uint16", "float32", "float64")
NAMES = ("t", "c", "y", "x")


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    axes = draw(st.integers(1, 4))
    chunk = draw(st.tuples(*[st.integers(1, 5)] * axes))
    shard = tuple(step * draw(st.integers(1, 4)) for step in chunk)
    return Grid(draw(st.tuples(*[st.integers(1, 12)] * axes)), chunk, shard)


def by_zarr(folder: Path, grid: Grid, dtype: str, attributes: dict[str, Any]) -> Any:
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.create_group(folder, zarr_format=3, attributes={"a": [1, None, 0.1, "é"]})
        return zarr.create_array(
            folder,
            name="a",
            shape=grid.shape,
            dtype=dtype,
            chunks=grid.chunk,
            shards=grid.shard,
            compressors=(BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()),
            fill_value=0,
            zarr_format=3,
            dimension_names=NAMES[: len(grid.shape)],
            attributes=attributes,
            config={"write_empty_chunks": True},
        )


def by_deblur(folder: Path, grid: Grid, dtype: str, attributes: dict[str, Any]) -> ShardedArray:
    create_group(folder, {"a": [1, None, 0.1, "é"]})
    create_array(folder, "a", grid, dtype, names=NAMES[: len(grid.shape)], attributes=attributes)
    return ShardedArray(folder, "a")


@settings(max_examples=25, deadline=None)
@given(grid=grids(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9), data=st.data())
def test_files_and_regions_are_zarrs(grid: Grid, dtype: str, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 99, grid.shape) * (rng.random(grid.shape) > 0.5)).astype(dtype)
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        array = by_deblur(ours, grid, dtype, {"quantum": 1 / 255})
        by_zarr(theirs, grid, dtype, {"quantum": 1 / 255})[...] = values
        array.write(tuple((0, extent) for extent in grid.shape), values)
        written = {
            file.relative_to(theirs): file.read_bytes() for file in theirs.rglob("*") if file.is_file()
        }
        assert written == {p.relative_to(ours): p.read_bytes() for p in ours.rglob("*") if p.is_file()}
        starts = [data.draw(st.integers(0, extent - 1)) for extent in grid.shape]
        region = tuple(
            (start, data.draw(st.integers(start + 1, extent)))
            for start, extent in zip(starts, grid.shape, strict=True)
        )
        np.testing.assert_array_equal(array.read(region), values[tuple(slice(*span) for span in region)])
        np.testing.assert_array_equal(zarr.open_array(ours / "a", mode="r")[...], values)


GRID = Grid((3, 20, 30), (1, 8, 8), (2, 16, 16))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("codecs", []),
        ("shape", [3, 20, -30]),
        ("shape", "3"),
        ("shape", [3, 20]),
        ("data_type", "no such"),
        ("fill_value", 1),
        ("chunk_key_encoding", {"name": "v2"}),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [2, 12, 16]}}),
    ],
)
def test_what_is_laid_out_otherwise_is_left_to_zarr(tmp_path: Path, key: str, value: object) -> None:
    by_deblur(tmp_path, GRID, "uint8", {})
    file = tmp_path / "a" / "zarr.json"
    assert laid_out(file) == (GRID, np.dtype("uint8"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    assert laid_out(file) is None


def test_an_array_of_other_codecs_is_read_by_zarr(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint16).reshape(2, 12)
    zarr.create_group(tmp_path)
    zarr.create_array(tmp_path, name="a", data=values, chunks=(1, 4), shards=(2, 8))
    assert laid_out(tmp_path / "a" / "zarr.json") is None
    np.testing.assert_array_equal(ShardedArray(tmp_path, "a").read(((0, 2), (3, 9))), values[:, 3:9])


@pytest.mark.parametrize("place", [3, -8])
def test_a_flipped_bit_is_found_when_it_is_read(tmp_path: Path, place: int) -> None:
    array = by_deblur(tmp_path, GRID, "uint8", {})
    array.write(((0, 3), (0, 20), (0, 30)), np.ones(GRID.shape, np.uint8))
    file = tmp_path / key_of("a", (0, 0, 0))
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 4
    file.write_bytes(damaged)
    with pytest.raises(StoreError, match="wrong checksum"):
        array.read(((0, 1), (0, 8), (0, 8)))
    array.read(((0, 1), (0, 8), (16, 30)))  # another shard


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = by_deblur(tmp_path, GRID, "uint8", {})

    def full(*_: object) -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deblur.store.chunks._shard", full)
    with pytest.raises(StoreError, match="No space left"):
        array.write(((0, 3), (0, 20), (0, 30)), np.ones(GRID.shape, np.uint8))
    assert [file.name for file in (tmp_path / "a").rglob("*") if file.is_file()] == ["zarr.json"]
