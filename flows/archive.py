"""The archive job as Prefect flows: what is new goes through ingest, plan, compute, verify and publish, in batches.

A task is a batch of sequences, never a unit: units go to Dask from inside of it, at a hundredth of what a task run
costs. The cluster is started when a batch first needs it, and shared by the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from flows import settings

settings.prepare()

from prefect import flow, task  # noqa: E402  (the environment comes first)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.runtime import task_run  # noqa: E402
from prefect.tasks import exponential_backoff  # noqa: E402
from pydantic import Field  # noqa: E402

from deblur import night as work  # noqa: E402
from deblur.config import JobConfig, load_job  # noqa: E402
from deblur.errors import DeblurError, may_pass  # noqa: E402
from deblur.hooks import tell  # noqa: E402
from deblur.job import raise_if_all_failed  # noqa: E402
from deblur.outcome import Outcome, raise_for_failures  # noqa: E402
from deblur.outcome import Sequence as Work  # noqa: E402
from deblur.place import place  # noqa: E402
from deblur.redact import without_secrets  # noqa: E402
from deblur.watch import Arrival  # noqa: E402
from flows import artifacts  # noqa: E402
from flows.attended import report  # noqa: E402
from flows.shared import crew, in_time, shared  # noqa: E402
from flows.told import Told  # noqa: E402

JobFile = Annotated[str, Field(min_length=1)]
Until = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d)?$")]


def _storage(_task: Any, _run: Any, state: Any) -> bool:
    """Whether trying again may help: storage that hiccuped, not what deblur says is wrong."""
    return may_pass(state.result(raise_on_failure=False))


# The ledger says what is done; Prefect must not remember results of its own, nor store pixels' records.
STAGE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
RETRIES = 3
TRIED_AGAIN: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _storage,
}


@task(name="find", **STAGE, **TRIED_AGAIN)
def find(config: JobConfig) -> work.Findings:
    """What is new or changed since it was dealt with."""
    return work.find(config)


@task(name="batch", task_run_name="{label}", **STAGE, **TRIED_AGAIN)
def batch(config: JobConfig, part: Sequence[Arrival], label: str) -> list[Outcome]:
    """Some sequences, from ingest to publication."""
    return unless_passing(work.work_on(config, part, crew=crew(), stop=in_time(), progress=report))


def unless_passing(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes; while the task has tries left, a fault that may pass is raised instead: what is done stays done."""
    passing = [error for o in outcomes for error in (o.sequence.error, o.error) if error and may_pass(error)]
    if passing and 1 <= task_run.run_count <= RETRIES:
        raise passing[0]
    return outcomes


def archive(config: JobConfig, until: str = "") -> list[Outcome]:
    """Bring an archive up to date with its sources."""
    return archive_flow(Told(config), until)


@flow(name="deblur-archive", validate_parameters=False, persist_result=False)
def archive_flow(told: Told, until: str = "") -> list[Outcome]:
    """The same, as Prefect runs it."""
    config = told.job
    outcomes = _worked_off(config, work.everything(config), work.deadline(until))
    raise_if_all_failed([outcome.error or outcome.sequence.error for outcome in outcomes])
    return outcomes


def _night_name() -> str:
    return f"night of {datetime.now():%Y-%m-%d %H:%M}"


@flow(name="deblur-nightly", log_prints=True, flow_run_name=_night_name, persist_result=False)
def nightly(job_file: JobFile, until: Until = "") -> str:
    """The scheduled form of the archive job: what is new, newest first; fails when anything was left undone.

    Args:
        job_file: Where the job file lies on the machine that does the work.
        until: Stop cleanly at this time of day, as 06:00, and go on the next time; empty for no limit.
    """
    config = load_job(Path(job_file))
    home = place(config.archive)
    for dead in work.dead_nights(home):
        artifacts.mark_crashed(dead.flow_run)
        _tell(config, {"state": "crashed", "night": dead.id, "faults": ["its process died without a word"]})
    with work.recorded(home, flow_run=artifacts.flow_run_id()) as record:
        try:
            found = find(config)
            outcomes = _worked_off(config, found, work.deadline(until))
            record.told |= _summary(found, outcomes)
            print("\n".join([*(outcome.line() for outcome in outcomes), record.told["line"]]))
            raise_for_failures(outcomes)
        except Exception as error:
            _tell(config, {"state": "failed", "night": record.id, "faults": [str(error)], **record.told})
            raise
    return str(record.told["line"])


def _worked_off(config: JobConfig, found: work.Findings, end: float | None) -> list[Outcome]:
    """Batch after batch; one that fails in whatever way is named, and the others go on."""
    parts = work.batches(found.todo)
    late: Callable[[], bool] = (lambda: False) if end is None else (lambda: time.time() >= end)
    outcomes: list[Outcome] = []
    with shared(config, late), artifacts.progress(len(parts)) as bar:
        for number, part in enumerate(parts, 1):
            if late():
                outcomes += [Outcome(Work("", a.source), stopped="not begun in time") for a in part]
                continue
            try:
                outcomes += batch(config, part, f"batch {number} of {len(parts)}")
            except Exception as error:  # a batch may fail in any way; it is named and the others go on
                failed = error if isinstance(error, DeblurError) else DeblurError(_line(error))
                outcomes += [Outcome(Work("", a.source, error=failed)) for a in part]
            bar(number)
    artifacts.tell(config, outcomes)
    return outcomes


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _summary(found: work.Findings, outcomes: list[Outcome]) -> dict[str, Any]:
    counts = {
        "unchanged": found.unchanged,
        "still written to": len(found.written),
        "published": sum(outcome.published for outcome in outcomes),
        "waiting for a person": sum(bool(outcome.waiting) for outcome in outcomes),
        "stopped in time": sum(bool(outcome.stopped) for outcome in outcomes),
        "units computed": sum(outcome.computed for outcome in outcomes),
    }
    faults = [text for outcome in outcomes for text in outcome.faults()]
    line = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    return {**counts, "faults": faults[:100], "line": line}


def _tell(config: JobConfig, told: dict[str, Any]) -> None:
    for line in tell(config.hooks, without_secrets({"archive": config.archive, **told})):
        print(line)
