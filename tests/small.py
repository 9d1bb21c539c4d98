"""A job small enough to be run in a test, the folder it works on, and the command line as a function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import job as work
from deblur.cli import main
from deblur.config import load_job
from deblur.io.export import export_frames
from deblur.types import SequenceHeader
from tests.conftest import pan

COUNT, HEIGHT, WIDTH = 4, 64, 96
PROGRESS = re.compile(r".+: \d+/\d+|Dask (dashboard|metrics): .+")
TILING = {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2}
SMALL_UNITS = [
    part for key, value in (TILING | {"frames": 1}).items() for part in ("--set", f"tiling.{key}={value}")
]
JOB = """\
archive = "archive"
{extra}
[[sources]]
path = "{path}"
exposure_fraction = {fraction}
{source}
[tiling]
window = 64
chunk = 32
shard = 64
unit = 64
frames = 2
[cluster]
kind = "{kind}"
workers = 2
"""


@dataclass(frozen=True)
class Said:
    """What a command answered. `faults`: its stderr without the lines that tell of progress."""

    code: int
    out: str
    err: str

    @property
    def faults(self) -> list[str]:
        return [line for line in self.err.splitlines() if line and not PROGRESS.fullmatch(line)]


Command = Callable[..., Said]


def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: `deblur("plan", job)`."""

    def deblur(*arguments: object) -> Said:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err)

    return deblur


def write_job(
    folder: Path,
    *,
    path: str = "frames",
    fraction: float = 0.75,
    kind: str = "serial",
    extra: str = "",
    source: str = "",
) -> Path:
    """A job file in `folder`, named after what it reads."""
    job = folder / "job.toml"
    job.write_text(JOB.format(path=path, fraction=fraction, kind=kind, extra=extra, source=source))
    return job


def write_frames(folder: Path, *, count: int = COUNT) -> NDArray[np.uint8]:
    """A pan as a folder of PNG; returns its frames."""
    frames = pan(count, HEIGHT, WIDTH)[0]
    header = SequenceHeader(folder.name, (1, HEIGHT, WIDTH), "uint8", ("grey",))
    export_frames(iter(frames), folder, header=header, names=[f"{k:04d}" for k in range(count)])
    return frames


def publish_small(folder: Path) -> Path:
    """Frames, job.toml and an archive whose run is published, in `folder`."""
    write_frames(folder / "frames")
    (outcome,) = work.run(load_job(write_job(folder)))
    assert outcome.published
    return folder


def tree(folder: Path) -> Mapping[str, str]:
    """Every folder and file below, with a digest of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
