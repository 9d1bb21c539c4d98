"""Runs are versions: compare two, choose which one readers see, let old ones go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.catalog import Catalog
from deblur.errors import LeaseError, StoreError
from deblur.evidence import copies_of, keep_copy
from deblur.judge import frame_records, summarise
from deblur.place import files_below
from deblur.plan import Parameters
from deblur.provenance import CRATE, flattened, has_record
from deblur.store import (
    Archive,
    RunStore,
    SequenceStore,
    history,
    note_pruned,
    previous_run,
    publish_run,
    retract_run,
    roll_back,
    state_of,
    verify_run,
)
from deblur.store.durable import copy_tree, remove_tree, write_atomic
from deblur.tiling import Box, boxes

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class FrameDifference:
    """One frame of two runs. `changed`: share of samples that differ; `largest`: in codes; `rms`: as a fraction of
    full range; `quality`, `weight`: of each run, see `deblur.judge`."""

    frame: int
    name: str
    changed: float
    largest: float
    rms: float
    quality: tuple[float, float]
    weight: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs of one sequence. `parameters`: {dotted key: (in the first, in the second)} where they differ."""

    sequence: str
    runs: tuple[str, str]
    parameters: dict[str, tuple[Any, Any]]
    frames: tuple[FrameDifference, ...]

    def dump(self) -> dict[str, Any]:
        return asdict(self)


def compare(sequence: SequenceStore, first: RunStore, second: RunStore) -> Difference:
    """Compare the restored pixels of two runs frame by frame, a shard's size at a time.

    Raises StoreError for runs of unlike shape (of different sequences, say).
    """
    if first.spec.shape != second.spec.shape or first.spec.dtype != second.spec.dtype:
        raise StoreError(f"{first.id} and {second.id} are not of one sequence: compare two runs of the same")
    records = frame_records(first), frame_records(second)
    white = Parameters.load(first.parameters).light.white
    frames = []
    for t, frame in enumerate(sequence.source.frames):
        changed, largest, squares = _frame_difference(first, second, t)
        size = float(np.prod(first.spec.shape[1:]))
        quality, weight = (
            (float(records[0][t][key]), float(records[1][t][key])) for key in ("quality", "weight")
        )
        rms = float(np.sqrt(squares / size)) / white
        frames.append(FrameDifference(t, frame.name, changed / size, largest, rms, quality, weight))
    return Difference(sequence.id, (first.id, second.id), _parameters(first, second), tuple(frames))


def _frame_difference(first: RunStore, second: RunStore, t: int) -> tuple[int, float, float]:
    """(samples that differ, the largest difference, the sum of squares) of one frame."""
    _, _, height, width = first.spec.shape
    changed, largest, squares = 0, 0.0, 0.0
    for box in boxes(height, width, first.spec.shard_size):
        a, b = (run.read("0", t, t + 1, box).astype(np.float64) for run in (first, second))
        gap = np.abs(a - b)
        changed += int(np.count_nonzero(gap))
        largest = max(largest, float(gap.max()))
        squares += float((gap**2).sum())
    return changed, largest, squares


def _parameters(first: RunStore, second: RunStore) -> dict[str, tuple[Any, Any]]:
    a, b = dict(flattened(first.parameters)), dict(flattened(second.parameters))
    return {key: (a.get(key), b.get(key)) for key in sorted(a | b) if a.get(key) != b.get(key)}


def most_changed(
    difference: Difference, first: RunStore, second: RunStore, *, side: int = 320
) -> tuple[int, Box, NDArray[Any], NDArray[Any]]:
    """Where two runs differ most: (frame, box, the first's pixels, the second's), (c, y, x) codes."""
    t = max(difference.frames, key=lambda frame: frame.rms).frame
    _, _, height, width = first.spec.shape
    side_y, side_x = min(side, height), min(side, width)
    best, found = -1.0, Box(0, side_y, 0, side_x)
    for box in boxes(height, width, max(side_y, side_x)):
        y0, x0 = min(box.y0, height - side_y), min(box.x0, width - side_x)
        box = Box(y0, y0 + side_y, x0, x0 + side_x)
        a, b = (run.read("0", t, t + 1, box)[0].astype(np.float64) for run in (first, second))
        total = float(((a - b) ** 2).sum())
        if total > best:
            best, found = total, box
    return t, found, first.read("0", t, t + 1, found)[0], second.read("0", t, t + 1, found)[0]


def promote(sequence: SequenceStore, run: RunStore, *, reason: str = "") -> None:
    """Publish a run by decision: one that waits, was retracted, or gave way to another.

    It is verified shard by shard before. Raises StoreError for one that is damaged or not finished.
    """
    _require_sound(run)
    with sequence.lease().held() as lease:
        found = summarise(run).dump()
        publish_run(sequence, run, lease.token or 0, action="promote", reason=reason, summary=found)
        keep_copy(sequence, run)
    _told(sequence)


def retract(sequence: SequenceStore, run: RunStore, *, reason: str) -> None:
    """Take a published run out of publication: nothing is published then, and no nightly job puts it back.

    Raises StoreError where another run is published, or no reason is given.
    """
    if not reason.strip():
        raise StoreError("a retraction needs a reason: give --reason")
    with sequence.lease().held() as lease:
        if sequence.current() != run.id:
            raise StoreError(f"run {run.id} is not the published one of {sequence.id}: nothing to retract")
        retract_run(sequence, lease.token or 0, reason=reason)
    _told(sequence)


def rollback(sequence: SequenceStore, *, reason: str = "") -> tuple[str, str]:
    """Publish the run that was published before, in one switch; returns (now, before).

    The run taken back counts as retracted. Raises StoreError where there is no earlier one, or it is damaged.
    """
    with sequence.lease().held() as lease:
        before = str(sequence.current())
        earlier = previous_run(sequence)
        _require_sound(sequence.run(earlier))
        roll_back(sequence, lease.token or 0, to=earlier, reason=reason)
    _told(sequence)
    return earlier, before


def _require_sound(run: RunStore) -> None:
    if not has_record(run):
        raise StoreError(f"run {run.id} is not finished: `deblur run` its job first")
    problems = verify_run(run)
    if problems:
        raise StoreError(
            f"run {run.id} is damaged ({len(problems)} problems, the first: {problems[0]}): repair it first"
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go. `keep`: so many earlier runs of a sequence stay, the latest ones; `older_than`: seconds that a
    run must have been out of publication (or untouched, for an unfinished one)."""

    keep: int = 1
    older_than: float = 30 * DAY


@dataclass(frozen=True, slots=True)
class Prunable:
    """A run that a policy lets go, and how many bytes that frees."""

    sequence: str
    run: str
    state: str
    size: int


def prunable(archive: Archive, policy: Policy, *, now: float) -> Iterator[Prunable]:
    """The runs that may go: never the published one, nor one that waits; sources are never touched."""
    for sequence_id in archive.sequences():
        sequence = archive.sequence(sequence_id)
        runs = [(_last_use(sequence, run), run) for run in map(sequence.run, sequence.runs())]
        states = {run.id: state_of(sequence, run) for _, run in runs}
        earlier = sorted((at, run.id) for at, run in runs if states[run.id] == "superseded")
        kept = {run for _, run in earlier[max(0, len(earlier) - policy.keep) :]}
        for at, run in runs:
            state = states[run.id]
            if state in ("published", "held") or run.id in kept or now - at < policy.older_than:
                continue
            yield Prunable(sequence_id, run.id, state, sum(size for _, size in files_below(run.path)))


def prune(archive: Archive, policy: Policy, *, now: float | None = None) -> list[Prunable]:
    """Remove what the policy lets go, and what killed processes left. The record and the ledger of a pruned run stay, in
    `pruned/`: later runs may hold shards that it computed."""
    moment = time.time() if now is None else now
    gone = []
    for found in list(prunable(archive, policy, now=moment)):
        sequence = archive.sequence(found.sequence)
        with sequence.lease().held() as lease:
            note_pruned(sequence, found.run, lease.token or 0)
            _remove(sequence, sequence.run(found.run))
        gone.append(found)
        _told(sequence)
    for sequence in map(archive.sequence, archive.sequences()):
        if sequence.leftovers():
            with suppress(LeaseError), sequence.lease().held():  # somebody at work may not have left them
                sequence.sweep()
    return gone


def _remove(sequence: SequenceStore, run: RunStore) -> None:
    """The evidence aside, the run away."""
    kept = sequence.path / "pruned" / run.id
    copy_tree(run.path / "provenance", kept / "provenance")
    if has_record(run):
        write_atomic(kept / CRATE, (run.path / CRATE).read_bytes())
    remove_tree(copies_of(sequence, run.id))  # with them the run would count as lost
    remove_tree(run.path)


def _last_use(sequence: SequenceStore, run: RunStore) -> float:
    """When a run was last published, or stopped being so; else when its last unit was done."""
    times = [0.0]
    entries = [entry for entry in history(sequence) if entry["action"] != "prune"]
    for entry, following in zip_longest(entries, entries[1:]):
        if entry["run"] == run.id:
            times.append(float((following or entry)["at"]))
        elif entry.get("instead_of") == run.id:
            times.append(float(entry["at"]))
    times += [float(record.get("at", 0)) for record in run.ledger().latest()]
    return max(*times, (run.path / "zarr.json").stat().st_mtime if len(times) == 1 else 0.0)


def _told(sequence: SequenceStore) -> None:
    """Bring the catalog up to date about one sequence."""
    Catalog(Archive.open(sequence.path.parent.parent)).update(sequence.id)
