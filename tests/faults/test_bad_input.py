"""Whatever is wrong with the input: one line that names it and the remedy, and the archive is as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import pan
from tests.faults.odd_input import ODD, Prepare
from tests.small import HEIGHT, WIDTH, Command, tree, write_frames, write_job


def picture(folder: Path, number: int) -> Path:
    return folder / "frames" / f"{number:04d}.png"


def frames(folder: Path, count: int = 4) -> Path:
    write_frames(folder / "frames", count=count)
    return write_job(folder)


def array(folder: Path, values: Any) -> Path:
    np.save(folder / "clip.npy", values)
    return write_job(folder, path="clip.npy")


def missing(folder: Path) -> Path:
    return write_job(folder, path="nowhere")


def empty_folder(folder: Path) -> Path:
    (folder / "frames").mkdir()
    return write_job(folder)


def no_match(folder: Path) -> Path:
    return write_job(folder, path="frames/*.png")


def empty_file(folder: Path) -> Path:
    (folder / "clip.mp4").touch()
    return write_job(folder, path="clip.mp4")


def empty_frame(folder: Path) -> Path:
    job = frames(folder)
    picture(folder, 2).write_bytes(b"")
    return job


def truncated_frame(folder: Path) -> Path:
    job = frames(folder)
    whole = picture(folder, 2).read_bytes()
    picture(folder, 2).write_bytes(whole[: len(whole) // 2])
    return job


def truncated_header(folder: Path) -> Path:
    job = frames(folder)
    for number in range(4):
        picture(folder, number).write_bytes(picture(folder, number).read_bytes()[:20])
    return job


def truncated_array(folder: Path) -> Path:
    job = array(folder, pan(4, HEIGHT, WIDTH)[0])
    whole = (folder / "clip.npy").read_bytes()
    (folder / "clip.npy").write_bytes(whole[: len(whole) // 2])
    return job


def truncated_video(folder: Path) -> Path:
    from deblur.io.export import export_frames
    from deblur.types import SequenceHeader

    header = SequenceHeader("clip", (1, HEIGHT, WIDTH), "uint8", ("grey",))
    export_frames(iter(pan(4, HEIGHT, WIDTH)[0]), folder / "clip.mp4", header=header, names=list("abcd"))
    whole = (folder / "clip.mp4").read_bytes()
    (folder / "clip.mp4").write_bytes(whole[: len(whole) // 3])
    return write_job(folder, path="clip.mp4")


def truncated_tiff(folder: Path) -> Path:
    from deblur.io.export import export_frames
    from deblur.types import SequenceHeader

    header = SequenceHeader("clip", (1, HEIGHT, WIDTH), "uint8", ("grey",))
    export_frames(iter(pan(4, HEIGHT, WIDTH)[0]), folder / "clip.tif", header=header, names=list("abcd"))
    whole = (folder / "clip.tif").read_bytes()
    (folder / "clip.tif").write_bytes(whole[: len(whole) // 3])
    return write_job(folder, path="clip.tif")


def mixed_size(folder: Path) -> Path:
    import imagecodecs

    job = frames(folder)
    picture(folder, 2).write_bytes(imagecodecs.png_encode(np.zeros((HEIGHT, WIDTH + 8), np.uint8)))
    return job


def mixed_depth(folder: Path) -> Path:
    import imagecodecs

    job = frames(folder)
    picture(folder, 2).write_bytes(imagecodecs.png_encode(np.zeros((HEIGHT, WIDTH), np.uint16)))
    return job


def not_a_picture(folder: Path) -> Path:
    job = frames(folder)
    picture(folder, 1).write_text("this is not a picture\n")
    return job


def one_frame(folder: Path) -> Path:
    return frames(folder, count=1)


def not_finite(value: float) -> Prepare:
    def prepare(folder: Path) -> Path:
        values = pan(4, HEIGHT, WIDTH)[0].astype(np.float32) / 255
        values[2, 0, 5, 7] = value
        return array(folder, values)

    return prepare


def refused_kind(folder: Path) -> Path:
    (folder / "clip.gif").write_bytes(b"GIF89a")
    return write_job(folder, path="clip.gif")


READ: dict[str, tuple[Prepare, list[str]]] = {
    "missing": (missing, ["nowhere", "check the path"]),
    "a folder without pictures": (empty_folder, ["frames", "name the folder"]),
    "a pattern that nothing matches": (no_match, ["*.png", "check the pattern"]),
    "an empty file": (empty_file, ["clip.mp4", "0 bytes", "copy it again"]),
    "an empty frame": (empty_frame, ["0002.png", "0 bytes", "copy it again"]),
    "a truncated frame": (truncated_frame, ["0002.png", "copy it again"]),
    "frames truncated in the header": (truncated_header, ["0000.png", "copy it again"]),
    "a truncated array": (truncated_array, ["clip.npy"]),
    "a truncated video": (truncated_video, ["clip.mp4"]),
    "a truncated TIFF": (truncated_tiff, ["clip.tif"]),
    "mixed sizes": (
        mixed_size,
        ["0002.png", f"{WIDTH + 8}x{HEIGHT}", f"{WIDTH}x{HEIGHT}", "sequence of their own"],
    ),
    "mixed depths": (mixed_depth, ["0002.png", "uint16", "uint8"]),
    "no picture at all": (not_a_picture, ["0001.png", "convert it or leave it out"]),
    "one frame only": (one_frame, ["frames", "one frame only", "at least two"]),
    "NaN": (not_finite(float("nan")), ["clip", "NaN", "fill those pixels"]),
    "infinity": (not_finite(float("inf")), ["clip", "infinity", "fill those pixels"]),
    "a kind that is not read": (refused_kind, ["clip.gif", "convert it"]),
    **ODD,
}


def setting(**told: Any) -> Prepare:
    def prepare(folder: Path) -> Path:
        write_frames(folder / "frames")
        return write_job(folder, **told)

    return prepare


def no_toml(folder: Path) -> Path:
    (folder / "job.toml").write_text("archive = \n")
    return folder / "job.toml"


def no_job(folder: Path) -> Path:
    return folder / "job.toml"


SET: dict[str, tuple[Prepare, list[str]]] = {
    "a negative exposure fraction": (setting(fraction=-0.5), ["sources.0.exposure_fraction", "greater than 0"]),
    "no exposure at all": (setting(fraction=0), ["sources.0.exposure_fraction", "greater than 0"]),
    "an exposure fraction over 1": (setting(fraction=1.5), ["sources.0.exposure_fraction", "less than or equal to 1"]),
    "an exposure longer than a frame": (
        setting(source="exposure_time = 0.1\nframe_rate = 25"), ["exposure_time", "frame_rate", "2.5", "correct one"]
    ),
    "an unknown key": (
        setting(extra="achive = 'x'"), ["achive", "unknown key", "did you mean 'archive'", "remove or correct"]
    ),
    "an unknown key of a source": (setting(source="fps = 25"), ["sources.0.fps", "unknown key"]),
    "an unknown section": (setting(extra="[tilling]\nwindow = 64"), ["tilling", "did you mean 'tiling'"]),
    "an unknown motion method": (setting(extra="[motion]\nmethod = 'magic'"), ["motion.method", "magic", "accurate"]),
    "an unknown solver": (setting(extra="[restore]\nmethod = 'magic'"), ["restore.method", "magic", "variational"]),
    "no TOML": (no_toml, ["job.toml", "not valid TOML"]),
    "no job file": (no_job, ["job.toml", "no such job file"]),
}  # fmt: skip


@pytest.mark.parametrize("archive", ["new", "old"])
@pytest.mark.parametrize(("case", "code"), [*((name, 1) for name in READ), *((name, 2) for name in SET)])
def test_bad_input_is_one_line_and_the_archive_stays_as_it_was(
    deblur: Command, tmp_path: Path, case: str, code: int, archive: str
) -> None:
    if archive == "old":
        (tmp_path / "before").mkdir()
        good = frames(tmp_path / "before")
        good.write_text(good.read_text().replace('"archive"', '"../archive"'))
        assert deblur("ingest", good).code == 0
    prepare, words = (READ | SET)[case]
    job = prepare(tmp_path)
    before = tree(tmp_path)
    said = deblur("plan", job)
    assert said.code == code
    (fault,) = said.faults
    assert fault.startswith("deblur: ")
    assert [word for word in words if word not in fault] == []
    assert tree(tmp_path) == before


def test_a_frame_that_may_not_be_read(
    deblur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = frames(tmp_path)
    before = tree(tmp_path)
    usual = Path.open

    def guarded(self: Path, *arguments: Any, **options: Any) -> Any:  # permissions don't stop root
        if self.name == "0002.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return usual(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    said = deblur("ingest", job)
    monkeypatch.undo()
    assert said.code == 1
    (fault,) = said.faults
    assert "0002.png" in fault
    assert "Permission denied" in fault
    assert tree(tmp_path) == before


def test_a_folder_that_may_not_be_read(
    deblur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = frames(tmp_path)
    before = tree(tmp_path)
    usual = os.scandir

    def guarded(path: Any = ".") -> Any:  # permissions don't stop root
        if str(path) == str(tmp_path / "frames"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", guarded)
    said = deblur("ingest", job)
    monkeypatch.undo()
    assert (said.code, len(said.faults)) == (1, 1)
    assert f"{tmp_path / 'frames'}: Permission denied: check permissions" in said.faults[0]
    assert tree(tmp_path) == before


def test_a_disk_that_fills_up_during_ingest(
    deblur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deblur.store import SourceWriter

    job = frames(tmp_path)
    before = tree(tmp_path)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SourceWriter, "write", full)
    said = deblur("ingest", job)
    monkeypatch.undo()
    assert (said.code, len(said.faults)) == (1, 1)
    assert "No space left on device" in said.faults[0]
    assert tree(tmp_path) == before


def test_somebody_elses_folder_is_not_made_an_archive(deblur: Command, tmp_path: Path) -> None:
    job = frames(tmp_path)
    (tmp_path / "archive" / "sequences").mkdir(parents=True)
    (tmp_path / "archive" / "sequences" / "precious.txt").write_text("mine")
    (tmp_path / "archive" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    said = deblur("ingest", job)
    assert (said.code, len(said.faults)) == (1, 1)
    assert "choose another folder" in said.faults[0]
    assert tree(tmp_path) == before


def test_an_empty_folder_given_as_the_archive_is_still_there_after_a_failure(
    deblur: Command, tmp_path: Path
) -> None:
    job = truncated_frame(tmp_path)
    (tmp_path / "archive").mkdir()
    before = tree(tmp_path)
    assert deblur("ingest", job).code == 1
    assert tree(tmp_path) == before


def test_every_source_that_failed_is_named(deblur: Command, tmp_path: Path) -> None:
    job = missing(tmp_path)
    text = job.read_text()
    job.write_text(text + '[[sources]]\npath = "neither"\n')
    said = deblur("plan", job)
    assert said.code == 1
    (fault,) = said.faults
    assert "nowhere does not exist" in fault
    assert "neither does not exist" in fault
    assert not (tmp_path / "archive").exists()


def test_a_bad_source_does_not_stop_a_good_one(deblur: Command, tmp_path: Path) -> None:
    job = frames(tmp_path)
    job.write_text(job.read_text() + '[[sources]]\npath = "nowhere"\n')
    said = deblur("plan", job)
    assert said.code == 1
    assert "frames" in said.out
    (fault,) = said.faults
    assert "nowhere does not exist" in fault
