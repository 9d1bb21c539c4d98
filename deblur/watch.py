"""What there is to ingest: the sources of a job, and the sequences that arrived in the places it watches."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deblur.config import JobConfig, Source, Watch
from deblur.errors import ReadError
from deblur.store.durable import digest_of

OWN = ("path", "id", "pattern", "quiet")  # what a place does not hand on to its sequences


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

    A source that isn't there is told with an empty stamp, so that its ingest says so; a watched place that isn't
    there raises ReadError.
    """
    found = [_arrival(source) for source in job.sources]
    for place in job.watch:
        found += [_arrival(source, quiet=place.quiet) for source in _below(place)]
    return sorted(found, key=lambda arrival: (-arrival.newest, arrival.source.path))


def _below(place: Watch) -> Iterator[Source]:
    root = Path(place.path)
    if not root.is_dir():
        raise ReadError(f"{root}, which is watched, is no folder: check the path")
    shared = place.model_dump(exclude=set(OWN))
    for match in sorted(root.glob(place.pattern)):
        name = match.relative_to(root).as_posix()
        if any(part.startswith(".") for part in Path(name).parts):
            continue  # hidden: not meant, or not finished
        prefix = place.id or place.camera or root.name
        yield Source(**shared, path=str(match), id=f"{prefix}-{name.replace('/', '-')}")


def _arrival(source: Source, *, quiet: float = 0.0) -> Arrival:
    stats = [(path, os.stat(path)) for path in _files(source.path)]
    facts = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    newest = max((stat.st_mtime for _, stat in stats), default=0.0)
    return Arrival(source, digest_of(facts) if facts else "", newest, quiet)


def _files(path: str) -> list[str]:
    """The files of a folder (with those below it), of a glob, or the file itself."""
    if os.path.isdir(path):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    if os.path.exists(path):
        return [path]
    return sorted(name for name in glob.glob(path) if os.path.isfile(name))
