"""From a configuration, a source and its survey to a plan: what is computed, with which halo, in how much memory.

Nothing is computed here, and everything that can be refused is refused here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deblur import motion, survey, window
from deblur.config import JobConfig, Source
from deblur.deconv import ALONG_PATHS
from deblur.errors import ConfigError, PlanError, meant
from deblur.io import Reader
from deblur.layout import STAGES as STAGES
from deblur.layout import Cost, Facts, choose, project
from deblur.layout import Stage as Stage
from deblur.light import Light, resolve
from deblur.models import network_of
from deblur.provenance import numerics_class
from deblur.smear import CELL
from deblur.store import SequenceStore, SourceStore
from deblur.store.durable import digest_of
from deblur.tiling import Box, Layout, blocks, boxes, round_up
from deblur.types import Estimate, FrameInfo, Lazy
from deblur.window import RestoreSettings, restore_halo


@dataclass(frozen=True, slots=True)
class Exposure:
    """How long the shutter was open, as a share of the frame interval, and how we know.

    `interval`: nominal seconds between frames, None where frames carry no times. `per_frame`: frames bring their
    own exposure times, which go before `fraction`. `uncertainty`: standard, of an estimated fraction.
    """

    fraction: float
    interval: float | None
    origin: Literal["given", "metadata", "estimated", "assumed"]
    per_frame: bool = False
    uncertainty: float | None = None

    def describe(self) -> str:
        """In words, for whoever has to believe it."""
        doubt = "" if self.uncertainty is None else f" ± {self.uncertainty:.2g}"
        how = {
            "given": "as given",
            "metadata": "from the files",
            "estimated": "estimated from the frames",
            "assumed": "assumed: neither files nor frames tell it",
        }
        return f"{self.fraction:.3g}{doubt}, {how[self.origin]}"

    def scale(self, frame: FrameInfo, other: FrameInfo) -> float:
        """Exposure of `frame` over the time to `other`: the share of the motion between them that blurred it."""
        gap = None if frame.time is None or other.time is None else abs(other.time - frame.time)
        if self.per_frame and frame.exposure_time is not None and gap:
            return min(frame.exposure_time / gap, 1.0)
        return self.fraction if self.interval is None or not gap else self.fraction * self.interval / gap


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that decides the bits of a run, besides its input. JSON-able by `dump`."""

    window: int
    reduction: int
    light: Light
    exposure: Exposure
    motion_method: str
    motion_version: tuple[int, int]
    motion_halo: int
    restore: RestoreSettings
    restore_version: int
    restore_halo: int
    outputs: tuple[str, ...]
    readout: float = 0.0

    def dump(self) -> dict[str, Any]:
        told = asdict(self)
        usual = RestoreSettings()
        for later in (
            "strength",
            "network",
            "provider",
        ):  # left out, so that runs from before keep their names and keys
            if getattr(self.restore, later) == getattr(usual, later):
                del told["restore"][later]
        return told

    @classmethod
    def load(cls, raw: Mapping[str, Any]) -> Parameters:
        return cls(
            **{field.name: raw[field.name] for field in fields(cls) if field.name in raw}
            | {
                "light": Light(**raw["light"]),
                "exposure": Exposure(**raw["exposure"]),
                "restore": RestoreSettings(**raw["restore"]),
                "motion_version": tuple(raw["motion_version"]),
                "outputs": tuple(raw["outputs"]),
            }
        )

    def halo(self, stage: Stage) -> int:
        return self.motion_halo if stage == "motion" else self.restore_halo

    def of_stage(self, stage: Stage) -> dict[str, Any]:
        """The parameters that decide this stage's bits, given the bits of the stage before it."""
        whole = self.dump()
        mine = ("window", "reduction", "light", "motion_method", "motion_version", "motion_halo", "outputs")
        later = ("window", "light", "exposure", "restore", "restore_version", "restore_halo", "readout")
        return {key: whole[key] for key in (mine if stage == "motion" else later)}


@dataclass(frozen=True, slots=True)
class Unit:
    """The work of one task: whole shards of one block of frames. `key` names its result by what goes into it."""

    stage: Stage
    t0: int
    t1: int
    box: Box
    key: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One run over one sequence, ready to be carried out."""

    sequence: str
    run: str
    shape: tuple[int, int, int, int]
    dtype: str
    layout: Layout
    parameters: Parameters
    cost: Cost
    survey: str  #: its digest


def source_exposure(
    source: Source, store: SourceStore | Reader, *, estimate: Estimate | None = None, assume: bool = False
) -> Exposure | None:
    """Exposure fraction from the job file, else from the frames' metadata, else from `estimate`, else, with `assume`, what
    the job file says to take otherwise; None without it.

    Raises ConfigError where what the first two say is impossible.
    """
    infos = frame_infos(store)
    interval = nominal_interval(infos)
    rate = source.frame_rate or store.header.frame_rate or (1 / interval if interval else None)
    if source.frame_rate is not None or interval is None:
        interval = 1 / rate if rate and interval is not None else interval
    if source.exposure_fraction is not None:
        return Exposure(source.exposure_fraction, interval, "given")
    if source.exposure_time is not None and rate:
        return Exposure(_fraction(source.exposure_time * rate, store.header.name), interval, "given")
    if store.header.exposure_fraction is not None:
        return Exposure(store.header.exposure_fraction, interval, "metadata")
    times = np.sort(_known(info.exposure_time for info in infos))
    if len(times) and rate:
        median = float(times[len(times) // 2])
        return Exposure(
            _fraction(median * rate, store.header.name), interval, "metadata", interval is not None
        )
    if estimate is not None:
        return Exposure(estimate.value, interval, "estimated", uncertainty=estimate.uncertainty)
    if assume and source.exposure_otherwise is not None:
        return Exposure(source.exposure_otherwise, interval, "assumed")
    return None


def _fraction(value: float, name: str) -> float:
    if not 0 < value <= 1.001:
        raise ConfigError(
            f"{name}: exposure time × frame rate is {value:.3g}, beyond (0, 1]: correct frame_rate or exposure_time"
        )
    return min(value, 1.0)


def nominal_interval(infos: Sequence[FrameInfo]) -> float | None:
    """Median seconds between neighbouring frames; None where any frame has no time."""
    times = _known(info.time for info in infos)
    if len(times) < max(2, len(infos)):
        return None
    gaps = np.sort(np.diff(times))
    return float(gaps[len(gaps) // 2]) or None


def _known(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.fromiter((value for value in values if value is not None), np.float64)


def frame_infos(store: SourceStore | Reader) -> Sequence[FrameInfo]:
    """The frames of a source as its reader described them, made one by one."""

    def info(t: int) -> FrameInfo:
        frame = store.frames[t]
        return FrameInfo(frame.name, frame.time, frame.exposure_time)

    return Lazy(len(store.frames), info)


def source_light(source: Source, store: SourceStore) -> Light:
    """Light of a sequence: what the job says, else what the file says, else by dtype."""
    transfer = source.transfer if source.transfer != "auto" else store.header.transfer or "auto"
    largest = float(store.header.metadata["deblur"]["largest"])
    return resolve(store.header.dtype, transfer=transfer, largest=largest, bits=store.header.bits)


def make_plan(job: JobConfig, source: Source, store: SequenceStore) -> Plan:
    """Plan a run. Raises ConfigError for settings that don't fit the sequence, PlanError for memory."""
    pixels, surveyed = store.source, store.survey_attrs()
    estimate, light = surveyed.get("exposure"), source_light(source, pixels)
    exposure = source_exposure(
        source, pixels, estimate=Estimate(**estimate) if estimate else None, assume=True
    )
    if exposure is None:
        raise ConfigError(f"{store.id}: exposure fraction unknown: give exposure_fraction, or run again")
    settings = check_methods(job)
    longest = float(surveyed["longest"])
    reduction = int(surveyed["reduction"])
    reach = round_up(longest, 1)
    longest_path = longest * exposure.fraction + float(surveyed["shaken"])
    seen = motion.METHODS[job.motion.method].reach_for(survey.window_levels(reduction))
    halos: dict[Stage, int] = {
        # the pyramid and red-black order of the whole frame
        "motion": round_up(reach + seen, 2**survey.LEVELS),
        # windows see the frame's cells
        "restore": round_up(restore_halo(settings, longest_path) + reach, CELL),
    }
    shape = pixels.shape
    noisy = store.survey_part("noise", 0, shape[0]).max() >= window.JOINT
    facts = Facts(
        shape, pixels.header.dtype, halos, 3 if noisy else 1, len(job.outputs), settings.method == "hybrid"
    )
    layout = choose(job.tiling, facts, memory=job.limits.memory, kept=_earlier(store))
    cost = project(facts, layout)
    if cost.memory > job.limits.memory:
        raise PlanError(
            f"{store.id}: a unit needs {_mib(cost.memory)} MiB, limits.memory is {_mib(job.limits.memory)} MiB: "
            "raise limits.memory or lower tiling.frames, tiling.unit or tiling.window"
        )
    parameters = Parameters(
        window=layout.window,
        reduction=reduction,
        light=light,
        exposure=exposure,
        motion_method=job.motion.method,
        motion_version=(survey.NUMERICS_VERSION, motion.METHODS[job.motion.method].NUMERICS_VERSION),
        motion_halo=halos["motion"],
        restore=settings,
        restore_version=window.NUMERICS_VERSION,
        restore_halo=halos["restore"],
        outputs=job.outputs,
        readout=source.readout,
    )
    made = store.survey_digest()
    identity = [
        pixels.digest,
        made,
        parameters.dump(),
        asdict(layout),
        numerics_class(),
    ]
    run = "run-" + digest_of(identity)[:12]
    return Plan(store.id, run, shape, pixels.header.dtype, layout, parameters, cost, made)


def _earlier(store: SequenceStore) -> Layout | None:
    """How the published run is laid out: a later one that is laid out alike can take over what it has."""
    current = store.current()
    if current is None:
        return None
    spec = store.run(current).spec
    told = spec.parameters
    return Layout(
        int(told["window"]), spec.chunk, spec.shard_size, int(told.get("unit", 2048)), spec.shard_frames
    )


def check_methods(job: JobConfig) -> RestoreSettings:
    """The settings of restoration. Raises ConfigError for a method that there isn't; needs no archive."""
    if job.motion.method not in motion.METHODS:
        told, known = job.motion.method, sorted(motion.METHODS)
        raise ConfigError(
            f"motion.method {told!r} is unknown{meant(told, known)}: use one of {', '.join(known)}"
        )
    network = network_of(job.restore)
    given = {key: value for key, value in job.restore.model_dump().items() if value is not None}
    settings = RestoreSettings(**given | {"network": network.identity if network else None})
    if settings.method not in ALONG_PATHS:
        slip, usable = meant(settings.method, ALONG_PATHS), ", ".join(ALONG_PATHS)
        raise ConfigError(
            f"restore.method {settings.method!r} is none that restores along a path{slip}: use one of {usable}"
        )
    return settings


def units(
    plan: Plan, store: SequenceStore, stage: Stage, *, starts: Container[int] | None = None
) -> Iterator[Unit]:
    """The units of one stage in order of time, keyed by what goes into them; of `starts`, only those blocks of frames.

    The key digests the source's shards under the unit and its halo, the survey there, the parameters of this and
    the earlier stages, and the numerics class. So it is known without reading a pixel.
    """
    count, _, height, width = plan.shape
    chain = [plan.parameters.of_stage(s) for s in STAGES[: STAGES.index(stage) + 1]]
    # frames beyond the block that have a say: restoration reads their motion
    spread = 1 if stage == "motion" else 2
    reach = sum(plan.parameters.halo(s) for s in STAGES[: STAGES.index(stage) + 1])
    kind = numerics_class()
    told = [store.survey_part(f"{s}_digest", 0, count) for s in STAGES[: STAGES.index(stage) + 1]]
    infos = frame_infos(store.source)
    for t0, t1 in blocks(count, plan.layout.frames):
        if starts is not None and t0 not in starts:
            continue
        first, last = max(0, t0 - spread), min(count, t1 + spread)
        frames = [asdict(info) for info in infos[first:last]]
        for box in boxes(height, width, plan.layout.unit):
            inputs = store.source.shard_digests(first, last, box.grown(reach, height, width))
            facts = [inputs, [part[first:last].tobytes().hex() for part in told], frames]
            key = digest_of([stage, t0, t1, asdict(box), facts, chain, kind])
            yield Unit(stage, t0, t1, box, key)


def _mib(size: int) -> int:
    return round(size / 2**20)
