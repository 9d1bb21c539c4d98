"""`deblur demo`: a known scene is filmed with a moving camera, the whole job runs on it, the truth says how good it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deblur.config import JobConfig, load_job
from deblur.errors import ConfigError
from deblur.ingest import Progress
from deblur.io.export import export_frames
from deblur.outcome import Outcome
from deblur.report import render_report
from deblur.report.compose import compose_report
from deblur.scene import DemoSequence, make_scene, moving_view
from deblur.store import Archive
from deblur.types import SequenceHeader

JOB = """\
archive = "archive"

[[sources]]
path = "blurred"
exposure_fraction = {fraction}
frame_rate = {rate}

[tiling]
window = 640
shard = 640
unit = 640
chunk = 320
frames = 2
"""


def prepare_demo(
    folder: Path, *, progress: Progress, shape: tuple[int, int] = (480, 640), count: int = 6
) -> JobConfig:
    """Film the scene into `folder` (blurred/, truth/, job.toml) and return the job; does nothing twice.

    Raises ConfigError where the folder holds something else.
    """
    job = folder / "job.toml"
    if not job.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and not a demo: name another folder")
        progress("film the scene", 0, 2)
        film = moving_view(make_scene(), shape=shape, count=count)
        folder.mkdir(parents=True, exist_ok=True)
        for done, name in enumerate(("blurred", "truth"), 1):
            _write(film, name, folder / name)
            progress("film the scene", done, 2)
        job.write_text(JOB.format(fraction=film.exposure_fraction, rate=film.frame_rate), encoding="utf-8")
    return load_job(job)


@contextmanager
def compiling(progress: Progress) -> Iterator[Callable[[], None]]:
    """Kernels are compiled in a process beside this one meanwhile; what is given waits until they are.

    A server that starts leaves a core idle for as long as they take, and the first frames would wait for them.
    """
    code = "from deblur.probe import compile_kernels; compile_kernels()"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def wait() -> None:
        progress("compile the kernels", 0, 1)
        process.wait()
        progress("compile the kernels", 1, 1)

    try:
        yield wait
    finally:
        process.kill()
        process.wait()


def demo_results(folder: Path, outcomes: list[Outcome]) -> dict[str, Any]:
    """PSNR before and after, frame by frame, and the report that is written; empty where nothing was published."""
    from deblur.io import open_source

    found: dict[str, Any] = {}
    for outcome in outcomes:
        if not outcome.published or outcome.plan is None:
            continue
        store = Archive.open(folder / "archive").sequence(outcome.plan.sequence)
        (reader,) = open_source(str(folder / "truth"))
        with reader:
            truth = [reader.read(k) for k in range(len(reader.frames))]
        report = compose_report(store, outcome.plan.run, truth=truth)
        (folder / "report.html").write_text(render_report(report), encoding="utf-8")
        frames = [
            {
                "frame": row.name,
                "psnr_before": row.psnr_before,
                "psnr_after": row.psnr_after,
                "gain": row.gain,
            }
            for row in report.frames
        ]
        gain = float(np.mean([row.gain for row in report.frames if row.gain is not None]))
        found = {"frames": frames, "mean_gain": gain, "report": str(folder / "report.html")}
    return found


def _write(film: DemoSequence, name: str, folder: Path) -> None:
    frames = film.frames if name == "blurred" else film.truth
    header = SequenceHeader(name, frames.shape[1:], "uint8", ("red", "green", "blue"))
    export_frames(iter(frames), folder, header=header, names=[f"{k:04d}" for k in range(len(frames))])
