"""One sequence, without an archive to keep or an orchestrator: `deblur restore`.

The work is done in a hidden archive beside the output, by the same units as any other job. An interrupted
run leaves it there, and the same command goes on from it; a finished one removes it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deblur import job as work
from deblur.config import JobConfig
from deblur.errors import ConfigError, DeblurError, PlanError
from deblur.ingest import Progress
from deblur.outcome import Outcome
from deblur.report.compose import write_report
from deblur.store import Archive, SequenceStore
from deblur.upkeep import export_run


def restore_file(job: JobConfig, output: Path, *, report: Path | None, progress: Progress) -> list[Outcome]:
    """Restore the one source of `job` into `output`; several planes of a stack go into a folder, one each.

    Raises ConfigError when the output exists or is of no known kind, and what the stages raise.
    """
    _check_output(output)
    scratch = output.parent / f".{output.name}.deblur"
    own = job.model_copy(update={"archive": str(scratch)})
    with _gone_when_refused(scratch):
        outcomes = work.run(own, progress=progress)
        for error in (outcome.error for outcome in outcomes):
            if isinstance(error, ConfigError | PlanError):
                raise error
    if all(outcome.published for outcome in outcomes):
        archive = Archive.open(scratch)
        for outcome in outcomes:
            store = archive.sequence(outcome.sequence.id)
            if report is not None:
                several = len(outcomes) > 1
                write_report(_beside(report, store.id) if several else report, store, str(store.current()))
            _deliver(store, scratch, output if len(outcomes) == 1 else output / outcome.sequence.id, progress)
        shutil.rmtree(scratch)
    return outcomes


def _check_output(output: Path) -> None:
    if output.exists():
        raise ConfigError(f"{output} exists already: name another output or remove it")
    known = output.suffix.lower() in ("", ".tif", ".tiff", ".npy", ".mp4", ".mkv", ".zarr")
    if not known and not re.fullmatch(r"\.[0-9]+", output.suffix):  # "run 2.5" is a folder's name
        raise ConfigError(f"{output} ends in {output.suffix}: use a folder, .tif, .npy, .mp4, .mkv or .zarr")


@contextmanager
def _gone_when_refused(scratch: Path) -> Iterator[None]:
    """A hidden archive is kept for the same command to go on from, unless that can't succeed."""
    kept = scratch.exists()
    try:
        yield
    except DeblurError as error:
        if not kept and isinstance(error, ConfigError | PlanError):
            shutil.rmtree(scratch, ignore_errors=True)
        raise


def _beside(report: Path, sequence: str) -> Path:
    return report.with_stem(f"{report.stem}-{sequence}")


def _deliver(store: SequenceStore, scratch: Path, output: Path, progress: Progress) -> None:
    if output.suffix.lower() == ".zarr":
        output.parent.mkdir(parents=True, exist_ok=True)
        store.run(str(store.current())).path.rename(output)
    else:
        export_run(scratch, store.id, output, run=None, progress=progress)
