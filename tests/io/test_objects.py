"""Sources in object stores: the same as from files, a few copies at a time, and never a mixture."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deblur.errors import DeblurError, ReadError, StoreError
from deblur.io import Reader, open_source
from deblur.io import objects as module
from deblur.io.objects import KEPT, matching
from deblur.place import ObjectPlace, Stat, place
from tests.io.test_contract import COUNT, SAMPLES, WRITERS, label, truth, write_npy, write_pngs, write_zarr
from tests.objects import upload

pytest.importorskip("obstore", reason="deblur[objects] is not installed")


@pytest.fixture
def memory() -> ObjectPlace:
    """An empty prefix of a store within this process."""
    found = place("memory://sources/in")
    assert isinstance(found, ObjectPlace)
    found.delete_tree()
    return found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def address_of(source: str, folder: Path, there: ObjectPlace) -> str:
    return f"{there}/{Path(source).relative_to(folder).as_posix()}" if source != str(folder) else str(there)


def same(local: Reader, remote: Reader) -> None:
    assert remote.header == local.header
    assert list(remote.frames) == list(local.frames)
    for index in range(len(local.frames)):
        assert np.array_equal(remote.read(index), local.read(index))
        assert remote.digest(index) == local.digest(index)


@pytest.mark.parametrize("sample", SAMPLES, ids=label)
def test_frames_are_those_of_the_files(
    sample: Any, tmp_path: Path, memory: ObjectPlace, scratch: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = sample.write(folder, truth(sample.dtype, sample.channels))
    upload(folder, memory)
    before = {str(at): stat for at, stat in memory.walk()}
    with open_source(source)[0] as local, open_source(address_of(source, folder, memory))[0] as remote:
        same(local, remote)
        assert {str(file) for file in remote.source_files()} <= set(before)
        assert remote.source_files()
    assert {str(at): stat for at, stat in memory.walk()} == before
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_from_a_server(
    write: Callable[[Path, NDArray[Any]], str], tmp_path: Path, bucket: str, scratch: Path
) -> None:
    there = place(f"{bucket}/deep/in")
    assert isinstance(there, ObjectPlace)
    folder = tmp_path / "in"
    folder.mkdir()
    source = write(folder, truth("uint8", 1))
    upload(folder, there)
    with open_source(source)[0] as local, open_source(address_of(source, folder, there))[0] as remote:
        same(local, remote)
    assert list(scratch.iterdir()) == []


def test_a_few_copies_at_a_time(tmp_path: Path, memory: ObjectPlace, scratch: Path) -> None:
    write_pngs(tmp_path, truth("uint8", 1))
    upload(tmp_path, memory, "*.png")
    (reader,) = open_source(str(memory))
    most = 0
    with reader:
        for index in range(COUNT):
            reader.read(index)
            most = max(most, len(files_in(scratch)))
    assert 1 <= most <= KEPT < COUNT
    assert list(scratch.iterdir()) == []


def test_the_next_are_on_their_way_while_one_is_read(
    tmp_path: Path, memory: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pngs(tmp_path, truth("uint8", 1))
    upload(tmp_path, memory, "*.png")
    begun = {f"f{number}.png": threading.Event() for number in range(8, 8 + COUNT)}
    usual = module.Seen.copy_to

    def copy_to(self: module.Seen, path: Path) -> str:
        begun[self.name].set()
        return usual(self, path)

    monkeypatch.setattr(module.Seen, "copy_to", copy_to)
    with open_source(str(memory))[0] as reader:
        reader.read(0)
        assert not begun["f9.png"].is_set()  # who looks at the first only needs no other
        reader.read(1)
        assert begun["f10.png"].wait(30)
        assert begun["f11.png"].wait(30)
        reader.read(5)  # a jump
        assert np.array_equal(reader.read(2), truth("uint8", 1)[2])
        assert not begun["f14.png"].is_set()


def test_each_object_is_fetched_once(
    tmp_path: Path, memory: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pngs(tmp_path, truth("uint8", 1))
    upload(tmp_path, memory, "*.png")
    asked: list[str] = []
    usual = module.Seen.copy_to
    monkeypatch.setattr(module.Seen, "copy_to", lambda self, to: asked.append(self.name) or usual(self, to))
    with open_source(str(memory))[0] as reader:
        for index in range(COUNT):
            reader.read(index)
        assert all(info.name for info in reader.frames)
        assert all(reader.digest(index) for index in range(COUNT))
    assert sorted(asked) == sorted(path.name for path in tmp_path.glob("*.png"))


@pytest.mark.parametrize("write", [write_pngs, write_npy, write_zarr], ids=lambda write: write.__name__)
@pytest.mark.parametrize("gone", [False, True], ids=["replaced", "gone"])
def test_an_object_that_changes_fails_by_name(
    write: Callable[[Path, NDArray[Any]], str],
    gone: bool,
    tmp_path: Path,
    bucket: str,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = place(bucket)
    assert isinstance(there, ObjectPlace)
    source = write(tmp_path, truth("uint8", 1))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "zarr.json"]
    upload(tmp_path, there)
    address = address_of(source, tmp_path, there)
    last = max(files, key=lambda path: path.as_posix()).relative_to(tmp_path).as_posix()

    def change() -> None:
        data = (there / last).read_bytes()
        (there / last).unlink() if gone else (there / last).write_bytes(data[:-1] + b"?")

    expected = f"{there}/{last} changed while it was read: run again"
    if write is write_npy:  # one object: it is fetched as it is opened
        usual = module.look

        def looked(at: ObjectPlace) -> Any:
            found = usual(at)
            change()
            return found

        monkeypatch.setattr(module, "look", looked)
        with pytest.raises(StoreError, match=expected):
            open_source(address)
    else:
        with open_source(address)[0] as reader:
            change()
            with pytest.raises(StoreError, match=expected):
                list(map(reader.read, range(COUNT)))
    assert list(scratch.iterdir()) == []


def test_a_broken_frame_is_named_by_its_address(tmp_path: Path, memory: ObjectPlace) -> None:
    write_pngs(tmp_path, truth("uint8", 1))
    upload(tmp_path, memory, "*.png")
    broken = memory / "f11.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with open_source(f"{memory}/f*.png")[0] as reader:
        assert len([info.name for info in reader.frames]) == COUNT
        for index in range(COUNT):
            if index == 3:
                with pytest.raises(ReadError, match=f"^{broken} is "):
                    reader.read(index)
            else:
                reader.read(index)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("absent", "does not exist"),
        ("absent/*.png", "matches no PNG, JPEG or TIFF picture"),
        ("notes", "holds no PNG, JPEG or TIFF picture"),
        ("notes/*", "matches no PNG, JPEG or TIFF picture"),
        ("clip.gif", "GIF has a palette"),
        ("notes/a.txt", r"files named \*\.txt are not read"),
        ("empty.mp4", r"is empty \(0 bytes\)"),
        ("bad.npy", "is broken or no plain array"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, told: str, memory: ObjectPlace, scratch: Path) -> None:
    for file in ("notes/a.txt", "clip.gif", "bad.npy"):
        (memory / file).write_bytes(b"x" * 100)
    (memory / "empty.mp4").write_bytes(b"")
    with pytest.raises(ReadError, match=told) as caught:
        open_source(f"{memory}/{name}")
    assert str(caught.value).startswith(f"{memory}/{name} ")
    assert "\n" not in str(caught.value)
    assert list(scratch.iterdir()) == []


def test_faults_of_the_store_are_one_line(bucket: str) -> None:
    for address in (f"{bucket}-absent/a.png", f"{bucket}-absent/frames", f"{bucket}-absent/*.png"):
        with pytest.raises(StoreError, match="there is no bucket") as caught:
            open_source(address)
        assert "\n" not in str(caught.value)
    with pytest.raises(DeblurError, match="no user, query or fragment"):
        open_source("s3://me:secret@bucket/a.png")


def test_a_copy_that_does_not_fit_is_not_begun(
    memory: ObjectPlace, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (memory / "a.npy").write_bytes(b"x" * 100)
    usage = type("Usage", (), {"free": 99})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="set TMPDIR to a larger place"):
        open_source(f"{memory}/a.npy")
    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_is_swept_up(memory: ObjectPlace, scratch: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine, other = (scratch / f"{module._prefix()}{pid}-abc" for pid in (os.getpid(), gone.pid))
    foreign = scratch / f"deblur-source-elsewhere-{gone.pid}-abc"
    for folder in (mine, other, foreign):
        folder.mkdir()
    (memory / "a.npy").write_bytes(b"x")
    with pytest.raises(ReadError, match="is broken"):
        open_source(f"{memory}/a.npy")
    assert set(scratch.iterdir()) == {mine, foreign}


@pytest.mark.parametrize("tag", ["0x8D", '"0x8D"'])
def test_tags_are_compared_without_their_quotes(tag: str) -> None:
    """Azure's listings leave out what its answers hold."""
    seen = module.Seen("az://box", "a", Stat(3, 0.0, tag))
    assert seen.condition == {"if_match": '"0x8D"'}
    seen.check({"size": 3, "e_tag": '"0x8D"'})
    with pytest.raises(StoreError, match="changed while it was read"):
        seen.check({"size": 3, "e_tag": '"0x8E"'})


NAMES = st.lists(st.sampled_from(["a", "b1", ".h", "c.png", "d.tif"]), min_size=1, max_size=3).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(["*", "**", "a", "[ab]*", "*.png", ".*", "b1"]), min_size=1, max_size=3
).filter(lambda parts: parts[-1] != "**")


@settings(max_examples=30)
@given(names=st.sets(NAMES, min_size=1, max_size=6), pattern=PATTERNS.map("/".join))
def test_patterns_mean_what_they_do_for_files(names: set[str], pattern: str) -> None:
    """Of glob's: an object is no folder, so of names where one lies below another the longer ones stay."""
    names = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    there = place("memory://patterns/below")
    assert isinstance(there, ObjectPlace)
    there.delete_tree()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(b"1")
            (there / name).write_bytes(b"1")
        expected = {
            os.path.relpath(path, folder) for path in glob.iglob(f"{folder}/{pattern}", recursive=True)
        }
    assert set(matching(there, pattern)) == expected - {"."}
