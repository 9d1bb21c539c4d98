"""How a run gets on, read from what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur.commands.status import page
from deblur.config import load_job
from deblur.ingest import say
from deblur.pace import Totals, at_work, pace, stage_totals
from deblur.plan import STAGES
from deblur.store import Archive, SequenceStore
from deblur.store.owner import Owner
from deblur.terminal import progress_bars
from deblur.upkeep import status
from tests.small import write_frames, write_job


def record(n: int, stage: str = "motion", **more: Any) -> dict[str, Any]:
    """One unit of half a megapixel that took 2 s and ended n × 1.5 s after the first began."""
    at = 1000 + 1.5 * n
    box = {"y0": 0, "y1": 500, "x0": 0, "x1": 500}
    told = {"key": f"{stage}-{n}", "stage": stage, "frames": [0, 2], "box": box, "at": at, "began": at - 2}
    return told | {"seconds": 2.0, "bytes": 10, "read_bytes": 100, "peak_bytes": n, "attempt": 1} | more


def test_totals_count_each_unit_once_and_what_is_still_failed() -> None:
    rows = [
        *(record(n) for n in range(4)),
        record(3),
        {"key": "motion-9", "stage": "motion", "status": "failed", "error": "x"},
        {"key": "restore-1", "stage": "restore", "status": "failed", "error": "x"},
        record(1, "restore", attempt=2),
        {"key": "pyramid", "stage": "pyramid", "shards": {}},
    ]
    found = stage_totals(rows)
    assert found["motion"] == Totals(4, 0, 1, 2.0, 8.0, 0.0, 400, 40, 3)
    assert (found["restore"].units, found["restore"].failed, found["restore"].retried) == (1, 0, 1)


@pytest.fixture
def halfway(tmp_path: Path) -> SequenceStore:
    """A run whose units all fail at the second stage but one."""
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    outcomes, left = work.plan(job, work.ingest(job)), [6]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    (outcome,) = work.compute(job, outcomes, stop=stop)
    assert outcome.stopped
    return Archive.open(job.archive).sequence("frames")


def test_a_run_under_way_is_a_page_of_80_columns(halfway: SequenceStore, tmp_path: Path) -> None:
    (row,) = status(tmp_path / "archive")
    told = row["pace"]
    assert (row["state"], row["worker"], told["units"], told["stage"]) == ("unfinished", None, 4, "restore")
    assert [told["totals"][stage]["units"] for stage in STAGES] == [4, 2]
    assert told["rate"] > 0
    assert told["left"] == pytest.approx(2 * 60 / told["rate"])
    assert 0 < told["peak"] < told["limit"] == 4 * 2**30
    lines = list(page(row))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "nobody works on it",
        "4/4 100%",
        "2/4  50%",
        "units/min",
        "left",
        "of 4.0 GiB",
        "read",
        "written",
    ):
        assert part in text
    (halfway.path / "runs" / f"{row['run']}.ome.zarr" / "provenance" / "projected.json").unlink()
    (blind,) = status(tmp_path / "archive")
    assert blind["pace"]["left"] is None
    assert "4 units" in "\n".join(page(blind))


def test_who_works_on_it_is_known_by_the_lease(halfway: SequenceStore) -> None:
    assert at_work(halfway) is None
    with halfway.lease().held():
        told = at_work(halfway)
        assert told is not None
        assert told["by"] == str(Owner.here())
        assert told["silent"] < 30
        assert at_work(halfway, now=halfway.path.stat().st_mtime + 3600)["silent"] > 3000  # type: ignore[index]
    assert at_work(halfway) is None


def test_a_finished_run_has_what_each_stage_took_in_its_records(
    halfway: SequenceStore, tmp_path: Path
) -> None:
    job = load_job(tmp_path / "job.toml")
    (outcome,) = work.run(job)
    assert outcome.plan is not None
    run = halfway.run(outcome.plan.run)
    found = {stage: Totals(**told) for stage, told in outcome.dump()["stages"].items()}
    assert found == pace(run).totals
    for stage in STAGES:
        assert found[stage].units == 4
        assert found[stage].seconds > 0
        assert found[stage].read_bytes > found[stage].written_bytes > 0
    assert '"provenance/stages.json"' in (run.path / "ro-crate-metadata.json").read_text()
    assert replace(found["motion"], units=0) != found["motion"]


def test_a_line_without_a_count_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        say(progress, "Dask dashboard: http://127.0.0.1:1/status", "")
    assert capsys.readouterr().err == "Dask dashboard: http://127.0.0.1:1/status\n"
