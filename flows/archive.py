"""The archive job as a Prefect flow: ingest → plan → compute → verify → publish.

A task is a stage over all sequences of the job, never a unit: units go to Dask from inside the compute task, at a
hundredth of what a task run costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import settings

settings.prepare()

from prefect import flow, task  # noqa: E402  (the environment comes first)
from prefect.cache_policies import NO_CACHE  # noqa: E402

from deblur import job as work  # noqa: E402
from deblur.config import JobConfig, load_job  # noqa: E402
from deblur.outcome import Outcome, Sequence, raise_for_failures  # noqa: E402
from deblur.store.publish import Action  # noqa: E402
from flows.attended import report  # noqa: E402

# The ledger says what is done; Prefect must not remember results of its own, nor store pixels' records.
STAGE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


@task(name="ingest", **STAGE)
def ingest(config: JobConfig) -> list[Sequence]:
    """Read new sources into the archive."""
    return work.ingest(config, progress=report)


@task(name="plan", **STAGE)
def plan(config: JobConfig, sequences: list[Sequence], *, action: Action = "publish") -> list[Outcome]:
    """Survey what is new, then plan every sequence; nothing is computed before all plans are accepted."""
    return work.plan(config, sequences, action=action, progress=report)


@task(name="compute", **STAGE)
def compute(config: JobConfig, outcomes: list[Outcome]) -> list[Outcome]:
    """Run the units that no ledger has yet."""
    return work.compute(config, outcomes, progress=report)


@task(name="verify", **STAGE)
def verify(config: JobConfig, outcomes: list[Outcome]) -> list[Outcome]:
    """Check every shard against its ledger."""
    return work.verify(config, outcomes)


@task(name="publish", **STAGE)
def publish(config: JobConfig, outcomes: list[Outcome], *, action: Action = "publish") -> list[Outcome]:
    """Write the provenance and switch `current.json`, for runs that passed and needn't wait."""
    return work.publish(config, outcomes, action=action)


@flow(name="deblur-archive", validate_parameters=False, persist_result=False)
def archive(config: JobConfig) -> list[Outcome]:
    """Bring an archive up to date with its sources."""
    outcomes = plan(config, ingest(config))
    return publish(config, verify(config, compute(config, outcomes)))


@flow(name="deblur-nightly", log_prints=True)
def nightly(job_file: str) -> str:
    """The scheduled form of the archive job: takes the path of a job file, fails when anything was left undone."""
    outcomes = archive(load_job(Path(job_file)))
    text = "\n".join(outcome.line() for outcome in outcomes)
    print(text)
    raise_for_failures(outcomes)
    return text
