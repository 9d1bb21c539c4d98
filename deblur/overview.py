"""The survey of a stored sequence: blocks of frames as units on the job's cluster, then what they say together.

Blocks write into a draft beside the survey's place, so a killed survey goes on with what is missing. What is decided
for the sequence as a whole is a pass over a hundred bytes a frame, in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deblur.config import JobConfig, Source
from deblur.crew import Connection
from deblur.errors import ArrayError, ConfigError, DeblurError, PlanError, StoreError
from deblur.execute import run_tasks
from deblur.ingest import Progress
from deblur.layout import BASE_MEMORY
from deblur.light import Light
from deblur.plan import (
    Stage,
    Unit,
    frame_infos,
    nominal_interval,
    source_exposure,
    source_light,
)
from deblur.provenance import numerics_class
from deblur.shutter import NUMERICS_VERSION as SHUTTER_VERSION
from deblur.shutter import STRETCH, estimate_from
from deblur.store import SequenceStore, SourceStore
from deblur.store.durable import digest_of
from deblur.store.survey import Draft
from deblur.survey import NUMERICS_VERSION, reduction_for, shake_at, survey_memory
from deblur.surveying import FACTS, facts_of, share_unit, survey_unit
from deblur.tiling import Box, blocks
from deblur.trajectory import REACH
from deblur.types import Bool, Estimate
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client

BLOCK = 8  # frames of a unit; each reads one more, the next one
ROWS = 4096  # of an array of a row a frame, read or written at once
WORTH = 6e7  # pixels looked at; fewer are surveyed sooner than workers are started
PER_REDUCED = 8  # times as long as a pixel of the frame takes one of the reduced frame
KEPT = {  # what the survey says of each frame, besides the fields: dtype and the rest of the shape
    "linked": ("bool", ()),
    "noise": ("float32", ()),
    "noise_curve": ("float32", (2,)),
    "shake": ("float32", (3, 2)),
    "unsteady": ("float32", ()),
    "motion_digest": ("uint8", (32,)),  # so that units can be keyed without reading it all
    "restore_digest": ("uint8", (32,)),
}


@dataclass(frozen=True, slots=True)
class _Survey:
    """What all blocks of one survey share."""

    job: JobConfig
    store: SequenceStore
    identity: dict[str, Any]
    light: Light
    client: Client | None
    need: int
    progress: Progress

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.store.source.shape

    def draft(self, fraction: float | None) -> Draft:
        """The draft to which that exposure fraction leads; None: for what is needed to estimate it."""
        count, _, height, width = self.shape
        factor = reduction_for(height, width)
        field = (count, 2, -(-height // factor), -(-width // factor))
        arrays: dict[str, tuple[tuple[int, ...], str, int]] = dict.fromkeys(
            ("forward", "backward"), (field, "float32", BLOCK)
        )
        arrays["facts"] = ((count, FACTS.itemsize), "uint8", BLOCK)
        arrays["apart"] = ((count,), "bool", ROWS)
        arrays |= {name: ((count, *rest), dtype, ROWS) for name, (dtype, rest) in KEPT.items()}
        told = {
            "light": asdict(self.light),
            "method": self.job.motion.method,
            "fraction": fraction,
            "numerics": numerics_class(),
        }
        key = digest_of([self.identity, told, BLOCK, ROWS, self.store.source.digest])[:16]
        draft = self.store.draft_survey(key, told, arrays)
        if not draft.has("apart", 0, count):
            apart = _gaps(self.store.source)
            for t0, t1 in blocks(count, ROWS):
                draft.write("apart", t0, apart[t0:t1])
        return draft

    def fill(self, draft: Draft, first: int, last: int, *, name: str) -> None:
        """Survey those blocks of frames first..last that are missing. Raises the first fault, when all were tried."""
        done = first
        todo = []
        for t0, t1 in blocks(self.shape[0], BLOCK):
            if first <= t0 < last and not draft.has("facts", t0, t1):
                todo.append((t0, t1))
            elif first <= t0 < last:
                done += t1 - t0

        def record(task: Task, _: dict[str, Any]) -> None:
            nonlocal done
            done += task.unit.t1 - task.unit.t0
            self.progress(f"{name} {self.store.id}", done, last)

        tasks = (self.task("survey", draft, t0, t1) for t0, t1 in todo)
        self.run(tasks, record, survey_unit)

    def task(self, stage: Stage, draft: Draft, t0: int, t1: int) -> Task:
        _, _, height, width = self.shape
        unit = Unit(stage, t0, t1, Box(0, height, 0, width), f"{stage} {draft.path.name} {t0}")
        return Task(str(self.job.archive), self.store.id, draft.path.name, unit)

    def run(
        self,
        tasks: Iterable[Task],
        done: Callable[[Task, dict[str, Any]], None],
        work: Callable[[Task], dict[str, Any]],
    ) -> None:
        """Raises StoreError when all were tried and some failed."""
        failures = run_tasks(tasks, client=self.client, done=done, work=work, need=self.need, priority=1)
        if failures:
            raise StoreError(
                f"{failures[0]}; {len(failures)} parts of the survey failed: run again, the rest is kept"
            )


def ensure_survey(
    job: JobConfig, source: Source, store: SequenceStore, *, connection: Connection, progress: Progress
) -> None:
    """Survey a sequence unless the stored survey is what this job would make.

    `connection`: to workers, asked for where the work is worth it. Raises PlanError where a block needs more memory
    than a worker may have, ConfigError where the exposure can't be told, StoreError for blocks that failed.
    """
    pixels, light = store.source, source_light(source, store.source)
    exposure, otherwise = source_exposure(source, pixels), source.exposure_otherwise
    identity = {
        "version": NUMERICS_VERSION,
        "method": job.motion.method,
        "light": asdict(light),
        "fraction": exposure.fraction if exposure else f"estimated, version {SHUTTER_VERSION}",
    }
    if _surveyed(store, identity, otherwise):
        return
    need = BASE_MEMORY + survey_memory(pixels.shape, pixels.header.dtype, estimate=exposure is None)
    if need > job.limits.memory:
        raise PlanError(
            f"{store.id}: a unit needs {need >> 20} MiB, limits.memory is {job.limits.memory >> 20} MiB: "
            "raise limits.memory, the survey needs it"
        )
    with connection(need) if _worth_workers(pixels.shape) else nullcontext() as client:
        work = _Survey(job, store, identity, light, client, need, progress)
        try:
            estimate = None if exposure else _estimate(work, needed=otherwise is None)
            known = exposure.fraction if exposure else estimate.value if estimate else None
            fraction = known or otherwise or 0.0
            draft = work.draft(fraction)
            work.fill(draft, 0, pixels.shape[0], name="survey")
            told = {"identity": identity, "reduction": reduction_for(*pixels.shape[2:])}
            told["exposure"] = asdict(estimate) if estimate else None
            if known is None:
                told["assumed"] = otherwise
            _conclude(draft, pixels.shape[0], fraction, told, store)
        except DeblurError:
            if not _surveyed(store, identity, otherwise):  # else somebody made the same one meanwhile
                raise


def _surveyed(store: SequenceStore, identity: dict[str, Any], otherwise: float | None) -> bool:
    """Whether the stored survey is this one; what can't be read, or is of an earlier format, is none."""
    try:
        attrs = store.survey_attrs()
        return attrs["identity"] == identity and attrs.get("assumed") in (None, otherwise)
    except (StoreError, KeyError):
        return False


def _worth_workers(shape: tuple[int, int, int, int]) -> bool:
    count, _, height, width = shape
    factor = reduction_for(height, width)
    return count * height * width * (1 + PER_REDUCED / factor**2) > WORTH


def _estimate(work: _Survey, *, needed: bool) -> Estimate | None:
    """The exposure from the first stretch of frames that tells, so that frames added later change nothing.

    None where no stretch tells; ConfigError if it is `needed`.
    """
    count = work.shape[0]
    draft = work.draft(None)
    for first in range(0, count - 2, STRETCH):
        last = min(first + STRETCH, count)
        work.fill(draft, first, last, name="exposure")
        linked = facts_of(draft, first, last)["linked"]
        told: dict[int, tuple[float, float] | None] = {}
        tasks = (
            work.task("share", draft, t, t + 1)
            for t in range(first + 1, last - 1)
            if linked[t - first - 1] and linked[t - first]
        )

        def record(task: Task, found: dict[str, Any]) -> None:
            told[task.unit.t0] = found["share"]  # noqa: B023 (called within this turn)

        work.run(tasks, record, share_unit)
        try:
            estimate = estimate_from(told[t] for t in sorted(told))
        except ArrayError:
            continue
        draft.remove()
        return estimate
    draft.remove()
    if not needed:
        return None
    why = "the frames don't move enough to tell it" if count >= 3 else f"{count} frames can't tell it"
    remedy = "give exposure_fraction, or exposure_time and frame_rate, or exposure_otherwise"
    raise ConfigError(f"{work.store.id}: exposure fraction unknown, and {why}: {remedy}")


def _conclude(draft: Draft, count: int, fraction: float, told: dict[str, Any], store: SequenceStore) -> None:
    """What the blocks say together: the trajectory, how far things move, digests. Then the survey is there."""
    longest = shaken = 0.0
    sums = {name: hashlib.sha256() for name in KEPT}
    for t0, t1 in blocks(count, ROWS):
        first, last = max(0, t0 - REACH), min(count, t1 + REACH)
        facts = facts_of(draft, first, last)
        rows = _rows(facts, t0 - first, t1 - first, fraction)
        longest = max(longest, float(facts["longest"].max()))
        reach = np.hypot(rows["shake"][..., 0], rows["shake"][..., 1])
        shaken = max(shaken, float((reach[:, :2].max(axis=1) + 2 * reach[:, 2]).max()))
        for name, values in rows.items():
            draft.write(name, t0, values)
            sums[name].update(np.ascontiguousarray(values).data)
    attrs = told | {"longest": longest, "shaken": shaken}
    arrays = {name: [*KEPT[name], count, total.hexdigest()] for name, total in sums.items()}
    # somebody may be computing from the one that is there
    with store.lease().held() if store.has_survey() else nullcontext():
        draft.finish(store.survey_path, attrs, digest_of({"arrays": arrays, "attrs": attrs}))


def _rows(facts: NDArray[Any], t0: int, t1: int, fraction: float) -> dict[str, NDArray[Any]]:
    """`KEPT` of frames t0..t1 of those that `facts` are about, which are `REACH` more on both sides."""
    rows = {
        name: np.zeros((t1 - t0, *rest), dtype)
        for name, (dtype, rest) in KEPT.items()
        if name not in FACTS.names  # type: ignore[operator]
    }
    rows |= {name: facts[name][t0:t1] for name in KEPT if name in FACTS.names}  # type: ignore[operator]
    for n, t in enumerate(range(t0, t1)):
        shake, unsteady = shake_at(t, facts["linked"], facts["move"], facts["change"], fraction)
        rows["shake"][n], rows["unsteady"][n] = shake, unsteady
        motion = hashlib.sha256(facts["forward"][t].tobytes())
        motion.update(facts["backward"][t - 1].tobytes() if t else b"")
        motion.update(facts["linked"][t].tobytes())
        rows["motion_digest"][n] = list(motion.digest())
        said = [float(facts["noise"][t]), shake.tolist(), float(rows["unsteady"][n])]
        rows["restore_digest"][n] = list(bytes.fromhex(digest_of(said)))
    return rows


def _gaps(pixels: SourceStore) -> Bool:
    """(t,), between which frames and the next ones time is missing: a quarantined frame, a camera that paused."""
    infos = frame_infos(pixels)
    places = np.fromiter((frame.index for frame in pixels.frames), np.int64)
    late = np.diff(places) > 1
    interval = nominal_interval(infos)
    if interval is not None:
        times = (info.time or 0.0 for info in infos)
        late |= np.fromiter((b - a > 1.5 * interval for a, b in pairwise(times)), bool)
    return np.append(late, False)
