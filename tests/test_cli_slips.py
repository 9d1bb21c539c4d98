"""The mistakes that people make most: one line that says what, why and what to do, the right code, and nothing touched."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from deblur import clusters
from deblur import job as work
from deblur.errors import meant, near
from tests.small import Command, tree, write_frames

JOBS = {  # what is changed in a good job file
    "key": ("exposure_fraction", "exposure_fracton"),
    "section": ("[tiling]", "[tilling]"),
    "number": ("exposure_fraction = 0.75", 'exposure_fraction = "half"'),
    "negative": ("exposure_fraction = 0.75", "exposure_fraction = -0.5"),
    "brackets": ("[tiling]", "[tiling"),
    "path": ('path = "frames"', 'path = "frmaes"'),
    "short": ('path = "frames"', 'path = "one"'),
    "nothing": ("[[sources]]", "[hooks]"),
    "method": ("[tiling]", '[restore]\nmethod = "varational"\n[tiling]'),
    "kernel": ("[tiling]", '[restore]\nmethod = "sparse"\n[tiling]'),
    "motion": ("[tiling]", '[motion]\nmethod = "fats"\n[tiling]'),
    "memory": ("[tiling]", '[limits]\nmemory = "lots"\n[tiling]'),
    "little": ("[tiling]", '[limits]\nmemory = "1 MiB"\n[tiling]'),
    "kind": ('kind = "serial"', 'kind = "slrum"'),
    "walltime": ('kind = "serial"', 'kind = "slurm"\nwalltime = "4 hours"'),
    "elsewhere": ('kind = "serial"', 'kind = "serial"\nqueue = "night"'),
    "exposure": ("exposure_fraction = 0.75", "frame_rate = 25\nexposure_time = 0.2"),
    "watched": ("[[sources]]", '[[watch]]\npath = "nowhere"\n[[sources]]'),
    "archive": ('archive = "archive"', 'archive = "frames"'),
    "secret": ('archive = "archive"', 'archive = "s3://key:word@bucket/archive"'),
}
MISTAKES = {  # the command, the code, words of the line
    # what to read
    "restore frmaes out": (1, "frmaes does not exist", "did you mean 'frames'?", "check the path"),
    "restore frames/*.pgn out": (1, "frames/*.pgn matches no PNG, JPEG or TIFF picture", "check the pattern"),
    "restore empty out": (1, "empty holds no PNG, JPEG or TIFF picture", "name the folder"),
    "restore notes.txt out": (1, "notes.txt can't be read", "convert it to PNG"),
    "restore nothing.mp4 out": (1, "nothing.mp4 is empty (0 bytes)", "copy it again"),
    "restore garbage.mp4 out": (1, "garbage.mp4 can't be read as video", "copy it again"),
    "restore garbage.tif out": (1, "garbage.tif is broken or no TIFF", "copy it again"),
    "restore garbage.npy out": (1, "garbage.npy is broken or no plain array", "save it again"),
    "restore mixed out -e 0.5": (1, "0003.png is 96x48", "the sequence is 96x64", "of their own"),
    "restore htp://host/clip.mp4 out": (2, "INPUT: ", "deblur knows no htp://", "give a folder, or s3://"),
    "restore s3://bucket/clip.mp4 out": (2, "obstore", "pip install 'deblur[objects]'"),
    # what to write
    "restore frames archive": (2, "archive exists already", "name another output or remove it"),
    "restore frames out.avi": (2, "out.avi ends in .avi", ".mp4"),
    "export archive frames out.avi": (2, "out.avi", "use"),
    "export archive frames frames": (2, "frames exists already", "name another"),
    "init job.toml": (2, "job.toml exists already", "give another name"),
    "init nowhere/job.toml": (2, "nowhere/job.toml can't be written", "give another place"),
    "list archive --output table.xlsx": (2, "table.xlsx", ".csv"),
    # options
    "restore frames out -e 1.5": (2, "--exposure-fraction: must be less than or equal to 1 (got 1.5)", "360° shutter = 1"),
    "restore frames out -e 0": (2, "--exposure-fraction", "greater than 0", "exposure time × frame rate"),
    "restore frames out --workers 0": (2, "--workers", "greater than or equal to 1", "processes"),
    "restore frames out --transfer srbg": (2, "--transfer", "did you mean 'srgb'?", "how codes become light"),
    "restore frames out --set restore.iteratons=3": (2, "no such setting", "did you mean 'restore.iterations'?"),
    "restore frames out --set restore.iterations": (2, "write it as KEY=VALUE"),
    "restore frames out --set restore.iterations=many": (2, "'many' is no whole number", "at most so many"),
    "run job.toml --until 25:00": (2, "--until 25:00", "no time of day", "write it as 06:00"),
    "run job.toml --sample -3": (2, "--sample -3", "give how many frames"),
    "verify archive --sample 5x": (2, "--sample 5x", "write a share, as 5%"),
    # the job file
    "plan jop.toml": (2, "jop.toml: no such job file", "did you mean 'job.toml'?", "deblur init"),
    "plan frames": (2, "frames is a folder", "name the job file"),
    "plan key.toml": (2, "sources.0.exposure_fracton: unknown key", "did you mean 'exposure_fraction'?", "correct it"),
    "plan section.toml": (2, "tilling: unknown key", "did you mean 'tiling'?"),
    "plan number.toml": (2, "sources.0.exposure_fraction: 'half' is no number", "360° shutter = 1"),
    "plan negative.toml": (2, "sources.0.exposure_fraction", "greater than 0 (got -0.5)", "exposure time × frame rate"),
    "plan brackets.toml": (2, "brackets.toml: not valid TOML", "line"),
    "plan path.toml": (1, "frmaes does not exist", "did you mean 'frames'?"),
    "plan short.toml": (1, "one frame only", "give at least two"),
    "plan nothing.toml": (2, "hooks.path: unknown key there, it belongs to sources or watch"),
    "plan method.toml": (2, "restore.method 'varational'", "did you mean 'variational'?", "use one of variational, fast"),
    "plan kernel.toml": (2, "restore.method 'sparse' is none that restores along a path: use one of variational"),
    "plan motion.toml": (2, "method 'fats' is unknown", "did you mean 'fast'?", "use one of"),
    "plan memory.toml": (2, "limits.memory", "'lots' is not a size", "write it like '4 GiB'"),
    "plan little.toml": (2, "limits.memory is 1 MiB"),
    "plan kind.toml": (2, "cluster.kind", "did you mean 'slurm'?"),
    "plan walltime.toml": (2, "cluster.walltime: '4 hours' is not written as it must be", "HH:MM:SS"),
    "plan elsewhere.toml": (2, "queue is for slurm", "not for kind = 'serial'", "remove one"),
    "plan exposure.toml": (2, "exposure_time × frame_rate is 5, beyond 1", "correct one of them"),
    "plan watched.toml": (1, "nowhere, which is watched, is no folder", "check the path"),
    "plan archive.toml": (1, "frames is not empty and not an archive", "choose another folder"),
    "plan secret.toml": (2, "archive", "environment"),
    # archives, sequences, runs, pixels
    "status archvie": (1, "archvie does not exist", "did you mean 'archive'?", "check the path"),
    "status frames": (1, "has no archive.json in it", "name the folder that `archive` in the job file tells"),
    "status job.toml": (1, "job.toml is no folder", "name the folder that `archive` in the job file tells"),
    "status newer": (1, "archive format 2", "update deblur"),
    "verify archive --sequence framse": (1, "framse", "did you mean 'frames'?"),
    "export archive framse out": (1, "framse", "did you mean 'frames'?"),
    "export archive frames out --run run-1": (1, "has no run 'run-1'", "it has: run-"),
    "explain archive/framse --frame 0 --at 3,3": (1, "no sequence 'framse'", "did you mean 'frames'?", "deblur status"),
    "explain archive --frame 0 --at 3,3": (1, "archive is a whole archive", "name one of its sequences"),
    "explain frames --frame 0 --at 3,3": (1, "is no archive", "write ARCHIVE/SEQUENCE"),
    "explain archive/frames --frame 9 --at 3,3": (2, "frame 9 at 3,3 is not in frames", "it has 4 frames of 64×96"),
    "explain archive/frames --frame 0 --at 99,3": (2, "frame 0 at 99,3 is not in frames", "4 frames of 64×96"),
    "explain archive/frames --frame 0 --at 3": (2, "--at 3", "write row and column, as 812,440"),
    "promote archive/frames@run-1": (1, "has no run 'run-1'", "it has: run-"),
    "rollback archive/frames": (1, "sequence frames has no earlier run", "deblur status"),
    "list archive --where qualty<1": (2, "no column 'qualty'", "did you mean 'quality'?"),
    "list archive --where quality<": (2, "--where: it ends too soon: expected a value"),
    "list archive --where camera=north": (2, "--where", "text"),
    "list archive --where time>yesterday": (2, "--where"),
    "reprocess job.toml --dry-run --sequence framse": (1, "framse", "did you mean 'frames'?"),
    "provenance archive/frames --format bagit": (2, "--format bagit needs a folder", "name it after the run"),
}  # fmt: skip


@pytest.fixture(scope="module")
def wrong(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames, a job, its archive, and everything that is wrong. Nobody changes it."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("wrong") / "folder"))
    good = (folder / "job.toml").read_text()
    for name, (old, new) in JOBS.items():
        assert old in good, name
        (folder / f"{name}.toml").write_text(good.replace(old, new, 1))
    (folder / "empty").mkdir()
    (folder / "nothing.mp4").touch()
    for name in ("notes.txt", "garbage.mp4", "garbage.tif", "garbage.npy"):
        (folder / name).write_text("no picture at all")
    write_frames(folder / "one", count=1)
    write_frames(folder / "mixed")
    import imagecodecs

    (folder / "mixed" / "0003.png").write_bytes(imagecodecs.png_encode(np.zeros((48, 96), np.uint8)))
    (folder / "newer" / "sequences").mkdir(parents=True)
    (folder / "newer" / "archive.json").write_text(json.dumps({"format": 2, "id": "x", "more": 1}))
    return folder


def content(folder: Path) -> dict[str, str]:
    """All that is there, but for who asked last whether nobody else works on it."""
    return {name: digest for name, digest in tree(folder).items() if "lease" not in name}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_touched(
    deblur: Command, wrong: Path, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, *words = MISTAKES[mistake]
    monkeypatch.chdir(wrong)
    monkeypatch.setitem(sys.modules, "obstore", None)
    before = content(wrong)
    said = deblur(*mistake.split())
    assert len(said.faults) == 1, said
    assert said.faults[0].startswith("deblur: ")
    assert [word for word in words if word not in said.faults[0]] == [], said.faults[0]
    assert said.code == code
    assert content(wrong) == before


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("restroe in out", "Did you mean 'restore'"),
        ("plan job.toml --jsn", "ptions: --json"),
        ("restore in", "Missing argument"),
        ("prune archive --keep -1", "Invalid value for '--keep'"),
        ("restore in out -e half", "Invalid value for '--exposure-fraction'"),
        ("retract archive/frames", "Missing option '--reason'"),
    ],
)
def test_a_wrong_word_is_shown_with_the_usage(deblur: Command, mistake: str, words: str) -> None:
    said = deblur(*mistake.split())
    assert said.code == 2
    assert words in " ".join(said.err.replace("│", " ").split())


def test_a_scheduler_that_does_not_answer(
    deblur: Command, wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "PATIENCE", 0.1)
    own = ["--set", "cluster.kind=address", "--set", "cluster.address=tcp://127.0.0.1:9"]
    said = deblur("restore", wrong / "frames", tmp_path / "out", "-e", "0.75", *own)
    (fault,) = said.faults
    assert said.code == 2
    assert "cluster.address tcp://127.0.0.1:9: no scheduler answers there" in fault
    assert "start one or correct it" in fault


def test_a_package_that_is_missing_is_named(
    deblur: Command, wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    said = deblur("list", wrong / "archive", "--output", tmp_path / "table.parquet")
    (fault,) = said.faults
    assert (said.code, list(tmp_path.iterdir())) == (2, [])
    assert "pip install 'deblur[parquet]'" in fault


def test_what_may_have_been_meant() -> None:
    assert meant("exposure_fracton", ["exposure_fraction"]) == " (did you mean 'exposure_fraction'?)"
    assert meant("something else", ["exposure_fraction"]) == ""
    assert near(Path("/nowhere/at all")) == ""


def test_what_nobody_foresaw_is_one_line_unless_debugging(
    deblur: Command, wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(work, "plan", broken)
    said = deblur("plan", wrong / "job.toml")
    assert said.code == 1
    assert said.faults == [
        "deblur: ZeroDivisionError: a b (not foreseen, so please report it; the same command with --debug shows where)"
    ]
    with pytest.raises(ZeroDivisionError):
        deblur("plan", wrong / "job.toml", "--debug")
