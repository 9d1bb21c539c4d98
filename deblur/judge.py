"""How good a run is by its own records, and whether it may be published without a person's look at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deblur.config import Publication
from deblur.store import RunStore
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
    """What restoration recorded of each frame, {frame: record}, of all its units together."""
    return _by_frame(run.ledger().finished().values())


def _by_frame(units: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    found: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for unit in units:
        for frame in unit.get("quality", ()):
            found.setdefault(frame["frame"], []).append((sum(frame["reasons"].values()), frame))
    return {t: _merged(parts) for t, parts in sorted(found.items())}


def _merged(parts: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """One frame's record from those of its units, each with its number of pixels."""
    total = sum(pixels for pixels, _ in parts)
    reasons: dict[str, int] = {}
    for _, part in parts:
        for reason, count in part["reasons"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        "frame": parts[0][1]["frame"],
        "weight": sum(pixels * part["weight"] for pixels, part in parts) / total,
        "quality": sum(reasons.get(name, 0) for name in HARMLESS) / total,
        "reasons": reasons,
        "iterations": max(part["iterations"] for _, part in parts),
        "residual": max(part["residual"] for _, part in parts),
    }


def summarise(run: RunStore) -> Summary:
    """The summary of a run, from its ledger."""
    finished = run.ledger().finished()
    frames = _by_frame(finished.values()).values()
    shards: set[str] = set()
    for record in finished.values():
        shards |= record.get("shards", {}).keys()
    return Summary(
        units=sum(record.get("stage") != "pyramid" for record in finished.values()),
        shards=len(shards),
        expected=run.expected_shards(),
        quality=_mean(frame["quality"] for frame in frames),
        weight=_mean(frame["weight"] for frame in frames),
        ended=max((float(record.get("at", 0)) for record in finished.values()), default=0.0),
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


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return round(sum(known) / len(known), 6) if known else 0.0
