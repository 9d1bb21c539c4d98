"""Find sequences and runs without walking the archive: an index in SQLite, rebuilt from the stores at any time.

It lives in the user's cache folder (DEBLUR_CACHE, else XDG_CACHE_HOME/deblur, else ~/.cache/deblur) under the
archive's id, so moving the archive or losing the index costs nothing. Nothing depends on it: the stores are
the truth.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from deblur.errors import DeblurError, StoreError
from deblur.judge import Summary, summarise
from deblur.query import parse_where
from deblur.store import Archive, RunStore, SequenceStore, state_of
from deblur.store.durable import canonical

SCHEMA = 3
EPOCH = 1e8  # seconds; a frame's time above it counts from 1970, one below from the start of a video
BATCH = 500  # rows at a time into SQLite
PAGE = 1000  # rows at a time out of it
# A sequence that another one replaces goes with all its segments.
REPLACED = """
    WITH RECURSIVE gone(id, later) AS (
        SELECT replaces, id FROM sequences WHERE replaces != ''
        UNION SELECT s.id, gone.later FROM sequences AS s JOIN gone ON s.continues = gone.id WHERE s.continues != ''
    )
    UPDATE sequences SET replaced = gone.later FROM gone WHERE sequences.id = gone.id
"""


class SequenceRow(NamedTuple):
    """One ingested sequence.

    `time`: when it began, `ended`: when its published run was finished, seconds since 1970; 0 where not known.
    `current`: the published run, empty if none; `state`, `quality`, `weight`: of that run, or else of the latest
    (`new` without runs). `continues`: the sequence that this one is a later segment of. `replaces`: the one that was
    made of the same source before it changed; `replaced`: the one that this gave way to, empty for what is current.
    `metadata`: JSON. `error`: why it can't be read, if so.
    """

    id: str
    name: str = ""
    camera: str = ""
    time: float = 0.0
    frames: int = 0
    quarantined: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0
    dtype: str = ""
    frame_rate: float = 0.0
    digest: str = ""
    source: str = ""
    continues: str = ""
    replaces: str = ""
    replaced: str = ""
    surveyed: bool = False
    current: str = ""
    state: str = ""
    quality: float = 0.0
    weight: float = 0.0
    ended: float = 0.0
    metadata: str = "{}"
    error: str = ""


class RunRow(NamedTuple):
    """One run. `shards` of `expected` are in its ledger; `ended`: seconds since 1970 of its last record, 0 if
    none; `quality`, `weight`: see `deblur.judge`."""

    sequence: str
    id: str
    published: bool = False
    sealed: bool = False
    state: str = ""
    units: int = 0
    shards: int = 0
    expected: int = 0
    quality: float = 0.0
    weight: float = 0.0
    ended: float = 0.0
    parameters: str = ""
    error: str = ""


COLUMNS: Mapping[str, type] = {
    name: kind for name, kind in get_type_hints(SequenceRow).items() if name != "metadata"
}
TIMES = ("time", "ended")


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
                connection.execute("PRAGMA journal_mode = OFF")  # not the index yet: a crash leaves it aside
                connection.execute("PRAGMA synchronous = OFF")
                _create(connection)
                _insert(connection, map(self.archive.sequence, self.archive.sequences()))
            beside.replace(self.path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"can't write the catalog {self.path}: {error}; set DEBLUR_CACHE elsewhere"
            ) from None
        finally:
            beside.unlink(missing_ok=True)

    def update(self, *sequence_ids: str) -> None:
        """Read some sequences anew, after an ingest or a run."""
        if not self._usable():
            self.rebuild()
            return
        with _connection(self.path) as connection:
            ids = [(sequence_id,) for sequence_id in sequence_ids]
            connection.executemany("DELETE FROM sequences WHERE id = ?", ids)
            connection.executemany("DELETE FROM runs WHERE sequence = ?", ids)
            stores = map(self.archive.sequence, sequence_ids)
            _insert(connection, (store for store in stores if store.source.exists))

    def sequences(
        self, *, containing: str = "", where: str = "", after: str = "", limit: int = -1
    ) -> tuple[SequenceRow, ...]:
        """Sequences by id: those whose name contains a text (any case), and that meet a condition.

        `where`: see `deblur.query`; `limit`: at most so many; `after`: only ids behind this one, the last of the page
        before. Raises ConfigError where `where` can't be understood.
        """
        condition, values = _condition(where, containing)
        query = f"SELECT * FROM sequences WHERE ({condition}) AND id > ? ORDER BY id LIMIT ?"
        return tuple(map(SequenceRow._make, self._select(query, (*values, after, limit))))

    def each(self, *, where: str = "") -> Iterator[SequenceRow]:
        """The same one after the other, a page at a time: what is held does not grow with the archive."""
        rows = self.sequences(where=where, limit=PAGE)
        while rows:
            yield from rows
            rows = self.sequences(where=where, after=rows[-1].id, limit=PAGE)

    def ids(self, *, where: str = "") -> tuple[str, ...]:
        """The ids alone of the sequences that meet a condition: several times as fast."""
        condition, values = _condition(where, "")
        rows = self._select(f"SELECT id FROM sequences WHERE {condition} ORDER BY id", values)
        return tuple(row[0] for row in rows)

    def count(self, *, where: str = "") -> int:
        """How many sequences meet a condition."""
        condition, values = _condition(where, "")
        return int(self._select(f"SELECT count(*) FROM sequences WHERE {condition}", values)[0][0])

    def runs(self, *, sequence: str | None = None) -> tuple[RunRow, ...]:
        """Runs by sequence and id; of one sequence, if given."""
        rows = self._select(
            "SELECT * FROM runs WHERE ?1 IS NULL OR sequence = ?1 ORDER BY sequence, id", (sequence,)
        )
        return tuple(map(RunRow._make, rows))

    def each_run(self, *, where: str = "") -> Iterator[RunRow]:
        """The runs of the sequences that meet a condition, by sequence and id, a page at a time."""
        condition, values = _condition(where, "")
        query = (
            f"SELECT * FROM runs WHERE sequence IN (SELECT id FROM sequences WHERE {condition}) "
            "AND (sequence, id) > (?, ?) ORDER BY sequence, id LIMIT ?"
        )
        last = "", ""
        while rows := [RunRow._make(row) for row in self._select(query, (*values, *last, PAGE))]:
            yield from rows
            last = rows[-1].sequence, rows[-1].id

    def _select(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if not self._usable():
            self.rebuild()
        with _connection(self.path) as connection:
            return connection.execute(query, values).fetchall()

    def _usable(self) -> bool:
        """False for an index that is missing, damaged, or of another version."""
        if not self.path.is_file():
            return False
        try:
            with _connection(self.path) as connection:
                return bool(connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA)
        except sqlite3.DatabaseError:
            return False


def _condition(where: str, containing: str) -> tuple[str, tuple[Any, ...]]:
    found = parse_where(where, columns=COLUMNS, times=TIMES)
    if not containing:
        return found.sql, found.values
    return f"instr(lower(name), lower(?)) AND ({found.sql})", (containing, *found.values)


def cache_folder() -> Path:
    """Where indexes are kept."""
    own, shared = os.environ.get("DEBLUR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "deblur"


def sequence_row(store: SequenceStore, runs: Iterable[RunRow]) -> SequenceRow:
    """What the catalog says of a sequence; one that can't be read gets a row that says why."""
    try:
        header, summary = store.source.header, store.source.summary
        told = header.metadata.get("deblur", {})
        source = told.get("source", {})
        channels, height, width = header.shape
        shown = max(
            runs, key=lambda run: (run.published, run.ended), default=RunRow(store.id, "", state="new")
        )
        return SequenceRow(
            id=store.id,
            name=header.name,
            camera=str(source.get("camera") or header.metadata.get("camera") or ""),
            time=_began(header.metadata, summary["time"], float(told.get("modified", 0.0))),
            frames=summary["frames"],
            quarantined=summary["quarantined"],
            channels=channels,
            height=height,
            width=width,
            dtype=header.dtype,
            frame_rate=float(source.get("frame_rate") or header.frame_rate or 0.0),
            digest=store.source.digest,
            source=str(source.get("path", "")),
            continues=str(told.get("continues", "")),
            replaces=str(told.get("replaces", "")),
            surveyed=store.has_survey(),
            current=shown.id if shown.published else "",
            state=shown.state,
            quality=shown.quality,
            weight=shown.weight,
            ended=shown.ended,
            metadata=canonical(source.get("metadata", {})),
        )
    except (DeblurError, TypeError, KeyError, ValueError) as error:
        return SequenceRow(id=store.id, error=str(error))


def run_row(store: SequenceStore, run_id: str) -> RunRow:
    """What the catalog says of a run."""
    try:
        run = store.run(run_id)
        found = _summary(run)
        state = state_of(store, run)
        return RunRow(
            sequence=store.id,
            id=run_id,
            published=state == "published",
            sealed=run.sealed,
            state=state,
            units=found.units,
            shards=found.shards,
            expected=found.expected,
            quality=found.quality,
            weight=found.weight,
            ended=found.ended,
            parameters=canonical(dict(run.parameters)),
        )
    except DeblurError as error:
        return RunRow(sequence=store.id, id=run_id, error=str(error))


def _summary(run: RunStore) -> Summary:
    """From the seal where it is told there: a published run does not change, and its ledger may be long."""
    if run.sealed:
        told = run.seal().get("summary")
        if told:
            return Summary(**told)
    return summarise(run)


def _began(metadata: Mapping[str, Any], first: float | None, modified: float) -> float:
    """When a sequence began: by its frames, else its file's notes, else its oldest file's time of change."""
    if first is not None and first > EPOCH:
        return float(first)
    try:
        moment = datetime.fromisoformat(str(metadata["created"]))
    except (KeyError, ValueError):
        return modified
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        yield connection


def _create(connection: sqlite3.Connection) -> None:
    for table, row, key in (("sequences", SequenceRow, "id"), ("runs", RunRow, "sequence, id")):
        columns = ", ".join(row._fields)
        connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID")
    for link in ("replaces", "continues"):
        connection.execute(f"CREATE INDEX by_{link} ON sequences ({link}) WHERE {link} != ''")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _insert(connection: sqlite3.Connection, stores: Iterable[SequenceStore]) -> None:
    """Both tables' rows of some sequences, in batches: memory does not grow with the archive."""
    sequences: list[SequenceRow] = []
    runs: list[RunRow] = []
    for store in stores:
        own = [run_row(store, run_id) for run_id in store.runs()]
        runs += own
        sequences.append(sequence_row(store, own))
        if len(sequences) == BATCH:
            _flush(connection, sequences, runs)
    _flush(connection, sequences, runs)
    connection.execute(REPLACED)


def _flush(connection: sqlite3.Connection, sequences: list[SequenceRow], runs: list[RunRow]) -> None:
    for table, row, values in (("sequences", SequenceRow, sequences), ("runs", RunRow, runs)):
        places = ", ".join("?" * len(row._fields))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)
    sequences.clear()
    runs.clear()
