"""Rows of the catalog as a file that other programs read: CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deblur.catalog import RunRow, SequenceRow
from deblur.errors import ConfigError

Rows = Sequence[SequenceRow] | Sequence[RunRow]


def write_table(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    """Write rows, in the kind that the name's suffix says: .csv, .parquet or .jsonl.

    Raises ConfigError for another suffix, for a file that can't be written, and where Parquet's library is missing.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: tables are written as {', '.join(FORMATS)}: use one of these suffixes")
    try:
        kind(path, rows, columns)
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another place") from None


def _csv(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _json_lines(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")


def _parquet(path: Path, rows: Rows, columns: tuple[str, ...]) -> None:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ConfigError(f"{path}: Parquet needs pyarrow: pip install 'deblur[parquet]'") from None
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    parquet.write_table(arrow.table(dict(zip(columns, map(list, values), strict=True))), path)


FORMATS: Mapping[str, Callable[[Path, Rows, tuple[str, ...]], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}
