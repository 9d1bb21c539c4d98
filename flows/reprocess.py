"""Reprocessing on demand: the same sequences, changed parameters, a new run beside the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import settings

settings.prepare()

from prefect import flow  # noqa: E402  (the environment comes first)

from deblur import job as work  # noqa: E402
from deblur.config import JobConfig, load_job, with_settings  # noqa: E402
from deblur.outcome import Outcome, raise_for_failures  # noqa: E402
from flows.archive import compute, plan, publish, verify  # noqa: E402


@flow(name="deblur-reprocess", validate_parameters=False, persist_result=False)
def reprocess(config: JobConfig, sequences: tuple[str, ...] = ()) -> list[Outcome]:
    """Compute what changed parameters change, carry the rest over by digest, publish as a new run.

    `sequences`: ids; none means all of the archive.
    """
    outcomes = plan(config, work.published(config, sequences), action="reprocess")
    return publish(config, verify(config, compute(config, outcomes)), action="reprocess")


@flow(name="deblur-reprocess-on-demand", log_prints=True)
def on_demand(job_file: str, settings: dict[str, Any], sequences: list[str] | None = None) -> str:
    """The deployed form: a job file, changed settings as dotted keys ({"restore.iterations": 20}), sequence ids."""
    config = with_settings(load_job(Path(job_file)), settings)
    outcomes = reprocess(config, tuple(sequences or ()))
    text = "\n".join(outcome.line() for outcome in outcomes)
    print(text)
    raise_for_failures(outcomes)
    return text
