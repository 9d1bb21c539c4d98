"""One sequence, without an archive to keep or an orchestrator: `deblur restore`.

The work is done in a hidden archive beside the output, by the same units as any other job. An interrupted run leaves
it there, and the same command goes on from it; a finished one removes it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from deblur import job as work
from deblur.config import JobConfig
from deblur.errors import ConfigError
from deblur.ingest import Progress
from deblur.job import Outcome
from deblur.report.compose import write_report
from deblur.store import Archive, SequenceStore
from deblur.upkeep import export_run


def restore_file(job: JobConfig, output: Path, *, report: Path | None, progress: Progress) -> list[Outcome]:
    """Restore the one source of `job` into `output`; several planes of a stack go into a folder, one each.

    Raises ConfigError when the output exists, and what the stages raise.
    """
    if output.exists():
        raise ConfigError(f"{output} exists already: name another output or remove it")
    scratch = output.parent / f".{output.name}.deblur"
    own = job.model_copy(update={"archive": str(scratch)})
    outcomes = work.run(own, progress=progress)
    if all(outcome.published for outcome in outcomes):
        archive = Archive.open(scratch)
        for outcome in outcomes:
            store = archive.sequence(outcome.sequence.id)
            _deliver(store, scratch, output if len(outcomes) == 1 else output / outcome.sequence.id, progress)
            if report is not None:
                write_report(report, store, str(store.current()))
                report = report.with_stem(f"{report.stem}-next") if len(outcomes) > 1 else report
        shutil.rmtree(scratch)
    return outcomes


def _deliver(store: SequenceStore, scratch: Path, output: Path, progress: Progress) -> None:
    if output.suffix == ".zarr":
        shutil.copytree(store.run(str(store.current())).path, output)
    else:
        export_run(scratch, store.id, output, run=None, progress=progress)
