"""The ingested frames of one sequence: written once, whole (see `sourcewriter`), then never again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import StoreError
from deblur.header import header_from
from deblur.place import Place, place
from deblur.store.arrays import ShardedArray
from deblur.store.durable import (
    digest_of,
    is_intact,
    read_json,
    sha256_file,
)
from deblur.store.frames import FrameRecord, FrameTable
from deblur.store.shards import Grid, index_of, key_of
from deblur.tiling import Box
from deblur.types import FrameInfo, SequenceHeader

if TYPE_CHECKING:
    from deblur.store.sourcewriter import SourceWriter

FORMAT = 1
KEYS = ("format", "header", "digest", "summary", "array")  # what a source says of itself
PIXELS = "0"  # the array's name; OME-Zarr's habit for the full resolution
LISTS = ("frames.jsonl", "quarantine.jsonl", "shards.sha256")
DOCUMENTS = ("zarr.json", f"{PIXELS}/zarr.json", *LISTS)  # all but the pixels


@dataclass(frozen=True, slots=True)
class QuarantinedFrame:
    """A frame that could not be read, and why."""

    index: int
    name: str
    error: str


class SourceStore:
    """The frames of a sequence, read-only. Opening costs nothing until something is read."""

    def __init__(self, path: str | Place) -> None:
        self.path = place(path)
        self._pixels = ShardedArray(self.path, PIXELS)

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceStore, (self.path,)

    def __repr__(self) -> str:
        return f"SourceStore({str(self.path)!r})"

    @staticmethod
    def create(
        path: str | Place,
        header: SequenceHeader,
        infos: Sequence[FrameInfo],
        *,
        chunk: int = 256,
        shard_frames: int = 16,
        shard_size: int = 1024,
    ) -> SourceWriter:
        """Begin a source of at most `len(infos)` frames; `SourceWriter.finish` makes it visible.

        Raises StoreError where `path` is taken, ArrayError for shards that are not whole chunks.
        """
        from deblur.store.sourcewriter import SourceWriter

        return SourceWriter(
            place(path), header, infos, chunk=chunk, shard_frames=shard_frames, shard_size=shard_size
        )

    @property
    def exists(self) -> bool:
        return (self.path / "zarr.json").is_file()

    @cached_property
    def _meta(self) -> dict[str, Any]:
        group = read_json(self.path / "zarr.json", what="source")
        attributes = group.get("attributes", {})
        meta = attributes.pop("deblur", None) if isinstance(attributes, dict) else None
        if not isinstance(meta, dict) or meta.get("format") != FORMAT or "digest" not in meta:
            raise StoreError(
                f"{self.path} is not a deblur source of format {FORMAT}: ingest it with this version"
            )
        if not is_intact(meta | {"group": group}, keys=(*KEYS, "group")):
            raise StoreError(f"the metadata of {self.path} is damaged: restore it from a copy")
        return meta

    @cached_property
    def header(self) -> SequenceHeader:
        return header_from(self._meta["header"])

    @property
    def digest(self) -> str:
        """The root digest: it fixes header, frames and every shard's bytes."""
        return str(self._meta["digest"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """Numbers of `frames` and `quarantined`, and the first frame's `time`, without reading the lists."""
        return self._meta.get("summary") or summary_of(self.frames, self.quarantined)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        t, c, y, x = self.grid.shape
        return t, c, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.header.dtype)

    @property
    def grid(self) -> Grid:
        return self._pixels.grid

    @property
    def shard_frames(self) -> int:
        return self.grid.shard[0]

    @property
    def shard_size(self) -> int:
        """The side of a shard, in pixels (the larger one where a small frame fills its only shard)."""
        return max(self.grid.shard[2:])

    @cached_property
    def frames(self) -> Sequence[FrameRecord]:
        """One record a frame, in the order of the array."""
        table = FrameTable()
        self._read("frames.jsonl", lambda told: table.add(FrameRecord(**told)))
        return table.records

    @cached_property
    def quarantined(self) -> tuple[QuarantinedFrame, ...]:
        found: list[QuarantinedFrame] = []
        self._read("quarantine.jsonl", lambda told: found.append(QuarantinedFrame(**told)))
        return tuple(found)

    def read(self, t0: int, t1: int, box: Box | None = None) -> NDArray[Any]:
        """Frames t0..t1 of a box (the whole frame by default): (t, c, y, x), the source's dtype.

        Raises PlanError where that leaves the sequence, StoreError where a shard is missing or damaged.
        """
        return self._pixels.read(self.grid.region(t0, t1, box or self._frame))

    def shard_digests(self, t0: int, t1: int, box: Box | None = None) -> dict[str, str]:
        """{key: sha256} of every shard that holds any of these pixels."""
        region = self.grid.region(t0, t1, box or self._frame)
        return {
            key_of(PIXELS, index): self._digests[self.grid.ordinal(index)].tobytes().hex()
            for index in self.grid.touched(region)
        }

    def layout_is_intact(self) -> bool:
        """Whether the metadata of the array are what was written."""
        found = sha256_file(self.path / PIXELS / "zarr.json")
        return bool(self._meta.get("array", found) == found)

    def list_digest(self) -> str:
        """The root digest computed anew from the lists and the header; equals `digest` in an intact
        source."""
        return root_of(self.path, self._meta["header"])

    @property
    def _frame(self) -> Box:
        return Box(0, self.grid.shape[2], 0, self.grid.shape[3])

    @cached_property
    def _digests(self) -> NDArray[np.uint8]:
        """(shards, 32): 32 bytes a shard, so that a worker of a long sequence can hold them all."""
        table = np.zeros((self.grid.size, 32), np.uint8)
        seen = np.zeros(self.grid.size, bool)
        path = self.path / "shards.sha256"
        try:
            with path.open(encoding="ascii") as lines:
                for line in lines:
                    digest, key = line.split()
                    place = self.grid.ordinal(index_of(key)[1])
                    table[place] = np.frombuffer(bytes.fromhex(digest), np.uint8)
                    seen[place] = True
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}): ingest the sequence again") from None
        if not seen.all():
            raise StoreError(f"{path} misses {np.count_nonzero(~seen)} shards: ingest the sequence again")
        return table

    def _read(self, name: str, add: Callable[[dict[str, Any]], None]) -> None:
        path = self.path / name
        try:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    add(json.loads(line))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}): ingest the sequence again") from None


def summary_of(frames: Sequence[FrameRecord], quarantined: Sequence[QuarantinedFrame]) -> dict[str, Any]:
    return {
        "frames": len(frames),
        "quarantined": len(quarantined),
        "time": frames[0].time if frames else None,
    }


def pixel_digest(frame: NDArray[Any]) -> str:
    """The sha256 of a frame's pixels in C order, little-endian: the same whatever machine or store held
    them."""
    plain = np.ascontiguousarray(frame, frame.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.data).hexdigest()


def root_of(path: Place, header: Mapping[str, Any]) -> str:
    return digest_of({"header": dict(header)} | {name: sha256_file(path / name) for name in LISTS})
