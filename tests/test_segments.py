"""A source that grew: new segments, nothing published changes, every segment as an undisturbed run would make it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur import job as work
from deblur.catalog import Catalog
from deblur.config import JobConfig, load_job, with_settings
from deblur.job import silent
from deblur.segments import Part, _gathered, in_order, segments
from deblur.store import Archive
from deblur.upkeep import export_run
from deblur.versions import retract
from tests.conftest import pan
from tests.small import HEIGHT, WIDTH, Command, command, tree, write_frames, write_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames in all/, none in frames/ yet."""
    write_frames(tmp_path / "all", count=6)
    (tmp_path / "frames").mkdir()
    write_job(tmp_path)
    return tmp_path


def arrive(folder: Path, *numbers: int) -> JobConfig:
    for number in numbers:
        name = f"{number:04d}.png"
        shutil.copy2(folder / "all" / name, folder / "frames" / name)
    return load_job(folder / "job.toml")


def shards(archive: Path, sequence: str) -> dict[str, str]:
    store = Archive.open(archive).sequence(sequence)
    return store.run(str(store.current())).ledger().shards()


def undisturbed(folder: Path, name: str, *numbers: int) -> dict[str, str]:
    """What a run over these frames alone gives."""
    other = folder / name
    (other / "frames").mkdir(parents=True)
    for number in numbers:
        shutil.copy2(folder / "all" / f"{number:04d}.png", other / "frames")
    (outcome,) = work.run(load_job(write_job(other)))
    assert outcome.published
    return shards(other / "archive", "frames")


def test_later_frames_become_a_segment_and_published_ones_stay(folder: Path) -> None:
    (first,) = work.run(arrive(folder, 0, 1, 2))
    assert first.published
    archive = folder / "archive"
    before = tree(archive / "sequences" / "frames" / "runs")
    outcomes = work.run(arrive(folder, 3, 4, 5))
    assert [o.sequence.id for o in outcomes] == ["frames", "frames.s2"]
    assert all(o.published for o in outcomes)
    assert [o.computed > 0 for o in outcomes] == [False, True]
    assert tree(archive / "sequences" / "frames" / "runs") == before
    told = Archive.open(archive).sequence("frames.s2").source.header.metadata["deblur"]
    assert (told["continues"], told["first"], told["context"]) == ("frames", "frames", [1, 0])
    again = work.run(arrive(folder))
    assert [o.computed for o in again] == [0, 0]
    assert Archive.open(archive).sequences() == ("frames", "frames.s2")
    assert shards(archive, "frames.s2") == undisturbed(folder, "alone", 2, 3, 4, 5)


def test_one_late_frame_in_the_middle_is_restored_with_its_neighbours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work.run(arrive(folder, 0, 1, 3, 4))
    outcomes = work.run(arrive(folder, 2))
    assert [o.sequence.id for o in outcomes] == ["frames", "frames.s2"]
    store = Archive.open(folder / "archive").sequence("frames.s2")
    assert [frame.name for frame in store.source.frames] == ["0001.png", "0002.png", "0003.png"]
    assert store.source.header.metadata["deblur"]["context"] == [1, 1]
    deblur: Command = command(capsys)
    assert deblur("export", folder / "archive", "frames.s2", folder / "out").code == 0
    assert [path.name for path in sorted((folder / "out").iterdir())] == ["0002.png"]
    third = work.run(arrive(folder, 5))
    assert [o.sequence.id for o in third] == ["frames", "frames.s2", "frames.s3"]
    assert [o.computed > 0 for o in third] == [False, False, True]
    archive = Archive.open(folder / "archive")
    assert in_order(segments(archive, "frames")) == [(0, 0), (0, 1), (1, 1), (0, 2), (0, 3), (2, 1)]
    assert deblur("export", folder / "archive", "frames", folder / "whole.npy").code == 0
    alone = [archive.sequence(name) for name in ("frames", "frames.s2", "frames.s3")]
    restored = [s.run(str(s.current())).read("0", 0, len(s.source.frames)) for s in alone]
    whole = np.stack([restored[number][place] for number, place in in_order(alone)])
    assert np.array_equal(np.load(folder / "whole.npy"), whole)
    run = str(alone[0].current())
    assert deblur("export", folder / "archive", "frames", folder / "first", "--run", run).code == 0
    assert len(list((folder / "first").iterdir())) == 4
    retract(alone[1], alone[1].run(str(alone[1].current())), reason="x")
    said = deblur("export", folder / "archive", "frames", folder / "again")
    assert (said.code, said.faults[0][:30]) == (1, "deblur: sequence 'frames.s2' h")


def test_a_broken_frame_of_context_takes_no_other_with_it(folder: Path) -> None:
    (folder / "all" / "0002.png").write_bytes(b"nonsense")
    job = with_settings(arrive(folder, 0, 1, 2), {"limits.broken": 0.5})
    work.run(job)
    arrive(folder, 3, 4, 5)
    assert [o.sequence.id for o in work.run(job)] == ["frames", "frames.s2"]
    chain = segments(Archive.open(folder / "archive"), "frames")
    found = [chain[number].source.frames[place].name for number, place in in_order(chain)]
    assert found == ["0000.png", "0001.png", "0003.png", "0004.png", "0005.png"]
    assert export_run(folder / "archive", "frames.s2", folder / "out", run=None, progress=silent) == 3


def test_a_changed_frame_makes_a_sequence_of_its_own(folder: Path) -> None:
    work.run(arrive(folder, 0, 1, 2))
    changed = folder / "frames" / "0001.png"
    shutil.copy(folder / "all" / "0004.png", changed)
    outcomes = work.run(arrive(folder))
    assert [o.sequence.id for o in outcomes] == ["frames-2"]
    grown = work.run(arrive(folder, 3))
    assert [o.sequence.id for o in grown] == ["frames-2", "frames-2.s2"]
    changed.unlink()
    gone = work.run(arrive(folder))
    assert [o.sequence.id for o in gone] == ["frames-3"]
    catalog = Catalog(Archive.open(folder / "archive"))
    links = {row.id: (row.replaces, row.replaced) for row in catalog.sequences()}
    assert links == {
        "frames": ("", "frames-2"),
        "frames-2": ("frames", "frames-3"),
        "frames-2.s2": ("", "frames-3"),
        "frames-3": ("frames-2", ""),
    }
    catalog.update("frames-2")  # the row is read anew, the link stays
    assert catalog.ids(where="replaced = ''") == ("frames-3",)


def test_a_file_of_many_frames_that_grew(tmp_path: Path) -> None:
    frames = pan(5, HEIGHT, WIDTH)[0]
    np.save(tmp_path / "clip.npy", frames[:3])
    job = load_job(write_job(tmp_path, path="clip.npy"))
    work.run(job)
    np.save(tmp_path / "clip.npy", frames)
    os.utime(tmp_path / "clip.npy", (1, 1))
    outcomes = work.run(job)
    assert [o.sequence.id for o in outcomes] == ["clip", "clip.s2"]
    assert len(Archive.open(tmp_path / "archive").sequence("clip.s2").source.frames) == 3
    frames[1] += 1
    np.save(tmp_path / "clip.npy", frames)
    os.utime(tmp_path / "clip.npy", (2, 2))
    assert [o.sequence.id for o in work.run(job)] == ["clip-2"]


def test_gathering() -> None:
    assert _gathered([3, 4, 5], 6) == [Part(2, 6, 1, 0)]
    assert _gathered([2], 6) == [Part(1, 4, 1, 1)]
    assert _gathered([0, 1, 4], 6) == [Part(0, 3, 0, 1), Part(3, 6, 1, 1)]
    assert _gathered([], 6) == []


@given(st.integers(2, 30).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_every_new_frame_is_some_parts_own(case: tuple[int, set[int]]) -> None:
    count, new = case
    own: list[int] = []
    for part in _gathered(sorted(new), count):
        assert 0 <= part.start < part.stop <= count
        mine = list(range(part.start + part.lead, part.stop - part.trail))
        context = {*range(part.start, mine[0]), *range(mine[-1] + 1, part.stop)}
        assert not context & new  # context is what others own
        assert part.lead == (mine[0] > 0)
        assert part.trail == (mine[-1] < count - 1)
        own += mine
    assert own == sorted(new)
