"""What a person sees of a flow run in Prefect's UI: progress, a table, pictures, the report's address, warnings.

Only inside of a flow run that a server knows; and a server that went away is no reason to stop a night's work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from flows import settings

settings.prepare()

from httpx import HTTPError  # noqa: E402  (the environment comes first)
from prefect.artifacts import (  # noqa: E402
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.context import FlowRunContext  # noqa: E402
from prefect.exceptions import PrefectException  # noqa: E402
from prefect.states import Crashed  # noqa: E402

from deblur.config import JobConfig  # noqa: E402
from deblur.errors import DeblurError  # noqa: E402
from deblur.judge import Summary, summarise  # noqa: E402
from deblur.light import Light  # noqa: E402
from deblur.outcome import Outcome  # noqa: E402
from deblur.report import pictures  # noqa: E402
from deblur.report.compose import write_report  # noqa: E402
from deblur.store import Archive, RunStore, SequenceStore  # noqa: E402
from deblur.store.durable import write_atomic  # noqa: E402

log = logging.getLogger("deblur.flows")
SHOWN = 4  # sequences with pictures
ROWS = 1000  # of the table: the UI draws them all
LOW = 0.5  # quality under which a warning says so


def flow_run_id() -> str:
    """The id of the flow run that this is called in, empty outside of one."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else ""


def _only_in_a_flow(work: Callable[..., None]) -> Callable[..., None]:
    """Nothing outside of a flow run; without its server a line in the log."""

    @wraps(work)
    def done(*arguments: Any) -> None:
        if not flow_run_id():
            return
        try:
            work(*arguments)
        except (HTTPError, PrefectException, DeblurError, OSError) as error:
            log.warning("can't tell Prefect's UI: %s: %s", type(error).__name__, error)

    return done


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar in the UI; call what this gives with the number of batches done."""
    bar: list[Any] = []

    @_only_in_a_flow
    def begin() -> None:
        bar.append(create_progress_artifact(0.0, key="deblur-progress", description=f"0 of {total} batches"))

    @_only_in_a_flow
    def show(done: int) -> None:
        share = 100.0 * done / max(1, total)
        if bar:
            update_progress_artifact(bar[0], share, description=f"{done} of {total} batches")

    if total:
        begin()
    yield show


@_only_in_a_flow
def tell(config: JobConfig, outcomes: Sequence[Outcome]) -> None:
    """The table of sequences, pictures of some of them, a report, and warnings."""
    if not outcomes:
        return
    archive = Archive(config.archive)
    rows: list[dict[str, Any]] = []
    shown: list[tuple[SequenceStore, RunStore]] = []
    for outcome in outcomes:
        run = _run(archive, outcome)
        found = summarise(run[1]) if run else None
        if len(rows) < ROWS:
            rows.append(_row(outcome, found))
        _warn(outcome, found)
        if run and outcome.computed and len(shown) < SHOWN:
            shown.append(run)
    create_table_artifact(rows, key="deblur-sequences", description=f"{len(outcomes)} sequences")
    if shown:
        text = "\n\n".join(_before_and_after(*run) for run in shown)
        create_markdown_artifact(text, key="deblur-pictures", description="Before and after")
        _link_report(archive, *shown[0])


@_only_in_a_flow
def dry_run(outcomes: Sequence[Outcome]) -> None:
    """What a reprocessing would take."""
    rows = [
        {
            "sequence": outcome.sequence.id,
            "units to compute": outcome.missing,
            "carried over": outcome.carried,
            "seconds": round(outcome.projected_seconds),
            "megabytes": round(outcome.plan.cost.output_bytes / 1e6) if outcome.plan else 0,
        }
        for outcome in outcomes[:ROWS]
    ]
    create_table_artifact(rows, key="deblur-dry-run", description="What the reprocessing would take")


def mark_crashed(flow_run: str) -> None:
    """Tell the server that a run whose process is gone does not run any more."""
    if not flow_run or flow_run == flow_run_id():
        return
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run)).state
            if state is None or not state.is_final():
                crashed: State[Any] = Crashed(
                    message="its process died without a word; the next night goes on with it"
                )
                client.set_flow_run_state(UUID(flow_run), crashed, force=True)
    except (HTTPError, PrefectException, ValueError) as error:  # another server's run, or none at all
        log.warning("can't mark flow run %s as crashed: %s", flow_run, type(error).__name__)


def _run(archive: Archive, outcome: Outcome) -> tuple[SequenceStore, RunStore] | None:
    if outcome.plan is None or not (outcome.published or outcome.waiting):
        return None
    store = archive.sequence(outcome.plan.sequence)
    return store, store.run(outcome.plan.run)


def _row(outcome: Outcome, found: Summary | None) -> dict[str, Any]:
    state = "published" if outcome.published else "waits for a person" if outcome.waiting else "left undone"
    return {
        "sequence": outcome.sequence.id or Path(outcome.sequence.source.path).name,
        "state": outcome.kept or outcome.stopped or state,
        "quality": round(found.quality, 3) if found else "",
        "weight": round(found.weight, 3) if found else "",
        "run": outcome.plan.run if outcome.plan else "",
        "computed": outcome.computed,
        "carried": outcome.carried,
        "seconds": round(outcome.seconds, 1),
        "faults": "; ".join(outcome.faults())[:300],
    }


def _warn(outcome: Outcome, found: Summary | None) -> None:
    for line in outcome.sequence.broken if outcome.sequence.fresh else ():
        log.warning("quarantined: %s", line)
    if outcome.waiting:
        log.warning("%s waits for a person: %s", outcome.sequence.id, outcome.waiting)
    if found and found.quality < LOW and outcome.computed:
        log.warning(
            "%s: only %.0f %% of the pixels could be restored or needed nothing",
            outcome.sequence.id,
            100 * found.quality,
        )


def _before_and_after(store: SequenceStore, run: RunStore) -> str:
    t = run.spec.shape[0] // 2
    light = Light(**run.parameters["light"])
    before = store.source.read(t, t + 1)[0]
    white = pictures.white_point(before, light)
    views = [
        pictures.shrink(pictures.display(codes, light, white=white), longest=480)
        for codes in (before, run.read("0", t, t + 1)[0])
    ]
    addresses = [pictures.data_uri(pictures.to_jpeg(view)) for view in views]
    name = store.source.frames[t].name
    return (
        f"**{store.id}**, {name}: as it was, restored\n\n![before]({addresses[0]}) ![after]({addresses[1]})"
    )


def _link_report(archive: Archive, store: SequenceStore, run: RunStore) -> None:
    path = archive.path / "reports" / f"{store.id}-{run.id}.html"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        with TemporaryDirectory() as folder:
            write_report(Path(folder) / path.name, store, run.id)
            write_atomic(path, (Path(folder) / path.name).read_bytes())
    create_link_artifact(path.resolve().as_uri(), link_text=f"Report of {store.id}", key="deblur-report")
