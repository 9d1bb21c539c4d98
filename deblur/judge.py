"""How good a run is by its own records, and whether it may be published without a person's look at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.config import Publication
from deblur.store import RunStore
from deblur.store.ledger import readable
from deblur.types import Reason

HARMLESS = (Reason.RESTORED.name.lower(), Reason.STILL.name.lower())  # what needed no evidence, or had it


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run in a line.

    `quality`: the share of pixels that were restored, or needed nothing because they stood still; the rest was
    kept for want of evidence. `weight`: the mean weight of the restoration. `ended`: seconds since 1970.
    """

    units: int
    shards: int
    expected: int
    quality: float
    weight: float
    ended: float

    def dump(self) -> dict[str, Any]:
        return asdict(self)


def frame_records(run: RunStore) -> dict[int, dict[str, Any]]:
    """What restoration recorded of each frame, {frame: record}, of all its units together.

    With what the survey had said of the frame, `noise` and `linked`, where the records tell: earlier versions' don't.
    """
    with readable(run.id):
        return _by_frame(run.ledger().latest())


def _by_frame(units: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """One record a frame, put together as its units' records go by: what is held does not grow with them."""
    found: dict[int, dict[str, Any]] = {}
    for unit in units:
        for part in unit.get("quality", ()):
            _add(found.setdefault(part["frame"], _nothing(part["frame"])), part)
    for frame in found.values():
        total = sum(frame["reasons"].values())
        frame["weight"] /= total
        frame["quality"] = sum(frame["reasons"].get(name, 0) for name in HARMLESS) / total
    return dict(sorted(found.items()))


def _nothing(frame: int) -> dict[str, Any]:
    return {"frame": frame, "weight": 0.0, "quality": 0.0, "reasons": {}, "iterations": 0, "residual": 0.0}


def _add(frame: dict[str, Any], part: Mapping[str, Any]) -> None:
    """A unit's part of a frame; until all are there `weight` is the sum over pixels."""
    for reason, count in part["reasons"].items():
        frame["reasons"][reason] = frame["reasons"].get(reason, 0) + count
    frame["weight"] += sum(part["reasons"].values()) * part["weight"]
    frame["iterations"] = max(frame["iterations"], part["iterations"])
    frame["residual"] = max(frame["residual"], part["residual"])
    frame |= {name: part[name] for name in ("noise", "linked") if name in part}


def summarise(run: RunStore) -> Summary:
    """The summary of a run, from its ledger."""
    units, ended = 0, 0.0
    pixels, harmless, weight = np.zeros((3, run.spec.shape[0]))  # no record a frame: there may be many
    with readable(run.id):
        for record in run.ledger().latest():
            units += record.get("stage") != "pyramid"
            ended = max(ended, float(record.get("at", 0)))
            for part in record.get("quality", ()):
                t, size = part["frame"], sum(part["reasons"].values())
                pixels[t] += size
                harmless[t] += sum(part["reasons"].get(name, 0) for name in HARMLESS)
                weight[t] += size * part["weight"]
    seen = pixels > 0
    return Summary(
        units=units,
        shards=len(run.table()),
        expected=run.expected_shards(),
        quality=_mean(harmless[seen] / pixels[seen]),
        weight=_mean(weight[seen] / pixels[seen]),
        ended=ended,
    )


def waits(new: Summary, before: Summary | None, rules: Publication) -> str:
    """Why a run waits for a person, empty where it may be published. `before`: the run published now."""
    if rules.by == "person":
        return "publish.by = 'person'"
    if new.quality < rules.quality:
        return f"quality {new.quality:.3f} is below publish.quality = {rules.quality}"
    if before is not None and before.quality - new.quality > rules.drop:
        return f"quality fell from {before.quality:.3f} to {new.quality:.3f}, by more than publish.drop = {rules.drop}"
    return ""


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(values.mean()), 6) if len(values) else 0.0
