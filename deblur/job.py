"""The archive job, stage by stage, as plain functions: what the flows wrap in tasks and the command line calls.

A sequence that fails does not stop the others: its outcome carries the fault, and later stages pass it by.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur.clusters import fitting_workers
from deblur.config import JobConfig, Source
from deblur.crew import Connection, Crew
from deblur.errors import DeblurError, StoreError
from deblur.execute import Failure, run_tasks
from deblur.ingest import Progress, ingest_source
from deblur.ingest import silent as silent
from deblur.models import keep, network_of
from deblur.outcome import Outcome, Sequence
from deblur.outcome import raise_if_all_failed as raise_if_all_failed
from deblur.overview import ensure_survey
from deblur.pace import write_projected
from deblur.plan import (
    STAGES,
    Plan,
    Stage,
    check_methods,
    make_plan,
    source_exposure,
    units,
)
from deblur.provenance import numerics_class
from deblur.release import publish as publish
from deblur.release import verify as verify
from deblur.selection import chosen as chosen
from deblur.selection import published as published
from deblur.store import (
    Archive,
    RunSpec,
    RunStore,
    SequenceStore,
    held_back,
    levels_for,
)
from deblur.store.ledger import Index
from deblur.store.publish import Action
from deblur.types import Estimate
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client


def ingest(job: JobConfig, *, progress: Progress = silent) -> list[Sequence]:
    """Read every source of a job into its archive. Raises the errors when no source at all could be read.

    A job whose settings can't be right is refused before anything is read.
    """
    check_methods(job)
    found = ingest_each(job, progress=progress)
    raise_if_all_failed([sequence.error for sequence in found])
    return found


def ingest_each(job: JobConfig, *, progress: Progress = silent) -> list[Sequence]:
    """The same; a source that fails says so in its own entry, whether others do or not."""
    found: list[Sequence] = []
    for source in job.sources:
        try:
            for item in ingest_source(job.archive, source, job, progress=progress):
                found.append(
                    Sequence(item.sequence, source, item.frames, item.fresh, item.broken, item.error)
                )
        except DeblurError as error:
            found.append(Sequence("", source, error=error))
    return found


def plan(
    job: JobConfig,
    sequences: list[Sequence],
    *,
    action: Action = "publish",
    connection: Connection | None = None,
    progress: Progress = silent,
    check: bool = False,
) -> list[Outcome]:
    """Survey and plan every sequence. `check` also counts what is left to do and projects how long it takes.

    `action`: what publishing will be called; a run that a person took back is not computed for it. `connection`: as
    for `compute`.
    """
    outcomes = plan_each(job, sequences, action=action, connection=connection, progress=progress)
    raise_if_all_failed([outcome.error or outcome.sequence.error for outcome in outcomes])
    if not check:
        return outcomes
    archive = Archive.open(job.archive)
    return [_checked(outcome, archive, job) if outcome.sound else outcome for outcome in outcomes]


def plan_each(
    job: JobConfig,
    sequences: list[Sequence],
    *,
    action: Action = "publish",
    connection: Connection | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """The same, unchecked; a sequence that can't be planned says so in its own outcome."""
    if all(sequence.error for sequence in sequences):
        return [Outcome(sequence) for sequence in sequences]  # there may be no archive yet
    archive = Archive.open(job.archive)
    with Crew(job, progress) as own:
        share = connection or own.share
        return [_planned(job, archive, sequence, action, share, progress) for sequence in sequences]


def _planned(
    job: JobConfig,
    archive: Archive,
    sequence: Sequence,
    action: Action,
    connection: Connection,
    progress: Progress,
) -> Outcome:
    if sequence.error:
        return Outcome(sequence)
    store = archive.sequence(sequence.id)
    try:
        source = _pinned(sequence.source, archive, store)
        ensure_survey(job, source, store, connection=connection, progress=progress)
        planned = make_plan(job, source, store)
    except DeblurError as error:
        return Outcome(sequence, error=error)
    before = store.current()
    kept = "" if before == planned.run else held_back(store, planned.run, action=action)
    return Outcome(sequence, planned, before if before != planned.run else None, kept=kept)


def _pinned(source: Source, archive: Archive, store: SequenceStore) -> Source:
    """A later segment is exposed as the first one was: published frames must not differ from their successors."""
    told = store.source.header.metadata.get("deblur", {})
    if "first" not in told or source.exposure_fraction is not None:
        return source
    before = archive.sequence(told["first"])
    found = before.survey_attrs().get("exposure") if before.has_survey() else None
    first = source_exposure(source, before.source, estimate=Estimate(**found) if found else None)
    if first is None or first.per_frame:
        return source
    return source.model_copy(update={"exposure_fraction": first.fraction})


def _checked(outcome: Outcome, archive: Archive, job: JobConfig) -> Outcome:
    """How much of the plan is neither done nor held by the parent run, and how long that takes."""
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    missing = carried = 0
    megapixels = dict.fromkeys(STAGES, 0.0)
    run = outcome.plan.run
    finished = store.run(run).ledger().index() if run in store.runs() else ()
    for task in (task for stage in STAGES for task in _tasks(outcome, store, job, stage, finished)):
        unit = task.unit
        missing, carried = missing + (task.parent is None), carried + (task.parent is not None)
        if task.parent is None:
            megapixels[unit.stage] += (unit.t1 - unit.t0) * unit.box.size / 1e6
    workers = (
        1
        if job.cluster.kind == "serial"
        else job.cluster.workers or fitting_workers(outcome.plan.cost.memory)
    )
    cost = _cost(outcome.plan, store) if missing else {}
    seconds = sum(cost[stage] * megapixels[stage] for stage in cost)
    projected = seconds * outcome.plan.cost.compute_amplification / workers
    return replace(outcome, missing=missing, carried=carried, projected_seconds=projected)


def _cost(planned: Plan, store: SequenceStore) -> dict[Stage, float]:
    """CPU seconds per megapixel of each stage, on this machine, for frames as noisy and as blurred as these."""
    from deblur.probe import seconds_per_megapixel

    p, (count, channels, _, _) = planned.parameters, planned.shape
    middle = store.survey_part("forward", (count - 1) // 2, (count + 1) // 2)
    speed = seconds_per_megapixel(
        p.restore,
        p.motion_method,
        noise=float(np.median(store.survey_part("noise", 0, count))),
        path=p.exposure.fraction * float(np.hypot(middle[:, 0], middle[:, 1]).mean()),
    )
    return {"motion": speed["motion"], "restore": speed["restore"] * channels}


def compute(
    job: JobConfig,
    outcomes: list[Outcome],
    *,
    connection: Connection | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> list[Outcome]:
    """Run the units that no ledger has yet, on the job's cluster; restoration after all motion of a sequence.

    What was never published goes before what is only done again. `connection`: to a cluster that several calls share,
    given the bytes that a unit takes. `stop`: asked before each unit; once it says so, what has begun is finished and
    the rest is left to the next call.
    """
    archive = Archive.open(job.archive)
    ready = [n for n, outcome in enumerate(outcomes) if outcome.sound and _left(outcome, archive, job)]
    if not ready:
        return outcomes
    need = max(planned.cost.memory for n in ready if (planned := outcomes[n].plan))
    if (network := network_of(job.restore)) is not None:
        keep(archive.path, network)
    found = list(outcomes)
    with Crew(job, progress) as own, (connection or own.share)(need) as client:
        for n in sorted(ready, key=lambda n: outcomes[n].parent is not None):
            found[n] = _computed(outcomes[n], archive, job, client, stop, progress)
    return found


def _left(outcome: Outcome, archive: Archive, job: JobConfig) -> bool:
    """Whether anything at all is left to do; the cluster isn't started for nothing.

    A run is named by all that decides its units, so one with as many finished units as planned has them all.
    """
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    run = outcome.plan.run
    there = run in store.runs()
    return run != store.current() and not (there and _complete(store.run(run).ledger().index(), outcome.plan))


def _complete(done: Index, planned: Plan) -> bool:
    """Whether a ledger has every unit, and the levels of the pyramid that units don't write."""
    return len(done) - ("pyramid" in done) >= planned.cost.units and "pyramid" in done


def _computed(
    outcome: Outcome,
    archive: Archive,
    job: JobConfig,
    client: Client | None,
    stop: Callable[[], bool],
    progress: Progress,
) -> Outcome:
    planned = outcome.plan
    assert planned is not None
    store = archive.sequence(planned.sequence)
    began, computed, carried, left = time.monotonic(), 0, 0, 0
    failures: list[Failure] = []
    try:
        with store.lease().held():
            if store.survey_digest() != planned.survey:
                raise StoreError(f"{planned.sequence} was surveyed with other settings meanwhile: run again")
            run = store.create_run(planned.run, run_spec(planned, store, job))
            store.sweep()
            run.sweep()
            ledger = run.ledger()
            finished = ledger.index()  # of both stages at once: with many units it takes its time
            if not run.sealed:
                link = client.dashboard_link if client is not None else ""
                write_projected(run, planned, limit=job.limits.memory, dashboard=link or "")
            elif not _complete(finished, planned):
                raise StoreError(
                    f"run {run.id} was published, and its ledger no longer has all of its units: `deblur verify --repair` "
                    "mends it"
                )
            stages = Counter(str(record.get("stage")) for record in ledger.latest()) if len(finished) else {}
            for stage in STAGES:
                tasks = _tasks(outcome, store, job, stage, finished)
                total, done = max(0, planned.cost.units // len(STAGES) - stages.get(stage, 0)), 0
                if total:  # the first unit may take minutes: kernels are compiled for it
                    progress(f"{stage} {planned.sequence}", 0, total)

                def record(task: Task, told: dict[str, Any]) -> None:
                    nonlocal done, computed, carried
                    ledger.append(told)
                    done += 1
                    computed, carried = computed + (task.parent is None), carried + (task.parent is not None)
                    progress(f"{stage} {planned.sequence}", done, total)  # noqa: B023 (called within this turn)

                given_up = run_tasks(
                    tasks,
                    client=client,
                    done=record,
                    need=planned.cost.memory,
                    priority=0 if outcome.parent else 1,  # others' reprocessing on the same scheduler waits
                    stop=stop,
                )
                for failure in given_up:  # tried again by the next run; until then `status` counts it
                    told = {"key": failure.task.unit.key, "stage": stage, "error": failure.error}
                    ledger.append({"status": "failed", **told})
                failures += given_up
                if left := total - done - len(given_up):
                    break
            if not failures and not left and not run.sealed:
                ledger.append({"key": "pyramid", "stage": "pyramid", "shards": run.finish_pyramid()})
    except DeblurError as error:
        return replace(outcome, error=error)
    return replace(
        outcome,
        computed=computed,
        carried=carried,
        failures=tuple(failures),
        stopped=f"stopped in time with {left} {stage} units left: the next run goes on" if left else "",
        seconds=outcome.seconds + time.monotonic() - began,
    )


def _tasks(
    outcome: Outcome, store: SequenceStore, job: JobConfig, stage: Stage, finished: Index | tuple[()]
) -> Iterator[Task]:
    """The units of a stage that are not finished; those that the parent has are carried over."""
    planned = outcome.plan
    assert planned is not None
    held = store.run(outcome.parent).ledger().index() if outcome.parent else ()
    if outcome.parent and not _same_layout(store.run(outcome.parent), run_spec(planned, store, job)):
        held = ()
    for unit in units(planned, store, stage):
        if unit.key not in finished:
            parent = outcome.parent if unit.key in held else None
            yield Task(str(job.archive), planned.sequence, planned.run, unit, parent)


def _same_layout(parent: RunStore, spec: RunSpec) -> bool:
    return all(
        getattr(parent.spec, name) == getattr(spec, name) for name in ("shard_frames", "shard_size", "chunk")
    )


def run_spec(planned: Plan, store: SequenceStore, job: JobConfig) -> RunSpec:
    """How the store of a planned run is laid out."""
    header = store.source.header
    _, _, height, width = planned.shape
    light = planned.parameters.light
    return RunSpec(
        shape=planned.shape,
        dtype=planned.dtype,
        shard_frames=planned.layout.frames,
        shard_size=planned.layout.shard,
        chunk=planned.layout.chunk,
        levels=levels_for(height, width, chunk=planned.layout.chunk),
        gradients="gradients" in job.outputs,
        learned=planned.parameters.restore.method == "hybrid",
        name=planned.sequence,
        channels=header.channels,
        frame_rate=_frame_rate(planned, store),
        pixel_size=header.pixel_size,
        colours=tuple(header.metadata.get("colours", ())),
        largest=light.white,
        parameters=planned.parameters.dump() | {"numerics": numerics_class(), "unit": planned.layout.unit},
    )


def _frame_rate(planned: Plan, store: SequenceStore) -> float | None:
    """As it was given, else as the files tell: the time axis of a run is in seconds."""
    header, interval = store.source.header, planned.parameters.exposure.interval
    given: float | None = header.metadata["deblur"]["source"]["frame_rate"]
    return given or header.frame_rate or (1 / interval if interval else None)


def run(job: JobConfig, *, progress: Progress = silent) -> list[Outcome]:
    """The whole job, without an orchestrator."""
    found = ingest(job, progress=progress)
    with Crew(job, progress) as crew:
        outcomes = plan(job, found, connection=crew.share, progress=progress)
        outcomes = compute(job, outcomes, connection=crew.share, progress=progress)
    return publish(job, verify(job, outcomes))
