"""How commands answer: text or JSON on stdout, faults on stderr, the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur.errors import ConfigError

if TYPE_CHECKING:
    from deblur.outcome import Outcome

JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file; `deblur init` writes one.")]
ArchiveFolder = Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive: a folder, s3://bucket/…")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A changed setting, as restore.iterations=20."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="ARCHIVE/SEQUENCE@RUN, or the path of its store.")]
Where = Annotated[str, typer.Option("--where", help="Which ones, as \"camera = 'north' and quality < 0.6\".")]


def as_setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value as TOML where it is TOML, else as text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: write it as KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(value))


def print_plans(outcomes: list[Outcome], as_json: bool, archive: str) -> None:
    """What runs would take, then leave."""
    from deblur.terminal import plan_table, plan_words

    if as_json:
        print_json([outcome.dump() for outcome in outcomes])
    else:
        plan_table(outcomes)
        typer.echo("\n".join(plan_words(outcomes, archive)))
    leave_with(outcomes)


def report_outcomes(outcomes: list[Outcome], as_json: bool) -> None:
    """What became of each sequence, then leave."""
    if as_json:
        print_json([outcome.dump() for outcome in outcomes])
    else:
        for outcome in outcomes:
            typer.echo(outcome.line())
    leave_with(outcomes)


def leave_with(outcomes: list[Outcome]) -> None:
    """Leave with 1 and the faults on stderr, if there are any."""
    leave([text for outcome in outcomes for text in outcome.faults()])


def leave(faults: Iterable[str]) -> None:
    """The same for faults in words."""
    told = list(faults)
    for text in told:
        typer.echo(f"deblur: {text}", err=True)
    if told:
        raise typer.Exit(1)
