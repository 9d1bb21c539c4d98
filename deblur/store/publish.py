"""Which run is the published one: every change is one atomic replacement of `current.json`, and is remembered.

People's decisions stand: a run that was retracted, or passed over for another one, is not published again by a
nightly job that happens to be set to its parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from deblur.errors import LeaseError, StoreError
from deblur.place import below
from deblur.store.archive import PUBLICATION, SequenceStore
from deblur.store.durable import sha256_file, with_digest, write_checked, write_seen
from deblur.store.lease import check_token
from deblur.store.run import SEAL, RunStore

Action = Literal["publish", "reprocess", "promote"]
State = Literal["published", "superseded", "retracted", "held", "unfinished"]
DECISIONS = ("reprocess", "promote", "rollback", "retract")  # made by people; a job alone says "publish"


def publish_run(
    sequence: SequenceStore,
    run: RunStore,
    token: int,
    *,
    action: Action = "publish",
    reason: str = "",
    summary: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Make `run` the published one. Verify it first: this only checks that its ledger is complete.

    `token`: the fencing token of the lease. `action`: who wants it, a job or a person; `reason`: why.
    `summary`: kept with the seal, so that the catalog needn't read the ledger. Raises LeaseError where the lease
    was lost meanwhile, StoreError for a run with units missing. The run is sealed: nothing writes into it again.
    Readers see the old run or the new one.
    """
    check_token(sequence.path, token)
    if run.path.resolve() != sequence.run_path(run.id).resolve():
        raise StoreError(f"run {run.path} is not one of sequence {sequence.id}: publish it where it was made")
    recorded, expected = len(run.table()), run.expected_shards()
    if recorded != expected:
        raise StoreError(f"run {run.id} has {recorded} of {expected} shards in its ledger: finish it first")
    sequence.sweep()
    if not run.sealed:
        files = {below(path, run.path): sha256_file(path) for path in run.documents()}
        seal = {"digest": run.digest(), "at": clock(), "summary": dict(summary or {}), "files": files}
        write_checked(run.path / SEAL, seal)
    if sequence.current() != run.id:  # saying so twice is no news
        _switch(sequence, token, run.id, {"run": run.id, "action": action, "reason": reason}, clock())


def retract_run(
    sequence: SequenceStore, token: int, *, reason: str, clock: Callable[[], float] = time.time
) -> str:
    """Take the published run out of publication; returns its id. Nothing is published then.

    Raises StoreError where nothing is published, LeaseError where the lease was lost.
    """
    run = _published(sequence)
    _switch(sequence, token, None, {"run": run, "action": "retract", "reason": reason}, clock())
    return run


def roll_back(
    sequence: SequenceStore, token: int, *, to: str, reason: str, clock: Callable[[], float] = time.time
) -> None:
    """Publish the earlier run `to` in place of the present one, which counts as retracted from then on."""
    entry = {"run": to, "action": "rollback", "instead_of": _published(sequence), "reason": reason}
    _switch(sequence, token, to, entry, clock())


def note_pruned(
    sequence: SequenceStore, run_id: str, token: int, *, clock: Callable[[], float] = time.time
) -> None:
    """Remember that a run was removed. Raises StoreError for the published one, LeaseError without the lease."""
    current = sequence.current()
    if current == run_id:
        raise StoreError(f"run {run_id} is published: it is never pruned")
    _switch(sequence, token, current, {"run": run_id, "action": "prune", "reason": ""}, clock())


def previous_run(sequence: SequenceStore) -> str:
    """The run to roll back to: the one published last before the present one, there still and not retracted.

    Raises StoreError where there is none.
    """
    current, gone, there = sequence.current(), retracted(sequence), set(sequence.runs())
    for entry in reversed(history(sequence)):
        run = str(entry["run"])
        if run != current and run in there and run not in gone and entry["action"] != "prune":
            return run
    raise StoreError(f"sequence {sequence.id} has no earlier run to roll back to: see `deblur status`")


def history(sequence: SequenceStore) -> tuple[dict[str, Any], ...]:
    """Every change, oldest first: run, action, reason, at (seconds since 1970), token."""
    return tuple(sequence.publication()[0].get("history", ()))


def retracted(sequence: SequenceStore) -> dict[str, str]:
    """{run: why} of the runs that a person took out of publication and nobody put back."""
    found: dict[str, str] = {}
    for entry in history(sequence):
        if entry["action"] == "retract":
            found[entry["run"]] = entry.get("reason", "")
        elif entry["action"] == "rollback":
            found.pop(entry["run"], None)
            found[entry["instead_of"]] = entry.get("reason", "")
        elif entry["action"] != "prune":
            found.pop(entry["run"], None)
    return found


def held_back(sequence: SequenceStore, run_id: str, *, action: Action = "publish") -> str:
    """Why `run_id` must not be published, a person having decided otherwise; empty where it may be.

    A reprocessing is itself such a decision, so only a retraction holds it back.
    """
    gone = retracted(sequence)
    if run_id in gone:
        return f"{run_id} was retracted ({gone[run_id] or 'no reason given'}): promote it to have it back"
    past = [entry for entry in history(sequence) if entry["action"] != "prune"]
    if action != "publish" or not past or past[-1]["action"] not in DECISIONS or past[-1]["run"] == run_id:
        return ""
    if all(entry["run"] != run_id for entry in past):
        return ""  # new: nobody has decided about it
    return f"{run_id} gave way to {past[-1]['run']} ({past[-1]['action']}): promote it to have it back"


def state_of(sequence: SequenceStore, run: RunStore) -> State:
    """What a run is to its readers."""
    if sequence.current() == run.id:
        return "published"
    if run.id in retracted(sequence):
        return "retracted"
    if run.sealed:
        return "superseded"
    return "held" if len(run.table()) == run.expected_shards() else "unfinished"


def _published(sequence: SequenceStore) -> str:
    run = sequence.current()
    if run is None:
        raise StoreError(f"sequence {sequence.id} has no published run: see `deblur status`")
    return run


def _switch(
    sequence: SequenceStore, token: int, run_id: str | None, entry: Mapping[str, Any], at: float
) -> None:
    before, seen = sequence.publication()
    if int(before.get("token", 0)) > token:
        raise LeaseError(f"sequence {sequence.id} was published by a later holder of the lease: run again")
    told = {key: value for key, value in entry.items() if value != ""} | {"at": at, "token": token}
    past = list(before.get("history", ()))
    check_token(sequence.path, token)  # once more, as late as can be
    now = {"run": run_id, "token": token, "history": [*past, told]}
    sequence.keep_publication(now)  # before the act: who dies in between leaves a copy of what was decided
    if not write_seen(sequence.path / PUBLICATION, with_digest(now), seen):
        sequence.keep_publication()
        raise LeaseError(f"sequence {sequence.id} was published by somebody else meanwhile: run again")
