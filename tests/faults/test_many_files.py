"""A hundred thousand files, and names that are hard to tell apart."""

from __future__ import annotations

import gc
import os
import shutil
import tracemalloc
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur import job as work
from deblur.config import load_job, parse_job
from deblur.io import open_source
from deblur.night import with_arrivals
from deblur.segments import fingerprint
from deblur.store import Archive
from deblur.unit import forget_peak, peak_memory
from deblur.upkeep import export_run
from deblur.watch import arrivals
from tests.faults.world import child, end_of
from tests.small import write_job

MANY = 100_000
ROOM = 256  # bytes a file: its name, and what it is sorted by; of an ingested one, two digests
SLACK = 128  # of resident memory that grows in steps: 198 to 264 bytes a file were seen
E_ACUTE = "e\u0301"
NAMES = (
    "a b.png", " a b.png", "a  b.png", "a\nb.png", "a\tb.png", "A b.png", "frame.png", "Frame.png", "FRAME.png",
    f"caf{unicodedata.normalize('NFC', E_ACUTE)}.png", f"caf{E_ACUTE}.png", "cafe.png", "日本.png", "%20.png", "-rf.png",
    "'quoted'.png", "a;b.png", "*.png", "#1.png", os.fsdecode(b"clip\xff.png"),
)  # fmt: skip


def png(level: int) -> bytes:
    return bytes(imagecodecs.png_encode(np.full((8, 8), level, np.uint8)))


def test_names_that_are_hard_to_tell_apart(tmp_path: Path) -> None:
    """Each file is a frame under its own name, in the archive and in what is exported from it."""
    (tmp_path / "frames").mkdir()
    for level, name in enumerate(NAMES):
        (tmp_path / "frames" / name).write_bytes(png(level))
    job = load_job(write_job(tmp_path))
    (outcome,) = work.run(job)
    assert outcome.published, outcome.faults()
    source = Archive.open(job.archive).sequence("frames").source
    found = {frame.name: source.read(t, t + 1).max() for t, frame in enumerate(source.frames)}
    assert found == {name: level for level, name in enumerate(NAMES)}
    export_run(job.archive, "frames", tmp_path / "out", run=None, progress=work.silent)
    assert len(list((tmp_path / "out").iterdir())) == len(NAMES)


@settings(max_examples=40)
@given(
    st.lists(st.text(min_size=1, max_size=12) | st.sampled_from(NAMES), unique=True, min_size=1, max_size=8)
)
def test_sequences_that_are_called_alike_have_ids_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """On file systems that don't tell cases or normal forms apart as well."""
    archive = Archive.create(tmp_path_factory.mktemp("ids") / "archive")
    ids = []
    for name in names:
        ids.append(archive.id_of(name))
        archive.sequence(ids[-1]).path.mkdir()
    assert len({unicodedata.normalize("NFKC", found).casefold() for found in ids}) == len(names)
    assert [archive.id_of(name) for name in names] == ids


def test_folders_that_are_hard_to_tell_apart(tmp_path: Path) -> None:
    """Sequences of a watched place have names of their own, where a path with dashes could be another path."""
    paths = ("a/b-c", "a-b/c", "a/b/c", "a-b-c")
    for path in paths:
        (tmp_path / "north" / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / "north" / path / "1.png").write_bytes(png(9))
    watch = {"path": str(tmp_path / "north"), "pattern": "**/*", "exposure_fraction": 0.5}
    job = parse_job({"archive": str(tmp_path / "archive"), "watch": [watch]})
    archive = Archive.create(tmp_path / "archive")
    found = {archive.id_of(str(a.source.id)) for a in arrivals(job) if a.source.path.endswith(paths)}
    assert len(found) == len(paths)


@pytest.mark.parametrize("order", [1, -1])
def test_two_places_whose_names_run_together(tmp_path: Path, order: int) -> None:
    """`1-x` of `north` is not `x` of `north-1`, whichever comes first, and neither changes its id ever after."""
    watch = []
    for level, (place, path) in enumerate([("north-1", "x"), ("north", "1-x")]):
        (tmp_path / place / path).mkdir(parents=True)
        for number in range(2):
            (tmp_path / place / path / f"{number}.png").write_bytes(png(10 * level + number))
        watch.append({"path": str(tmp_path / place), "exposure_fraction": 0.5, "quiet": 0})
    job = parse_job({"archive": str(tmp_path / "archive"), "watch": watch[::order]})
    first = {s.source.path: (s.id, s.fresh) for s in work.ingest(with_arrivals(job))}
    assert {id.partition("~")[0] for id, _ in first.values()} == {"north-1-x"}
    again = {s.source.path: (s.id, s.fresh) for s in work.ingest(with_arrivals(job))}
    assert again == {path: (id, False) for path, (id, _) in first.items()}
    archive = Archive.open(job.archive)
    for path, (id, _) in first.items():
        assert archive.sequence(id).source.read(0, 1).max() == (0 if path.endswith("/x") else 10)
        (Path(path) / "2.png").write_bytes(png(99))
    assert len({s.id for s in work.ingest(with_arrivals(job))}) == 4, "each has grown"
    shutil.move(tmp_path / "north", tmp_path / "moved")
    watch[1] |= {"path": str(tmp_path / "moved"), "id": "north"}
    moved = parse_job({"archive": str(tmp_path / "archive"), "watch": watch[:0:-1]})
    assert [s.fresh for s in work.ingest(with_arrivals(moved))] == [False, False]


def test_a_file_that_is_called_as_a_version_or_segment_of_another(tmp_path: Path) -> None:
    def ingested(*names: str) -> list[str]:
        sources = [{"path": str(tmp_path / name), "exposure_fraction": 0.5} for name in names]
        return [
            s.id for s in work.ingest(parse_job({"archive": str(tmp_path / "archive"), "sources": sources}))
        ]

    def folder(name: str, *levels: int) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        for number, level in enumerate(levels):
            file = tmp_path / name / f"{number}.png"
            if not file.exists() or file.read_bytes() != png(level):
                file.write_bytes(png(level))

    for number, name in enumerate(("a", "a-2", "a.s2", "b", "b-2", "b.s2")):
        folder(name, number, 20 + number)
    assert ingested("a-2", "a.s2", "a", "b") == ["a-2", "a.s2", "a", "b"]
    folder("a", 0, 20, 40)
    folder("b", 3, 23, 43)
    grown = ingested("a", "b")
    assert grown[0] == "a"
    assert grown[1].startswith("a.s2~")
    assert grown[2:] == ["b", "b.s2"]
    folder("a", 99, 98, 97)
    folder("b", 99, 98, 97)
    changed = ingested("a", "b")
    assert len(set(changed)) == 2
    others = ingested("a-2", "a.s2", "b-2", "b.s2")
    assert others[:2] == ["a-2", "a.s2"]
    assert not {*changed, *grown} & {*others}
    assert ingested("b.s2", "b-2", "b", "a") == [*others[:1:-1], *changed[::-1]]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be measured")
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    """Found, put in order and told apart from other sources, as a night does; what is held are their names."""
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, count in ((few, 100), (many, MANY)):
        folder.mkdir()
        for number in range(count):
            one = (
                tmp_path / f"{number // 50_000}.png"
            )  # a file has at most so many names on some file systems
            if not one.exists():
                one.write_bytes(png(7))
            os.link(one, folder / f"f{number}.png")

    def look(folder: Path, count: int) -> None:
        told = {"archive": str(tmp_path / "archive"), "sources": [{"path": str(folder)}]}
        (arrival,) = arrivals(parse_job(told))
        (reader,) = open_source(str(folder))
        with reader:
            assert arrival.stamp
            assert len(reader.frames) == count
            some = (0, 9, 10, count - 1)
            assert [reader.frames[at].name for at in some] == [f"f{at}.png" for at in some]
            assert fingerprint(reader, reader.source_files())

    def act() -> None:
        look(few, 100)  # what readers import is not the files' fault
        forget_peak()
        before = peak_memory()
        look(many, MANY)
        grown = peak_memory() - before
        print(f"{grown / MANY:.0f} bytes a file")
        assert grown < (ROOM + SLACK) * MANY

    assert end_of(child(act)) == 0


@pytest.mark.slow
def test_the_ingest_of_many_frames(tmp_path: Path) -> None:
    """What a frame more takes, when it is ingested and when the source is looked at later."""
    counts, taken = (64, 256, 1280), {}
    for count in counts:
        np.save(tmp_path / f"{count}.npy", np.zeros((count, 16, 16), np.uint8))
        told = {"archive": str(tmp_path / "archive"), "sources": [{"path": str(tmp_path / f"{count}.npy")}]}
        job = parse_job(told | {"tiling": {"chunk": 16, "shard": 16, "frames": 32}})
        with peak() as first:
            work.ingest(job)
        with peak() as later:
            work.ingest(job)
        taken[count] = first[0], later[0]
    _, few, many = counts  # the first also loads what is needed
    more = [(b - a) / (many - few) for a, b in zip(taken[few], taken[many], strict=True)]
    print(more)
    assert more[0] < 2 * ROOM  # Python has not thrown everything away
    assert more[1] < 16


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most bytes that Python and NumPy had during the block, beyond what they had before."""
    found = list[int]()
    gc.collect()
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
