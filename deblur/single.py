"""One sequence or one still, without an archive to keep or an orchestrator: `deblur restore`.

The work is done in a hidden archive beside the output, by the same units as any other job. An interrupted
run leaves it there, and the same command goes on from it; a finished one removes it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deblur import job as work
from deblur.config import JobConfig, Source
from deblur.errors import ConfigError, DeblurError, PlanError
from deblur.ingest import Progress
from deblur.io import open_source
from deblur.io.export import export_frames
from deblur.light import resolve
from deblur.outcome import Outcome
from deblur.report.compose import write_report
from deblur.sequence import restored_still
from deblur.still import extent
from deblur.store import Archive, SequenceStore
from deblur.upkeep import export_run

KINDS = (".tif", ".npy", ".mp4", ".mkv", ".zarr")
STILL_KINDS = (".png", ".tif", ".npy")


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


def is_still(source: Source) -> bool:
    """Whether a source is one frame alone. Raises ReadError where nothing can be read."""
    with ExitStack() as stack:
        readers = [stack.enter_context(reader) for reader in open_source(source.path, order=source.order)]
        return len(readers) == 1 and len(readers[0].frames) == 1


def restore_picture(source: Source, output: Path) -> dict[str, Any]:
    """Restore the one frame of `source`, blindly, into `output`; what is told of it, with a `line` for people.

    Raises ConfigError when the output exists or is of no kind that holds a still.
    """
    _check_output(output, pictures=True)
    (reader,) = open_source(source.path, order=source.order)
    with reader:
        header, info, codes = reader.header, reader.frames[0], reader.read(0)
    transfer = source.transfer if source.transfer != "auto" else header.transfer or "auto"
    light = resolve(header.dtype, transfer=transfer, largest=float(codes.max()), bits=header.bits)
    image, found = restored_still(codes, light)
    name = Path(info.name).stem
    if output.suffix.lower() == ".png":
        with TemporaryDirectory(dir=_made(output.parent), prefix=".deblur-") as folder:
            export_frames([image], Path(folder) / "still", header=header, names=[name])
            (written,) = (Path(folder) / "still").iterdir()
            if written.suffix != ".png":
                raise ConfigError(
                    f"{output}: a PNG can't hold {header.dtype} of {header.shape[0]} channels: use .tif"
                )
            written.rename(output)
    else:
        export_frames([image], output, header=header, names=[name])
    share, width = float(found.weight.mean()), extent(found.psf)
    line = f"{source.path}: taken as a still, "
    line += (
        f"camera shake {width:.0f} px wide undone in {share:.0%} of it"
        if share > 0
        else "kept as it is: no camera shake was found that explains it"
    )
    return {"source": source.path, "way": "still", "psf_pixels": width, "weight": share, "line": line}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check_output(output: Path, *, pictures: bool = False) -> None:
    if output.exists():
        raise ConfigError(f"{output} exists already: name another output or remove it")
    kinds = STILL_KINDS if pictures else KINDS
    known = output.suffix.lower() in ("", ".tiff", *kinds)
    if not known and not re.fullmatch(r"\.[0-9]+", output.suffix):  # "run 2.5" is a folder's name
        raise ConfigError(
            f"{output} ends in {output.suffix}: use a folder, {', '.join(kinds[:-1])} or {kinds[-1]}"
        )


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
        Path(str(store.run(str(store.current())).path)).rename(output)
    else:
        export_run(scratch, store.id, output, run=None, progress=progress)
