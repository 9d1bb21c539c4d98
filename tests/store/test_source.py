"""Ingested frames: whole or not there, never changed, every bit accounted for."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import ArrayError, PlanError, StoreError
from deblur.header import header_as_json, header_from
from deblur.store import SequenceStore, SourceStore, verify_source
from deblur.store.owner import Owner
from deblur.store.source import pixel_digest
from deblur.tiling import Box
from deblur.types import SequenceHeader

from .stores import BLOCK, CHUNK, FRAMES, HEIGHT, SHARD, WIDTH, header, infos, ingest, pixels, sequence_at


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceStore:
    return sequence_at(tmp_path_factory.mktemp("archive")).source


@given(st.data())
def test_any_region_is_what_went_in(source: SourceStore, data: st.DataObject) -> None:
    (t0, t1), (y0, y1), (x0, x1) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in (FRAMES, HEIGHT, WIDTH)
    )
    found = source.read(t0, t1, Box(y0, y1, x0, x1))
    np.testing.assert_array_equal(found, pixels()[t0:t1, :, y0:y1, x0:x1])
    assert len(source.shard_digests(t0, t1, Box(y0, y1, x0, x1))) == len(list(source.grid.touched(
        source.grid.region(t0, t1, Box(y0, y1, x0, x1))
    )))  # fmt: skip


def test_it_tells_what_it_holds(source: SourceStore) -> None:
    assert source.header == header()
    assert source.shape == (FRAMES, 2, HEIGHT, WIDTH)
    assert (source.shard_frames, source.shard_size) == (BLOCK, SHARD)
    assert [frame.pixels for frame in source.frames] == [pixel_digest(frame) for frame in pixels()]
    assert [frame.name for frame in source.frames] == [info.name for info in infos()]
    assert source.frames[1].time == 0.04
    assert source.quarantined == ()
    assert source.digest == source.list_digest()
    assert verify_source(source) == ()


def test_it_travels_by_its_path(source: SourceStore) -> None:
    source.read(0, 1)
    sent = pickle.dumps(source)
    assert len(sent) < 500
    np.testing.assert_array_equal(pickle.loads(sent).read(0, 3), pixels())


def test_sha256sum_checks_it_without_us(source: SourceStore) -> None:
    for line in (source.path / "shards.sha256").read_text().splitlines():
        digest, key = line.split("  ")
        assert hashlib.sha256((source.path / key).read_bytes()).hexdigest() == digest


def test_the_same_frames_have_the_same_digest(source: SourceStore, tmp_path: Path) -> None:
    assert sequence_at(tmp_path / "again").source.digest == source.digest
    changed = pixels()
    changed[2, 1, 36, 51] ^= 1
    assert ingest(SequenceStore(tmp_path / "changed"), changed).digest != source.digest


def test_an_unfinished_ingest_is_not_there(tmp_path: Path) -> None:
    store = SourceStore(tmp_path / "source.ome.zarr")
    with SourceStore.create(store.path, header(), infos(), chunk=CHUNK) as writer:
        writer.write(0, pixels())
        assert not store.exists
        assert list(tmp_path.iterdir()) == [writer.staging]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_ingest_is_swept_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Owner.here()
    if not here.boot:
        pytest.skip("this system doesn't tell when a process started")
    path = tmp_path / "source.ome.zarr"
    with monkeypatch.context() as earlier:
        earlier.setattr(Owner, "here", lambda: replace(here, started="1"))
        SourceStore.create(path, header(), infos(), chunk=CHUNK)  # and then it was killed
    living = SourceStore.create(path, header(), infos(), chunk=CHUNK)
    assert list(tmp_path.iterdir()) == [living.staging]


def test_a_source_is_never_written_twice(source: SourceStore) -> None:
    with pytest.raises(StoreError, match="ingested already"):
        SourceStore.create(source.path, header(), infos(), chunk=CHUNK)


def test_two_ingests_at_once_leave_one(tmp_path: Path) -> None:
    path = tmp_path / "source.ome.zarr"
    first, second = (SourceStore.create(path, header(), infos(1), chunk=CHUNK) for _ in range(2))
    for writer in (first, second):
        writer.write(0, pixels(1))
    first.finish()
    with second, pytest.raises(StoreError, match="somebody else"):
        second.finish()
    assert list(tmp_path.iterdir()) == [path]
    assert verify_source(SourceStore(path)) == ()


@pytest.mark.parametrize("broken", [[0], [1], [4], [0, 4], [1, 2, 3]])
def test_a_quarantined_frame_leaves_the_others(tmp_path: Path, broken: list[int]) -> None:
    frames = pixels(5)
    good = [i for i in range(5) if i not in broken]
    with SourceStore.create(
        tmp_path / "s", header(), infos(5), chunk=CHUNK, shard_frames=BLOCK, shard_size=SHARD
    ) as writer:
        for index in broken:
            writer.quarantine(index, "ends too\nsoon")
        for t0 in range(0, len(good), BLOCK):
            writer.write(t0, frames[good[t0 : t0 + BLOCK]])
        found = writer.finish(metadata={"asked": {"by": "tests"}})
    assert [frame.index for frame in found.frames] == good
    assert [(q.index, q.error) for q in found.quarantined] == [(i, "ends too soon") for i in broken]
    assert found.header.metadata == {"asked": {"by": "tests"}}
    np.testing.assert_array_equal(found.read(0, len(good)), frames[good])
    assert verify_source(found) == ()


def test_a_frame_is_written_or_quarantined(tmp_path: Path) -> None:
    with SourceStore.create(tmp_path / "s", header(), infos(5), chunk=CHUNK, shard_frames=BLOCK) as writer:
        with pytest.raises(StoreError, match="no frame"):
            writer.finish()
        writer.write(0, pixels(2))
        with pytest.raises(StoreError, match="3 frames"):
            writer.finish()


def test_blocks_come_whole_and_in_order(tmp_path: Path) -> None:
    with SourceStore.create(tmp_path / "s", header(), infos(5), chunk=CHUNK, shard_frames=BLOCK) as writer:
        for t0, count in ((2, 2), (1, 2), (0, 3), (0, 0)):
            with pytest.raises(ArrayError, match="block"):
                writer.write(t0, pixels(count))
        with pytest.raises(ArrayError, match="uint16"):
            writer.write(0, pixels(2).astype(np.float32))
        with pytest.raises(ArrayError, match="shape"):
            writer.write(0, pixels(2)[..., :-1])
        writer.write(0, pixels(1))  # shorter: the last
        with pytest.raises(ArrayError, match="block"):
            writer.write(1, pixels(2))


@pytest.mark.parametrize("layout", [{"shard_frames": 0}, {"chunk": 0}, {"chunk": 7, "shard_size": 16}])
def test_a_layout_that_cannot_be_is_refused(tmp_path: Path, layout: dict[str, int]) -> None:
    with pytest.raises(ArrayError, match="lay out"):
        SourceStore.create(tmp_path / "s", header(), infos(), **layout)
    assert list(tmp_path.iterdir()) == []


def test_regions_outside_are_refused(source: SourceStore) -> None:
    with pytest.raises(PlanError, match="leave"):
        source.read(0, FRAMES + 1)


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    source = sequence_at(tmp_path).source
    (source.path / "0/c/0/0/0/0").unlink()
    with pytest.raises(StoreError, match=r"0/c/0/0/0/0 .* is missing"):
        source.read(0, 1)
    assert [p.kind for p in verify_source(source)] == ["missing"]
    (source.path / "frames.jsonl").write_text("{}\n")
    assert [p.kind for p in verify_source(SourceStore(source.path))] == ["metadata"]
    (source.path / "shards.sha256").write_text("nonsense\n")
    with pytest.raises(StoreError, match="damaged"):
        SourceStore(source.path).shard_digests(0, 1)


def test_something_else_is_not_a_source(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no source"):
        SourceStore(tmp_path).digest  # noqa: B018
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="not a deblur source"):
        SourceStore(tmp_path).digest  # noqa: B018


texts = st.text(st.characters(codec="utf-8"), max_size=8)


@given(
    st.builds(
        SequenceHeader,
        texts,
        st.tuples(*[st.integers(1, 9)] * 3),
        st.sampled_from(["uint8", "float32"]),
        st.lists(texts, max_size=3).map(tuple),
        bits=st.none() | st.integers(1, 16),
        frame_rate=st.none() | st.floats(0.1, 1000),
        pixel_size=st.none() | st.tuples(st.floats(0.1, 9), st.floats(0.1, 9), texts),
        metadata=st.dictionaries(texts, st.integers()),
    )
)
def test_a_header_survives_json(found: SequenceHeader) -> None:
    assert header_from(header_as_json(found)) == found


@given(st.sampled_from([">u2", "<u2"]))
def test_byte_order_is_no_content(dtype: str) -> None:
    assert pixel_digest(np.arange(6).astype(dtype)) == pixel_digest(np.arange(6, dtype="<u2"))


def test_coreutils_agrees(source: SourceStore) -> None:
    try:
        done = subprocess.run(
            ["sha256sum", "-c", "--quiet", "shards.sha256"], cwd=source.path, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("sha256sum is not on this machine")
    assert done.returncode == 0, done.stderr
