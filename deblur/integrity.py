"""An archive that is not as it was written is made so again, bit for bit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import count
from typing import Any

import numpy as np

from deblur import models, motion, window
from deblur import survey as surveys
from deblur.config import Source, parse_job
from deblur.crew import Connection
from deblur.damage import ORIGINAL, STATE, SURVEY, Damage, run_problems, source_problems
from deblur.errors import DeblurError, NumericsError, StoreError
from deblur.evidence import SUMS, Kept, kept_runs, mend, renew_sums
from deblur.execute import run_tasks
from deblur.ingest import Progress
from deblur.io import open_source
from deblur.job import silent
from deblur.overview import ensure_survey
from deblur.plan import STAGES, Parameters, Unit
from deblur.provenance import numerics_class, survey_of
from deblur.segments import facts, frame_names
from deblur.store import (
    Archive,
    Problem,
    RunStore,
    Sample,
    SequenceStore,
    sha256_file,
    verify_run,
)
from deblur.store.archive import PUBLICATION, PUBLICATION_COPY, REPAIR
from deblur.store.arrays import ShardedArray, create_array, create_group
from deblur.store.durable import copy_file, move_tree, remove_tree, sweep_partials
from deblur.store.shards import Grid, Index, index_of, key_of
from deblur.store.source import DOCUMENTS, PIXELS, pixel_digest
from deblur.store.table import ShardTable
from deblur.tiling import Box
from deblur.types import Isolation, ReadLimits
from deblur.unit import Task

LITTLE = Sample(1e-9)  # metadata is looked at in any case


def repair(
    archive: Archive,
    damages: Iterable[Damage],
    *,
    connection: Connection | None = None,
    progress: Progress = silent,
) -> list[Damage]:
    """Make damaged files again: records from their copies, source frames from their originals, units by computing them;
    the bytes must be those that the digests say. Returns what could not be repaired, each with the reason.

    Nothing but what is damaged is computed (and what the ledger doesn't hold is left to `deblur run`).
    `connection`: to a cluster that computes, given the bytes that a unit takes; without it this process does.
    """
    left: list[Damage] = []
    by_store: dict[tuple[str, str], list[Damage]] = {}
    for damage in damages:
        by_store.setdefault((damage.sequence, damage.run), []).append(damage)
    for (sequence_id, run_id), found in sorted(by_store.items()):  # sources, "", come before runs
        try:
            if sequence_id == "":
                left += _mend_archive(archive, found)
                continue
            store = archive.sequence(sequence_id)
            with store.lease().held():
                store.sweep()
                sweep_partials(store.path)
                if run_id == "":
                    left += _repair_source(store, found, progress)
                    left += _repair_state(archive, store, found, connection, progress)
                elif run_id == ORIGINAL:
                    left += found
                else:
                    left += _repair_run(archive, store, found, connection, progress)
        except DeblurError as error:
            left += [_because(damage, str(error)) for damage in found]
    return left


def _mend_archive(archive: Archive, found: list[Damage]) -> list[Damage]:
    left = []
    for damage in found:
        try:
            if damage.problem.shard.startswith(f"{models.FOLDER}/"):
                models.mend(archive.path, damage.problem.shard)
            else:
                archive.mend()
        except DeblurError as error:
            left.append(_because(damage, str(error)))
    return left


def _repair_state(
    archive: Archive,
    store: SequenceStore,
    found: list[Damage],
    connection: Connection | None,
    progress: Progress,
) -> list[Damage]:
    """What is published from its copy, that copy from what is published; the survey by making it again."""
    left = []
    for damage in sorted(found, key=lambda damage: damage.problem.shard == SURVEY):
        try:
            if damage.problem.shard == PUBLICATION:
                store.restore_publication()
            elif damage.problem.shard == PUBLICATION_COPY:
                store.keep_publication()
            elif damage.problem.shard == SURVEY:
                run = _surveyed_run(store)
                _require_same_code(run)
                remove_tree(store.survey_path)
                _survey(archive, store, run, connection, progress)
        except DeblurError as error:
            left.append(_because(damage, str(error)))
    return left


def _surveyed_run(store: SequenceStore) -> RunStore:
    """The run whose survey lies beside it: the published one, or whichever has a record."""
    for run_id in filter(None, (store.current(), *kept_runs(store))):
        run = RunStore(store.run_path(run_id))
        mend(store, run)
        if survey_of(run) is not None:
            return RunStore(run.path)
    raise StoreError("no run tells how it was made: remove that folder and run again")


def _survey(
    archive: Archive, store: SequenceStore, run: RunStore, connection: Connection | None, progress: Progress
) -> None:
    """Make the survey that a run was computed with, by the same code. Raises StoreError where it comes out otherwise."""
    p = Parameters.load(run.parameters)
    found = p.exposure.origin in ("estimated", "assumed")
    given = {"exposure_fraction": None if found else p.exposure.fraction, "exposure_time": None}
    given |= {"exposure_otherwise": p.exposure.fraction if p.exposure.origin == "assumed" else None}
    source = facts(store)["source"] | given | {"transfer": p.light.transfer}
    told = {"archive": str(archive.path), "sources": [source], "motion": {"method": p.motion_method}}
    job = parse_job(told)
    ensure_survey(job, job.sources[0], store, connection=connection or _alone, progress=progress)
    if store.survey_digest() != survey_of(run):
        raise StoreError(f"the survey of run {run.id}, made again, came out otherwise")


def _alone(need: int) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def _its_survey(
    archive: Archive, store: SequenceStore, run: RunStore, connection: Connection | None, progress: Progress
) -> Iterator[None]:
    """Within the block the survey is that of the run; then the one of a later run, say, is back."""
    wanted = survey_of(run)
    if wanted is None or (store.has_survey() and store.survey_digest() == wanted):
        yield
        return
    other = store.survey_path.with_name(f".{SURVEY}.{uuid.uuid4().hex[:8]}.repair")
    if store.has_survey():
        move_tree(store.survey_path, other)
    try:
        _survey(archive, store, run, connection, progress)
        yield
    finally:
        if other.exists():
            move_tree(other, store.survey_path)


def _because(damage: Damage, reason: str) -> Damage:
    told = Problem(damage.problem.kind, damage.problem.shard, f"{damage.problem}; not repaired: {reason}")
    return Damage(damage.sequence, damage.run, told)


def _repair_run(
    archive: Archive,
    store: SequenceStore,
    found: list[Damage],
    connection: Connection | None,
    progress: Progress,
) -> list[Damage]:
    """Records and metadata first: without them nobody knows what else is damaged."""
    run_id = found[0].run
    if any(damage.problem.kind == "metadata" for damage in found):
        _mend_metadata(store, RunStore(store.run_path(run_id)), found)
        again = run_problems(store, RunStore(store.run_path(run_id)), Sample())
        found = [Damage(store.id, run_id, problem) for problem in again]
    left = [damage for damage in found if damage.problem.unit is None]
    wanted = [damage for damage in found if damage.problem.unit is not None]
    if wanted:
        left += _repair_shards(archive, store, store.run(run_id), wanted, connection, progress)
    return left


def _mend_metadata(store: SequenceStore, run: RunStore, found: list[Damage]) -> None:
    """From the copy kept beside the run; a zarr.json of an array or a group also from what the run says of itself."""
    _mend_records(store, run, found)
    run = RunStore(run.path)
    wrong = [p.shard for p in verify_run(run, sample=LITTLE) if p.kind == "metadata"]
    layout = [key for key in wrong if key.endswith("/zarr.json")]
    if not layout:
        return
    with _aside(store, run) as aside:
        for key in layout:
            copy_file(aside.path / key, run.path / key, sha256_file(aside.path / key))


def _mend_records(store: SequenceStore, kept: Kept, found: list[Damage]) -> None:
    if any(damage.problem.shard == SUMS for damage in found):
        renew_sums(store, kept)
    mend(store, kept)


@contextmanager
def _aside(store: SequenceStore, run: RunStore) -> Iterator[RunStore]:
    """An empty run laid out like another one, gone afterwards."""
    aside = store.create_run(f"{REPAIR}{run.id}-{uuid.uuid4().hex[:8]}", run.spec)
    try:
        yield aside
    finally:
        remove_tree(aside.path)


def _repair_shards(
    archive: Archive,
    store: SequenceStore,
    run: RunStore,
    found: list[Damage],
    connection: Connection | None,
    progress: Progress,
) -> list[Damage]:
    """Units that wrote damaged shards are computed in a run aside, and their shards copied where they are right."""
    _require_same_code(run)
    wanted = {damage.problem.unit for damage in found}
    records = {told["key"]: told for told in run.ledger().latest() if told["key"] in wanted}
    left = [damage for damage in found if damage.problem.unit not in records]
    damaged = {damage.problem.shard: damage for damage in found if damage.problem.unit in records}
    digests = run.table()
    computing = any(told["stage"] in STAGES for told in records.values())
    survey = _its_survey(archive, store, run, connection, progress) if computing else nullcontext()
    with _aside(store, run) as aside, survey:
        for stage in (*STAGES, "pyramid"):
            keys = sorted({str(d.problem.unit) for d in damaged.values()})
            mine = [records[key] for key in keys if records[key]["stage"] == stage]
            made: dict[str, str] = {}
            if stage == "pyramid" and mine:
                _lend(run, aside, str(run.spec.unit_levels - 1), digests)
                made = aside.finish_pyramid()
            elif mine:
                made = _computed(archive, store, run, aside, mine, digests, connection, progress)
            for shard in sorted(set(damaged) & set(made)):
                if made[shard] == digests.of(shard):
                    copy_file(aside.path / shard, run.path / shard, made[shard])
                else:
                    left.append(_because(damaged[shard], "computed again, it came out otherwise"))
    return left


def _computed(
    archive: Archive,
    store: SequenceStore,
    run: RunStore,
    aside: RunStore,
    records: list[dict[str, Any]],
    digests: ShardTable,
    connection: Connection | None,
    progress: Progress,
) -> dict[str, str]:
    """Compute units again in the run aside; {shard: digest} of what they wrote. Raises StoreError where one fails."""
    made: dict[str, str] = {}
    tasks = []
    for told in records:
        unit = Unit(told["stage"], told["frames"][0], told["frames"][1], Box(**told["box"]), told["key"])
        tasks.append(Task(str(archive.path), store.id, aside.id, unit))
        if unit.stage == "restore":
            _lend_motion(run, aside, unit, told["halo"], digests)

    def done(task: Task, record: dict[str, Any]) -> None:
        made.update(record["shards"])
        progress(f"repair {store.id}", next(finished), len(tasks))

    finished, need = count(1), max(int(told.get("peak_bytes", 0)) for told in records)
    with connection(need) if connection else nullcontext() as client:
        failures = run_tasks(tasks, client=client, done=done, need=need)
    if failures:
        raise StoreError(f"a unit can't be computed again: {failures[0]}")
    return made


def _lend_motion(run: RunStore, aside: RunStore, unit: Unit, halo: int, digests: ShardTable) -> None:
    """The motion that a restoration reads, of its frames and those beside them."""
    count, _, height, width = run.spec.shape
    region = unit.box.grown(halo, height, width)
    first, last = max(0, unit.t0 - 1), min(count, unit.t1 + 1)
    for name in ("motion/forward", "motion/backward"):
        grid = run.array(name).grid
        _copied(run, aside, name, grid.touched(grid.region(first, last, region)), digests)


def _lend(run: RunStore, aside: RunStore, array: str, digests: ShardTable) -> None:
    _copied(run, aside, array, run.array(array).grid.indices(), digests)


def _copied(
    run: RunStore, aside: RunStore, array: str, indices: Iterable[Index], digests: ShardTable
) -> None:
    """Take over what the run aside doesn't have yet of an array. Raises StoreError for a damaged shard."""
    for index in indices:
        key, digest = key_of(array, index), digests.digest(array, index)
        if digest is not None and not (aside.path / key).is_file():
            aside.copy_shards(run, {key: digest})


def _require_same_code(run: RunStore) -> None:
    """Refuse before computing what can't come out with the same bits."""
    here = numerics_class()
    planned = run.parameters.get("numerics", here)
    if planned != here:
        other = ", ".join(f"{key} {planned.get(key)}" for key in here if planned.get(key) != here[key])
        raise NumericsError(
            f"run {run.id} is of another numerics class ({other}): repair it on such a machine"
        )
    p = Parameters.load(run.parameters)
    now = (surveys.NUMERICS_VERSION, motion.METHODS[p.motion_method].NUMERICS_VERSION)
    if (tuple(p.motion_version), p.restore_version) != (now, window.NUMERICS_VERSION):
        raise StoreError(f"run {run.id} was made by an earlier version of the numerics: reprocess it instead")


def _repair_source(store: SequenceStore, found: list[Damage], progress: Progress) -> list[Damage]:
    """Records from their copy, then source shards again from the originals, frame by frame checked against the digests of
    their pixels."""
    if any(d.problem.shard in (*DOCUMENTS, SUMS) for d in found):
        _mend_records(store, store.source, found)
        store = SequenceStore(store.path)
        found = [Damage(store.id, "", problem) for problem in source_problems(store, Sample())]
    found = [d for d in found if d.problem.shard not in STATE]
    shards = {d.problem.shard: d for d in found if "/c/" in d.problem.shard}
    left = [d for d in found if "/c/" not in d.problem.shard]
    if not shards:
        return left
    source = store.source
    digests = source.shard_digests(0, source.shape[0])
    steps = source.shard_frames
    blocks = sorted({index_of(key)[1][0] * steps for key in shards})
    aside = source.path.with_name(f".{source.path.name}.{uuid.uuid4().hex[:8]}.repair")
    total = len(source.frames) + len(source.quarantined)  # the array was laid out for all of them
    grid = Grid((total, *source.grid.shape[1:]), source.grid.chunk, source.grid.shard)
    try:
        aside.mkdir()
        create_group(aside, {})
        create_array(aside, PIXELS, grid, source.header.dtype, names=("t", "c", "y", "x"), attributes={})
        for done, t0 in enumerate(blocks, 1):
            block = _read_originals(store, t0, min(t0 + steps, len(source.frames)))
            whole = np.zeros((min(steps, total - t0), *block.shape[1:]), block.dtype)
            whole[: len(block)] = block
            region = grid.region(t0, t0 + len(whole), Box(0, grid.shape[2], 0, grid.shape[3]))
            made = ShardedArray(aside, PIXELS).write(region, whole)
            for shard in sorted(set(shards) & set(made)):
                if made[shard] == digests[shard]:
                    copy_file(aside / shard, source.path / shard, digests[shard])
                else:
                    left.append(_because(shards[shard], "written again, its bytes came out otherwise"))
            progress(f"repair {store.id}", done, len(blocks))
    finally:
        remove_tree(aside)
    return left


def _read_originals(store: SequenceStore, t0: int, t1: int) -> Any:
    """Frames t0..t1 from the files they came from. Raises StoreError where those are not what was ingested."""
    told = store.source.header.metadata["deblur"]
    source = Source.model_validate(told["source"])
    with ExitStack() as stack:
        limits = ReadLimits().raised_to(store.source.header, len(store.source.frames))  # it was ingested once
        opened = open_source(source.path, limits=limits, order=source.order, isolation=Isolation())
        readers = [stack.enter_context(reader) for reader in opened]
        reader = next((r for r in readers if r.header.name == store.source.header.name), readers[0])
        places = {name: place for place, name in enumerate(frame_names(reader))}
        frames = []
        for record in store.source.frames[t0:t1]:
            pixels = reader.read(places[record.name]) if record.name in places else None
            if pixels is None or pixel_digest(pixels) != record.pixels:
                raise StoreError(f"{record.name} in {source.path} is gone or not what was ingested")
            frames.append(pixels)
    return np.stack(frames)
