"""What ingest keeps, leaves out, notices and does not do twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import ingest as module
from deblur import job as work
from deblur.config import load_job
from deblur.store import Archive
from tests.conftest import pan
from tests.small import HEIGHT, WIDTH, Command, tree, write_frames, write_job


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that are decoded, as it happens."""
    seen: list[int] = []
    usual = module._Copy._read

    def counted(self: Any, index: int) -> Any:
        seen.append(index)
        return usual(self, index)

    monkeypatch.setattr(module._Copy, "_read", counted)
    return seen


def spoil(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def test_the_pixels_are_those_of_the_files(tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", count=5)
    files = tree(tmp_path / "frames")
    (found,) = work.ingest(load_job(write_job(tmp_path)))
    source = Archive.open(tmp_path / "archive").sequence(found.id).source
    assert np.array_equal(source.read(0, 5), frames)
    assert tree(tmp_path / "frames") == files
    assert [frame.file for frame in source.frames] == list(files.values())


def test_a_broken_frame_in_a_long_sequence_is_left_out(deblur: Command, tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", count=12)
    spoil(tmp_path / "frames" / "0004.png")
    job = write_job(tmp_path)
    said = deblur("ingest", job)
    assert said.code == 1
    assert said.out == "frames: 11 frames, 1 quarantined\n"
    (fault,) = said.faults
    assert "0004.png" in fault
    again = deblur("ingest", job)
    assert (again.code, again.faults) == (1, said.faults)
    assert again.out == "frames: 11 frames, 1 quarantined (already there)\n"
    (row,) = json.loads(deblur("status", tmp_path / "archive", "--json").out)
    assert (row["frames"], row["broken"]) == (11, 1)
    assert deblur("verify", tmp_path / "archive").code == 0

    source = Archive.open(tmp_path / "archive").sequence("frames").source
    kept = [k for k in range(12) if k != 4]
    assert [frame.index for frame in source.frames] == kept
    assert np.array_equal(source.read(0, 11), frames[kept])


def test_what_is_left_around_a_broken_frame_is_published(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", count=10)
    spoil(tmp_path / "frames" / "0004.png")
    (outcome,) = work.run(load_job(write_job(tmp_path)))
    assert outcome.published
    (fault,) = outcome.faults()
    assert "0004.png" in fault
    store = Archive.open(tmp_path / "archive").sequence("frames")
    # frames 3 and 5 are neighbours in the store, and no motion is measured between them
    assert store.survey_part("linked", 0, 8).tolist() == [True, True, True, False, True, True, True, True]


def test_more_broken_frames_than_the_limit_allows(deblur: Command, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", count=12)
    for number in (4, 7):
        spoil(tmp_path / "frames" / f"{number:04d}.png")
    said = deblur("ingest", write_job(tmp_path))
    assert (said.code, len(said.faults)) == (1, 1)
    assert "0007.png" in said.faults[0]
    assert "limits.broken lets 1 of 12 frames be broken, this is number 2" in said.faults[0]
    assert not (tmp_path / "archive").exists()
    (tmp_path / "job.toml").write_text((tmp_path / "job.toml").read_text() + "[limits]\nbroken = 0.2\n")
    said = deblur("ingest", tmp_path / "job.toml")
    assert (said.code, len(said.faults)) == (1, 2)
    assert "10 frames, 2 quarantined" in said.out


def test_an_unchanged_source_is_not_read_again(tmp_path: Path, reads: list[int]) -> None:
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    assert [found.fresh for found in work.ingest(job)] == [True]
    assert reads == [0, 1, 2, 3]
    before = tree(tmp_path / "archive")
    assert [found.fresh for found in work.ingest(job)] == [False]
    assert reads == [0, 1, 2, 3]
    assert tree(tmp_path / "archive") == before


def test_a_changed_source_becomes_a_new_sequence(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    (first,) = work.ingest(job)
    before = tree(tmp_path / "archive" / "sequences" / first.id)
    touched = tmp_path / "frames" / "0001.png"
    os.utime(touched, ns=(1, 1))
    (second,) = work.ingest(job)
    assert (first.id, second.id) == ("frames", "frames-2")
    assert tree(tmp_path / "archive" / "sequences" / first.id) == before
    (again,) = work.ingest(job)
    assert (again.id, again.fresh) == ("frames-2", False)


def test_frames_of_the_same_name_from_two_folders_are_two_sequences(tmp_path: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        write_frames(tmp_path / side / "frames", count=4 if side == "left" else 3)
    job = write_job(tmp_path, path="left/frames")
    job.write_text(
        job.read_text()
        + '[[sources]]\npath = "right/frames"\n[[sources]]\npath = "right/frames"\nid = "third"\n'
    )
    expected = [("frames", 4), ("frames-2", 3), ("third", 3)]
    for _ in range(2):
        assert [(found.id, found.frames) for found in work.ingest(load_job(job))] == expected


def stack(path: Path, planes: list[Any]) -> None:
    import tifffile

    pixels = np.stack(planes, axis=1)  # t, z, y, x
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "TZYX"}, photometric="minisblack")


def test_the_planes_of_a_stack_are_sequences(tmp_path: Path) -> None:
    plane = pan(3, HEIGHT, WIDTH)[0][:, 0]
    stack(tmp_path / "stack.ome.tif", [plane, 255 - plane])
    found = work.ingest(load_job(write_job(tmp_path, path="stack.ome.tif", source='id = "plate"')))
    archive = Archive.open(tmp_path / "archive")
    assert len({item.id for item in found}) == 2
    assert all(item.id.startswith("plate") for item in found)
    for item, expected in zip(found, [plane, 255 - plane], strict=True):
        assert np.array_equal(archive.sequence(item.id).source.read(0, 3)[:, 0], expected)


def test_a_bad_plane_does_not_stop_the_others(tmp_path: Path) -> None:
    plane = (pan(3, HEIGHT, WIDTH)[0][:, 0] / 255).astype(np.float32)
    spoilt = plane.copy()
    spoilt[1, 0, 0] = np.nan
    stack(tmp_path / "stack.ome.tif", [plane, spoilt])
    job = load_job(write_job(tmp_path, path="stack.ome.tif"))
    good, bad = work.ingest(job)
    assert good.error is None
    assert "NaN" in str(bad.error)
    assert Archive.open(tmp_path / "archive").sequences() == (good.id,)
    published, failed = work.run(job)
    assert published.published
    assert not failed.published
    assert len(failed.faults()) == 1


def test_an_interrupted_ingest_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    before = tree(tmp_path)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.ingest(job, progress=stop)
    assert tree(tmp_path) == before
    assert work.ingest(job)[0].fresh


def test_memory_does_not_grow_with_the_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "frames", count=9)
    blocks: list[int] = []
    from deblur.store import SourceWriter

    usual = SourceWriter.write

    def watched(self: Any, t0: int, frames: Any, **options: Any) -> None:
        blocks.append(len(frames))
        usual(self, t0, frames, **options)

    monkeypatch.setattr(SourceWriter, "write", watched)
    work.ingest(load_job(write_job(tmp_path)))
    assert blocks == [2, 2, 2, 2, 1]
    blocks.clear()
    monkeypatch.setattr("deblur.config.SOURCE_SHARD", 1)  # a frame is larger than may be held
    job = load_job(write_job(tmp_path)).model_copy(update={"archive": str(tmp_path / "other")})
    work.ingest(job)
    assert blocks == [1] * 9
