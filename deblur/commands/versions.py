"""Runs are versions: diff, promote, retract, rollback, prune."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import ArchiveFolder, AsJson, Run, print_json
from deblur.errors import ConfigError

Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Sequence = Annotated[str, typer.Argument(metavar="SEQUENCE", help="ARCHIVE/SEQUENCE.")]


def diff(
    first: Run,
    second: Run,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw where they differ most: a PNG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs of a sequence: settings, pixels and quality, frame by frame."""
    from deblur.plan import Parameters
    from deblur.store import find_run
    from deblur.terminal import difference_table
    from deblur.versions import compare, most_changed

    (sequence, a), (other, b) = find_run(first), find_run(second)
    if sequence.path.resolve() != other.path.resolve():
        raise ConfigError(f"{first} and {second} are of two sequences: compare two runs of one")
    found = compare(sequence, a, b)
    if picture is not None:
        from deblur.report.difference import difference_picture

        _, _, left, right = most_changed(found, a, b)
        picture.write_bytes(difference_picture(left, right, light=Parameters.load(a.parameters).light))
    if as_json:
        print_json(found.dump())
    else:
        difference_table(found)


def promote(run: Run, reason: Reason = "", as_json: AsJson = False) -> None:
    """Publish a run by decision: one that waits, was retracted, or gave way to another."""
    from deblur.store import find_run
    from deblur.versions import promote as publish

    sequence, chosen = find_run(run)
    before = sequence.current()
    publish(sequence, chosen, reason=reason)
    _answer(sequence.id, chosen.id, before, as_json)


def retract(run: Run, reason: Reason, as_json: AsJson = False) -> None:
    """Take the published run out of publication; no nightly job puts it back."""
    from deblur.store import find_run
    from deblur.versions import retract as withdraw

    sequence, chosen = find_run(run)
    withdraw(sequence, chosen, reason=reason)
    _answer(sequence.id, None, chosen.id, as_json)


def rollback(sequence: Sequence, reason: Reason = "", as_json: AsJson = False) -> None:
    """Publish the run that was published before the present one."""
    from deblur.store import find_sequence
    from deblur.versions import rollback as go_back

    store = find_sequence(sequence)
    now, before = go_back(store, reason=reason)
    _answer(store.id, now, before, as_json)


def prune(
    archive: ArchiveFolder,
    keep: Annotated[int, typer.Option(min=0, help="Earlier runs of a sequence that stay.")] = 1,
    older_than: Annotated[
        float, typer.Option(min=0, help="Days that a run must have been out of use.")
    ] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove runs out of use: never the published one, one that waits, or a source."""
    import time

    from deblur.store import Archive
    from deblur.terminal import size
    from deblur.versions import DAY, Policy, prunable
    from deblur.versions import prune as remove

    store, policy = Archive.open(archive), Policy(keep, older_than * DAY)
    found = list(prunable(store, policy, now=time.time())) if dry_run else remove(store, policy)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        typer.echo(f"{one.sequence} {one.run}: {one.state}, {size(one.size)}")
    total = size(sum(one.size for one in found))
    typer.echo(f"{len(found)} runs {'would go' if dry_run else 'gone'}, {total}")


def _answer(sequence: str, now: str | None, before: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"sequence": sequence, "published": now, "before": before})
    else:
        typer.echo(f"{sequence}: {now or 'nothing'} is published, before: {before or 'nothing'}")
