"""What is there and how it gets on: a page that fits a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from deblur.commands.answers import ArchiveFolder, AsJson, print_json

SILENT = 60.0  # seconds after which a lease may be taken over
WIDTH = 30  # of a bar


def status(archive: ArchiveFolder, as_json: AsJson = False) -> None:
    """Sequences, runs and their states; of those under way: rate, time left, failures, memory."""
    from deblur.terminal import status_table
    from deblur.upkeep import status as look

    rows = look(archive)
    if as_json:
        print_json(rows)
        return
    going = [row for row in rows if row["pace"] and row["state"] == "unfinished"]
    for row in going:
        typer.echo("\n".join([*page(row), ""]))
    rest = [row for row in rows if row not in going]
    status_table(
        [{key: value for key, value in row.items() if key not in ("pace", "worker")} for row in rest]
    )


def page(row: Mapping[str, Any]) -> Iterator[str]:
    """A run that is not finished, in some lines of at most 80 characters."""
    from deblur.terminal import duration, size

    told, worker = row["pace"], row["worker"]
    yield f"{row['sequence']}  {row['run']}"
    yield f"  {_who(worker)}"
    for stage, totals in told["totals"].items():
        yield f"  {stage:9}{_bar(totals['units'], told['units'])}"
    if told["rate"]:
        yield f"  rate     {told['rate']:.3g} units/min, {told['speed']:.3g} MP/s"
    if told["left"]:
        later = ", then restoration" if told["stage"] == "motion" else ""
        yield f"  left     {duration(told['left'])} of {told['stage']}{later}"
    retried = sum(totals["retried"] for totals in told["totals"].values())
    yield f"  failed   {told['failed']} given up, {retried} done at a further attempt"
    limit = f" of {size(told['limit'])}" if told["limit"] else ""
    yield f"  memory   at most {size(told['peak'])} a worker{limit}, {size(told['projected'])} projected"
    yield from _bytes(told["totals"])
    if told["dashboard"] and worker:
        yield f"  Dask     {told['dashboard']}"


def _who(worker: Mapping[str, Any] | None) -> str:
    from deblur.terminal import duration

    if worker is None:
        return "nobody works on it: `deblur run` goes on with it"
    silent = worker["silent"]
    return f"{worker['by']} works on it" + (f", silent for {duration(silent)}" if silent > SILENT else "")


def _bar(done: int, total: int) -> str:
    if not total:
        return f"{done} units"
    filled = min(WIDTH, WIDTH * done // total)
    return f"{'█' * filled}{'░' * (WIDTH - filled)} {done}/{total} {done / total:4.0%}"


def _bytes(totals: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    from deblur.terminal import duration, size

    names: Sequence[str] = [stage for stage, each in totals.items() if each["units"]]
    for n, stage in enumerate(names):
        each = totals[stage]
        took = f"{duration(each['seconds'])} of work, {size(each['read_bytes'])} read"
        yield f"  {'so far' if not n else '':9}{stage}: {took}, {size(each['written_bytes'])} written"
