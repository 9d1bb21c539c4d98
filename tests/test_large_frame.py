"""Frames that are far larger than a worker's windows: no stage holds more than strips, windows or, to ingest, one frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur import overview
from deblur.config import parse_job
from deblur.crew import Crew
from deblur.execute import run_tasks
from deblur.layout import BASE_MEMORY
from deblur.store import Archive
from deblur.survey import survey_memory
from deblur.unit import Task, forget_peak, peak_memory
from tests.conftest import texture

SIDE, TILE = 8192, 1024
FRAME = SIDE * SIDE * 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are Linux's to tell"),
]


def large(path: Path) -> None:
    scene = texture(TILE, TILE + 64, seed=1) * 4000
    out = np.lib.format.open_memmap(path, "w+", np.uint16, (2, 1, SIDE, SIDE))
    for t in range(2):
        blurred = np.mean([scene[:, 16 * t + k : 16 * t + k + TILE] for k in range(12)], axis=0)
        out[t, 0] = np.tile(np.rint(blurred).astype(np.uint16), (SIDE // TILE, SIDE // TILE))
    out.flush()


def test_a_frame_of_8k_runs_in_a_small_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16k × 16k takes the same in 2 GiB, but longer; Dask kills a worker that takes more than its limit."""
    large(tmp_path / "large.npy")
    job = parse_job(
        {
            "archive": str(tmp_path / "archive"),
            "sources": [{"path": str(tmp_path / "large.npy"), "exposure_fraction": 0.75}],
            "restore": {"iterations": 6},
            "tiling": {"window": 512, "unit": 1024, "frames": 2},
            "limits": {"memory": "640 MiB"},
            "cluster": {"kind": "local", "workers": 1},
        }
    )
    forget_peak()
    before = peak_memory()
    (found,) = work.ingest(job)
    assert peak_memory() - before < 4.5 * FRAME  # one decoded, a mapped file of two, a shard on its way
    peaks: dict[str, int] = {}

    def watched(tasks: Any, *, client: Any, done: Any, **told: Any) -> Any:
        def seen(task: Task, record: dict[str, Any]) -> None:
            peaks[record["stage"]] = max(peaks.get(record["stage"], 0), record["peak_bytes"])
            done(task, record)

        assert client is not None
        return run_tasks(tasks, client=client, done=seen, **told)

    monkeypatch.setattr(overview, "run_tasks", watched)
    with Crew(job) as crew:
        forget_peak()
        before = peak_memory()
        (outcome,) = work.plan(job, [found], connection=crew.share)
        planned = outcome.plan
        assert planned is not None
        store = Archive.open(job.archive).sequence(found.id)
        store.create_run(planned.run, work.run_spec(planned, store, job))
        near = [
            task
            for stage, reach in (("motion", 1024), ("restore", 0))
            for task in work._tasks(outcome, store, job, stage, ())  # type: ignore[arg-type]
            if max(task.unit.box.y0, task.unit.box.x0) <= reach
        ]
        ended: list[dict[str, Any]] = []
        with crew.share(planned.cost.memory) as client:
            for task in near:
                assert not run_tasks([task], client=client, done=lambda _, record: ended.append(record))
        assert peak_memory() - before < FRAME / 2  # of the client, whatever the frames
    assert [record["stage"] for record in ended] == ["motion"] * 4 + ["restore"]
    assert max(record["peak_bytes"] for record in ended) <= planned.cost.memory
    need = BASE_MEMORY + survey_memory(store.source.shape, store.source.header.dtype)
    assert peaks["survey"] <= need <= 1.5 * peaks["survey"]
