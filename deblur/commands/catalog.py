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
    after: Annotated[
        str, typer.Option(metavar="ID", help="Go on behind this sequence, the last one of the page before.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option(help="Write all of them, every column: .csv, .parquet or .jsonl.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read the stores anew, where others have written to them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find sequences by camera, time, quality, state or free metadata."""
    from itertools import islice

    from deblur.catalog import Catalog, RunRow, SequenceRow
    from deblur.store import Archive
    from deblur.tables import write_table
    from deblur.terminal import catalog_table

    catalog = Catalog(Archive.open(archive))
    if refresh:
        catalog.rebuild()
    fields = RunRow._fields if runs else SequenceRow._fields
    if output is not None:
        every = catalog.each_run(where=where) if runs else catalog.each(where=where)
        typer.echo(f"{write_table(output, every, fields)} rows written to {output}")
    elif as_json:
        every = catalog.each_run(where=where) if runs else catalog.each(where=where)
        print_json([dict(zip(fields, row, strict=True)) for row in every])
    elif runs:
        shown = tuple(islice(catalog.each_run(where=where), limit + 1))
        catalog_table(shown[:limit])
        if len(shown) > limit:
            typer.echo(f"the first {limit}; --limit shows more, --output writes all")
    else:
        rows, total = catalog.sequences(where=where, after=after, limit=limit), catalog.count(where=where)
        catalog_table(rows)
        if len(rows) < total:
            typer.echo(
                f"{len(rows)} of {total}; --limit shows more, --after {rows[-1].id if rows else after} goes on"
            )
