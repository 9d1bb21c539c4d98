"""The switch from one published run to another: one atomic replacement of `current.json`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deblur.errors import LeaseError, StoreError
from deblur.store.archive import SequenceStore
from deblur.store.durable import read_json, write_json
from deblur.store.lease import check_token
from deblur.store.run import SEAL, RunStore


def publish_run(
    sequence: SequenceStore, run: RunStore, token: int, *, clock: Callable[[], float] = time.time
) -> None:
    """Make `run` the published one. Verify it first: this only checks that its ledger is complete.

    `token`: the fencing token of the lease. Raises LeaseError where the lease was lost meanwhile, StoreError
    for a run with units missing. The run is sealed: nothing writes into it again. Readers see the old run or
    the new one.
    """
    check_token(sequence.path, token)
    if run.path.resolve() != sequence.run_path(run.id).resolve():
        raise StoreError(f"run {run.path} is not one of sequence {sequence.id}: publish it where it was made")
    recorded, expected = len(run.table()), run.expected_shards()
    if recorded != expected:
        raise StoreError(f"run {run.id} has {recorded} of {expected} shards in its ledger: finish it first")
    if not run.sealed:
        write_json(run.path / SEAL, {"digest": run.digest(), "at": clock()})
    _switch(sequence, run.id, token, action="publish", at=clock())


def history(sequence: SequenceStore) -> tuple[dict[str, Any], ...]:
    """Every switch, oldest first: run, action, at (seconds since 1970), token."""
    return tuple(_current(sequence).get("history", ()))


def _current(sequence: SequenceStore) -> dict[str, Any]:
    path = sequence.path / "current.json"
    return read_json(path, what="publication") if path.exists() else {}


def _switch(sequence: SequenceStore, run_id: str, token: int, *, action: str, at: float) -> None:
    before = _current(sequence)
    if int(before.get("token", 0)) > token:
        raise LeaseError(f"sequence {sequence.id} was published by a later holder of the lease: run again")
    entry = {"run": run_id, "action": action, "at": at, "token": token}
    past = list(before.get("history", ()))
    if before.get("run") == run_id:
        return  # published already: saying so twice is no news
    check_token(sequence.path, token)  # once more, as late as can be
    write_json(sequence.path / "current.json", {"run": run_id, "token": token, "history": [*past, entry]})
