"""The power goes: the ledger is never ahead of the data, and what somebody was told is safe is there."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur.config import JobConfig
from deblur.store import Archive, Ledger, verify_run, verify_source
from deblur.store.durable import sha256_file
from tests.faults.power import Log, Recorder, crash, replayed, same_trees
from tests.faults.world import NAME, World, child, contents, end_of, finish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be gone"),
]
STATES = 100  # crash states that are looked at for each seed; of some the run is also brought to its end
STAGES = {"ingested", "published"}  # what is told besides units


@pytest.fixture(scope="module")
def recording(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, JobConfig]:
    """Ingest, survey, run and publication, by a process that is gone afterwards as after a power cut."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "disk").mkdir()
    job = world.job.model_copy(update={"archive": str(folder / "disk" / "archive")})

    def act() -> None:
        recorder = Recorder(folder / "disk")
        append = Ledger.append

        def noted(ledger: Ledger, record: Any) -> None:
            append(ledger, record)
            recorder.done(record["key"])

        with pytest.MonkeyPatch.context() as patch, recorder.watched():
            patch.setattr(Ledger, "append", noted)
            found = work.ingest(job)
            recorder.done("ingested")
            outcomes = work.publish(job, work.verify(job, work.compute(job, work.plan(job, found))))
            assert outcomes[0].published
            recorder.done("published")
        replayed(recorder.log, folder / "replayed")
        assert same_trees(folder / "replayed", folder / "disk"), (
            "a change was made behind the recorder's back"
        )
        (folder / "log").write_bytes(pickle.dumps(recorder.log))

    assert end_of(child(act)) == 0
    assert contents(job) == world.equal
    return pickle.loads((folder / "log").read_bytes()), job  # written above, by this test


def check(archive: Path, told: list[object]) -> None:
    """Nothing that was told is lost, nothing is in a ledger that is not on the disk."""
    if not told and not (archive / "archive.json").exists():
        return
    store = Archive.open(archive).sequence(NAME)
    if "ingested" in told:
        assert store.source.exists
    if store.source.exists:
        assert verify_source(store.source) == ()
    keys = set(told) - STAGES
    finished = set()
    for run_id in store.runs():
        run = store.run(run_id)
        finished |= set(run.ledger().finished())
        for key, digest in run.ledger().shards().items():
            assert sha256_file(run.path / key) == digest
    assert keys <= finished
    if "published" in told:
        assert store.current()
    if store.current():
        assert verify_run(store.run(str(store.current()))) == ()


@pytest.mark.seeds(1)
def test_power_loss(world: World, recording: tuple[Log, JobConfig], tmp_path: Path, seed: int) -> None:
    log, job = recording
    rng = np.random.default_rng(seed)
    units = [n for n, event in enumerate(log.events) if event[0] == "done" and event[1] not in STAGES]
    lost = 0
    for number in range(STATES):
        resumed = number % 50 == 7
        at = int(rng.integers(units[0], units[-2]) if resumed else rng.integers(len(log.events) + 1))
        told = [event[1] for event in log.events[:at] if event[0] == "done"]
        folder = tmp_path / str(number)
        crash(log, at, rng, float(rng.choice([0, 0.5, 0.9])))(folder)
        check(folder / "archive", told)
        if resumed:
            again = job.model_copy(update={"archive": str(folder / "archive")})
            lost += finish(again).computed
            assert contents(again) == world.equal
        shutil.rmtree(folder)
    assert lost
