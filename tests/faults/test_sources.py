"""Somebody writes to the source while it is read: it fails by name, and never becomes a mixture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.errors import ReadError
from tests.conftest import pan
from tests.faults.world import child, end_of
from tests.small import HEIGHT, WIDTH, tree, write_frames, write_job

pytestmark = pytest.mark.slow
COUNT = 6


def other(folder: Path) -> Path:
    """The same names with other pixels."""
    place = folder / "other" / "frames"
    write_frames(place, count=COUNT)
    for number, path in enumerate(sorted(place.iterdir())):
        path.rename(place / f"{COUNT - 1 - number:04d}.tmp")
    for path in place.iterdir():
        path.rename(path.with_suffix(".png"))
    return place


def rewrite(path: Path, donor: Path) -> None:
    path.write_bytes(donor.read_bytes())


def replace(path: Path, donor: Path) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(donor.read_bytes())
    os.utime(beside, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # as `cp -p` and `rsync` do
    beside.rename(path)


@pytest.mark.parametrize("change", [rewrite, replace])
@pytest.mark.seeds(1)
def test_a_frame_that_changes_during_ingest(
    tmp_path: Path, change: Callable[[Path, Path], None], seed: int
) -> None:
    write_frames(tmp_path / "frames", count=COUNT)
    donors = other(tmp_path)
    job = load_job(write_job(tmp_path))
    rng = np.random.default_rng(seed)
    when, which = int(rng.integers(1, COUNT)), f"{int(rng.integers(COUNT)):04d}.png"
    before = tree(tmp_path)
    happened: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("ingest") and done == when:
            happened.append(done)
            change(tmp_path / "frames" / which, donors / which)

    with pytest.raises(ReadError, match=rf"{which} changed while it was read: run again"):
        work.ingest(job, progress=progress)
    assert happened == [when]
    after = tree(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {f"frames/{which}"}
    assert set(before) == set(after)  # no archive, no half of one

    (outcome,) = work.run(job)
    assert outcome.published
    assert outcome.sequence.id == "frames"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied that might not survive")
def test_an_array_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "pan.npy", pan(COUNT, HEIGHT, WIDTH)[0])
    job = load_job(write_job(tmp_path, path="pan.npy"))

    def act() -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if done == 2:
                os.truncate(tmp_path / "pan.npy", 200)

        with pytest.raises(ReadError, match=r"pan\.npy"):
            work.ingest(job, progress=progress)

    assert end_of(child(act)) == 0  # by mapped memory it would be a SIGBUS
    assert not (tmp_path / "archive").exists()
