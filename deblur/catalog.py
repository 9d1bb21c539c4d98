"""Find sequences and runs without walking the archive: an index in SQLite, rebuilt from the stores at any
time.

It lives in the user's cache folder (DEBLUR_CACHE, else XDG_CACHE_HOME/deblur, else ~/.cache/deblur) under the
archive's id, so moving the archive or losing the index costs nothing. Nothing depends on it: the stores are
the truth.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from deblur.errors import DeblurError, StoreError
from deblur.store import Archive, SequenceStore
from deblur.store.durable import canonical

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SequenceRow:
    """One ingested sequence. `current`: the published run, empty if none. `error`: why it can't be read, if
    so."""

    id: str
    name: str = ""
    frames: int = 0
    quarantined: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0
    dtype: str = ""
    digest: str = ""
    surveyed: bool = False
    current: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. `shards` of `expected` are in its ledger; `ended`: seconds since 1970 of its last record, 0 if
    none."""

    sequence: str
    id: str
    published: bool = False
    sealed: bool = False
    units: int = 0
    shards: int = 0
    expected: int = 0
    ended: float = 0.0
    parameters: str = ""
    error: str = ""


class Catalog:
    """The index of one archive. It holds what the stores held at the last `rebuild` or `update`."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.path = cache_folder() / f"{archive.id}.sqlite"

    def rebuild(self) -> None:
        """Read every sequence and run anew; the old index stays in use until the new one is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.partial")
        try:
            with _connection(beside) as connection:
                _create(connection)
                for sequence_id in self.archive.sequences():
                    _insert(connection, self.archive.sequence(sequence_id))
            beside.replace(self.path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"can't write the catalog {self.path}: {error}; set DEBLUR_CACHE elsewhere"
            ) from None
        finally:
            beside.unlink(missing_ok=True)

    def update(self, sequence_id: str) -> None:
        """Read one sequence anew, after an ingest or a run."""
        if not self._usable():
            self.rebuild()
            return
        with _connection(self.path) as connection:
            connection.execute("DELETE FROM sequences WHERE id = ?", (sequence_id,))
            connection.execute("DELETE FROM runs WHERE sequence = ?", (sequence_id,))
            if self.archive.sequence(sequence_id).source.exists:
                _insert(connection, self.archive.sequence(sequence_id))

    def sequences(self, *, containing: str = "") -> tuple[SequenceRow, ...]:
        """Sequences by id, those whose name contains a text (any case)."""
        rows = self._select(
            "SELECT * FROM sequences WHERE instr(lower(name), lower(?)) ORDER BY id", containing
        )
        return tuple(SequenceRow(**row) for row in rows)

    def runs(self, *, sequence: str | None = None) -> tuple[RunRow, ...]:
        """Runs by sequence and id; of one sequence, if given."""
        rows = self._select(
            "SELECT * FROM runs WHERE ?1 IS NULL OR sequence = ?1 ORDER BY sequence, id", sequence
        )
        return tuple(RunRow(**row) for row in rows)

    def _select(self, query: str, value: object) -> list[dict[str, Any]]:
        if not self._usable():
            self.rebuild()
        with _connection(self.path) as connection:
            flags = {"published", "sealed", "surveyed"}
            found = connection.execute(query, (value,)).fetchall()
        return [{key: bool(row[key]) if key in flags else row[key] for key in row.keys()} for row in found]  # noqa: SIM118

    def _usable(self) -> bool:
        """False for an index that is missing, damaged, or of another version."""
        if not self.path.is_file():
            return False
        try:
            with _connection(self.path) as connection:
                return bool(connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA)
        except sqlite3.DatabaseError:
            return False


def cache_folder() -> Path:
    """Where indexes are kept."""
    own, shared = os.environ.get("DEBLUR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "deblur"


def sequence_row(store: SequenceStore) -> SequenceRow:
    """What the catalog says of a sequence; one that can't be read gets a row that says why."""
    try:
        source = store.source
        frames, channels, height, width = source.shape
        return SequenceRow(
            id=store.id,
            name=source.header.name,
            frames=frames,
            quarantined=len(source.quarantined),
            channels=channels,
            height=height,
            width=width,
            dtype=source.header.dtype,
            digest=source.digest,
            surveyed=store.has_survey(),
            current=store.current() or "",
        )
    except DeblurError as error:
        return SequenceRow(id=store.id, error=str(error))


def run_row(store: SequenceStore, run_id: str) -> RunRow:
    """What the catalog says of a run."""
    try:
        run = store.run(run_id)
        finished = run.ledger().finished()
        return RunRow(
            sequence=store.id,
            id=run_id,
            published=store.current() == run_id,
            sealed=run.sealed,
            units=sum(record.get("stage") != "pyramid" for record in finished.values()),
            shards=len(run.ledger().shards()),
            expected=run.expected_shards(),
            ended=max((float(record.get("at", 0)) for record in finished.values()), default=0.0),
            parameters=canonical(dict(run.parameters)),
        )
    except DeblurError as error:
        return RunRow(sequence=store.id, id=run_id, error=str(error))


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.row_factory = sqlite3.Row
        yield connection


def _create(connection: sqlite3.Connection) -> None:
    for table, row, key in (("sequences", SequenceRow, "id"), ("runs", RunRow, "sequence, id")):
        columns = ", ".join(field.name for field in fields(row))
        connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({key}))")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _insert(connection: sqlite3.Connection, store: SequenceStore) -> None:
    runs = [("runs", astuple(run_row(store, run_id))) for run_id in store.runs()]
    for table, values in [("sequences", astuple(sequence_row(store))), *runs]:
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
