"""What a person sees: progress bars on a terminal, plain lines otherwise; tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from deblur.job import Outcome
from deblur.job import Progress as Report


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Report]:
    """Something to report progress to: bars on a terminal, a line a stage elsewhere, nothing when `quiet`."""
    console = Console(stderr=True)
    if quiet:
        yield lambda stage, done, total: None
    elif not console.is_terminal:
        yield _lines
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars, self._known = bars, dict[str, TaskID]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._known:
            self._known[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._known[stage], completed=done, total=total)


def _lines(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"{stage}: {done}/{total}", file=sys.stderr, flush=True)


def plan_table(outcomes: Sequence[Outcome]) -> None:
    """What a run would take, a row a sequence."""
    table = Table("sequence", "frames", "size", "halo", "units", "to do", "read", "compute", "memory", "time", "disk")
    for outcome in outcomes:
        plan = outcome.plan
        if plan is None:
            continue
        cost, (count, _, height, width) = plan.cost, plan.shape
        table.add_row(
            plan.sequence,
            str(count),
            f"{width}×{height}",
            f"{plan.parameters.motion_halo}+{plan.parameters.restore_halo} px",
            str(cost.units),
            f"{outcome.missing}" + (f" ({outcome.carried} carried)" if outcome.carried else ""),
            f"{cost.read_amplification:.2f}×",
            f"{cost.compute_amplification:.2f}×",
            size(cost.memory),
            duration(outcome.projected_seconds),
            size(cost.output_bytes),
        )
    _print(table)


def status_table(rows: Sequence[dict[str, Any]]) -> None:
    """Sequences and runs, a row a run."""
    table = Table("sequence", "frames", "broken", "run", "state", "units done", "mean weight", "published")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("sequence", "frames", "broken", "run", "state", "units", "weight", "published")))
    _print(table)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)
