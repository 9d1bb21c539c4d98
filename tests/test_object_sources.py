"""A job whose sources, and a night whose watched place, lie in an object store."""

from __future__ import annotations

import sys
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from deblur import job as work
from deblur import night
from deblur.config import JobConfig, load_job
from deblur.damage import find_damage
from deblur.errors import ConfigError, StoreError
from deblur.io.export import export_frames
from deblur.place import ObjectPlace, Stat, place
from deblur.store import Archive
from deblur.types import SequenceHeader
from deblur.watch import arrivals
from tests.conftest import pan
from tests.io.test_sound import NOTES, film
from tests.objects import upload
from tests.small import HEIGHT, JOB, SMALL_UNITS, WIDTH, Command, tree, write_frames, write_job

pytest.importorskip("obstore", reason="deblur[objects] is not installed")
LONG_AGO, NOW = 1.6e9, 1.7e9


@pytest.fixture
def there(bucket: str) -> ObjectPlace:
    found = place(bucket)
    assert isinstance(found, ObjectPlace)
    return found


@pytest.fixture
def memory() -> ObjectPlace:
    found = place("memory://jobs/in")
    assert isinstance(found, ObjectPlace)
    found.delete_tree()
    return found


def write_clip(path: Path) -> None:
    header = SequenceHeader(path.stem, (1, HEIGHT, WIDTH), "uint8", ("grey",), frame_rate=25.0)
    export_frames(iter(pan(4, HEIGHT, WIDTH)[0]), path, header=header, names=list("0123"))


@pytest.mark.parametrize("kind", ["frames", "frames/*.png", "clip.mkv", "stack.ome.zarr"])
def test_the_stored_source_is_that_of_the_files(
    kind: str, tmp_path: Path, there: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames, their digests and names, every shard: bit for bit; and not a byte is written to the store."""
    (tmp_path / "in").mkdir()
    if kind.startswith("frames"):
        write_frames(tmp_path / "in" / "frames")
    elif kind == "clip.mkv":
        write_clip(tmp_path / "in" / kind)
    else:
        import zarr

        zarr.create_array(str(tmp_path / "in" / kind), data=pan(4, HEIGHT, WIDTH)[0], chunks=(2, 1, 32, 32))
    upload(tmp_path / "in", there)

    def refuse(*_: Any) -> None:
        raise AssertionError("a source is only read")

    monkeypatch.setattr(ObjectPlace, "_put", refuse)
    found = []
    for name, path in (("local", f"{tmp_path}/in/{kind}"), ("remote", f"{there}/{kind}")):
        (tmp_path / name).mkdir()
        job = load_job(write_job(tmp_path / name, path=path))
        (item,) = work.ingest(job)
        assert (item.error, item.broken, item.frames) == (None, (), 4)
        source = Archive.open(tmp_path / name / "archive").sequence(item.id).source
        found.append(
            (item.id, list(source.frames), source.shard_digests(0, 4), replace(source.header, metadata={}))
        )
        assert source.header.metadata["deblur"]["source"]["path"] == path
        (again,) = work.ingest(job)
        assert (again.id, again.fresh) == (item.id, False)
    assert found[0] == found[1]


def test_a_clip_in_a_store_keeps_its_sound(tmp_path: Path, memory: ObjectPlace, deblur: Command) -> None:
    (tmp_path / "in").mkdir()
    film(tmp_path / "in" / "walk.mp4")
    film(tmp_path / "in" / "odd.mkv", audio="wavpack")
    upload(tmp_path / "in", memory)
    said = deblur("restore", memory / "walk.mp4", tmp_path / "out.mp4", "-e", "0.75", *SMALL_UNITS)
    assert (said.code, said.faults) == (0, [])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert NOTES.items() <= dict(container.metadata).items()
    said = deblur("restore", memory / "odd.mkv", tmp_path / "odd.mp4", "-e", "0.75", *SMALL_UNITS)
    assert said.code == 2
    assert f"can't hold the audio of {memory}/odd.mkv (wavpack): write .mkv" in said.faults[0]


@pytest.mark.parametrize("path", ["", "/*.jpg"])
def test_pictures_in_a_store_keep_their_exif(
    path: str, tmp_path: Path, memory: ObjectPlace, deblur: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"  # GPSLatitudeRef
    for number, frame in enumerate(pan(7, HEIGHT, WIDTH)[0]):
        Image.fromarray(frame[0]).save(tmp_path / "in" / f"{number}.jpg", exif=exif, quality=95)
    upload(tmp_path / "in", memory)
    job = write_job(tmp_path, path=f"{memory}{path}")
    (outcome,) = work.run(load_job(job))

    def exported(to: str) -> list[dict[int, Any]]:
        said = deblur("export", tmp_path / "archive", outcome.sequence.id, tmp_path / to)
        assert (said.code, said.faults) == (0, left_out if to == "unasked" else [])
        found = [Image.open(file).getexif() for file in sorted((tmp_path / to).iterdir())]
        return [{**one, **one.get_ifd(0x8825)} for one in found]

    left_out = [
        "addresses of object stores need obstore: pip install 'deblur[objects]': audio, notes and EXIF are left out"
    ]
    notes = exported("out")
    assert len(notes) == 7  # more than are copied at a time
    assert {(one[0x010F], one[1]) for one in notes} == {("Maker", "N")}
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "obstore", None)
        assert not any(exported("unasked"))
    memory.delete_tree()
    assert not any(exported("gone"))


def test_what_grew_becomes_a_segment(tmp_path: Path, memory: ObjectPlace) -> None:
    write_frames(tmp_path / "frames", count=6)
    names = [f"{number:04d}.png" for number in range(6)]
    for name in names[:4]:
        upload(tmp_path / "frames", memory / "frames", name)
    job = load_job(write_job(tmp_path, path=f"{memory}/frames/"))
    assert [item.id for item in work.ingest(job)] == ["frames"]
    for name in names[4:]:
        upload(tmp_path / "frames", memory / "frames", name)
    ids = [(item.id, item.frames, item.fresh) for item in work.ingest(job)]
    assert ids == [("frames", 4, False), ("frames.s2", 3, True)]  # a frame of context, and the new ones
    (memory / "frames/0001.png").write_bytes((tmp_path / "frames/0002.png").read_bytes())
    assert [(item.id, item.fresh) for item in work.ingest(job)] == [("frames-2", True)]


def test_an_object_that_changes_during_ingest_breaks_no_frame(tmp_path: Path, memory: ObjectPlace) -> None:
    write_frames(tmp_path / "frames", count=12)
    upload(tmp_path / "frames", memory)
    job = load_job(write_job(tmp_path, path=str(memory)))
    before = tree(tmp_path)

    def progress(stage: str, done: int, total: int) -> None:
        if done == 2:
            (memory / "0010.png").write_bytes(b"other")

    with pytest.raises(StoreError, match=r"in/0010\.png changed while it was read"):
        work.ingest(job, progress=progress)
    assert tree(tmp_path) == before  # no archive


def test_a_broken_object_is_quarantined_by_its_address(tmp_path: Path, memory: ObjectPlace) -> None:
    write_frames(tmp_path / "frames", count=12)
    upload(tmp_path / "frames", memory)
    (memory / "0003.png").write_bytes(b"no picture")
    (item,) = work.ingest(load_job(write_job(tmp_path, path=str(memory))))
    (line,) = item.broken
    assert line.startswith(f"{memory}/0003.png ")


@pytest.mark.parametrize("path", ["", "/*.png"])
def test_an_original_that_changed_later_is_told_by_verify(
    path: str, tmp_path: Path, memory: ObjectPlace
) -> None:
    write_frames(tmp_path / "frames")
    upload(tmp_path / "frames", memory)
    work.ingest(load_job(write_job(tmp_path, path=f"{memory}{path}")))
    archive = Archive.open(tmp_path / "archive")
    assert list(find_damage(archive, originals=True)) == []
    (memory / "0002.png").write_bytes(b"other")
    (damage,) = find_damage(archive, originals=True)
    assert f"{memory}/0002.png is not what was ingested" in damage.problem.message


def test_addresses_with_credentials_are_refused_unread(tmp_path: Path) -> None:
    for path in ("s3://me:hidden@bucket/a.png", "s3://bucket/a.png?X-Amz-Signature=hidden"):
        with pytest.raises(ConfigError, match="no user, query or fragment") as caught:
            load_job(write_job(tmp_path, path=path))
        assert "hidden" not in str(caught.value)


def watching(folder: Path, there: ObjectPlace, *, pattern: str = "*") -> JobConfig:
    source = f'pattern = "{pattern}"\nquiet = 60\n'
    text = JOB.format(path=there, fraction=0.75, kind="serial", extra="", source=source)
    (folder / "job.toml").write_text(text.replace("[[sources]]", "[[watch]]"))
    return load_job(folder / "job.toml")


def aged(monkeypatch: pytest.MonkeyPatch, ages: dict[str, float]) -> None:
    """Have objects tell that they are older than they are: a server sets their times."""
    usual = ObjectPlace.walk

    def walk(self: ObjectPlace) -> Any:
        for file, stat in usual(self):
            when = next((at for part, at in ages.items() if f"/{part}" in str(file)), stat.st_mtime)
            yield file, Stat(stat.st_size, when, stat.e_tag)

    monkeypatch.setattr(ObjectPlace, "walk", walk)


def test_a_night_with_a_watched_bucket(
    tmp_path: Path, there: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = there / "incoming"
    write_frames(tmp_path / "old")
    write_frames(tmp_path / "growing")
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "clip.mkv")
    for name in ("old", "growing", ".unfinished"):
        upload(tmp_path / name.replace(".unfinished", "old"), incoming / name)
    upload(tmp_path / "clips", incoming)
    mark = urllib.parse.urlsplit(str(incoming / "empty"))  # as consoles make folders
    request = urllib.request.Request(
        f"{urllib.parse.urlsplit(_endpoint()).geturl()}/{mark.netloc}{mark.path}/", method="PUT", data=b""
    )
    urllib.request.urlopen(request, timeout=30).close()
    aged(monkeypatch, {"old": LONG_AGO, "clip": NOW - 1, "growing": NOW - 10})
    job = watching(tmp_path, incoming)

    found = night.find(job, now=NOW)
    assert [arrival.source.path for arrival in found.todo] == [f"{incoming}/clip.mkv", f"{incoming}/old"]
    assert found.written == (f"{incoming}/growing",)  # objects are whole, a folder may get more of them
    outcomes = [o for batch in night.batches(found.todo) for o in night.work_on(job, batch)]
    assert [(o.sequence.id, o.published) for o in outcomes] == [
        ("incoming-clip.mkv", True),
        ("incoming-old", True),
    ]
    found = night.find(job, now=NOW)
    assert (found.todo, found.unchanged) == ((), 2)
    found = night.find(job, now=NOW + 60)
    assert [arrival.source.path for arrival in found.todo] == [f"{incoming}/growing"]
    (incoming / "old/0001.png").write_bytes((tmp_path / "old/0002.png").read_bytes())
    assert [a.source.path for a in night.find(job, now=NOW).todo] == [f"{incoming}/old"]  # another ETag


def _endpoint() -> str:
    import os

    return os.environ["AWS_ENDPOINT_URL"]


def test_patterns_of_watched_places(tmp_path: Path, memory: ObjectPlace) -> None:
    for name in ("a/x.mp4", "a/y.txt", "b/deep/z.mp4", "c.mp4", "s.ome.zarr/zarr.json", "s.ome.zarr/0/c/0"):
        (memory / name).write_bytes(b"1")

    def seen(pattern: str) -> set[str]:
        found = arrivals(watching(tmp_path, memory, pattern=pattern))
        return {arrival.source.path.removeprefix(f"{memory}/") for arrival in found}

    assert seen("*") == {"a", "b", "c.mp4", "s.ome.zarr"}
    assert seen("*/*.mp4") == {"a/x.mp4"}
    assert seen("**/*.mp4") == {"a/x.mp4", "b/deep/z.mp4", "c.mp4"}
    assert seen("*.ome.zarr") == {"s.ome.zarr"}
    assert seen("none*") == set()


def test_a_place_that_cannot_be_listed(tmp_path: Path, there: ObjectPlace) -> None:
    absent = place(f"{there.root}-absent/incoming")
    assert isinstance(absent, ObjectPlace)
    with pytest.raises(StoreError, match="there is no bucket"):
        night.find(watching(tmp_path, absent), now=NOW)
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path, path=str(absent)))
    both = job.model_copy(update={"sources": (*job.sources, job.sources[0].model_copy(
        update={"path": str(tmp_path / "frames")}))})  # fmt: skip
    good, bad = night.find(both, now=NOW).todo  # one source's fault is not the others'
    assert (bool(good.stamp), bad.stamp) == (True, "")
    first, second = work.ingest(both)
    assert "there is no bucket" in str(first.error)
    assert second.error is None


def test_pixels_in_place_equal_those_that_were_written(tmp_path: Path, memory: ObjectPlace) -> None:
    import zarr

    frames = pan(4, HEIGHT, WIDTH)[0]
    for form in (2, 3):
        name = f"v{form}.zarr"
        group = zarr.create_group(str(tmp_path / name), zarr_format=form)  # type: ignore[arg-type]
        group.create_array("pictures", data=frames, chunks=(1, 1, 32, 32), **({"shards": (2, 1, 64, 96)}
                           if form == 3 else {}))  # fmt: skip
        upload(tmp_path / name, memory / name)
        (tmp_path / str(form)).mkdir()
        (item,) = work.ingest(load_job(write_job(tmp_path / str(form), path=f"{memory}/{name}")))
        source = Archive.open(tmp_path / str(form) / "archive").sequence(item.id).source
        assert np.array_equal(source.read(0, 4), frames)
