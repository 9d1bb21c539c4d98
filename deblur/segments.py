"""A source that grew: what is new of it becomes a segment of its own, and what was published stays as it is.

A segment reads a frame of what came before it (and after it, for files that arrived late) as context, so that motion
crosses the border; the context frames are not its own. It says which sequence it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io import Reader
from deblur.io.objects import version
from deblur.place import Place
from deblur.store import Archive, SequenceStore
from deblur.store.durable import digest_of_all
from deblur.store.source import pixel_digest
from deblur.types import FrameInfo, SequenceHeader


@dataclass(frozen=True, slots=True)
class Part:
    """Frames start..stop of a source, of which the first `lead` and the last `trail` are context."""

    start: int
    stop: int
    lead: int = 0
    trail: int = 0


class PartReader(Reader):
    """Some neighbouring frames of another reader, as a sequence."""

    def __init__(self, reader: Reader, part: Part) -> None:
        self._reader, self._start = reader, part.start
        self.header: SequenceHeader = reader.header
        self.frames: Sequence[FrameInfo] = reader.frames[part.start : part.stop]

    def read(self, index: int) -> NDArray[Any]:
        return self._reader.read(self._start + index)

    def file(self, index: int) -> Place | None:
        return self._reader.file(self._start + index)

    def digest(self, index: int) -> str | None:
        return self._reader.digest(self._start + index)

    def source_files(self) -> Sequence[Place]:
        return super().source_files() or self._reader.source_files()

    def close(self) -> None:
        """Nothing: who opened the whole source closes it."""


def fingerprint(reader: Reader, files: Sequence[Place]) -> str:
    """Tells changed files from unchanged ones without decoding: their names, sizes, times of change or ETags."""
    return digest_of_all(((path.name, *version(path)) for path in files), after=reader.header.name)


def facts(store: SequenceStore) -> dict[str, Any]:
    """What ingest told of a sequence."""
    told: dict[str, Any] = store.source.header.metadata["deblur"]
    return told


def segments(archive: Archive, base: str) -> tuple[SequenceStore, ...]:
    """The sequence `base` and its segments so far, in the order of their ingest."""
    found = [archive.sequence(base)]
    while (following := archive.sequence(segment_id(archive, base, len(found) + 1))).source.exists:
        found.append(following)
    return tuple(found)


def segment_id(archive: Archive, base: str, number: int) -> str:
    """The id of a sequence's segment; the sequence itself is number 1."""
    found = archive.id_of(f"{base}.s{number}")
    store = archive.sequence(found)
    if store.source.exists and facts(store).get("first") != base:  # another source is called so
        return archive.id_of(f"{base}.s{number}:")
    return found


def own_frames(store: SequenceStore) -> range:
    """The places, among the stored frames, of those that are a sequence's own and no context.

    A context frame may be missing among them: it was as broken as when it was first met.
    """
    lead, trail = store.source.header.metadata.get("deblur", {}).get("context", (0, 0))
    last = len(store.source.frames) + len(store.source.quarantined) - trail
    places = [place for place, frame in enumerate(store.source.frames) if lead <= frame.index < last]
    return range(places[0], places[-1] + 1) if places else range(0)


def in_order(chain: Sequence[SequenceStore]) -> list[tuple[int, int]]:
    """Every frame of a source that grew, in the order of the source: (which of `chain` has it, its place there).

    A segment's context says between which frames it belongs.
    """
    names: list[str] = []
    where: dict[str, tuple[int, int]] = {}
    for number, store in enumerate(chain):
        lead, trail = store.source.header.metadata.get("deblur", {}).get("context", (0, 0))
        kept = [(frame.index, frame.name) for frame in store.source.frames]
        mine = [name for _, name in sorted(kept + [(q.index, q.name) for q in store.source.quarantined])]
        at = len(names)
        if lead:
            at = names.index(mine[lead - 1]) + 1
        elif trail:
            at = names.index(mine[-trail])
        names[at:at] = mine[lead : len(mine) - trail]
        own = own_frames(store)
        where |= {store.source.frames[place].name: (number, place) for place in own}
    return [where[name] for name in names if name in where]


def new_parts(chain: Sequence[SequenceStore], reader: Reader) -> tuple[Part, ...] | None:
    """What of a source no sequence of `chain` has; None where frames that were ingested changed or went.

    A file with a frame is known by its size and time of change; the frames of one file by their pixels.
    """
    names = frame_names(reader)
    places = {name: place for place, name in enumerate(names)}
    known: set[str] = set()
    for store in chain:
        mine = [frame.name for frame in store.source.frames] + [q.name for q in store.source.quarantined]
        if not all(name in places for name in mine) or not _unchanged(store, reader, places, mine):
            return None
        known.update(mine)
    return tuple(_gathered([place for place, name in enumerate(names) if name not in known], len(names)))


def _unchanged(store: SequenceStore, reader: Reader, places: dict[str, int], names: list[str]) -> bool:
    files = [reader.file(place) for place in sorted(places[name] for name in names)]
    if None not in files:
        known: str = facts(store)["fingerprint"]
        return fingerprint(reader, [path for path in files if path is not None]) == known
    for frame in store.source.frames:
        try:
            if pixel_digest(reader.read(places[frame.name])) != frame.pixels:
                return False
        except ReadError:
            return False
    return True


def _gathered(places: list[int], count: int) -> list[Part]:
    """Neighbouring places as parts, each with a frame of context on either side where there is one."""
    parts: list[Part] = []
    for place in places:
        if parts and parts[-1].stop - parts[-1].trail == place:
            start, lead = parts[-1].start, parts[-1].lead
            parts.pop()
        else:
            lead = min(1, place)
            start = place - lead
        trail = min(1, count - place - 1)
        parts.append(Part(start, place + 1 + trail, lead, trail))
    return parts


def frame_names(reader: Reader) -> list[str]:
    """The frames' names, without reading a header a file."""
    count = len(reader.frames)
    files = [reader.file(place) for place in range(count)]
    first = reader.frames[0].name
    if files[0] is None or not files[0].as_posix().endswith(first):
        return [info.name for info in reader.frames]
    start = len(files[0].as_posix()) - len(first)
    return [file.as_posix()[start:] for file in files if file is not None]
