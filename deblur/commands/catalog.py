"""Find sequences and runs in the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import ArchiveFolder, AsJson, Where, print_json


def find(
    archive: ArchiveFolder,
    where: Where = "",
    runs: Annotated[bool, typer.Option("--runs", help="Their runs instead of the sequences.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Print at most so many.")] = 100,
    output: Annotated[
        Path | None, typer.Option(help="Write all of them, every column: .csv, .parquet or .jsonl.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read the stores anew, where others have written to them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find sequences by camera, time, quality, state or free metadata."""
    from deblur.catalog import Catalog, RunRow, SequenceRow
    from deblur.store import Archive
    from deblur.tables import write_table
    from deblur.terminal import catalog_table

    catalog = Catalog(Archive.open(archive))
    if refresh:
        catalog.rebuild()
    ids = catalog.ids(where=where)
    if runs:
        wanted = set(ids)
        found = tuple(row for row in catalog.runs() if row.sequence in wanted)
        fields: tuple[str, ...] = RunRow._fields
    else:
        found = catalog.sequences(where=where, limit=-1 if output or as_json else limit)  # type: ignore[assignment]
        fields = SequenceRow._fields
    if output is not None:
        write_table(output, found, fields)
        typer.echo(f"{len(found)} rows written to {output}")
    elif as_json:
        print_json([dict(zip(fields, row, strict=True)) for row in found])
    else:
        catalog_table(found[:limit])
        total = len(found) if runs else len(ids)
        if total > limit:
            typer.echo(f"{limit} of {total}; --limit shows more")
