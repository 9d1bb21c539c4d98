"""A night's work on an archive: what is new, batch by batch, newest first, until the time is over.

A source that was dealt with and has not changed since costs a look at its files. What was dealt with is remembered
beside the catalog, so it may be lost: then the stores are asked.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from deblur import job as work
from deblur.catalog import Catalog, cache_folder
from deblur.config import JobConfig
from deblur.crew import Crew as Crew
from deblur.errors import ConfigError, StoreError
from deblur.ingest import Progress, silent
from deblur.outcome import Outcome
from deblur.place import Place, listed, place
from deblur.plan import check_methods
from deblur.provenance import commit, numerics_digest, version
from deblur.store import Archive
from deblur.store.durable import digest_of, read_json, write_json
from deblur.store.lease import BEAT, GLANCE, STILL
from deblur.store.owner import Owner
from deblur.store.publish import Action
from deblur.watch import Arrival, arrivals

T = TypeVar("T")
MOST = 200  # batches of one night: each is a task in Prefect's database


@dataclass(frozen=True, slots=True)
class Findings:
    """What a night found: `todo` newest first, `unchanged` sources, and those that are still `written` to."""

    todo: tuple[Arrival, ...]
    unchanged: int = 0
    written: tuple[str, ...] = ()


def find(job: JobConfig, *, now: float | None = None) -> Findings:
    """Look at every source; what was dealt with under these settings and has not changed since is left out.

    Raises ConfigError for settings that can't be right, before anything is looked at.
    """
    check_methods(job)
    moment = time.time() if now is None else now
    memory = _Memory(job)
    todo, written, unchanged = [], [], 0
    for arrival in arrivals(job):
        if arrival.quiet and moment - arrival.newest < arrival.quiet:
            written.append(arrival.source.path)
        elif memory.has(arrival):
            unchanged += 1
        else:
            todo.append(arrival)
    return Findings(tuple(todo), unchanged, tuple(written))


def everything(job: JobConfig, *, now: float | None = None) -> Findings:
    """The same, without leaving out what was dealt with: for somebody who wants to know."""
    check_methods(job)
    moment = time.time() if now is None else now
    found = arrivals(job)
    written = [a for a in found if a.quiet and moment - a.newest < a.quiet]
    return Findings(tuple(a for a in found if a not in written), 0, tuple(a.source.path for a in written))


def with_arrivals(job: JobConfig) -> JobConfig:
    """A job whose sources are all that are there now, those of watched places included."""
    found = everything(job).todo
    return job.model_copy(update={"sources": tuple(arrival.source for arrival in found)})


def batches(found: Sequence[T], *, most: int = MOST) -> list[tuple[T, ...]]:
    """At most so many batches, in order, as even as can be.

    >>> [len(batch) for batch in batches(range(5), most=2)]
    [3, 2]
    """
    size = max(1, math.ceil(len(found) / most))
    return [tuple(found[k : k + size]) for k in range(0, len(found), size)]


def work_on(
    job: JobConfig,
    batch: Sequence[Arrival],
    *,
    crew: Crew | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> list[Outcome]:
    """Ingest, plan, compute, verify and publish some sources; what fails says so in its outcome."""
    mine = job.model_copy(update={"sources": tuple(arrival.source for arrival in batch), "watch": ()})
    share = crew.share if crew else None
    found = work.ingest_each(mine, progress=progress)
    outcomes = work.plan_each(mine, found, connection=share, progress=progress)
    outcomes = _carried_out(mine, outcomes, "publish", crew, stop, progress)
    _remember(mine, batch, outcomes)
    return outcomes


def redo(
    job: JobConfig,
    ids: Sequence[str],
    *,
    crew: Crew | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> list[Outcome]:
    """Compute some sequences of the archive again with the job's settings, as a person's decision."""
    found = work.published(job, tuple(ids))
    share = crew.share if crew else None
    outcomes = work.plan_each(job, found, action="reprocess", connection=share, progress=progress)
    outcomes = _carried_out(job, outcomes, "reprocess", crew, stop, progress)
    Catalog(Archive.open(job.archive)).update(*ids)
    return outcomes


def _carried_out(
    job: JobConfig,
    outcomes: list[Outcome],
    action: Action,
    crew: Crew | None,
    stop: Callable[[], bool],
    progress: Progress,
) -> list[Outcome]:
    if not any(outcome.sound for outcome in outcomes):
        return outcomes
    share = crew.share if crew else None
    computed = work.compute(job, outcomes, connection=share, stop=stop, progress=progress)
    return work.publish(job, work.verify(job, computed), action=action)


def _remember(job: JobConfig, batch: Sequence[Arrival], outcomes: list[Outcome]) -> None:
    ids = sorted({outcome.sequence.id for outcome in outcomes if outcome.sequence.id})
    if not ids or not (place(job.archive) / "archive.json").is_file():
        return
    archive = Archive.open(job.archive)
    Catalog(archive).update(*(name for name in ids if archive.sequence(name).source.exists))
    memory = _Memory(job)
    for arrival in batch:
        mine = [o for o in outcomes if o.sequence.source == arrival.source]
        done = mine and all(o.published or o.kept or o.waiting for o in mine)
        if done and not any(o.faults() for o in mine if not o.sequence.fresh):
            memory.add(arrival, [o.sequence.id for o in mine])
    memory.save()


class _Memory:
    """{source: stamp, settings, {sequence: what was published}} of what was dealt with."""

    def __init__(self, job: JobConfig) -> None:
        self._told: dict[str, Any] = {}
        self._job = job
        self._archive = Archive(job.archive)
        if not (self._archive.path / "archive.json").is_file():
            self._path = None
            return
        self._path = cache_folder() / f"{Archive.open(job.archive).id}.settled.json"
        try:
            self._told = read_json(self._path, what="memory of nights") if self._path.exists() else {}
        except StoreError:
            self._told = {}  # damaged: the stores are asked again

    def has(self, arrival: Arrival) -> bool:
        told = self._told.get(arrival.source.path)
        if not told or not arrival.stamp or told["key"] != self._key(arrival):
            return False
        return all(self._archive.sequence(name).current() == run for name, run in told["runs"].items())

    def add(self, arrival: Arrival, sequences: list[str]) -> None:
        runs = {name: self._archive.sequence(name).current() for name in sequences}
        self._told[arrival.source.path] = {"key": self._key(arrival), "runs": runs}

    def save(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._told)

    def _key(self, arrival: Arrival) -> str:
        return digest_of([arrival.stamp, arrival.source.model_dump(mode="json"), self._settings])

    @property
    def _settings(self) -> str:
        """Whatever would make a night do more: settings, code, numerics."""
        if not hasattr(self, "_digest"):
            chosen = self._job.model_dump(mode="json", exclude={"sources", "watch", "cluster", "hooks"})
            self._digest = digest_of([chosen, version("deblur"), commit(), numerics_digest()])
        return self._digest


def deadline(text: str, *, now: datetime | None = None) -> float | None:
    """The next time that the clock here says `text` (HH:MM), in seconds since 1970; None for an empty text.

    Raises ConfigError for what is no time of day.

    >>> deadline("06:00", now=datetime(2026, 1, 1, 23, 0)) == datetime(2026, 1, 2, 6, 0).timestamp()
    True
    """
    if not text:
        return None
    moment = now or datetime.now()
    try:
        clock = datetime.strptime(text, "%H:%M")
    except ValueError:
        raise ConfigError(f"--until {text}: no time of day: write it as 06:00") from None
    found = moment.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return (found if found > moment else found + timedelta(days=1)).timestamp()


@dataclass(slots=True)
class Night:
    """The record of one night, in the archive's `nights/`: begun, and ended in one way or another.

    `flow_run`: Prefect's id of it. `owner`: the process that works. `beat`: moves while that process lives.
    """

    id: str
    began: float
    flow_run: str = ""
    owner: dict[str, Any] = field(default_factory=lambda: asdict(Owner.here()))
    state: str = "running"
    ended: float | None = None
    told: dict[str, Any] = field(default_factory=dict)
    beat: int = 0


@contextmanager
def recorded(archive: Place, *, flow_run: str = "") -> Iterator[Night]:
    """Keep the record of a night around its work; on an error it says `failed`."""
    stamp = datetime.now().strftime("%Y%m%dT%H%M%S")
    night = Night(f"{stamp}-{uuid.uuid4().hex[:6]}", time.time(), flow_run)
    _write(archive, asdict(night))
    over = threading.Event()
    heart = threading.Thread(
        target=_beat, args=(archive, asdict(night), over), name="deblur-night", daemon=True
    )
    heart.start()
    try:
        yield night
        night.state = "done"
    except BaseException as error:
        night.state = "failed"
        night.told |= {"error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        over.set()
        heart.join()
        night.ended = time.time()
        _write(archive, asdict(night))


def _beat(archive: Place, told: dict[str, Any], over: threading.Event) -> None:
    """Show life, for those on other hosts who can't see this process."""
    while not over.wait(BEAT):
        told["beat"] += 1
        with suppress(StoreError, OSError):  # a full disk, say: the next beat may get through
            _write(archive, told)


def dead_nights(
    archive: Place,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Night]:
    """Nights whose process is gone without a word; from now on they are recorded as crashed.

    One of this host is known to be gone; one of another host is watched until it shows life, for a minute at most.
    """
    there = [
        (path, night) for path in listed(archive / "nights", "[!.]*.json") if (night := _open_night(path))
    ]
    dead = [night for _, night in there if Owner(**night.owner).is_gone()]
    watched = {path: night for path, night in there if night not in dead and not _seen_alive(night)}
    began = clock()
    while watched and clock() - began < STILL:
        sleep(GLANCE)
        watched = {path: night for path, night in watched.items() if _open_night(path) == night}
    dead += watched.values()
    for night in dead:
        night.state, night.ended = "crashed", time.time()
        _write(archive, asdict(night))
    return dead


def _open_night(path: Place) -> Night | None:
    """The record of a night that has not ended; None for others, and for what is no such record."""
    try:
        night = Night(**read_json(path, what="record of a night"))
    except (StoreError, TypeError):
        return None
    return night if night.ended is None else None


def _seen_alive(night: Night) -> bool:
    """Whether the night's process is one of this host, which would be known to be gone."""
    owner, here = Owner(**night.owner), Owner.here()
    known = bool(here.boot and here.namespace and owner.started)
    return owner == here or (known and replace(owner, pid=0, started="") == replace(here, pid=0, started=""))


def _write(archive: Place, told: dict[str, Any]) -> None:
    if (archive / "archive.json").is_file():  # the first night makes the archive
        (archive / "nights").mkdir(exist_ok=True)
        write_json(archive / "nights" / f"{told['id']}.json", told)
