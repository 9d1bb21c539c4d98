"""Reprocessing on demand: the same sequences, changed parameters, a new run beside the old one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flows import settings as environment

environment.prepare()

from prefect import flow, task  # noqa: E402  (the environment comes first)
from pydantic import Field  # noqa: E402

from deblur import job as work  # noqa: E402
from deblur import night  # noqa: E402
from deblur.config import JobConfig, load_job, with_settings  # noqa: E402
from deblur.deconv import METHODS  # noqa: E402
from deblur.errors import DeblurError  # noqa: E402
from deblur.job import raise_if_all_failed  # noqa: E402
from deblur.motion import METHODS as MOTION_METHODS  # noqa: E402
from deblur.outcome import Outcome, raise_for_failures  # noqa: E402
from flows import artifacts  # noqa: E402
from flows.archive import STAGE, TRIED_AGAIN, JobFile, unless_passing  # noqa: E402
from flows.attended import report  # noqa: E402
from flows.shared import crew, shared  # noqa: E402
from flows.told import Told  # noqa: E402

if TYPE_CHECKING:
    Method = str
    MotionMethod = str
else:  # a list to choose from in the form
    Method = Literal[tuple(sorted(METHODS))]
    MotionMethod = Literal[tuple(sorted(MOTION_METHODS))]


@task(name="again", task_run_name="{label}", **STAGE, **TRIED_AGAIN)
def again(config: JobConfig, ids: Sequence[str], label: str) -> list[Outcome]:
    """Some sequences, from plan to publication."""
    return unless_passing(night.redo(config, ids, crew=crew(), progress=report))


def reprocess(config: JobConfig, sequences: tuple[str, ...] = ()) -> list[Outcome]:
    """Compute what changed parameters change, carry the rest over by digest, publish as a new run.

    `sequences`: ids; none means all of the archive.
    """
    return reprocess_flow(Told(config), sequences)


@flow(name="deblur-reprocess", validate_parameters=False, persist_result=False)
def reprocess_flow(told: Told, sequences: tuple[str, ...]) -> list[Outcome]:
    """The same, as Prefect runs it."""
    config = told.job
    ids = work.chosen(config, sequences)
    outcomes: list[Outcome] = []
    parts = night.batches(ids)
    with shared(config, lambda: False), artifacts.progress(len(parts)) as bar:
        for number, part in enumerate(parts, 1):
            outcomes += again(config, part, f"batch {number} of {len(parts)}")
            bar(number)
    artifacts.tell(config, outcomes)
    raise_if_all_failed([outcome.error for outcome in outcomes])
    return outcomes


@flow(name="deblur-reprocess-on-demand", log_prints=True, persist_result=False)
def on_demand(
    job_file: JobFile,
    settings: dict[str, Any] = {},  # noqa: B006  (a form's default, never changed)
    sequences: list[str] = [],  # noqa: B006
    where: Annotated[str, Field(max_length=2000)] = "",
    method: Method | None = None,
    iterations: Annotated[int | None, Field(ge=1, le=1000)] = None,
    motion: MotionMethod | None = None,
    dry_run: bool = False,
) -> str:
    """The deployed form of reprocessing: which sequences, and what is to be otherwise.

    Args:
        job_file: Where the job file lies on the machine that does the work.
        settings: Other settings by dotted key, as {"restore.regularisation": 0.01}.
        sequences: Ids of sequences; none takes all that `where` finds.
        where: A condition, as camera = 'north' and time >= 2026-01-01 and quality < 0.6.
        method: Another method for the last stage; motion is not computed again.
        iterations: At most so many solver steps.
        motion: Another method for the motion; everything is computed again.
        dry_run: Only list sequences, units, time and space.
    """
    told = {"restore.method": method, "restore.iterations": iterations, "motion.method": motion}
    changed = settings | {key: value for key, value in told.items() if value is not None}
    config = with_settings(load_job(Path(job_file)), changed)
    ids = work.chosen(config, tuple(sequences), where=where)
    if dry_run:
        text = _projected(work.plan(config, work.published(config, ids), action="reprocess", check=True))
        print(text)
        return text
    outcomes = reprocess(config, ids)
    text = "\n".join(outcome.line() for outcome in outcomes)
    print(text)
    raise_for_failures(outcomes)
    return text


def _projected(outcomes: list[Outcome]) -> str:
    """What a run would take, a line a sequence."""
    lines = []
    for outcome in outcomes:
        if outcome.plan is None or outcome.kept:
            lines.append(outcome.line())
            continue
        size = outcome.plan.cost.output_bytes / 1e6
        work_left = f"{outcome.missing} units to compute, {outcome.carried} carried over"
        lines.append(
            f"{outcome.plan.sequence}: {work_left}, {outcome.projected_seconds:.0f} s, {size:.0f} MB"
        )
    if not lines:
        raise DeblurError("nothing to reprocess: the archive is empty")
    artifacts.dry_run(outcomes)
    return "\n".join(lines)
