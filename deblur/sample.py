"""A few frames of a job, computed ahead of the rest: a report to look at before a week of computing.

The units are the run's own, so nothing is computed twice: the run that follows goes on from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deblur import job as work
from deblur.clusters import connect
from deblur.config import JobConfig
from deblur.errors import ConfigError
from deblur.execute import run_tasks
from deblur.ingest import Progress
from deblur.night import with_arrivals
from deblur.outcome import Outcome
from deblur.plan import STAGES, Plan, units
from deblur.report.compose import write_report
from deblur.store import Archive, SequenceStore
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
SEQUENCES = 5  # that a sample is spread over at the most: a report each


@dataclass(frozen=True, slots=True)
class Sample:
    """Some frames of one sequence. `report`: where they are shown; `units`: computed; `faults`: what failed of them."""

    sequence: str
    run: str
    frames: tuple[int, ...]
    report: Path
    units: int
    faults: tuple[str, ...] = ()


def compute_sample(
    job: JobConfig, *, count: int, folder: Path, progress: Progress
) -> tuple[list[Sample], list[Outcome]]:
    """Compute about `count` frames of a job's unfinished sequences and write a report of each sequence into `folder`.

    Also returns the plans of all sequences, with what is left to do. Raises ConfigError for a count below 1, and what
    planning raises.
    """
    if count < 1:
        raise ConfigError(f"--sample {count}: give how many frames to compute, as 20")
    outcomes = work.plan(
        job, work.ingest(with_arrivals(job), progress=progress), progress=progress, check=True
    )
    chosen = _spread([outcome.plan for outcome in outcomes if outcome.sound and outcome.plan], SEQUENCES)
    if not chosen:
        return [], outcomes
    each = -(-count // len(chosen))
    need = max(planned.cost.memory for planned in chosen)
    with connect(job.cluster, memory=job.limits.memory, need=need) as client:
        archive = Archive.open(job.archive)
        found = [
            _sampled(job, archive.sequence(planned.sequence), planned, each, folder, client, progress)
            for planned in chosen
        ]
    done = {part.sequence: part.units for part in found}
    return found, [_left(outcome, done.get(outcome.sequence.id, 0)) for outcome in outcomes]


def _left(outcome: Outcome, done: int) -> Outcome:
    share = 1 - done / outcome.missing if outcome.missing else 0.0
    return replace(
        outcome, missing=outcome.missing - done, projected_seconds=outcome.projected_seconds * share
    )


def _sampled(
    job: JobConfig,
    store: SequenceStore,
    planned: Plan,
    count: int,
    folder: Path,
    client: Client | None,
    progress: Progress,
) -> Sample:
    starts = _spread(range(0, planned.shape[0], planned.layout.frames), -(-count // planned.layout.frames))
    frames = [
        t for start in starts for t in range(start, min(start + planned.layout.frames, planned.shape[0]))
    ]
    made, faults = 0, list[str]()
    if store.current() != planned.run:
        made, faults = _computed(job, store, planned, starts, client, progress)
    report = folder / f"sample-{planned.sequence}.html"
    shown = tuple(frames[:count])
    if not faults:
        write_report(report, store, planned.run, frames=shown)
    return Sample(planned.sequence, planned.run, shown, report, made, tuple(faults))


def _computed(
    job: JobConfig,
    store: SequenceStore,
    planned: Plan,
    starts: Sequence[int],
    client: Client | None,
    progress: Progress,
) -> tuple[int, list[str]]:
    """Compute the blocks of frames that begin at `starts`, motion around them first: how many units, what failed."""
    faults: list[str] = []
    made = 0
    with store.lease().held():
        run = store.create_run(planned.run, work.run_spec(planned, store, job))
        run.sweep()
        ledger = run.ledger()
        finished = ledger.index()
        for stage in STAGES:
            wanted = set(starts) if stage == "restore" else set(_around(starts, planned))
            tasks = [
                Task(str(job.archive), planned.sequence, planned.run, unit)
                for unit in units(planned, store, stage, starts=wanted)
                if unit.key not in finished
            ]
            told = f"sample {stage} {planned.sequence}"
            done = 0

            def record(task: Task, result: dict[str, Any]) -> None:
                nonlocal done
                ledger.append(result)
                done += 1
                progress(told, done, len(tasks))  # noqa: B023 (called within this turn)

            for failure in run_tasks(
                iter(tasks), client=client, done=record, need=planned.cost.memory, priority=1
            ):
                ledger.append(
                    {"status": "failed", "key": failure.task.unit.key, "stage": stage, "error": failure.error}
                )
                faults.append(str(failure))
            made += done
            if faults:
                break
    return made, faults


def _around(starts: Sequence[int], planned: Plan) -> Iterator[int]:
    """The blocks whose motion a restoration of the blocks at `starts` reads: a frame beyond either end."""
    for start in starts:
        for frame in (start - 1, start, start + planned.layout.frames):
            if 0 <= frame < planned.shape[0]:
                yield frame // planned.layout.frames * planned.layout.frames


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]
