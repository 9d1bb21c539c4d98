"""What is known of ingested frames, in columns: a hundred bytes a frame and its name, however many there are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from deblur.types import Lazy

NO_FILE = bytes(32)


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One ingested frame. `index`: its place in the source, counting quarantined frames; `pixels`, `file`:
    sha256 of the decoded pixels (C order, little-endian) and, where a frame is one file, of that file."""

    index: int
    name: str
    time: float | None
    exposure_time: float | None
    pixels: str
    file: str | None = None


class FrameTable:
    """Records that are taken apart when they come and made anew when they are asked for."""

    def __init__(self) -> None:
        self._indices, self._ends = array("q"), array("q")
        self._times, self._exposures = array("d"), array("d")
        self._names, self._pixels, self._files = bytearray(), bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def records(self) -> Sequence[FrameRecord]:
        """Those that were added so far."""
        return Lazy(len(self), self._record)

    def add(self, frame: FrameRecord) -> None:
        """Raises ValueError for a digest that is none."""
        pixels, file = _digest(frame.pixels), NO_FILE if frame.file is None else _digest(frame.file)
        self._pixels += pixels
        self._files += file
        self._names += frame.name.encode("utf-8", "surrogatepass")  # of names that are no UTF-8
        self._ends.append(len(self._names))
        self._indices.append(frame.index)
        self._times.append(math.nan if frame.time is None else frame.time)
        self._exposures.append(math.nan if frame.exposure_time is None else frame.exposure_time)

    def _record(self, place: int) -> FrameRecord:
        start = self._ends[place - 1] if place else 0
        name = self._names[start : self._ends[place]].decode("utf-8", "surrogatepass")
        pixels, file = (bytes(column[32 * place : 32 * place + 32]) for column in (self._pixels, self._files))
        return FrameRecord(
            self._indices[place],
            name,
            _known(self._times[place]),
            _known(self._exposures[place]),
            pixels.hex(),
            None if file == NO_FILE else file.hex(),
        )


def _digest(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError(f"{text!r} is no sha256")
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
