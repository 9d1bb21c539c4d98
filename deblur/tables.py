"""Rows of the catalog as a file that other programs read: CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from deblur.catalog import RunRow, SequenceRow
from deblur.errors import ConfigError

Rows = Iterable[SequenceRow] | Iterable[RunRow]
GROUP = 10_000  # rows of a row group of Parquet


def write_table(path: Path, rows: Rows, columns: tuple[str, ...]) -> int:
    """Write rows as they come, in the kind that the name's suffix says: .csv, .parquet or .jsonl; returns how many.

    Raises ConfigError for another suffix, for a file that can't be written, and where Parquet's library is missing.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: tables are written as {', '.join(FORMATS)}: use one of these suffixes")
    written = Counted(rows)
    try:
        kind(path, written, columns)
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another place") from None
    return written.count


class Counted:
    """Rows that are counted as they go by."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.count = iter(rows), 0

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        for row in self._rows:
            self.count += 1
            yield row


def _csv(path: Path, rows: Counted, columns: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _json_lines(path: Path, rows: Counted, columns: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")


def _parquet(path: Path, rows: Counted, columns: tuple[str, ...]) -> None:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ConfigError(f"{path}: Parquet needs pyarrow: pip install 'deblur[parquet]'") from None
    source = iter(rows)

    def group() -> Any:
        values = list(zip(*islice(source, GROUP), strict=True)) or [()] * len(columns)
        return arrow.table(dict(zip(columns, map(list, values), strict=True)))

    first = group()
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        while (following := group()).num_rows:
            writer.write_table(following)


FORMATS: Mapping[str, Callable[[Path, Counted, tuple[str, ...]], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}
