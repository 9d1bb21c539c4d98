"""Reading sources into the archive: every frame decoded once, checked, hashed; originals only read."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.config import JobConfig, Source
from deblur.errors import DeblurError, ReadError
from deblur.io import Reader, open_source
from deblur.io.reader import check_inside
from deblur.place import ObjectPlace, Place, place
from deblur.redact import without_secrets
from deblur.segments import Part, PartReader, facts, fingerprint, new_parts, segment_id, segments
from deblur.store import Archive, SequenceStore, SourceStore, SourceWriter
from deblur.store.archive import IDENTITY, IDENTITY_COPY

log = logging.getLogger("deblur.ingest")
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def say(progress: Progress, *lines: str) -> None:
    """Have whoever is told of progress say a line as it is: one with nothing to be counted."""
    for line in filter(None, lines):
        progress(line, 0, 0)


@dataclass(frozen=True, slots=True)
class Ingested:
    """One sequence of a source, now in the archive, or why it isn't. `broken`: a line a quarantined frame."""

    sequence: str
    frames: int = 0
    broken: tuple[str, ...] = ()
    fresh: bool = False
    error: DeblurError | None = None


def readers_of(source: Source, job: JobConfig) -> tuple[Reader, ...]:
    """Open a source within the job's limits; foreign files are decoded as the job says."""
    limits = job.limits.reading
    if source.within is not None:
        check_inside(str(place(source.path)), str(place(source.within)), limits)
    return open_source(source.path, limits=limits, order=source.order, isolation=job.decode.apart)


def ingest_source(path: str, source: Source, job: JobConfig, *, progress: Progress) -> list[Ingested]:
    """Bring one source into the archive at `path`, made if it isn't there; what it has already is left alone.

    Of a source that grew, the new frames become a segment; one that changed becomes a new sequence beside
    the old one: what is ingested never changes. A sequence that can't be read, or has too many broken frames,
    leaves the archive as it was; the others of the source go on. Raises what the first met with when none could be read.
    """
    try:
        readers = readers_of(source, job)
    except OSError as error:
        raise _unreadable(source, error) from None
    with ExitStack() as stack:
        for reader in readers:
            stack.enter_context(reader)
        found = [item for r in readers for item in _attempted(place(path), source, r, job, progress)]
    errors = [item.error for item in found if item.error]
    if len(errors) == len(found):
        raise errors[0]
    return found


def _attempted(
    path: Place, source: Source, reader: Reader, job: JobConfig, progress: Progress
) -> list[Ingested]:
    name = _called(source.model_dump(), reader.header.name)
    try:
        if len(reader.frames) < 2:
            raise ReadError(
                f"{source.path}: one frame only; an archive restores frames from their neighbours: "
                "give at least two, or one still to deblur restore"
            )
        with _begun(path) as archive:
            return _ingest(archive, name, source, reader, job, progress)
    except DeblurError as error:
        return [Ingested(name, error=error)]
    except OSError as error:
        return [Ingested(name, error=_unreadable(source, error))]


def _unreadable(source: Source, error: OSError) -> ReadError:
    reason = error.strerror or str(error)
    return ReadError(f"{error.filename or source.path}: {reason}: check permissions and free space")


@contextmanager
def _begun(path: Place) -> Iterator[Archive]:
    """The archive, made where there is none; after a failure what was made is gone again.

    Only empty folders and an archive of our own making are removed, so that nobody else's work can be.
    """
    folders = (path, *path.parents) if isinstance(path, Path) else ()  # an object store has none
    missing = [folder for folder in folders if not folder.exists()]
    archive = None
    try:
        archive = Archive.create(path)
        yield archive
    except BaseException:
        with suppress(OSError):
            if archive is not None and archive.made:
                (path / "sequences").rmdir()
                (path / IDENTITY_COPY).unlink(missing_ok=True)
                (path / IDENTITY).unlink()
            for folder in missing:
                folder.rmdir()
        raise


def _ingest(
    archive: Archive, name: str, source: Source, reader: Reader, job: JobConfig, progress: Progress
) -> list[Ingested]:
    base, chain, parts, replaced = _place(archive, name, source, reader)
    found = [_known(store) for store in chain]
    for number, part in enumerate(parts, len(chain) + 1):
        sequence = segment_id(archive, base, number) if chain else base
        told = _continued(archive, base, number, part) if chain else {"replaces": replaced}
        own = PartReader(reader, part) if chain else reader
        with _no_empty_folder(archive.sequence(sequence).path):
            kept, broken = _copied(archive, sequence, told, source, own, job, progress)
        found.append(Ingested(sequence, kept.summary["frames"], broken, True))
    return found


def _known(store: SequenceStore) -> Ingested:
    broken = tuple(q.error for q in store.source.quarantined)
    return Ingested(store.id, store.source.summary["frames"], broken)


def _continued(archive: Archive, base: str, number: int, part: Part) -> dict[str, Any]:
    """What a segment says of itself. The white level is the first one's, so that the light is of one measure."""
    before = base if number == 2 else segment_id(archive, base, number - 1)
    first = facts(archive.sequence(base))
    return {
        "continues": before,
        "first": base,
        "context": [part.lead, part.trail],
        "largest": first["largest"],
    }


@contextmanager
def _no_empty_folder(path: Place) -> Iterator[None]:
    """The folder of a sequence whose ingest failed goes, unless it holds something."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.rmdir()
        raise


def _copied(
    archive: Archive,
    sequence: str,
    told: dict[str, Any],
    source: Source,
    reader: Reader,
    job: JobConfig,
    progress: Progress,
) -> tuple[SourceStore, tuple[str, ...]]:
    count = len(reader.frames)
    store = archive.sequence(sequence)
    header = reader.header
    block = job.tiling.source_frames(math.prod(header.shape) * np.dtype(header.dtype).itemsize)
    files = _paths(source, reader)
    stamps = array("q", (hash(_stamp(path)) for path in files))
    with SourceStore.create(
        store.source.path,
        reader.header,
        reader.frames,
        chunk=job.tiling.chunk,
        shard_frames=block,
        shard_size=job.tiling.shard,
    ) as writer:
        copy = _Copy(reader, writer, allowed=int(job.limits.broken * count), block=block)
        copy.run(lambda done: progress(f"ingest {sequence}", done, count))
        for path, stamp in zip(files, stamps, strict=True):
            if hash(_stamp(path)) != stamp:
                raise ReadError(f"{path} changed while it was read: run again when nobody writes to it")
        own = {
            "source": without_secrets(source.model_dump(mode="json")),
            "fingerprint": fingerprint(reader, files),
            "largest": max(copy.largest, told.get("largest", 0.0)),
            "modified": min(path.stat().st_mtime for path in files),
        }
        return writer.finish(metadata={"deblur": told | own}), tuple(copy.broken)


class _Copy:
    """Frames from a reader to a writer, a block at a time: memory does not grow with the sequence."""

    def __init__(self, reader: Reader, writer: SourceWriter, *, allowed: int, block: int) -> None:
        self._reader, self._writer, self._allowed, self._block = reader, writer, allowed, block
        self.broken: list[str] = []
        self.largest = 0.0

    def run(self, progress: Callable[[int], None]) -> None:
        written = 0
        held: list[NDArray[Any]] = []
        places: list[int] = []
        for index in range(len(self._reader.frames)):
            try:
                held.append(self._read(index))
                places.append(index)
            except ReadError as error:
                self._quarantine(index, error)
            if len(held) == self._block:
                written = self._flush(written, held, places)
            progress(index + 1)
        if held:
            self._flush(written, held, places)

    def _read(self, index: int) -> NDArray[Any]:
        frame = self._reader.read(index)
        if frame.dtype.kind == "f" and not np.isfinite(frame).all():
            raise ReadError(
                f"{self._reader.frames[index].name} holds NaN or infinity: fill those pixels first"
            )
        self.largest = max(self.largest, float(frame.max()))
        return frame

    def _flush(self, written: int, held: list[NDArray[Any]], places: list[int]) -> int:
        files = [self._reader.digest(index) for index in places]
        self._writer.write(
            written, np.stack(held) if len(held) > 1 else held[0][None], indices=places, files=files
        )
        written += len(held)
        held.clear()
        places.clear()
        return written

    def _quarantine(self, index: int, error: ReadError) -> None:
        name = self._reader.frames[index].name
        line = str(error) if name in str(error) else f"{name}: {error}"
        self.broken.append(line)
        log.warning("quarantined: %s", line)
        count = len(self._reader.frames)
        if len(self.broken) > self._allowed or count - len(self.broken) < 2:
            refused = f"limits.broken lets {self._allowed} of {count} frames be broken"
            refused += f", this is number {len(self.broken)}"
            raise ReadError(f"{line} ({refused}: mend or remove them, or raise the limit)") from None
        self._writer.quarantine(index, line)


def _paths(source: Source, reader: Reader) -> Sequence[Place]:
    return reader.source_files() or _files_of(Path(str(place(source.path))))


def _stamp(path: Place) -> tuple[object, ...]:
    """What changes when a file is written to or replaced. Objects are held to what was seen as they are read."""
    if isinstance(path, ObjectPlace):
        return ()
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _place(
    archive: Archive, name: str, source: Source, reader: Reader
) -> tuple[str, tuple[SequenceStore, ...], tuple[Part, ...], str]:
    """(the sequence that this source is, what the archive has of it, what is new, the sequence that it replaces).

    A changed source is a new sequence, which replaces the one that was made of it before. What another source has the
    name of gets another id, a digest in it.
    """
    whole = Part(0, len(reader.frames))
    print_ = fingerprint(reader, _paths(source, reader))
    told = without_secrets(source.model_dump(mode="json"))
    version, latest, others = 1, "", False
    while True:
        sequence = archive.id_of(name if version == 1 else f"{name}-{version}")
        store = archive.sequence(sequence)
        if store.source.exists:
            mine = _is_of(store, told, reader)
            if mine and facts(store)["fingerprint"] == print_:
                return sequence, (store,), (), ""
            version, latest, others = version + 1, sequence if mine else latest, others or not mine
        elif others and not latest:
            name, version, others = f"{name}:", 1, False
        else:
            break
    if latest:
        chain = segments(archive, latest)
        parts = new_parts(chain, reader)
        if parts is not None:
            return latest, chain, parts, ""
    return sequence, (), (whole,), latest


def _is_of(store: SequenceStore, told: Mapping[str, Any], reader: Reader) -> bool:
    """Whether a sequence was made of this source, wherever the source lies by now.

    Its name may be that of another one's version or segment, or what two watched places make of two paths.
    """
    before = facts(store)["source"]
    names = {_called(before, store.source.header.name), _called(told, reader.header.name)}
    return len(names) == 1 and len({_below(before), _below(told)} - {""}) < 2


def _called(told: Mapping[str, Any], header_name: str) -> str:
    file, slash, plane = header_name.partition("/")  # planes of a stack: "file/z003"
    return f"{told.get('id') or file}{slash}{plane}"


def _below(told: Mapping[str, Any]) -> str:
    """The path below a watched place of a source whose id is `PLACE-PATH`; empty for others."""
    parts = (told.get("id") or "").split("-")
    ends = ("-".join(parts[n:]) for n in range(1, len(parts)))
    return next((end for end in ends if str(told["path"]).endswith(f"/{end}")), "")
