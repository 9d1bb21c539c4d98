"""The archive job, stage by stage, as plain functions: what the flows wrap in tasks and the command line calls.

A sequence that fails does not stop the others: its outcome carries the fault, and later stages pass it by.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur.clusters import connect
from deblur.config import JobConfig, Source
from deblur.errors import DeblurError, StoreError
from deblur.execute import Failure, run_tasks
from deblur.ingest import Progress, ingest_source
from deblur.outcome import Outcome, Sequence
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
from deblur.provenance import numerics_class, write_run_record
from deblur.store import (
    Archive,
    RunSpec,
    RunStore,
    SequenceStore,
    SourceStore,
    levels_for,
    publish_run,
    verify_run,
)
from deblur.store.durable import digest_of
from deblur.survey import NUMERICS_VERSION as SURVEY_VERSION
from deblur.survey import survey
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def ingest(job: JobConfig, *, progress: Progress = silent) -> list[Sequence]:
    """Read every source of a job into its archive. Raises the errors when no source at all could be read.

    A job whose settings can't be right is refused before anything is read.
    """
    check_methods(job)
    found: list[Sequence] = []
    for source in job.sources:
        try:
            for item in ingest_source(job.archive, source, job, progress=progress):
                found.append(
                    Sequence(item.sequence, source, item.frames, item.fresh, item.broken, item.error)
                )
        except DeblurError as error:
            found.append(Sequence("", source, error=error))
    _raise_if_all_failed([sequence.error for sequence in found])
    return found


def published(job: JobConfig, ids: tuple[str, ...] = ()) -> list[Sequence]:
    """Sequences that the archive holds, with the job's settings for their source, or else those of their ingest."""
    archive = Archive.open(job.archive)
    by_path = {source.path: source for source in job.sources}
    found = []
    for sequence in ids or archive.sequences():
        store = archive.sequence(sequence)
        if not store.source.exists:
            raise StoreError(f"{job.archive} has no sequence {sequence!r}: see `deblur status {job.archive}`")
        told = Source.model_validate(store.source.header.metadata["deblur"]["source"])
        found.append(Sequence(sequence, by_path.get(told.path, told), len(store.source.frames)))
    return found


def plan(
    job: JobConfig, sequences: list[Sequence], *, progress: Progress = silent, check: bool = False
) -> list[Outcome]:
    """Survey and plan every sequence. `check` also counts what is left to do and projects how long it takes."""
    archive = Archive.open(job.archive)
    outcomes = [_planned(job, archive, sequence, progress) for sequence in sequences]
    _raise_if_all_failed([outcome.error or outcome.sequence.error for outcome in outcomes])
    if not check:
        return outcomes
    from deblur.probe import seconds_per_megapixel

    speed = seconds_per_megapixel(job.restore.method)
    return [_checked(outcome, archive, job, speed) if outcome.plan else outcome for outcome in outcomes]


def _planned(job: JobConfig, archive: Archive, sequence: Sequence, progress: Progress) -> Outcome:
    if sequence.error:
        return Outcome(sequence)
    store = archive.sequence(sequence.id)
    try:
        ensure_survey(job, sequence.source, store, progress)
        planned = make_plan(job, sequence.source, store)
    except DeblurError as error:
        return Outcome(sequence, error=error)
    before = store.current()
    return Outcome(sequence, planned, before if before != planned.run else None)


def _checked(outcome: Outcome, archive: Archive, job: JobConfig, speed: dict[str, float]) -> Outcome:
    """How much of the plan is neither done nor held by the parent run, and how long that takes."""
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    channels = outcome.plan.shape[1]
    cost = {"motion": speed["motion"], "restore": speed["restore"] * channels}
    missing = carried = 0
    seconds = 0.0
    for task in (task for stage in STAGES for task in _tasks(outcome, store, job, stage)):
        unit = task.unit
        missing, carried = missing + (task.parent is None), carried + (task.parent is not None)
        if task.parent is None:
            seconds += cost[unit.stage] * (unit.t1 - unit.t0) * unit.box.size / 1e6
    workers = 1 if job.cluster.kind == "serial" else job.cluster.workers or _cores()
    projected = seconds * outcome.plan.cost.compute_amplification / workers
    return replace(outcome, missing=missing, carried=carried, projected_seconds=projected)


def ensure_survey(job: JobConfig, source: Source, store: SequenceStore, progress: Progress = silent) -> None:
    """Survey a sequence unless the stored survey is what this job would make."""
    pixels = store.source
    light = source_light(source, pixels)
    fraction = source_exposure(source, pixels).fraction
    identity = {
        "version": SURVEY_VERSION,
        "method": job.motion.method,
        "light": asdict(light),
        "fraction": fraction,
    }
    if store.has_survey() and store.survey_attrs()["identity"] == identity:
        return
    count = pixels.shape[0]

    def frames() -> Iterator[Any]:
        for t in range(count):
            yield pixels.read(t, t + 1)[0]
            progress(f"survey {store.id}", t + 1, count)

    found = survey(
        frames(), light=light, motion_method=job.motion.method, gaps=_gaps(pixels), fraction=fraction
    )
    arrays = {name: getattr(found, name) for name in ("forward", "backward", "linked", "noise", "shake")}
    told = {"identity": identity, "reduction": found.reduction, "longest": found.longest}
    told["shaken"] = float(np.hypot(found.shake[:, 0], found.shake[:, 1]).max())
    fields = [
        [found.forward[t].tobytes().hex(), found.backward[t].tobytes().hex(), bool(found.linked[t])]
        for t in range(count)
    ]
    facts = [[float(found.noise[t]), found.shake[t].tolist()] for t in range(count)]
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


def compute(job: JobConfig, outcomes: list[Outcome], *, progress: Progress = silent) -> list[Outcome]:
    """Run the units that no ledger has yet, on the job's cluster; restoration after all motion of a sequence.

    What was never published goes before what is only done again.
    """
    archive = Archive.open(job.archive)
    ready = [outcome for outcome in outcomes if outcome.sound and _left(outcome, archive, job)]
    if not ready:
        return outcomes
    need = max(outcome.plan.cost.memory for outcome in ready if outcome.plan)
    found: dict[str, Outcome] = {}
    with connect(job.cluster, memory=job.limits.memory, need=need) as client:
        if client is not None and client.dashboard_link:
            progress(f"Dask dashboard {client.dashboard_link}", 1, 1)
        for outcome in sorted(ready, key=lambda outcome: outcome.parent is not None):
            found[outcome.sequence.id] = _computed(outcome, archive, job, client, progress)
    return [found.get(outcome.sequence.id, outcome) for outcome in outcomes]


def _left(outcome: Outcome, archive: Archive, job: JobConfig) -> bool:
    """Whether anything at all is left to do; the cluster isn't started for nothing.

    A run is named by all that decides its units, so one with as many finished units as planned has them all.
    """
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    run = outcome.plan.run
    if run == store.current():
        return False
    return run not in store.runs() or not _complete(store.run(run), outcome.plan)


def _complete(run: RunStore, planned: Plan) -> bool:
    """Whether the ledger has every unit, and the levels of the pyramid that units don't write."""
    done = run.ledger().index()
    return len(done) - ("pyramid" in done) >= planned.cost.units and "pyramid" in done


def _computed(
    outcome: Outcome, archive: Archive, job: JobConfig, client: Client | None, progress: Progress
) -> Outcome:
    planned = outcome.plan
    assert planned is not None
    store = archive.sequence(planned.sequence)
    began, computed, carried = time.monotonic(), 0, 0
    failures: list[Failure] = []
    try:
        with store.lease().held():
            run = store.create_run(planned.run, run_spec(planned, store, job))
            run.sweep()
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

                given_up = run_tasks(tasks, client=client, done=record)
                for failure in given_up:  # tried again by the next run; until then `status` counts it
                    told = {"key": failure.task.unit.key, "stage": stage, "error": failure.error}
                    ledger.append({"status": "failed", **told})
                failures += given_up
            if not failures and not run.sealed:
                ledger.append({"key": "pyramid", "stage": "pyramid", "shards": run.finish_pyramid()})
    except DeblurError as error:
        return replace(outcome, error=error)
    return replace(
        outcome,
        computed=computed,
        carried=carried,
        failures=tuple(failures),
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
    """How many units of a stage are to be done, for progress only."""
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


def verify(job: JobConfig, outcomes: list[Outcome]) -> list[Outcome]:
    """Check every shard of the runs that were computed against their ledgers."""
    archive = Archive.open(job.archive)
    return [_verified(outcome, archive) if outcome.sound else outcome for outcome in outcomes]


def _verified(outcome: Outcome, archive: Archive) -> Outcome:
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    if store.current() == outcome.plan.run:
        return outcome  # verified before it was published; a night with nothing new reads nothing
    return replace(outcome, problems=tuple(map(str, verify_run(store.run(outcome.plan.run)))))


def publish(job: JobConfig, outcomes: list[Outcome]) -> list[Outcome]:
    """Write the run record and switch `current.json` to the run, for runs that passed."""
    archive = Archive.open(job.archive)
    return [_published(outcome, archive, job) if outcome.sound else outcome for outcome in outcomes]


def _published(outcome: Outcome, archive: Archive, job: JobConfig) -> Outcome:
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    if store.current() == outcome.plan.run:
        return replace(outcome, published=True)
    try:
        with store.lease().held() as lease:
            done = store.run(outcome.plan.run)
            _record(done, store, job, outcome.parent)
            publish_run(store, done, lease.token or 0)
    except DeblurError as error:
        return replace(outcome, error=error)
    return replace(outcome, published=True)


def _record(done: RunStore, store: SequenceStore, job: JobConfig, parent: str | None) -> None:
    write_run_record(
        done,
        source=store.source,
        given=job.model_dump(mode="json"),
        began=min(
            (record.get("began", time.time()) for record in done.ledger().read_all()), default=time.time()
        ),
        ended=time.time(),
        parent=store.run(parent) if parent else None,
        survey=store.survey_digest(),
    )


def run(job: JobConfig, *, progress: Progress = silent) -> list[Outcome]:
    """The whole job, without an orchestrator."""
    outcomes = plan(job, ingest(job, progress=progress), progress=progress)
    return publish(job, verify(job, compute(job, outcomes, progress=progress)))


def _raise_if_all_failed(errors: list[DeblurError | None]) -> None:
    """One failure as it is; several as one line, of their common kind."""
    failed = list({str(error): error for error in errors if error}.values())
    if not errors or not all(errors):
        return
    kinds = {type(error) for error in failed}
    raise (
        failed[0]
        if len(failed) == 1
        else (kinds.pop() if len(kinds) == 1 else DeblurError)("; ".join(map(str, failed)))
    )


def _cores() -> int:
    import os

    return os.cpu_count() or 1
