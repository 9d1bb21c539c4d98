"""Publishing: one atomic switch, by the holder of the lease only; what is published never changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deblur.errors import LeaseError, StoreError
from deblur.store import RunStore, SequenceStore, history, publish_run, verify_run
from deblur.tiling import Box

from .stores import SPEC, fill, pixels, sequence_at


@pytest.fixture
def sequence(tmp_path: Path) -> SequenceStore:
    return sequence_at(tmp_path)


@pytest.fixture
def run(sequence: SequenceStore) -> RunStore:
    run = sequence.create_run("first", SPEC)
    fill(run, pixels())
    return run


def test_it_switches_and_remembers(sequence: SequenceStore, run: RunStore) -> None:
    assert sequence.current() is None
    second = sequence.create_run("second", SPEC)
    second.copy_shards(run, run.ledger().shards())
    second.ledger().append({"key": "all", "shards": run.ledger().shards()})
    token = sequence.lease().acquire()
    for at, each in enumerate((run, second, second)):
        publish_run(sequence, each, token, clock=lambda at=at: float(at))
        assert sequence.current() == each.id
    assert [(entry["run"], entry["at"]) for entry in history(sequence)] == [("first", 0.0), ("second", 1.0)]


def test_who_lost_the_lease_cannot_publish(sequence: SequenceStore, run: RunStore) -> None:
    lease = sequence.lease()
    token = lease.acquire()
    lease.release()
    sequence.lease().acquire()
    with pytest.raises(LeaseError, match="lost"):
        publish_run(sequence, run, token)
    assert sequence.current() is None
    assert not run.sealed


def test_a_later_publication_is_not_undone(sequence: SequenceStore, run: RunStore) -> None:
    (sequence.path / "current.json").write_text(json.dumps({"run": "later", "token": 9, "history": []}))
    with pytest.raises(LeaseError, match="later holder"):
        publish_run(sequence, run, sequence.lease().acquire())
    assert sequence.current() == "later"


def test_an_unfinished_run_is_not_published(sequence: SequenceStore) -> None:
    run = sequence.create_run("half", SPEC)
    with pytest.raises(StoreError, match=r"0 of \d+ shards"):
        publish_run(sequence, run, sequence.lease().acquire())
    assert sequence.current() is None


def test_a_run_of_another_sequence_is_not_published(sequence: SequenceStore, tmp_path: Path) -> None:
    stranger = RunStore.create(tmp_path / "elsewhere.ome.zarr", SPEC)
    with pytest.raises(StoreError, match="not one of sequence"):
        publish_run(sequence, stranger, sequence.lease().acquire())


def test_a_published_run_never_changes(sequence: SequenceStore, run: RunStore) -> None:
    publish_run(sequence, run, sequence.lease().acquire())
    with pytest.raises(StoreError, match="published"):
        run.write("quality/weight", 0, Box(0, 32, 0, 32), np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(StoreError, match="published"):
        run.copy_shards(run, {})
    assert verify_run(run) == ()
    run.ledger("late").append({"key": "unit-0-0-0", "shards": {"0/c/0/0/0/0": "0" * 64}})
    assert {p.kind for p in verify_run(run)} == {"changed", "metadata", "unrecorded"}


def test_a_switch_that_fails_leaves_the_old_run(
    sequence: SequenceStore, run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sequence.path / "current.json").write_text(json.dumps({"run": "old", "token": 0, "history": []}))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(StoreError, match="Input/output"):
        publish_run(sequence, run, 0)
    assert sequence.current() == "old"
