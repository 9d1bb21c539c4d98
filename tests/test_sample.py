"""A sample is part of the run itself: the same bits, nothing computed twice, a report of its frames only."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.sample import compute_sample
from deblur.store import Archive
from tests.small import Command, command, write_frames, write_job

COUNT = 10  # five blocks of two frames, two units each


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_frames(tmp_path / "frames", count=COUNT)
    return write_job(tmp_path)


def sampled(job: Path, count: int) -> list[int]:
    found, _ = compute_sample(load_job(job), count=count, folder=job.parent, progress=work.silent)
    return [len(part.frames) for part in found]


def test_the_run_goes_on_from_its_sample_with_the_same_bits(job: Path, tmp_path: Path) -> None:
    (part,), (outcome,) = compute_sample(load_job(job), count=2, folder=tmp_path, progress=work.silent)
    assert part.frames == (4, 5)
    assert part.units == (3 + 1) * 2  # motion of the blocks on both sides too
    assert outcome.missing == 2 * 5 * 2 - part.units
    assert part.report == tmp_path / "sample-frames.html"
    page = part.report.read_text()
    assert "a sample of 2 of 10 frames" in page
    assert len(re.findall(r'<th scope="row">0+\d\.png', page)) == 2

    (finished,) = work.run(load_job(job))
    assert finished.published
    assert finished.computed == outcome.missing
    whole = tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "frames").rename(whole / "frames")
    work.run(load_job(write_job(whole)))
    here, there = (Archive.open(folder / "archive").sequence("frames") for folder in (tmp_path, whole))
    assert np.array_equal(
        here.run(str(here.current())).read("0", 0, COUNT), there.run(str(there.current())).read("0", 0, COUNT)
    )


def test_a_sample_again_computes_nothing_again(job: Path, tmp_path: Path) -> None:
    assert sampled(job, 2) == [2]
    (part,), _ = compute_sample(load_job(job), count=2, folder=tmp_path, progress=work.silent)
    assert part.units == 0
    assert sampled(job, 100) == [COUNT]
    work.run(load_job(job))
    (part,), (outcome,) = compute_sample(load_job(job), count=3, folder=tmp_path, progress=work.silent)
    assert (part.units, len(part.frames), outcome.missing) == (0, 3, 0)


def test_from_the_command_line(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deblur: Command = command(capsys)
    said = deblur("run", job, "--sample", "2")
    assert (said.code, said.faults) == (0, [])
    assert f"frames: 2 frames computed; open {tmp_path / 'sample-frames.html'}" in said.out
    assert "12 units of 1 sequence to compute: about" in said.out
    (told,) = json.loads(deblur("run", job, "--sample", "2", "--json").out)
    assert (told["frames"], told["units"]) == ([4, 5], 0)
    wrong = deblur("run", job, "--sample", "-3")
    assert (wrong.code, wrong.faults) == (2, ["deblur: --sample -3: give how many frames to compute, as 20"])
