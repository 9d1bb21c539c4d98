"""Where does this pixel come from? Its whole story, from the records and the stored arrays; nothing is solved again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from deblur.deconv.hybrid import root
from deblur.errors import ConfigError, StoreError
from deblur.judge import frame_records
from deblur.light import Light, decode
from deblur.neighbours import BEND, NEXT, PREVIOUS, spread, trust_in, turning_at, vector
from deblur.paths import exposure_path
from deblur.plan import Parameters, frame_infos
from deblur.provenance import environment_of, survey_of
from deblur.report.drawing import draw_story
from deblur.report.pictures import REASON_WORDS
from deblur.store import RunStore, SequenceStore, history, state_of
from deblur.store.ledger import readable
from deblur.store.run import LEARNED_STEPS
from deblur.survey import dequantise
from deblur.tiling import Box, Window, windows
from deblur.types import Float, FrameInfo, Reason

Group = dict[str, Any]
UNIT = ("key", "host", "pid", "attempt", "began", "seconds", "carried_from")


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of one pixel, in groups of plain values; `path`: (dy, dx) in pixels over the exposure."""

    groups: dict[str, Group]
    frame: int
    at: tuple[int, int]
    path: tuple[float, float]
    light: Light


@dataclass(frozen=True, slots=True)
class _Side:
    """A neighbour as the restoration used it: which frame, motion to it, confidence, share of that motion, and what
    the path that it suggests lacks. `doubt`: why the confidence may have been less."""

    frame: int
    motion: Float
    sure: Float
    scale: float
    lack: tuple[float, float]
    doubt: str


@dataclass(frozen=True, slots=True)
class _Survey:
    """What the survey that the run was computed with said of the frame: whether the frames before and after it show the
    same scene, its noise, its shake (`deblur.survey.Survey`). `there`: it still lies beside the run, whole."""

    linked: Sequence[bool]
    noise: float
    shake: Float
    there: bool


def explain(sequence: SequenceStore, run: RunStore, *, frame: int, at: tuple[int, int]) -> Story:
    """Tell the story of the pixel `at` (y, x) of a frame (counted from 0).

    Raises ConfigError for a place outside of the sequence, StoreError where the run has no record of it.
    """
    count, _, height, width = run.spec.shape
    if not (0 <= frame < count and 0 <= at[0] < height and 0 <= at[1] < width):
        raise ConfigError(
            f"frame {frame} at {at[0]},{at[1]} is not in {sequence.id}: it has {count} frames of {height}×{width}, "
            "all counted from 0"
        )
    p, infos = Parameters.load(run.parameters), frame_infos(sequence.source)
    with readable(run.id):
        records = {stage: _record(run, stage, frame, at) for stage in ("motion", "restore")}
        units = {stage: _unit(told) for stage, told in records.items()}
        seen = _survey(sequence, run, frame, records["restore"])
        window = _window(p, records["restore"], at, height, width)
        restoration = _restoration(run, p, frame, seen.noise, window)
    sides = _sides(sequence, run, p, infos, frame, window.read, seen)
    here = at[0] - window.read.y0, at[1] - window.read.x0
    path = _path(sides, here, p.readout / height)
    groups = {
        "pixel": _pixel(sequence, run, infos, frame, at),
        "source": _source(sequence, frame, at),
        "neighbours": {f"frame {side.frame}": _neighbour(infos, frame, side, here) for side in sides},
        "path": _path_group(p, path, seen.shake),
        "restoration": restoration,
        **({"network": _network(sequence, run, p, frame, at)} if run.spec.learned else {}),
        "units": units,
        "run": _run(sequence, run),
    }
    return Story(groups, frame, at, path, p.light)


def story_picture(sequence: SequenceStore, run: RunStore, story: Story, *, side: int = 96) -> bytes:
    """A PNG: the source around the pixel with its path, the PSF, the restored frame, the weight."""
    _, _, height, width = run.spec.shape
    box = _around(story.at, side, height, width)
    return draw_story(
        sequence.source.read(story.frame, story.frame + 1, box)[0],
        run.read("0", story.frame, story.frame + 1, box)[0],
        run.read("quality/weight", story.frame, story.frame + 1, box)[0].astype(np.float32) / 255,
        path=story.path,
        at=(story.at[0] - box.y0, story.at[1] - box.x0),
        light=story.light,
    )


def _around(at: tuple[int, int], side: int, height: int, width: int) -> Box:
    tall, wide = min(side, height), min(side, width)
    y0 = min(max(0, at[0] - tall // 2), height - tall)
    x0 = min(max(0, at[1] - wide // 2), width - wide)
    return Box(y0, y0 + tall, x0, x0 + wide)


def _record(run: RunStore, stage: str, frame: int, at: tuple[int, int]) -> Group:
    for record in run.ledger().latest():
        if record.get("stage") != stage or not record["frames"][0] <= frame < record["frames"][1]:
            continue
        box = Box(**record["box"])
        if box.y0 <= at[0] < box.y1 and box.x0 <= at[1] < box.x1:
            return record
    raise StoreError(f"run {run.id} has no record of the {stage} of frame {frame} there: it is not finished")


def _window(p: Parameters, record: Group, at: tuple[int, int], height: int, width: int) -> Window:
    """The window of the numerics that owns the pixel."""
    tiles = windows(Box(**record["box"]), height, width, size=p.window, halo=p.restore_halo)
    return next(
        t for t in tiles if t.core.y0 <= at[0] < t.core.y1 and t.core.x0 <= at[1] < t.core.x1
    )  # cores cover the unit


def _survey(sequence: SequenceStore, run: RunStore, t: int, record: Group) -> _Survey:
    """From the unit's record of frame t; the survey beside the run may be another one by now."""
    there = sequence.has_survey() and survey_of(run) in (None, sequence.survey_digest())
    told = next(part for part in record.get("quality", [{"frame": t}]) if part["frame"] == t)
    if "shake" in told:
        return _Survey(told["linked"], told["noise"], np.array(told["shake"], np.float32), there)
    if not there:
        raise StoreError(
            f"the survey that run {run.id} was computed with is gone: another one took its place, and an earlier deblur "
            "computed the run, whose records don't tell of it"
        )
    shake, noise, after = (sequence.survey_part(name, t, t + 1)[0] for name in ("shake", "noise", "linked"))
    before = t > 0 and sequence.survey_part("linked", t - 1, t)[0]
    return _Survey([bool(before), bool(after)], float(noise), shake, there)


def _sides(
    sequence: SequenceStore,
    run: RunStore,
    p: Parameters,
    infos: Sequence[FrameInfo],
    t: int,
    box: Box,
    seen: _Survey,
) -> list[_Side]:
    """The neighbours of frame t with the stored motion to them, as `deblur.unit` hands them to the restoration."""
    found = []
    turn, doubt = None, ""
    if seen.there:
        linked = sequence.survey_part("linked", 0, len(infos))
        turned = turning_at(
            t, linked, lambda name, k: sequence.survey_part(name, k, k + 1)[0], reduction=p.reduction
        )
        turn = spread(turned, box, reduction=p.reduction)
    elif sum(seen.linked) == 1:
        doubt = " or less: the survey that told whether motion turned here was replaced"
    for there, back, other, sign, side in (
        ("forward", "backward", t + 1, 1, NEXT),
        ("backward", "forward", t - 1, -1, PREVIOUS),
    ):
        if not seen.linked[other > t]:
            continue
        motion = dequantise(run.read(f"motion/{there}", t, t + 1, box)[0])
        returning = dequantise(run.read(f"motion/{back}", other, other + 1, box)[0])
        scale = sign * p.exposure.scale(infos[t], infos[other])
        sure = trust_in(motion, returning, scale, turn)
        found.append(_Side(other, motion, sure, scale, vector(seen.shake[side]), doubt))
    return found


def _path(sides: list[_Side], here: tuple[int, int], row_time: float) -> tuple[float, float]:
    if not sides:
        return 0.0, 0.0
    field = exposure_path(
        [side.motion for side in sides],
        [side.scale for side in sides],
        [side.sure for side in sides],
        [side.lack for side in sides],
        row_time=row_time,
    )
    return float(field[(0, *here)]), float(field[(1, *here)])


def _pixel(
    sequence: SequenceStore, run: RunStore, infos: Sequence[FrameInfo], t: int, at: tuple[int, int]
) -> Group:
    box = Box(at[0], at[0] + 1, at[1], at[1] + 1)
    reason = Reason(int(run.read("quality/reason", t, t + 1, box)[0, 0, 0]))
    return {
        "frame": t,
        "name": infos[t].name,
        "at": f"{at[0]},{at[1]}",
        "channels": list(sequence.source.header.channels),
        "source": sequence.source.read(t, t + 1, box)[0, :, 0, 0].tolist(),
        "restored": run.read("0", t, t + 1, box)[0, :, 0, 0].tolist(),
        "weight": round(int(run.read("quality/weight", t, t + 1, box)[0, 0, 0]) / 255, 3),
        "reason": REASON_WORDS[reason],
        "shard": run.shard_digests("0", t, t + 1, box),
    }


def _source(sequence: SequenceStore, t: int, at: tuple[int, int]) -> Group:
    source, frame = sequence.source, sequence.source.frames[t]
    told = source.header.metadata.get("deblur", {})
    box = Box(at[0], at[0] + 1, at[1], at[1] + 1)
    known = {
        "file": frame.name,
        "read from": told.get("source", {}).get("path"),
        "sha256 of the file": frame.file,
        "sha256 of the pixels": frame.pixels,
        "time": frame.time,
        "exposure time": frame.exposure_time,
        "continues": told.get("continues"),
    }
    stored = {"shard": source.shard_digests(t, t + 1, box), "digest of the source": source.digest}
    return {key: value for key, value in known.items() if value is not None} | stored


def _neighbour(infos: Sequence[FrameInfo], t: int, side: _Side, here: tuple[int, int]) -> Group:
    dy, dx = (round(float(side.motion[(k, *here)]), 3) for k in (0, 1))
    sure = round(float(side.sure[here]), 3)
    times = infos[t].time, infos[side.frame].time
    gap = {} if None in times else {"seconds apart": round(float(times[1]) - float(times[0]), 6)}  # type: ignore[arg-type]
    return {
        "name": infos[side.frame].name,
        **gap,
        "motion to it, px down and right": [dy, dx],
        "confidence": f"{sure:g}{side.doubt}" if side.doubt else sure,
        "share of that motion within the exposure": round(abs(side.scale), 4),
        "camera shake added, px down and right": [round(v, 3) for v in side.lack],
    }


def _path_group(p: Parameters, path: tuple[float, float], shake: Float) -> Group:
    spread = p.exposure.uncertainty
    return {
        "over the exposure, px down and right": [round(path[0], 3), round(path[1], 3)],
        "length, px": round(float(np.hypot(*path)), 3),
        "exposure fraction": p.exposure.fraction,
        "known from": p.exposure.origin
        + (", a time for each frame" if p.exposure.per_frame else "")
        + (f", ± {spread:.2g}" if spread else ""),
        "bend of it, px down and right": [round(v, 3) for v in vector(shake[BEND])],
        "readout, of a frame interval": p.readout,
        "motion method": p.motion_method,
    }


def _restoration(run: RunStore, p: Parameters, t: int, noise: float, window: Window) -> Group:
    told = frame_records(run)[t]
    core = window.core
    return {
        "method": p.restore.method,
        "iterations": told["iterations"],
        "residual, rms, of full range": told["residual"],
        "noise of the frame": round(noise, 6),
        "mean weight of the frame": round(told["weight"], 4),
        "quality of the frame": round(told["quality"], 4),
        "light": f"{p.light.transfer}, black {p.light.black:g}, white {p.light.white:g}",
        "window": f"rows {core.y0}-{core.y1 - 1}, columns {core.x0}-{core.x1 - 1}, halo {p.restore_halo} px",
        "versions of the numerics": {"motion": list(p.motion_version), "restoration": p.restore_version},
    }


def _network(sequence: SequenceStore, run: RunStore, p: Parameters, t: int, at: tuple[int, int]) -> Group:
    """What of the pixel's change came from the network, and what from physics."""
    box = Box(at[0], at[0] + 1, at[1], at[1] + 1)
    before, after = (
        float(root(decode(codes[0], p.light)).mean())
        for codes in (sequence.source.read(t, t + 1, box), run.read("0", t, t + 1, box))
    )
    learned = int(run.read("quality/learned", t, t + 1, box)[0, 0, 0]) / LEARNED_STEPS
    physics = after - before - learned
    weights, _, runtime = str(p.restore.network).partition(" ")
    return {
        "change, as square roots of light": round(after - before, 4),
        "of it by physics": round(physics, 4),
        "of it by the network": round(learned, 4),
        "share of the network": round(abs(learned) / max(abs(learned) + abs(physics), 1 / LEARNED_STEPS), 3),
        "weights": weights,
        "computed by": runtime,
    }


def _unit(record: Group) -> Group:
    told = {key: record[key] for key in UNIT if key in record}
    if "began" in told:
        told["began"] = _moment(told["began"])
    box = record["box"]
    frames = f"{record['frames'][0]}-{record['frames'][1] - 1}"
    return {
        "region": f"frames {frames}, rows {box['y0']}-{box['y1'] - 1}, columns {box['x0']}-{box['x1'] - 1}",
        **told,
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _run(sequence: SequenceStore, run: RunStore) -> Group:
    told: Group = {"sequence": sequence.id, "run": run.id, "state": state_of(sequence, run)}
    decided = [entry for entry in history(sequence) if run.id in (entry["run"], entry.get("instead_of"))]
    told["history"] = [
        f"{entry['action']} {_moment(entry['at'])} {entry.get('reason', '')}".strip() for entry in decided
    ]
    if here := environment_of(run):
        told |= {key: here[key] for key in ("deblur", "commit", "python", "platform", "cpu") if here.get(key)}
        told |= {"packages": here.get("packages", {}), "numerics": here.get("numerics", {})}
    return told
