"""How a run gets on, or got on: from its ledger, its lease and what its plan projected."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deblur.place import Place
from deblur.plan import STAGES, Plan
from deblur.store import RunStore, SequenceStore
from deblur.store.durable import write_json
from deblur.store.owner import Owner

PROJECTED = "provenance/projected.json"
TOTALS = "provenance/stages.json"
RECENT = 600.0  # seconds of work that the rate is taken from


@dataclass(slots=True)
class Totals:
    """What one stage took so far, all of its units together.

    `seconds`, `cpu_seconds`: of units, so that two at once count twice. `read_bytes`: pixels and motion as they are in
    memory; `written_bytes`: files. `peak_bytes`: of the largest unit. `failed`: given up, so far.
    """

    units: int = 0
    carried: int = 0
    failed: int = 0
    megapixels: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    peak_bytes: int = 0
    retried: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        self.units += 1
        self.carried += "carried_from" in record
        self.retried += int(record.get("attempt", 1)) > 1
        self.megapixels = round(self.megapixels + megapixels(record), 6)
        self.seconds = round(self.seconds + float(record.get("seconds", 0)), 4)
        self.cpu_seconds = round(self.cpu_seconds + float(record.get("cpu_seconds", 0)), 4)
        self.read_bytes += int(record.get("read_bytes", 0))
        self.written_bytes += int(record.get("bytes", 0))
        self.peak_bytes = max(self.peak_bytes, int(record.get("peak_bytes", 0)))


def megapixels(record: Mapping[str, Any]) -> float:
    """How much of a sequence a unit was, counted in its frames; 0 where its record doesn't say."""
    (t0, t1), box = record.get("frames", (0, 0)), record.get("box")
    return (t1 - t0) * (box["y1"] - box["y0"]) * (box["x1"] - box["x0"]) / 1e6 if box else 0.0


def stage_totals(records: Iterable[Mapping[str, Any]]) -> dict[str, Totals]:
    """{stage: what it took}, from all of a ledger's records in the order written; the last one of a unit counts."""
    found = {str(stage): Totals() for stage in STAGES}
    failed: dict[str, str] = {}
    seen: set[int] = set()
    for record in records:
        stage, key = str(record.get("stage")), hash(record["key"])
        if stage not in found:
            continue
        if record.get("status") == "failed":
            failed[record["key"]] = stage
        elif key not in seen:
            seen.add(key)
            failed.pop(record["key"], None)
            found[stage].add(record)
    for stage in failed.values():
        found[stage].failed += 1
    return found


def write_totals(run: RunStore) -> dict[str, Any]:
    """Put what each stage took into the run's records, before it is published."""
    told = {stage: asdict(totals) for stage, totals in stage_totals(run.ledger().read_all()).items()}
    write_json(run.path / TOTALS, told)
    return told


def write_projected(run: RunStore, plan: Plan, *, limit: int, dashboard: str = "") -> None:
    """What was projected of a run, beside it, for whoever looks on; `limit`: bytes that a worker may take."""
    cost = {"units": plan.cost.units, "memory": plan.cost.memory, "megapixels": plan.cost.megapixels}
    write_json(run.path / PROJECTED, cost | {"limit": limit, "dashboard": dashboard})


def at_work(store: SequenceStore, *, now: float | None = None) -> dict[str, Any] | None:
    """Who works on a sequence, {"by", "silent"}: None for nobody; `silent`: seconds since the last sign of life."""
    path = store.path / "lease.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        owner = Owner(**told["owner"])
        age = (time.time() if now is None else now) - path.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError):
        return None  # free, or being written just now
    return None if owner.is_gone() else {"by": str(owner), "silent": max(0.0, age)}


@dataclass(frozen=True, slots=True)
class Pace:
    """How a run gets on.

    `totals`: {stage: what it took}; `units`: a stage, as planned, 0 if not known. `stage`: the one that is worked on.
    `rate`: units a minute, `speed`: megapixels a second, both of all workers together over the last minutes of work.
    `left`: seconds until that stage is done at this rate, None if not known. `limit`: bytes that a worker may take.
    """

    totals: Mapping[str, Totals]
    units: int
    stage: str
    rate: float
    speed: float
    left: float | None
    projected: int
    limit: int
    dashboard: str

    @property
    def failed(self) -> int:
        return sum(totals.failed for totals in self.totals.values())

    @property
    def peak(self) -> int:
        return max(totals.peak_bytes for totals in self.totals.values())

    @property
    def cpu_hours(self) -> float:
        return sum(totals.cpu_seconds for totals in self.totals.values()) / 3600

    def dump(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"failed": self.failed, "peak": self.peak}


def pace(run: RunStore) -> Pace:
    """How a run gets or got on. Reads its ledger twice, and holds some bytes a unit."""
    book, told = run.ledger(), _projected(run.path / PROJECTED)
    totals = stage_totals(book.read_all())
    units = int(told.get("units", 0)) // len(STAGES)
    stage = next((str(s) for s in STAGES if totals[s].units < units), str(STAGES[-1]))
    if not totals[stage].units:
        stage = next((str(s) for s in reversed(STAGES) if totals[s].units), stage)
    rate, speed = _rate(book.read_all(), stage)
    todo = max(0, units - totals[stage].units)
    return Pace(
        totals,
        units,
        stage,
        rate,
        speed,
        60 * todo / rate if rate and todo else None,
        int(told.get("memory", 0)),
        int(told.get("limit", 0)),
        str(told.get("dashboard", "")),
    )


def _rate(records: Iterable[Mapping[str, Any]], stage: str) -> tuple[float, float]:
    """(units a minute, megapixels a second) over the last minutes of a stage's work, breaks before them left out."""
    rows = [
        (float(r.get("at", 0)), float(r.get("began", r.get("at", 0))), megapixels(r))
        for r in records
        if r.get("stage") == stage and r.get("status", "done") == "done"
    ]
    latest = max((at for at, _, _ in rows), default=0.0)
    recent = [row for row in rows if latest - row[0] <= RECENT]
    if not recent:
        return 0.0, 0.0
    seconds = max(1e-3, latest - min(began for _, began, _ in recent))
    return 60 * len(recent) / seconds, sum(area for *_, area in recent) / seconds


def _projected(path: Place) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
