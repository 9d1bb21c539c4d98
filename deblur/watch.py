"""What there is to ingest: the sources of a job, and the sequences that arrived in the places it watches."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur.config import JobConfig, Source, Watch
from deblur.errors import ReadError, StoreError
from deblur.io.objects import matching, objects_of, version
from deblur.place import ObjectPlace, Place, place
from deblur.store.durable import digest_of_all
from deblur.types import Lazy

OWN = ("path", "id", "pattern", "quiet", "within")  # what a place does not hand on to its sequences
log = logging.getLogger("deblur.watch")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A source that is there. `stamp`: changes whenever a file of it does; `newest`: its latest change, seconds since
    1970; `quiet`: for so long it must have been left alone before it counts as written."""

    source: Source
    stamp: str
    newest: float
    quiet: float = 0.0


def arrivals(job: JobConfig) -> list[Arrival]:
    """Every source of a job, newest first.

    A source that isn't there is told with an empty stamp, so that its ingest says so; a watched folder that isn't
    there raises ReadError, a watched place in an object store that can't be listed StoreError.
    """
    found = [_arrival(source, _files(source.path)) for source in job.sources]
    for watch in job.watch:
        root = place(watch.path)
        found += _uploaded(watch, root) if isinstance(root, ObjectPlace) else _written(watch, root)
    return sorted(found, key=lambda arrival: (-arrival.newest, arrival.source.path))


def _written(watch: Watch, root: Path) -> Iterator[Arrival]:
    """What lies in a watched folder."""
    if not root.is_dir():
        raise ReadError(f"{root}, which is watched, is no folder: check the path")
    for match in sorted(root.glob(watch.pattern)):
        name = match.relative_to(root).as_posix()
        if not _hidden(name):
            source = _source(watch, str(match), root.name, name).model_copy(update={"within": str(root)})
            yield _arrival(source, _files(str(match)), quiet=watch.quiet)


def _uploaded(watch: Watch, root: ObjectPlace) -> Iterator[Arrival]:
    """What lies in a watched place of an object store: objects, which are whole from the start, and folders of them."""
    found = matching(root, watch.pattern)
    if not found:  # there is no telling an empty folder from none
        log.info("%s, which is watched, holds nothing that matches %r", root, watch.pattern)
    for name, files in found.items():
        if not _hidden(name):
            source = _source(watch, str(root / name), root.name or Path(root.root).name, name)
            yield _arrival(source, files, quiet=0.0 if files == [root / name] else watch.quiet)


def _hidden(name: str) -> bool:
    """Not meant, or not finished."""
    return any(part.startswith(".") for part in name.split("/"))


def _source(watch: Watch, path: str, folder: str, name: str) -> Source:
    prefix = watch.id or watch.camera or folder
    shared = watch.model_dump(exclude=set(OWN))
    return Source(**shared, path=path, id=f"{prefix}-{name}")  # of a path the archive makes a name of its own


def _arrival(source: Source, files: Sequence[Place], *, quiet: float = 0.0) -> Arrival:
    stamp = digest_of_all((str(file), *version(file)) for file in files) if files else ""
    newest = max((file.stat().st_mtime for file in files), default=0.0)
    return Arrival(source, stamp, newest, quiet)


def _files(path: str) -> Sequence[Place]:
    """The files of a folder (with those below it), of a glob, or the file itself; objects likewise."""
    there = place(path)
    if isinstance(there, ObjectPlace):
        try:
            return objects_of(there)
        except StoreError:
            return []  # its ingest says why
    path = str(there)
    if os.path.isdir(path):
        start = len(os.path.join(path, ""))
        below = sorted(os.path.join(at, name)[start:] for at, _, names in os.walk(path) for name in names)
        return Lazy(len(below), lambda place: there / below[place])
    if os.path.exists(path):
        return [there]
    return [Path(file) for file in sorted(glob.glob(path)) if os.path.isfile(file)]
