"""What has been done: one JSON line a finished unit, appended after its data is on the disk.

Each process appends to a segment of its own, so nothing is ever written by two. A line that was torn by a
crash is skipped: its unit is simply done again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deblur.errors import StoreError
from deblur.store.durable import canonical, settle_folders

logger = logging.getLogger("deblur.store")
DONE = "done"


class Ledger:
    """The segments `<writer>.jsonl` of one folder. A record is a mapping with at least `key` (which unit)
    and, for a unit that wrote something, `shards` ({shard key: sha256}). `status` is "done" unless the record
    says otherwise."""

    def __init__(
        self, folder: str | Path, *, writer: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        if writer is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", writer):
            raise StoreError(
                f"{writer!r} can't name a ledger segment: use letters, digits, dot, dash, underscore"
            )
        self.folder = Path(folder)
        self._writer = writer
        self._clock = clock

    @property
    def writer(self) -> str:
        """The name of the segment that this ledger appends to; made up on first use if none was given."""
        if self._writer is None:
            self._writer = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        return self._writer

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line and force it to the disk; call it only after the unit's shards were written (and so
        synced).

        `at` (seconds since 1970) and `writer` are added. Raises StoreError for a record without a key.
        """
        if not isinstance(record.get("key"), str) or not record["key"]:
            raise StoreError("a ledger record needs a `key` that names its unit")
        line = (
            canonical({"status": DONE, **record, "at": self._clock(), "writer": self.writer}).encode() + b"\n"
        )
        path = self.folder / f"{self.writer}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            with path.open("ab+") as file:
                file.write(_mend(file) + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"can't write the ledger {path}: {error.strerror}; is the disk full?") from None
        if new:
            settle_folders([self.folder])

    def read_all(self) -> Iterator[dict[str, Any]]:
        """Every whole record, segment by segment, in the order written; torn lines are left out."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    record = _parse(line)
                    if record is None:
                        logger.warning("%s line %d is torn: its unit will be done again", path.name, number)
                    else:
                        yield record

    def finished(self) -> dict[str, dict[str, Any]]:
        """{unit key: its latest record} of the units that are done; one that failed later counts as not
        done."""
        latest: dict[str, dict[str, Any]] = {}
        for record in self.read_all():
            known = latest.get(record["key"])
            if known is None or record.get("at", 0) >= known.get("at", 0):
                latest[record["key"]] = record
        return {key: record for key, record in latest.items() if record.get("status", DONE) == DONE}

    def shards(self) -> dict[str, str]:
        """{shard key: sha256} over everything that is done; the latest record counts."""
        found: dict[str, str] = {}
        for record in sorted(self.finished().values(), key=lambda record: float(record.get("at", 0))):
            found |= record.get("shards", {})
        return found


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
