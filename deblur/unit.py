"""One work unit: the only place where maths meets storage.

`run_unit` is what every executor runs, in whatever process. It takes a descriptor of a few hundred bytes, reads what
it needs from the stores, writes whole shards, and returns a record of a kilobyte for the ledger.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur import motion, survey, window
from deblur.deconv.network import Network
from deblur.encryption import refuse_shared_kernels
from deblur.errors import NumericsError
from deblur.gradients import sobel, temporal_difference
from deblur.light import decode, luma, merge
from deblur.models import kept
from deblur.neighbours import BEND, neighbour, spread, turning_at, vector
from deblur.place import Place, place
from deblur.plan import Parameters, Unit, frame_infos
from deblur.provenance import numerics_class
from deblur.sequence import doubt
from deblur.store import Archive, RunStore, SequenceStore, halve
from deblur.store.ledger import Index, Ledger
from deblur.store.run import LEARNED_STEPS, SEAL
from deblur.survey import dequantise, quantise, refine
from deblur.tiling import Box, Window, windows
from deblur.types import Float, FrameInfo, Iterations, Reason
from deblur.window import restore_window

Codes = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A unit and where it belongs. `parent`: the run whose shards hold this very result already."""

    archive: str
    sequence: str
    run: str
    unit: Unit
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What every unit of a run shares: opened stores and the parameters."""

    sequence: SequenceStore
    run: RunStore
    parameters: Parameters
    infos: Sequence[FrameInfo]
    linked: NDArray[np.bool_]
    noise: Float
    shake: Float
    unsteady: Float
    network: Network | None

    def link(self, t: int, other: int) -> bool:
        """Whether frames t and t ± 1 exist and show the same scene."""
        return min(t, other) >= 0 and max(t, other) < len(self.infos) and bool(self.linked[min(t, other)])

    def coarse(self, name: str, pair: int) -> Float:
        """The survey's motion between frames `pair` and `pair` + 1, "forward" or "backward"."""
        return np.asarray(self.sequence.survey_part(name, pair, pair + 1)[0])


def run_unit(task: Task) -> dict[str, Any]:
    """Compute one unit and write its shards; safe to repeat. Returns its record for the ledger."""
    began, cpu = time.time(), time.process_time()
    forget_peak()
    context = _context(task.archive, task.sequence, task.run)
    unit = task.unit
    if task.parent is not None:
        shards, told = _carry(context, task), {"carried_from": task.parent}
    elif unit.stage == "motion":
        shards, told = _motion(context, unit)
    else:
        shards, told = _restore(context, unit)
    return {
        "key": unit.key,
        "stage": unit.stage,
        "frames": [unit.t0, unit.t1],
        "box": asdict(unit.box),
        "halo": context.parameters.halo(unit.stage),
        "shards": shards,
        **told,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": began,
        "seconds": round(time.time() - began, 4),
        "cpu_seconds": round(time.process_time() - cpu, 4),
        "peak_bytes": peak_memory(),
        "bytes": sum((context.run.path / key).stat().st_size for key in shards),
    }


def peak_memory() -> int:
    """The most resident bytes that this process had since it began, or since `forget_peak`.

    Not what getrusage says on Linux: a process started by fork and exec inherits its parent's peak there.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Begin anew, where the system can: each unit has a peak of its own."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@lru_cache(maxsize=4)
def _context(archive: str, sequence: str, run: str) -> Context:
    store = Archive.open(archive).sequence(sequence)
    opened = store.run(run)
    require_class(opened.parameters["numerics"], f"run {opened.id}")
    _require_code(opened)
    refuse_shared_kernels(os.environ.get("NUMBA_CACHE_DIR"))
    infos, parameters = frame_infos(store.source), Parameters.load(opened.parameters)
    return Context(
        store,
        opened,
        parameters,
        infos,
        store.survey_part("linked", 0, len(infos)),
        store.survey_part("noise", 0, len(infos)),
        store.survey_part("shake", 0, len(infos)),
        store.survey_part("unsteady", 0, len(infos)),
        kept(place(archive), parameters.restore),
    )


def _require_code(run: RunStore) -> None:
    """Refuse to compute with other numerics than those that the run was planned for."""
    p = Parameters.load(run.parameters)
    planned = (*p.motion_version, p.restore_version)
    method = motion.METHODS[p.motion_method]
    here = (survey.NUMERICS_VERSION, method.NUMERICS_VERSION, window.NUMERICS_VERSION)
    if planned != here:
        raise NumericsError(
            f"{socket.gethostname()} has version {here} of the numerics (survey, motion, restoration) and run {run.id} "
            f"was planned with {planned}: give all workers the same deblur"
        )


def require_class(planned: Mapping[str, str], name: str) -> None:
    """Refuse to compute where the bits might come out otherwise than in the process that planned it."""
    here = numerics_class()
    other = [
        f"{key} {here.get(key)} instead of {planned[key]}" for key in planned if here.get(key) != planned[key]
    ]
    if other:
        raise NumericsError(
            f"{socket.gethostname()} is of another numerics class than {name} ({'; '.join(other)}): "
            "give all workers the same packages and CPU features, or start a new run there"
        )


class _Tally:
    """How many bytes of pixels and motion a unit read, as they are in memory."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, array: Codes) -> Codes:
        self.bytes += array.nbytes
        return array


class _Frames:
    """The frames around a unit, each decoded once; only the three that are needed are held."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read, self._held = read, dict[int, Any]()

    def __call__(self, t: int) -> Any:
        if t not in self._held:
            self._held = {k: v for k, v in self._held.items() if abs(k - t) <= 2}
            self._held[t] = self._read(t)
        return self._held[t]


def _motion(context: Context, unit: Unit) -> tuple[dict[str, str], dict[str, Any]]:
    """Stage 1: motion from every frame to its two neighbours, window by window."""
    p, source = context.parameters, context.sequence.source
    _, height, width = source.header.shape
    region = unit.box.grown(p.motion_halo, height, width)
    tiles = windows(unit.box, height, width, size=p.window, halo=p.motion_halo)
    read = _Tally()
    lumas = _Frames(lambda t: luma(read(source.read(t, t + 1, region))[0], p.light))
    count = unit.t1 - unit.t0
    fields = {name: np.zeros((count, 2, *unit.box.shape), np.int16) for name in ("forward", "backward")}
    for t in range(unit.t0, unit.t1):
        for name, other in (("forward", t + 1), ("backward", t - 1)):
            if not context.link(t, other):
                continue
            pair = min(t, other)
            coarse = context.coarse(name, pair)
            for tile in tiles:
                view = tile.read.within(region)
                found = refine(
                    np.ascontiguousarray(lumas(t)[view]),
                    np.ascontiguousarray(lumas(other)[view]),
                    coarse,
                    reduction=p.reduction,
                    y0=tile.read.y0,
                    x0=tile.read.x0,
                    method=p.motion_method,
                )
                at = (t - unit.t0, slice(None), *tile.core.within(unit.box))
                fields[name][at] = quantise(found[:, *tile.inner])
    written: dict[str, str] = {}
    for name, field in fields.items():
        written |= context.run.write(f"motion/{name}", unit.t0, unit.box, field)
    if "gradients" in p.outputs:
        written |= _gradients(context, unit, lumas, region)
    longest = float(max(np.abs(f).max() for f in fields.values())) / 64
    return written, {"longest": longest, "read_bytes": read.bytes}


def _gradients(context: Context, unit: Unit, lumas: _Frames, region: Box) -> dict[str, str]:
    """Spatial (Sobel) and temporal derivatives of the unit, for those who asked to keep them."""
    inner = unit.box.within(region)
    spatial, temporal = [], []
    for t in range(unit.t0, unit.t1):
        spatial.append(sobel(lumas(t))[:, *inner])
        first, last = (n if context.link(t, n) else t for n in (t - 1, t + 1))
        temporal.append(temporal_difference(lumas(first), lumas(last))[inner])
    return context.run.write("gradients/spatial", unit.t0, unit.box, np.stack(spatial)) | context.run.write(
        "gradients/temporal", unit.t0, unit.box, np.stack(temporal)
    )


def _restore(context: Context, unit: Unit) -> tuple[dict[str, str], dict[str, Any]]:
    """Stage 2: restore every frame along its path, window by window, from the stored motion."""
    p, source, run = context.parameters, context.sequence.source, context.run
    channels, height, width = source.header.shape
    region = unit.box.grown(p.restore_halo, height, width)
    tiles = windows(unit.box, height, width, size=p.window, halo=p.restore_halo)
    read = _Tally()
    codes = _Frames(lambda t: read(source.read(t, t + 1, region))[0])
    fields = {
        name: _Frames(lambda t, name=name: read(run.read(f"motion/{name}", t, t + 1, region))[0])  # type: ignore[misc]
        for name in ("forward", "backward")
    }
    count = unit.t1 - unit.t0
    image = np.empty((count, channels, *unit.box.shape), source.header.dtype)
    weight = np.zeros((count, *unit.box.shape), np.uint8)
    reason = np.zeros((count, *unit.box.shape), np.uint8)
    learned = np.zeros((count, *unit.box.shape), np.int8)
    told = []
    for t in range(unit.t0, unit.t1):
        steps = []
        turned = turning_at(t, context.linked, context.coarse, reduction=p.reduction)
        for tile in tiles:
            restored = _restore_tile(context, t, tile, region, codes, fields, turned)
            at = (t - unit.t0, *tile.core.within(unit.box))
            view = tile.core.within(region)
            share = np.rint(restored.weight[tile.inner] * 255).astype(np.uint8)
            image[at[0], :, *at[1:]] = merge(
                codes(t)[:, *view], restored.image[:, *tile.inner], share.astype(np.float32) / 255, p.light
            )
            weight[at], reason[at] = share, restored.reason[tile.inner]
            if restored.learned is not None:
                learned[at] = np.clip(np.rint(restored.learned[tile.inner] * LEARNED_STEPS), -127, 127)
            steps.append(restored.iterations)
        found = _frame_record(t, weight[t - unit.t0], reason[t - unit.t0], steps)
        told.append(found | _surveyed(context, t))
    written = _write_pyramid(run, unit, image)
    written |= run.write("quality/weight", unit.t0, unit.box, weight)
    written |= run.write("quality/reason", unit.t0, unit.box, reason)
    if run.spec.learned:
        written |= run.write("quality/learned", unit.t0, unit.box, learned)
    return written, {"quality": told, "read_bytes": read.bytes}


def _write_pyramid(run: RunStore, unit: Unit, image: Codes) -> dict[str, str]:
    """The image and those smaller copies of it that this unit covers in whole chunks."""
    written: dict[str, str] = {}
    for level in range(run.spec.unit_levels):
        written |= run.write(str(level), unit.t0, run.spec.level_box(unit.box, level), image)
        image = halve(image)
    return written


def _restore_tile(
    context: Context,
    t: int,
    tile: Window,
    region: Box,
    codes: _Frames,
    fields: dict[str, _Frames],
    turned: Float | None,
) -> Any:
    p = context.parameters
    view = tile.read.within(region)

    def light(at: int) -> Float:
        return decode(codes(at)[:, *view], p.light)

    def motion(name: str, at: int) -> Float:
        return dequantise(fields[name](at)[:, *view])

    beside = []
    shake, turn = context.shake[t], spread(turned, tile.read, reduction=p.reduction)
    for there, back, other, sign in (("forward", "backward", t + 1, 1), ("backward", "forward", t - 1, -1)):
        if context.link(t, other):
            scale = sign * p.exposure.scale(context.infos[t], context.infos[other])
            to, fro = motion(there, t), motion(back, other)
            beside.append(neighbour(light(other), to, fro, scale, shake, context.shake[other], turn))
    return restore_window(
        light(t),
        tuple(beside),
        noise=float(context.noise[t]),
        settings=p.restore,
        bend=vector(shake[BEND]),
        unsteady=doubt(float(context.unsteady[t]), p.exposure.uncertainty),
        row_time=p.readout / context.sequence.source.header.shape[1],
        network=context.network,
    )


def _frame_record(t: int, weight: Codes, reason: Codes, steps: list[Iterations]) -> dict[str, Any]:
    counts = np.bincount(reason.ravel(), minlength=len(Reason))
    return {
        "frame": t,
        "weight": round(float(weight.mean()) / 255, 5),
        "reasons": {r.name.lower(): int(counts[r]) for r in Reason if counts[r]},
        "iterations": max(s.count for s in steps),
        "residual": round(max(s.residual for s in steps), 6),
    }


def _surveyed(context: Context, t: int) -> dict[str, Any]:
    """What of the survey went into a frame: another one may take its place, and the run must still tell its story."""
    return {
        "linked": [context.link(t, t - 1), context.link(t, t + 1)],
        "noise": round(float(context.noise[t]), 6),
        "shake": [[round(v, 6) for v in vector(row)] for row in context.shake[t]],
    }


def _carry(context: Context, task: Task) -> dict[str, str]:
    """Take over shards that an earlier run computed from the same key, their digests checked."""
    parent = context.sequence.run(str(task.parent))
    seal = (parent.path / SEAL).read_bytes() if parent.sealed else b""
    shards: dict[str, str] = _index(parent.units_folder, seal).record(task.unit.key)["shards"]
    return context.run.copy_shards(parent, shards)


@lru_cache(maxsize=2)
def _index(folder: Place, seal: bytes) -> Index:
    """The ledger of an earlier run, which is published and so never changes. `seal`: that run's, for one that was pruned
    and computed again has the name of the former, but not its ledger."""
    return Ledger(folder).index()
