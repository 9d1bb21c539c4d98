"""What has been done: one JSON line a finished unit, appended after its data is on the disk.

Each process appends to a segment of its own, so nothing is ever written by two. A line that was torn by a
crash is skipped: its unit is simply done again. In an object store, where nothing can be appended to, a segment is put
anew with every line until it is full, and then another begins.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import uuid
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import DeblurError, StoreError, may_pass
from deblur.place import ObjectPlace, Place, listed, place
from deblur.store.durable import canonical, settle_folders

logger = logging.getLogger("deblur.store")
DONE = "done"
TICK = 1e-6  # seconds between records of a clock that was set back
ATTEMPTS = 3  # to write a line, where the storage hiccups
SEGMENT = 40  # bits of an offset into a segment
FULL = 1 << 18  #: bytes of a segment in an object store, after which another begins


class Ledger:
    """The segments `<writer>.jsonl` of one folder. A record is a mapping with at least `key` (which unit)
    and, for a unit that wrote something, `shards` ({shard key: sha256}). `status` is "done" unless the record
    says otherwise."""

    def __init__(
        self, folder: str | Place, *, writer: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        if writer is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", writer):
            raise StoreError(
                f"{writer!r} can't name a ledger segment: use letters, digits, dot, dash, underscore"
            )
        self.folder = place(folder)
        self._writer = writer
        self._clock, self._latest = clock, 0.0
        self._begun: tuple[ObjectPlace, bytes] | None = (
            None  # the segment that is not full, and what is in it
        )

    @property
    def writer(self) -> str:
        """The name of the segment that this ledger appends to; made up on first use if none was given."""
        if self._writer is None:
            self._writer = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        return self._writer

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line and force it to the disk; call it only after the unit's shards were written (and so
        synced).

        `at` (seconds since 1970, and after every record there) and `writer` are added. Raises StoreError for a
        record without a key.
        """
        if not isinstance(record.get("key"), str) or not record["key"]:
            raise StoreError("a ledger record needs a `key` that names its unit")
        line = (
            canonical({"status": DONE, **record, "at": self._now(), "writer": self.writer}).encode() + b"\n"
        )
        for tried in range(1, ATTEMPTS + 1):
            try:
                return self._add(line)
            except StoreError as error:  # a line that got there twice does no harm
                if tried == ATTEMPTS or not may_pass(error):
                    raise

    def _now(self) -> float:
        """What the clock says, unless it was set back: a later record must not look older, or it would not count."""
        if not self._latest:
            self._latest = max((float(record.get("at", 0)) for record in self.read_all()), default=0.0)
        self._latest = max(self._clock(), self._latest + TICK)
        return self._latest

    def _add(self, line: bytes) -> None:
        if isinstance(self.folder, ObjectPlace):
            self._put(self.folder, line)
            return
        path = self.folder / f"{self.writer}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            with path.open("ab+") as file:
                file.write(_mend(file) + line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                settle_folders([self.folder])
        except OSError as error:
            reason = f"can't write the ledger {path}: {error.strerror}; is the disk full?"
            raise StoreError(reason) from None

    def _put(self, folder: ObjectPlace, line: bytes) -> None:
        if self._begun is None or len(self._begun[1]) >= FULL:
            self._begun = self._next_segment(folder), b""
        path, data = self._begun
        path.write_bytes(data + line)
        self._begun = path, data + line

    def _next_segment(self, folder: ObjectPlace) -> ObjectPlace:
        """After those that this writer has filled; a writer of that name that ended left its last as it is."""
        mine = re.compile(re.escape(self.writer) + r"\.(\d{6})\.jsonl")
        numbers = [int(found[1]) for path in folder.iterdir() if (found := mine.fullmatch(path.name))]
        return folder / f"{self.writer}.{max(numbers, default=0) + 1:06d}.jsonl"

    def read_all(self) -> Iterator[dict[str, Any]]:
        """Every whole record, segment by segment, in the order written; torn lines are left out."""
        for _, _, record in self._placed():
            yield record

    def _placed(self) -> Iterator[tuple[Place, int, dict[str, Any]]]:
        """Every whole record with its segment and where in it its line begins."""
        for path in listed(self.folder, "*.jsonl"):
            at = 0
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    record = _parse(line)
                    if record is None:
                        logger.warning("%s line %d is torn: its unit will be done again", path.name, number)
                    else:
                        yield path, at, record
                    at += len(line)

    def index(self) -> Index:
        """Where the record of every finished unit is: 24 bytes a unit, however much its record says."""
        return Index(self._placed())

    def latest(self) -> Iterator[dict[str, Any]]:
        """The latest record of every unit that is done, in the order written, without holding them all."""
        index = self.index()
        for path, at, record in self._placed():
            if index.place(record["key"]) == (path, at):
                yield record

    def finished(self) -> dict[str, dict[str, Any]]:
        """{unit key: its latest record} of the units that are done; one that failed later counts as not
        done. As large as the ledger: see `latest` and `index` for what stays small."""
        return {record["key"]: record for record in self.latest()}

    def shards(self) -> dict[str, str]:
        """{shard key: sha256} over everything that is done; the latest record counts."""
        found: dict[str, str] = {}
        for record in sorted(self.finished().values(), key=lambda record: float(record.get("at", 0))):
            found |= record.get("shards", {})
        return found


class Index:
    """The units of a ledger that are done, and where their latest records are.

    Keys are known by 64 bits of their digest: among a million units two are taken for one with a chance of
    3e-8, and then the run can't be published, because a shard of it is in no record.
    """

    def __init__(self, placed: Iterator[tuple[Place, int, dict[str, Any]]]) -> None:
        self._paths: list[Place] = []
        names, ages, places = array("Q"), array("d"), array("q")
        for path, at, record in placed:
            if not self._paths or self._paths[-1] != path:
                self._paths.append(path)
            names.append(_short(record["key"]))
            ages.append(float(record.get("at", 0)))
            done = record.get("status", DONE) == DONE
            places.append(len(self._paths) - 1 << SEGMENT | at if done else -1)
        keys = np.frombuffer(names, np.uint64)
        order = np.lexsort((np.frombuffer(ages), keys))  # stable: of equal ages the one written last counts
        last = order[np.append(keys[order][1:] != keys[order][:-1], np.ones(min(1, len(order)), bool))]
        kept = last[np.frombuffer(places, np.int64)[last] >= 0]
        self._keys: NDArray[np.uint64] = keys[kept]
        self._places: NDArray[np.int64] = np.frombuffer(places, np.int64)[kept]

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return self.place(key) is not None

    def place(self, key: str) -> tuple[Place, int] | None:
        """The segment of a unit's record and the offset of its line; None for a unit that is not done."""
        short = np.uint64(_short(key))
        at = int(np.searchsorted(self._keys, short))
        if at == len(self._keys) or self._keys[at] != short:
            return None
        place = int(self._places[at])
        return self._paths[place >> SEGMENT], place & ((1 << SEGMENT) - 1)

    def record(self, key: str) -> dict[str, Any]:
        """The record of a unit, read from its place. Raises StoreError where it is not there."""
        place = self.place(key)
        if place is not None:
            with place[0].open("rb") as file:
                file.seek(place[1])
                record = _parse(file.readline())
            if record is not None and record["key"] == key:
                return record
        raise StoreError(f"unit {key[:12]} is not in the ledger: verify that run")


@contextmanager
def readable(run_id: str) -> Iterator[None]:
    """For those who look into records: a damaged one may still be JSON, and lacks then what every record has."""
    try:
        yield
    except DeblurError:  # some are ValueErrors, too
        raise
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise StoreError(f"a record of run {run_id} is damaged: `deblur verify --repair` mends it") from error


def _short(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])


def _mend(file: Any) -> bytes:
    """A line end, if a crash left the segment without one: else the next record would be glued to the torn
    one."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None
