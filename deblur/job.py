"""The archive job, stage by stage, as plain functions: what the flows wrap in tasks and the command line calls.

A sequence that fails does not stop the others: its outcome carries the fault, and later stages pass it by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur.clusters import connect, dashboard, fitting_workers, too_small
from deblur.config import JobConfig, Source
from deblur.errors import DeblurError
from deblur.execute import Failure, run_tasks
from deblur.exposure import estimate_stored
from deblur.ingest import Progress, ingest_source, say
from deblur.ingest import silent as silent
from deblur.outcome import Outcome, Sequence
from deblur.outcome import raise_if_all_failed as raise_if_all_failed
from deblur.pace import write_projected
from deblur.plan import (
    STAGES,
    Plan,
    Stage,
    check_methods,
    frame_infos,
    make_plan,
    nominal_interval,
    source_exposure,
    source_light,
    units,
)
from deblur.provenance import numerics_class
from deblur.release import publish as publish
from deblur.release import verify as verify
from deblur.selection import chosen as chosen
from deblur.selection import published as published
from deblur.shutter import NUMERICS_VERSION as SHUTTER_VERSION
from deblur.store import (
    Archive,
    RunSpec,
    RunStore,
    SequenceStore,
    SourceStore,
    held_back,
    levels_for,
)
from deblur.store.durable import digest_of
from deblur.store.publish import Action
from deblur.survey import NUMERICS_VERSION as SURVEY_VERSION
from deblur.survey import survey
from deblur.types import Estimate
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client


Connection = Callable[[int], "AbstractContextManager[Client | None]"]


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
    progress: Progress = silent,
    check: bool = False,
) -> list[Outcome]:
    """Survey and plan every sequence. `check` also counts what is left to do and projects how long it takes.

    `action`: what publishing will be called; a run that a person took back is not computed for it.
    """
    outcomes = plan_each(job, sequences, action=action, progress=progress)
    raise_if_all_failed([outcome.error or outcome.sequence.error for outcome in outcomes])
    if not check:
        return outcomes
    from deblur.probe import seconds_per_megapixel

    archive, speed = Archive.open(job.archive), seconds_per_megapixel(job.restore.method)
    return [_checked(outcome, archive, job, speed) if outcome.sound else outcome for outcome in outcomes]


def plan_each(
    job: JobConfig, sequences: list[Sequence], *, action: Action = "publish", progress: Progress = silent
) -> list[Outcome]:
    """The same, unchecked; a sequence that can't be planned says so in its own outcome."""
    if all(sequence.error for sequence in sequences):
        return [Outcome(sequence) for sequence in sequences]  # there may be no archive yet
    archive = Archive.open(job.archive)
    return [_planned(job, archive, sequence, action, progress) for sequence in sequences]


def _planned(
    job: JobConfig, archive: Archive, sequence: Sequence, action: Action, progress: Progress
) -> Outcome:
    if sequence.error:
        return Outcome(sequence)
    store = archive.sequence(sequence.id)
    try:
        source = _pinned(sequence.source, archive, store)
        ensure_survey(job, source, store, progress)
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


def _checked(outcome: Outcome, archive: Archive, job: JobConfig, speed: dict[str, float]) -> Outcome:
    """How much of the plan is neither done nor held by the parent run, and how long that takes."""
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    cost = {"motion": speed["motion"], "restore": speed["restore"] * outcome.plan.shape[1]}
    missing = carried = 0
    seconds = 0.0
    for task in (task for stage in STAGES for task in _tasks(outcome, store, job, stage)):
        unit = task.unit
        missing, carried = missing + (task.parent is None), carried + (task.parent is not None)
        if task.parent is None:
            seconds += cost[unit.stage] * (unit.t1 - unit.t0) * unit.box.size / 1e6
    workers = (
        1
        if job.cluster.kind == "serial"
        else job.cluster.workers or fitting_workers(outcome.plan.cost.memory)
    )
    projected = seconds * outcome.plan.cost.compute_amplification / workers
    return replace(outcome, missing=missing, carried=carried, projected_seconds=projected)


def ensure_survey(job: JobConfig, source: Source, store: SequenceStore, progress: Progress = silent) -> None:
    """Survey a sequence unless the stored survey is what this job would make."""
    pixels = store.source
    light = source_light(source, pixels)
    exposure = source_exposure(source, pixels)
    identity = {
        "version": SURVEY_VERSION,
        "method": job.motion.method,
        "light": asdict(light),
        "fraction": exposure.fraction if exposure else f"estimated, version {SHUTTER_VERSION}",
    }
    if store.has_survey() and store.survey_attrs()["identity"] == identity:
        return
    count = pixels.shape[0]
    gaps, method = _gaps(pixels), job.motion.method
    estimate = None
    if exposure is None:
        estimate = estimate_stored(store, light=light, motion_method=method, gaps=gaps, progress=progress)
    fraction = estimate.value if estimate else exposure.fraction if exposure else None

    def frames() -> Iterator[Any]:
        for t in range(count):
            yield pixels.read(t, t + 1)[0]
            progress(f"survey {store.id}", t + 1, count)

    found = survey(frames(), light=light, motion_method=method, gaps=gaps, fraction=fraction)
    arrays = {
        name: getattr(found, name)
        for name in ("forward", "backward", "linked", "noise", "noise_curve", "shake", "unsteady")
    }
    told = {"identity": identity, "reduction": found.reduction, "longest": found.longest}
    told["exposure"] = asdict(estimate) if estimate else None
    reach = np.hypot(found.shake[..., 0], found.shake[..., 1])
    told["shaken"] = float((reach[:, :2].max(axis=1) + 2 * reach[:, 2]).max())
    fields = [
        [found.forward[t].tobytes().hex(), found.backward[t].tobytes().hex(), bool(found.linked[t])]
        for t in range(count)
    ]
    facts = [[float(found.noise[t]), found.shake[t].tolist(), float(found.unsteady[t])] for t in range(count)]
    store.write_survey(arrays | {"motion_digest": _digests(fields), "restore_digest": _digests(facts)}, told)


def _gaps(pixels: SourceStore) -> list[bool]:
    """Between which frames time is missing: a quarantined frame, a camera that paused."""
    infos = frame_infos(pixels)
    interval = nominal_interval(infos)
    places = [frame.index for frame in pixels.frames]
    gaps = [after - before > 1 for before, after in pairwise(places)]
    if interval is None:
        return gaps
    times = [info.time or 0.0 for info in infos]
    late = [after - before > 1.5 * interval for before, after in pairwise(times)]
    return [a or b for a, b in zip(gaps, late, strict=True)]


def _digests(rows: Iterable[list[Any]]) -> Any:
    """(t, 32) bytes: what the survey says of each frame, so that units can be keyed without reading it all."""
    return np.array([list(bytes.fromhex(digest_of(row))) for row in rows], np.uint8)


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
    start = connection or (lambda need: connect(job.cluster, memory=job.limits.memory, need=need))
    found = list(outcomes)
    with start(need) as client:
        if client is not None and connection is None:
            say(progress, dashboard(client), *too_small(client, need, but=set()))
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
    return run != store.current() and not (there and _complete(store.run(run), outcome.plan))


def _complete(run: RunStore, planned: Plan) -> bool:
    """Whether the ledger has every unit, and the levels of the pyramid that units don't write."""
    done = run.ledger().index()
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
            run = store.create_run(planned.run, run_spec(planned, store, job))
            run.sweep()
            if not run.sealed:
                link = client.dashboard_link if client is not None else ""
                write_projected(run, planned, limit=job.limits.memory, dashboard=link or "")
            ledger = run.ledger()
            for stage in STAGES:
                tasks = _tasks(outcome, store, job, stage)
                total, done = _remaining(run, planned, stage), 0
                if total:  # the first unit may take minutes: kernels are compiled for it
                    progress(f"{stage} {planned.sequence}", 0, total)

                def record(task: Task, told: dict[str, Any]) -> None:
                    nonlocal done, computed, carried
                    ledger.append(told)
                    done += 1
                    computed, carried = computed + (task.parent is None), carried + (task.parent is not None)
                    progress(f"{stage} {planned.sequence}", done, total)  # noqa: B023 (called within this turn)

                given_up = run_tasks(
                    takewhile(lambda _: not stop(), tasks),
                    client=client,
                    done=record,
                    need=planned.cost.memory,
                    priority=0 if outcome.parent else 1,  # others' reprocessing on the same scheduler waits
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


def _tasks(outcome: Outcome, store: SequenceStore, job: JobConfig, stage: Stage) -> Iterator[Task]:
    """The units of a stage that the run's ledger does not have; those that the parent has are carried over."""
    planned = outcome.plan
    assert planned is not None
    finished = store.run(planned.run).ledger().index() if planned.run in store.runs() else ()
    held = store.run(outcome.parent).ledger().index() if outcome.parent else ()
    if outcome.parent and not _same_layout(store.run(outcome.parent), run_spec(planned, store, job)):
        held = ()
    for unit in units(planned, store, stage):
        if unit.key not in finished:
            parent = outcome.parent if unit.key in held else None
            yield Task(str(job.archive), planned.sequence, planned.run, unit, parent)


def _remaining(run: RunStore, planned: Plan, stage: Stage) -> int:
    """How many units of a stage are to be done: what the plan has, without what the ledger has."""
    done = sum(1 for record in run.ledger().latest() if record.get("stage") == stage)
    return max(0, planned.cost.units // len(STAGES) - done)


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
        shard_frames=planned.frames,
        shard_size=job.tiling.shard,
        chunk=job.tiling.chunk,
        levels=levels_for(height, width, chunk=job.tiling.chunk),
        gradients="gradients" in job.outputs,
        name=planned.sequence,
        channels=header.channels,
        frame_rate=header.frame_rate,
        pixel_size=header.pixel_size,
        largest=light.white,
        parameters=planned.parameters.dump() | {"numerics": numerics_class()},
    )


def run(job: JobConfig, *, progress: Progress = silent) -> list[Outcome]:
    """The whole job, without an orchestrator."""
    outcomes = plan(job, ingest(job, progress=progress), progress=progress)
    return publish(job, verify(job, compute(job, outcomes, progress=progress)))
