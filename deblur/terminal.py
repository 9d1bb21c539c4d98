"""What a person sees: progress bars on a terminal, plain lines otherwise; tables."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from deblur.catalog import RunRow, SequenceRow
from deblur.foretell import Outlook
from deblur.ingest import Progress as Report
from deblur.outcome import Outcome
from deblur.plan import Plan
from deblur.preview import Preview
from deblur.sample import Sample
from deblur.versions import Difference


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
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars)


class _Rate(ProgressColumn):
    """How many a second, or a minute where that is less than one."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        return Text("" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min")


class _Bars:
    """A bar for each stage under way; finished ones become lines above it, and so don't pile up."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._known = bars, dict[str, TaskID]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not total:
            self._bars.console.print(Text(stage))
            return
        if stage not in self._known:
            self._known[stage] = self._bars.add_task(escape(stage), total=total)
        known = self._known[stage]
        self._bars.update(known, completed=done, total=total)
        if done == total:
            took = next(task.elapsed or 0.0 for task in self._bars.tasks if task.id == known)
            self._bars.console.print(Text(f"{stage}: {done}/{total}, {duration(took)}"))
            self._bars.remove_task(self._known.pop(stage))


def _lines(stage: str, done: int, total: int) -> None:
    if done == total:
        print(f"{stage}: {done}/{total}" if total else stage, file=sys.stderr, flush=True)


def plan_table(outcomes: Sequence[Outcome]) -> None:
    """What a run would take: a table, or a paragraph a sequence where that is too wide for the terminal."""
    _print([_plan_row(outcome, outcome.plan) for outcome in outcomes if outcome.plan is not None])


def _plan_row(outcome: Outcome, plan: Plan) -> dict[str, str]:
    cost, (count, _, height, width) = plan.cost, plan.shape
    return {
        "sequence": plan.sequence,
        "frames": str(count),
        "size": f"{width}×{height}",
        "halo": f"{plan.parameters.motion_halo}+{plan.parameters.restore_halo} px",
        "window": f"{plan.layout.window} px",
        "unit": f"{plan.layout.unit} px, {plan.layout.frames} frames",
        "units": str(cost.units),
        "to do": f"{outcome.missing}" + (f" ({outcome.carried} carried)" if outcome.carried else ""),
        "read": f"{cost.read_amplification:.2f}×",
        "compute": f"{cost.compute_amplification:.2f}×",
        "memory": size(cost.memory),
        "time": duration(outcome.projected_seconds),
        "disk": size(cost.output_bytes),
    }


def outlook_line(told: Outlook) -> str:
    """What a source that isn't ingested yet will take."""
    cores = f"{told.workers} core{'s' * (told.workers > 1)}"
    need = f"{size(told.disk)} of disk ({size(told.free)} free{', perhaps too little' * (told.free < told.disk)})"
    return f"{told.frames} frames of {told.width}×{told.height}: about {duration(told.seconds)} on {cores}, {need}"


def preview_lines(told: Preview) -> Iterator[str]:
    """What a preview showed, and how to go on."""
    yield f"exposure fraction {told.exposure.describe()}"
    for look in told.looks:
        yield f"{look.name}: restored in {look.weight:.0%} of it"
    yield f"before and after: {told.picture}"
    yield f"the same command without --preview restores all of it: {outlook_line(told.outlook)}"


def plan_words(outcomes: Sequence[Outcome], archive: str) -> Iterator[str]:
    """What is left to do, in a sentence: how long, how much memory, how much disk."""
    plans = [outcome.plan for outcome in outcomes if outcome.plan is not None and outcome.missing]
    if not plans:
        yield "nothing is left to compute"
        return
    missing = sum(outcome.missing for outcome in outcomes)
    seconds = sum(outcome.projected_seconds for outcome in outcomes)
    disk, memory = sum(plan.cost.output_bytes for plan in plans), max(plan.cost.memory for plan in plans)
    count = f"{missing} unit{'s' * (missing > 1)} of {len(plans)} sequence{'s' * (len(plans) > 1)}"
    place = Path(archive)
    free = f", {size(shutil.disk_usage(place).free)} are free" if place.is_dir() else ""
    yield (
        f"{count} to compute: about {duration(seconds)}, {size(memory)} of memory a worker, "
        f"at most {size(disk)} of disk{free}"
    )


def sample_lines(
    found: Sequence[Sample], outcomes: Sequence[Outcome], job: Path, archive: str
) -> Iterator[str]:
    """Where to look, and what the rest will take."""
    for part in found:
        if not part.faults:
            yield f"{part.sequence}: {len(part.frames)} frames computed; open {part.report}"
    yield from plan_words(outcomes, archive)
    yield f"`deblur run {job}` computes the rest"


def demo_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """What the demo gained, frame by frame."""
    for row in results.get("frames", ()):
        yield f"{row['frame']}  {row['psnr_before']:.2f} dB → {row['psnr_after']:.2f} dB  ({row['gain']:+.2f})"
    if results:
        yield f"mean gain {results['mean_gain']:+.2f} dB (PSNR against the known truth)"
        yield f"open {results['report']}"


def status_table(rows: Sequence[dict[str, Any]]) -> None:
    """Sequences and runs, a row a run."""
    names = {"units": "units done", "weight": "mean weight"}
    _print([{names.get(key, key): str(value) for key, value in row.items()} for row in rows])


def story_lines(groups: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Groups of values, and groups within them, as indented lines."""
    for key, value in groups.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}"
            yield from story_lines(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{indent}{key}: {shown}"


def catalog_table(rows: Sequence[SequenceRow] | Sequence[RunRow]) -> None:
    """Rows of the catalog, the columns that people look for."""
    _print([_catalog_row(row) for row in rows])


def _catalog_row(row: SequenceRow | RunRow) -> dict[str, str]:
    figures = {"quality": f"{row.quality:.3f}", "weight": f"{row.weight:.3f}"} if row.ended else {}
    judged = {"quality": "", "weight": ""} | figures
    if isinstance(row, RunRow):
        return {"sequence": row.sequence, "run": row.id, "state": row.error or row.state, **judged}
    size = f"{row.width}×{row.height}" if row.width else ""
    seen = {"id": row.id, "camera": row.camera, "time": moment(row.time), "frames": str(row.frames)}
    state = f"{row.state}, replaced by {row.replaced}" if row.replaced else row.state
    return {**seen, "size": size, "state": row.error or state, **judged}


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and time in UTC; empty for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def difference_table(difference: Difference) -> None:
    """What differs between two runs: settings first, then a row a frame."""
    first, second = difference.runs
    for key, (a, b) in difference.parameters.items():
        print(f"{key}: {a} → {b}")
    _print(
        [
            {
                "frame": frame.name,
                "changed": f"{frame.changed:.2%}",
                "largest": f"{frame.largest:g}",
                "rms": f"{frame.rms:.3%}",
                f"quality {first} → {second}": f"{frame.quality[0]:.3f} → {frame.quality[1]:.3f}",
                "weight": f"{frame.weight[0]:.3f} → {frame.weight[1]:.3f}",
            }
            for frame in difference.frames
        ]
    )


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


def _print(rows: Sequence[dict[str, str]]) -> None:
    """Rows with the same keys, as a table if it fits."""
    if not rows:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # nothing is cut off or wrapped in a file
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(escape, row.values()))
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(table)
        return
    for row in rows:
        (_, title), *rest = row.items()
        console.print(Text(title, style="bold"))
        lines = Table.grid(padding=(0, 2))
        for key, value in rest:
            lines.add_row(f"  {key}", escape(value))
        console.print(lines)
