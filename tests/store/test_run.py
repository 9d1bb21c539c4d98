"""Run stores: whole shards in, the same pixels out, one layout for one run."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import ArrayError, PlanError, StoreError
from deblur.store import RunSpec, RunStore, halve
from deblur.store import arrays as arrays_module
from deblur.store.durable import sha256_file
from deblur.tiling import Box, boxes

from .stores import CHUNK, FRAMES, HEIGHT, SHARD, SPEC, WIDTH, fill, pixels, write_unit

WHOLE = Box(0, HEIGHT, 0, WIDTH)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    run = RunStore.create(tmp_path_factory.mktemp("runs") / "first.ome.zarr", SPEC)
    fill(run, pixels())
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "r.ome.zarr", SPEC)


def test_every_level_is_the_whole_image_halved(full: RunStore) -> None:
    image = pixels()
    assert SPEC.unit_levels == 3  # 32, 16, 8; the fourth level's chunk spans several shards
    for level in range(SPEC.levels):
        np.testing.assert_array_equal(full.read(str(level), 0, FRAMES), image)
        image = halve(image)


def test_a_complete_run_has_every_shard(full: RunStore) -> None:
    assert len(full.ledger().shards()) == full.expected_shards()
    for key, digest in full.ledger().shards().items():
        assert sha256_file(full.path / key) == digest


def test_zeros_are_written_too(run: RunStore) -> None:
    box = Box(0, 32, 0, 32)
    assert list(run.write("motion/forward", 0, box, np.zeros((2, 2, 32, 32), np.int16)))
    assert not run.read("motion/forward", 0, 2, box).any()


def test_the_same_pixels_are_the_same_bytes(full: RunStore, tmp_path: Path) -> None:
    again = RunStore.create(tmp_path / "again.ome.zarr", SPEC)
    fill(again, pixels(), writer="other")
    assert again.ledger().shards() == full.ledger().shards()
    assert again.finish_pyramid().items() <= full.ledger().shards().items()


@given(st.data())
def test_only_whole_shards_are_written(run_folder: Path, data: st.DataObject) -> None:
    run = RunStore(run_folder)
    (t0, t1), (y0, y1), (x0, x1) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in (FRAMES, HEIGHT, WIDTH)
    )
    ends = ((t0, t1, 2, FRAMES), (y0, y1, 32, HEIGHT), (x0, x1, 32, WIDTH))
    whole = all(a % size == 0 and (b % size == 0 or b == n) for a, b, size, n in ends)
    block, box = np.full((t1 - t0, y1 - y0, x1 - x0), 7, np.uint8), Box(y0, y1, x0, x1)
    if whole:
        assert run.write("quality/weight", t0, box, block)
    else:
        with pytest.raises(PlanError, match="whole shards"):
            run.write("quality/weight", t0, box, block)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RunStore.create(tmp_path_factory.mktemp("runs") / "some.ome.zarr", SPEC).path


def test_other_data_is_refused(run: RunStore) -> None:
    box = Box(0, 32, 0, 32)
    with pytest.raises(ArrayError, match="wants uint8"):
        run.write("quality/weight", 0, box, np.zeros((2, 32, 32), np.float32))
    with pytest.raises(ArrayError, match="shape"):
        run.write("quality/weight", 0, box, np.zeros((2, 32, 31), np.uint8))
    with pytest.raises(PlanError, match="leave"):
        run.write("quality/weight", 2, box, np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(StoreError, match="no array 'nonsense'"):
        run.write("nonsense", 0, box, np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(StoreError, match="is missing"):
        run.read("quality/weight", 0, 1)


def test_creating_it_again_opens_it(run: RunStore) -> None:
    write_unit(run, 0, 2, Box(0, 32, 0, 32), pixels())
    again = RunStore.create(run.path, SPEC)
    assert again.spec == SPEC
    np.testing.assert_array_equal(again.read("0", 0, 1, Box(0, 9, 0, 9)), pixels()[:1, :, :9, :9])
    with pytest.raises(StoreError, match="other parameters"):
        RunStore.create(run.path, replace(SPEC, parameters={"window": 32}))


def test_creating_leaves_nothing_beside_it(run: RunStore) -> None:
    assert list(run.path.parent.iterdir()) == [run.path]


def test_it_travels_by_its_path(full: RunStore) -> None:
    full.read("0", 0, 1)
    sent = pickle.dumps(full)
    assert len(sent) < 500
    np.testing.assert_array_equal(pickle.loads(sent).read("0", 0, FRAMES), pixels())


def test_opening_reads_nothing(tmp_path: Path) -> None:
    assert not RunStore(tmp_path / "nothing").exists
    with pytest.raises(StoreError, match="no run"):
        RunStore(tmp_path / "nothing").spec  # noqa: B018


def test_shards_are_carried_over_by_digest(full: RunStore, run: RunStore) -> None:
    shards = {k: v for k, v in full.ledger().shards().items() if k.startswith("motion/")}
    assert run.copy_shards(full, shards) == shards
    np.testing.assert_array_equal(
        run.read("motion/backward", 0, FRAMES), full.read("motion/backward", 0, FRAMES)
    )
    key = next(iter(shards))
    with pytest.raises(StoreError, match="not what was written"):
        run.copy_shards(full, {key: "0" * 64})
    other = RunStore.create(run.path.with_name("o.ome.zarr"), replace(SPEC, shard_size=16))
    with pytest.raises(StoreError, match="laid out otherwise"):
        other.copy_shards(full, {key: shards[key]})


def test_digests_come_from_the_ledger(full: RunStore, run: RunStore) -> None:
    found = full.shard_digests("motion/forward", 0, 1, Box(0, 8, 30, 34))
    assert list(found) == ["motion/forward/c/0/0/0/0", "motion/forward/c/0/0/0/1"]
    write_unit(run, 0, 2, Box(0, 32, 0, 32), pixels())
    with pytest.raises(StoreError, match="not in its ledger"):
        run.shard_digests("0", 0, 1)


def test_a_silent_zarr_is_noticed(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zarr that stops writing empty chunks makes writing fail: they would read as zeros for ever."""
    monkeypatch.setitem(arrays_module.SETTINGS, "array.write_empty_chunks", False)
    block = np.zeros((2, 32, 32), np.uint8)
    block[0, :8, :8] = 1
    with pytest.raises(StoreError, match="lacks chunks"):
        run.write("quality/weight", 0, Box(0, 32, 0, 32), block)


def test_the_callers_zarr_settings_stay(full: RunStore) -> None:
    import zarr

    with zarr.config.set({"async.concurrency": 7}):
        full.read("0", 0, 1)
        assert zarr.config.get("async.concurrency") == 7


def test_leftovers_of_killed_writers_are_swept(run: RunStore) -> None:
    (run.path / "0" / "x.partial").write_bytes(b"half")
    assert run.sweep() == 1
    assert run.sweep() == 0


def test_gradients_only_when_asked(run: RunStore, tmp_path: Path) -> None:
    assert not (run.path / "gradients").exists()
    asked = RunStore.create(tmp_path / "g.ome.zarr", replace(SPEC, gradients=True))
    block = np.random.default_rng(0).random((2, 2, 32, 32), np.float32)
    asked.write("gradients/spatial", 0, Box(0, 32, 0, 32), block)
    np.testing.assert_array_equal(asked.read("gradients/spatial", 0, 2, Box(0, 32, 0, 32)), block)


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 16, 32]), st.integers(1, 4))
def test_the_levels_of_units_tile_the_levels_of_the_image(
    height: int, width: int, shard: int, levels: int
) -> None:
    spec = RunSpec((2, 1, height, width), "uint8", 2, shard, chunk=CHUNK, levels=levels)
    for level in range(spec.unit_levels):
        _, _, h, w = spec.level_shape(level)
        covered = np.zeros((h, w), int)
        grid = spec.arrays()[str(level)][0]
        for box in boxes(height, width, shard):
            part = spec.level_box(box, level)
            covered[part.slices] += 1
            grid.require_whole(grid.region(0, 2, part))
        assert (covered == 1).all()


@pytest.mark.parametrize(
    "change", [{"chunk": 0}, {"shard_size": 30}, {"shard_frames": 0}, {"levels": 0}, {"shape": (0, 1, 8, 8)}]
)
def test_a_layout_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_importing_the_store_does_not_import_zarr() -> None:
    import subprocess

    code = "import deblur.store, sys; sys.exit('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_shards_have_one_size_per_level() -> None:
    assert [SPEC.arrays()[str(level)][0].shard[-1] for level in range(4)] == [
        SHARD,
        SHARD // 2,
        SHARD // 4,
        CHUNK,
    ]
