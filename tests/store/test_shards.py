"""Which shards a region touches."""

from __future__ import annotations

import itertools
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import PlanError, StoreError
from deblur.store.shards import Grid, Region, chunk_table, index_of, key_of, missing_chunks
from deblur.tiling import Box


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    axes = draw(st.integers(1, 3))
    chunk = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    shard = tuple(c * draw(st.integers(1, 3)) for c in chunk)
    return Grid(tuple(draw(st.integers(1, 20)) for _ in range(axes)), chunk, shard)


@st.composite
def regions(draw: st.DrawFn) -> tuple[Grid, Region]:
    grid = draw(grids())
    ends = [
        sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in grid.shape
    ]
    return grid, tuple((a, b) for a, b in ends)


@given(regions())
def test_touched_shards_are_those_with_a_pixel_of_the_region(found: tuple[Grid, Region]) -> None:
    grid, region = found
    pixels = itertools.product(*(range(a, b) for a, b in region))
    expected = {tuple(p // s for p, s in zip(pixel, grid.shard, strict=True)) for pixel in pixels}
    assert list(grid.touched(region)) == sorted(expected)


@given(regions())
def test_whole_regions_are_those_that_cut_no_shard(found: tuple[Grid, Region]) -> None:
    grid, region = found
    inside = np.zeros(grid.shape, bool)
    inside[tuple(slice(a, b) for a, b in region)] = True
    cut = False
    for index in grid.touched(region):
        shard = inside[tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, grid.shard, strict=True))]
        cut = cut or not shard.all()
    if cut:
        with pytest.raises(PlanError, match="whole shards"):
            grid.require_whole(region)
    else:
        grid.require_whole(region)


@given(grids())
def test_shards_are_numbered_in_their_order(grid: Grid) -> None:
    assert [grid.ordinal(index) for index in grid.indices()] == list(range(grid.size))


@given(st.sampled_from(["0", "motion/forward"]), st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_a_key_leads_back_to_its_shard(name: str, index: list[int]) -> None:
    assert index_of(key_of(name, tuple(index))) == (name, tuple(index))


@pytest.mark.parametrize("key", ["", "0/c", "0/c/a", "zarr.json", "0/c/1//2"])
def test_a_broken_key_is_refused(key: str) -> None:
    with pytest.raises(StoreError, match="not the key of a shard"):
        index_of(key)


@pytest.mark.parametrize(
    ("t0", "t1", "box"), [(0, 9, Box(0, 4, 0, 4)), (2, 2, Box(0, 4, 0, 4)), (0, 1, Box(0, 5, 0, 4))]
)
def test_a_region_outside_is_refused(t0: int, t1: int, box: Box) -> None:
    with pytest.raises(PlanError, match="leave an array"):
        Grid((8, 1, 4, 4), (1, 1, 2, 2), (2, 1, 4, 4)).region(t0, t1, box)


def test_the_index_of_a_shard_tells_what_is_missing(tmp_path: Path) -> None:
    grid = Grid((2, 3), (1, 2), (2, 4))  # the second chunk of each row is half outside, none wholly
    table = np.array([[[0, 5], [5, 5]], [[2**64 - 1, 2**64 - 1], [10, 5]]], "<u8").tobytes()
    path = tmp_path / "shard"
    path.write_bytes(b"x" * 15 + table + google_crc32c.value(table).to_bytes(4, "little"))
    assert chunk_table(path, grid).shape == (2, 2, 2)
    assert missing_chunks(path, grid, (0, 0)) == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="checksum"):
        chunk_table(path, grid)
    path.write_bytes(b"short")
    with pytest.raises(StoreError, match="cut short"):
        chunk_table(path, grid)
