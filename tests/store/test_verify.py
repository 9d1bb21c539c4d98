"""Verification finds every kind of damage, names the shard and the unit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import StoreError
from deblur.store import RunStore, verify_run

from .stores import FRAMES, SPEC, fill, pixels

SHARD = "0/c/0/0/0/0"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    run = RunStore.create(tmp_path_factory.mktemp("runs") / "first.ome.zarr", SPEC)
    fill(run, pixels())
    return run


@pytest.fixture
def run(pristine: RunStore, tmp_path: Path) -> RunStore:
    return RunStore(shutil.copytree(pristine.path, tmp_path / "first.ome.zarr"))


def test_a_sound_run_has_no_problems(run: RunStore) -> None:
    seen: list[tuple[int, int]] = []
    assert verify_run(run, progress=lambda done, total: seen.append((done, total))) == ()
    assert seen[-1] == (run.expected_shards(),) * 2


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "kind"), [(cut, "changed"), (flip, "changed"), (empty, "changed"), (os.unlink, "missing")]
)
def test_a_damaged_shard_is_found_and_read_by_nobody(
    run: RunStore, damage: Callable[[Path], None], kind: str
) -> None:
    damage(run.path / SHARD)
    (problem,) = verify_run(run)
    assert (problem.kind, problem.shard, problem.unit) == (kind, SHARD, "unit-0-0-0")
    assert SHARD in str(problem)
    assert "\n" not in str(problem)
    with pytest.raises(StoreError, match=r"missing|damaged|cut short|checksum") as caught:
        run.read("0", 0, FRAMES)
    assert "\n" not in str(caught.value)


@settings(max_examples=20)
@given(st.data())
def test_any_flipped_bit_is_found_and_never_read(pristine: RunStore, data: st.DataObject) -> None:
    key = data.draw(
        st.sampled_from([SHARD, "motion/forward/c/1/0/0/1", "quality/weight/c/0/1/0", "3/c/0/0/0/0"])
    )
    path = pristine.path / key
    before = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(before) - 1))
    flipped = bytearray(before)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    try:
        assert [p.kind for p in verify_run(pristine)] == ["changed"]
        with pytest.raises(StoreError, match=r"damaged|checksum"):
            pristine.read(key.split("/c/")[0], 0, FRAMES)
    finally:
        path.write_bytes(before)


def test_a_unit_that_did_not_finish_is_found(run: RunStore) -> None:
    segment = run.units_folder / "tests.jsonl"
    lines = segment.read_text().splitlines(keepends=True)
    segment.write_text("".join(lines[1:]))
    problems = verify_run(run)
    assert {p.kind for p in problems} == {"unrecorded"}
    assert {p.shard for p in problems} == set(json.loads(lines[0])["shards"])


def test_a_record_of_a_shard_that_cannot_be_is_found(run: RunStore) -> None:
    run.ledger("w").append({"key": "wild", "shards": {"0/c/9/9/9/9": "0" * 64, "nonsense": "0" * 64}})
    assert [p.kind for p in verify_run(run)] == ["unexpected"] * 2


def test_a_shard_with_chunks_missing_is_found_though_its_digest_fits(run: RunStore) -> None:
    from deblur.store.durable import sha256_file

    source, target = run.path / "motion/forward/c/0/0/0/1", run.path / "motion/forward/c/0/0/0/0"
    shutil.copy(source, target)  # of the frame's edge: fewer chunks are in it
    run.ledger("w").append({"key": "unit-0-0-0", "shards": {"motion/forward/c/0/0/0/0": sha256_file(target)}})
    assert "incomplete" in {p.kind for p in verify_run(run)}


@pytest.mark.parametrize(
    ("name", "text"), [("zarr.json", "{"), ("zarr.json", "{}"), ("0/zarr.json", "{"), ("0/zarr.json", "{}")]
)
def test_damaged_metadata_is_found(run: RunStore, name: str, text: str) -> None:
    (run.path / name).write_text(text)
    assert [p.kind for p in verify_run(RunStore(run.path))] == ["metadata"]


def test_another_layout_than_the_runs_is_found(run: RunStore) -> None:
    path = run.path / "quality" / "weight" / "zarr.json"
    path.write_text(path.read_text().replace('"uint8"', '"int8"'))
    assert [p.kind for p in verify_run(RunStore(run.path))] == ["metadata"]
