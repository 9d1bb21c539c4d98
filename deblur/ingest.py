"""Reading sources into the archive: every frame decoded once, checked, hashed; the originals are only read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.config import JobConfig, Source, digest_of
from deblur.errors import ReadError
from deblur.io import Reader, open_source
from deblur.store import Archive, SourceStore, SourceWriter
from deblur.store.durable import sha256_file

log = logging.getLogger("deblur.ingest")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Ingested:
    """One sequence of a source, now in the archive. `broken`: what was quarantined, a line a frame."""

    sequence: str
    frames: int
    broken: tuple[str, ...]
    fresh: bool


def ingest_source(path: str, source: Source, job: JobConfig, *, progress: Progress) -> list[Ingested]:
    """Bring one source into the archive at `path`, made if it isn't there; what it has already is left alone.

    A source that has changed since becomes a new sequence beside the old one: what is ingested never changes.
    Raises ReadError, leaving the archive as it was, for a source that can't be read or has too many broken frames.
    """
    readers = open_source(source.path, order=source.order)
    found = []
    with ExitStack() as stack:
        for reader in readers:
            stack.enter_context(reader)
            if len(reader.frames) < 2:
                raise ReadError(f"{source.path}: one frame only; motion needs a neighbour, so give at least two")
        known = (Path(path) / "archive.json").exists()
        archive = Archive.create(path)
        try:
            for reader in readers:
                found.append(_ingest(archive, source, reader, job, progress))
        except BaseException:
            if not known and not archive.sequences():
                archive.discard()
            raise
    return found


def _ingest(archive: Archive, source: Source, reader: Reader, job: JobConfig, progress: Progress) -> Ingested:
    print_ = fingerprint(source, reader)
    name = f"{source.id}{reader.header.name[len(_base(reader)) :]}" if source.id else reader.header.name
    sequence, known = _place(archive, name, print_)
    if known:
        kept = archive.sequence(sequence).source
        return Ingested(sequence, len(kept.frames), tuple(f"{q.name}: {q.error}" for q in kept.quarantined), False)
    count = len(reader.frames)
    store = archive.sequence(sequence)
    with SourceStore.create(
        store.source.path,
        reader.header,
        reader.frames,
        chunk=job.tiling.chunk,
        shard_frames=job.tiling.frames,
        shard_size=job.tiling.shard,
    ) as writer:
        copy = _Copy(reader, writer, allowed=int(job.limits.broken * count), block=job.tiling.frames)
        copy.run(lambda done: progress(f"ingest {sequence}", done, count))
        told = {"source": source.model_dump(mode="json"), "fingerprint": print_, "largest": copy.largest}
        kept = writer.finish(metadata={"deblur": told})
    return Ingested(sequence, len(kept.frames), tuple(copy.broken), True)


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
            raise ReadError(f"{self._reader.frames[index].name} holds NaN or infinity: fill those pixels first")
        self.largest = max(self.largest, float(frame.max()))
        return frame

    def _flush(self, written: int, held: list[NDArray[Any]], places: list[int]) -> int:
        paths = [self._reader.file(index) for index in places]
        files = [sha256_file(path) if path is not None else None for path in paths]
        self._writer.write(written, np.stack(held), indices=places, files=files)
        written += len(held)
        held.clear()
        places.clear()
        return written

    def _quarantine(self, index: int, error: ReadError) -> None:
        name = self._reader.frames[index].name
        line = str(error) if name in str(error) else f"{name}: {error}"
        self.broken.append(line)
        log.warning("quarantined: %s", line)
        if len(self.broken) > self._allowed or len(self._reader.frames) - len(self.broken) < 2:
            whole = f"{len(self.broken)} of {len(self._reader.frames)} frames are broken, over limits.broken"
            raise ReadError(f"{line} ({whole}: mend or remove them, or raise the limit)") from None
        self._writer.quarantine(index, line)


def fingerprint(source: Source, reader: Reader) -> str:
    """Tells whether a source is as it was when it was ingested, without decoding it: names, sizes, times of change."""
    files = [reader.file(index) for index in range(len(reader.frames))]
    paths = [path for path in files if path is not None] or _files_of(Path(source.path))
    stats = [(path.name, stat.st_size, stat.st_mtime_ns) for path in paths for stat in [path.stat()]]
    return digest_of([reader.header.name, stats])


def _files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _base(reader: Reader) -> str:
    """The name of the file; what follows it in the reader's name tells planes of a stack apart."""
    return reader.header.name.split("/")[0]


def _place(archive: Archive, name: str, print_: str) -> tuple[str, bool]:
    """The sequence that holds this very source, or the id for a new one."""
    version = 1
    while True:
        sequence = archive.id_of(name if version == 1 else f"{name}-{version}")
        if not archive.sequence(sequence).source.exists:
            return sequence, False
        if archive.sequence(sequence).source.header.metadata["deblur"]["fingerprint"] == print_:
            return sequence, True
        version += 1
