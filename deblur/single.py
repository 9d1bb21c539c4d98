"""One sequence or one still, without an archive to keep or an orchestrator: `deblur restore`.

The work is done in a hidden archive beside the output, by the same units as any other job. An interrupted
run leaves it there, and the same command goes on from it; a finished one removes it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deblur import job as work
from deblur.config import Cluster, JobConfig
from deblur.errors import ConfigError, DeblurError, PlanError
from deblur.foretell import Outlook, is_long, is_short, outlook
from deblur.ingest import Progress, readers_of
from deblur.io import dicom
from deblur.io.export import export_frames, is_ome
from deblur.io.originals import original_of
from deblur.io.sound import check_sound
from deblur.judge import summarise
from deblur.light import resolve
from deblur.outcome import Outcome
from deblur.report.compose import write_report
from deblur.sequence import restored_still
from deblur.still import extent
from deblur.store import Archive, SequenceStore
from deblur.upkeep import export_planes, export_run

KINDS = (".tif", ".npy", ".dcm", ".mp4", ".mkv", ".zarr")
VIDEO = (".mp4", ".mkv")
STILL_KINDS = (".png", ".tif", ".npy")


def restore_file(
    job: JobConfig, output: Path, *, report: Path | None, progress: Progress, say: Callable[[str], None]
) -> list[Outcome]:
    """Restore the one source of `job` into `output`; several planes of a stack go into a folder, one each, or together into
    an .ome.tif.

    `say`: told in a line what is taken as the exposure of each sequence, and at the end what came of it. Raises
    ConfigError when the output exists, is of no known kind or can't hold the source's audio, and what the stages raise.
    """
    check_output(output)
    if output.suffix.lower() in (*VIDEO, ".dcm"):
        _check_original(job.sources[0].path, output)
    scratch = scratch_of(output)
    own = job.model_copy(update={"archive": str(scratch)})
    with _gone_when_refused(scratch):
        planned = work.plan(own, work.ingest(own, progress=progress), progress=progress)
        for outcome in planned:
            if isinstance(outcome.error, ConfigError | PlanError):
                raise outcome.error
            if outcome.plan is not None:
                say(
                    f"{outcome.plan.sequence}: exposure fraction {outcome.plan.parameters.exposure.describe()}"
                )
        outcomes = work.publish(own, work.verify(own, work.compute(own, planned, progress=progress)))
        for error in (outcome.error for outcome in outcomes):
            if isinstance(error, ConfigError | PlanError):
                raise error
    if all(outcome.published for outcome in outcomes):
        archive = Archive.open(scratch)
        together = is_ome(output) and len(outcomes) > 1
        if together:
            export_planes(scratch, [outcome.sequence.id for outcome in outcomes], output)
        for outcome in outcomes:
            store = archive.sequence(outcome.sequence.id)
            if report is not None:
                several = len(outcomes) > 1
                write_report(_beside(report, store.id) if several else report, store, str(store.current()))
            target = output if together or len(outcomes) == 1 else output / outcome.sequence.id
            weight = summarise(store.run(str(store.current()))).weight
            if not together:
                _deliver(store, scratch, target, progress)
            took = f"{len(store.source.frames)} frames in {outcome.seconds:.0f} s"
            say(f"{target}: {took}, restored in {weight:.0%} of their pixels, the rest kept as it was")
        shutil.rmtree(scratch)
    return outcomes


def _check_original(source: str, output: Path) -> None:
    """Raise ConfigError, before hours of work, where `output` can't hold or can't have what the original must give."""
    with original_of(source) as (clip, ready):
        if clip is not None:
            ready(clip)
        if output.suffix.lower() == ".dcm" and (clip is None or not dicom.matches(str(clip))):
            raise ConfigError(
                f"{output}: a .dcm takes its patient and study from a DICOM file: {source} is none"
            )
        if output.suffix.lower() in VIDEO and clip is not None and clip.is_file():
            check_sound(clip, output, name=source)


def first_look(job: JobConfig, output: Path) -> tuple[bool, Outlook | None, JobConfig]:
    """Whether the source is one frame alone, what restoring it takes where that is long, and the job, to be done in this
    process where it is short and nobody said how.

    Raises ReadError where nothing can be read.
    """
    source = job.sources[0]
    with ExitStack() as stack:
        readers = [stack.enter_context(reader) for reader in readers_of(source, job)]
        if len(readers) == 1 and len(readers[0].frames) == 1:
            return True, None, job
        if is_short(readers) and job.cluster == Cluster():
            job = job.model_copy(update={"cluster": Cluster(kind="serial")})
        return False, outlook(job, readers, output.parent) if is_long(readers) else None, job


def scratch_of(output: Path) -> Path:
    """The hidden archive that an interrupted run leaves beside its output."""
    return output.parent / f".{output.name}.deblur"


def restore_picture(job: JobConfig, output: Path) -> dict[str, Any]:
    """Restore the one frame of the one source of `job`, blindly, into `output`; what is told of it, with a `line` for
    people.

    Raises ConfigError when the output exists or is of no kind that holds a still.
    """
    check_output(output, pictures=True)
    source, strength = job.sources[0], job.restore.strength
    (reader,) = readers_of(source, job)
    with reader:
        header, info, codes = reader.header, reader.frames[0], reader.read(0)
    transfer = source.transfer if source.transfer != "auto" else header.transfer or "auto"
    light = resolve(header.dtype, transfer=transfer, largest=float(codes.max()), bits=header.bits)
    image, found = restored_still(codes, light, strength=1.0 if strength is None else strength)
    name = Path(info.name).stem
    if output.suffix.lower() == ".png":
        with TemporaryDirectory(dir=_made(output.parent), prefix=".deblur-") as folder:
            still = Path(folder) / "still"
            with original_of(source.path) as (beside, ready):
                export_frames([image], still, header=header, names=[info.name], original=beside, ready=ready)
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


def check_output(output: Path, *, pictures: bool = False) -> None:
    """Raise ConfigError for an output that exists or is of no known kind; `pictures`: of one that holds a still."""
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
