"""The ingested frames of one sequence: written once, whole, then never again.

A source appears under its name only when all of it is on the disk; until then it is in a staging folder beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, StoreError
from deblur.store import ome
from deblur.store.arrays import ShardedArray, create_array, create_group
from deblur.store.durable import (
    digest_of,
    is_intact,
    lines_of,
    read_json,
    settle_folders,
    settle_tree,
    sha256_file,
    with_digest,
    write_atomic,
    write_json,
)
from deblur.store.header import header_as_json, header_from
from deblur.store.owner import Owner, sweep_staging
from deblur.store.shards import Grid, index_of, key_of
from deblur.tiling import Box, boxes, round_up
from deblur.types import FrameInfo, SequenceHeader

FORMAT = 1
KEYS = ("format", "header", "digest", "summary", "array")  # what a source says of itself
PIXELS = "0"  # the array's name; OME-Zarr's habit for the full resolution
LISTS = ("frames.jsonl", "quarantine.jsonl", "shards.sha256")


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


@dataclass(frozen=True, slots=True)
class QuarantinedFrame:
    """A frame that could not be read, and why."""

    index: int
    name: str
    error: str


class SourceStore:
    """The frames of a sequence, read-only. Opening costs nothing until something is read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._pixels = ShardedArray(self.path, PIXELS)

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceStore, (self.path,)

    def __repr__(self) -> str:
        return f"SourceStore({str(self.path)!r})"

    @staticmethod
    def create(
        path: str | Path,
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
        return SourceWriter(
            Path(path), header, tuple(infos), chunk=chunk, shard_frames=shard_frames, shard_size=shard_size
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
        return self._meta.get("summary") or _summary(self.frames, self.quarantined)

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
    def frames(self) -> tuple[FrameRecord, ...]:
        """One record a frame, in the order of the array."""
        return tuple(FrameRecord(**record) for record in self._records("frames.jsonl"))

    @cached_property
    def quarantined(self) -> tuple[QuarantinedFrame, ...]:
        return tuple(QuarantinedFrame(**record) for record in self._records("quarantine.jsonl"))

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
        return _root(self.path, self._meta["header"])

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

    def _records(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        try:
            with path.open(encoding="utf-8") as lines:
                return [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged ({error}): ingest the sequence again") from None


class SourceWriter:
    """Takes blocks of whole frames; at the end makes the source visible. A `with` sweeps up after failures."""

    def __init__(
        self,
        path: Path,
        header: SequenceHeader,
        infos: tuple[FrameInfo, ...],
        *,
        chunk: int,
        shard_frames: int,
        shard_size: int,
    ) -> None:
        c, y, x = header.shape
        if path.exists():
            raise StoreError(f"{path} is ingested already: a source is never written twice")
        if not infos or shard_frames < 1 or chunk < 1 or shard_size % chunk:
            raise ArrayError(
                f"can't lay out {len(infos)} frames in shards of {shard_frames} frames of {shard_size} px"
            )
        side = tuple(min(shard_size, round_up(extent, chunk)) for extent in (y, x))
        self.path, self.header, self.infos = path, header, infos
        self.grid = Grid((len(infos), c, y, x), (1, 1, chunk, chunk), (shard_frames, c, *side))
        self.staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.staging")
        self._frames: list[FrameRecord] = []
        self._quarantine: list[QuarantinedFrame] = []
        self._shards: dict[str, str] = {}
        self._ended = False
        sweep_staging(path)
        self.staging.mkdir(parents=True)
        write_json(self.staging / "owner.json", asdict(Owner.here()))
        create_group(self.staging, {})
        self._make_array(len(infos))

    def __enter__(self) -> SourceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def write(
        self,
        t0: int,
        frames: NDArray[Any],
        *,
        indices: Sequence[int] | None = None,
        files: Sequence[str | None] | None = None,
    ) -> None:
        """Store frames (t, c, y, x) as t0, t0+1, … and force them to the disk.

        Every block has `shard_frames` frames; a shorter one is the last. `indices`: which of the infos they
        are (those not quarantined, in order, by default). `files`: sha256 of the source file, one a frame.
        Raises PlanError or ArrayError for a block that doesn't fit.
        """
        count = frames.shape[0] if frames.ndim == 4 else 0
        indices = self._next(count) if indices is None else tuple(indices)
        fits = 0 < count <= self.grid.shard[0] and len(indices) == count
        if t0 != len(self._frames) or self._ended or not fits:
            raise ArrayError(
                f"expected a block (t, c, y, x) of {self.grid.shard[0]} frames at {len(self._frames)} "
                f"(only the last is shorter), got shape {frames.shape} at {t0}"
            )
        self._ended = count < self.grid.shard[0]
        spare = np.zeros((self._whole(t0, count) - count, *frames.shape[1:]), frames.dtype)
        block = np.concatenate([frames, spare]) if len(spare) else frames
        pixels, (height, width) = ShardedArray(self.staging, PIXELS), self.header.shape[1:]
        for box in boxes(
            height, width, max(self.grid.shard[2:])
        ):  # Zarr holds copies of all that it is given
            region = self.grid.region(t0, t0 + len(block), box)
            self._shards |= pixels.write(region, block[..., *box.slices])
        for place, (index, frame) in enumerate(zip(indices, frames, strict=True)):
            info = self.infos[index]
            file = files[place] if files is not None else None
            self._frames.append(
                FrameRecord(index, info.name, info.time, info.exposure_time, pixel_digest(frame), file)
            )

    def quarantine(self, index: int, error: str) -> None:
        """Record that frame `index` of the infos could not be read."""
        self._quarantine.append(QuarantinedFrame(index, self.infos[index].name, " ".join(str(error).split())))

    def finish(self, *, metadata: Mapping[str, Any] | None = None) -> SourceStore:
        """Write digests and metadata, then rename: from here on the source exists, and is never changed.

        `metadata`: JSON-able, joins the header's. Raises StoreError where no frame was written, or one was
        neither written nor quarantined.
        """
        if not self._frames:
            raise StoreError(f"no frame of {self.header.name!r} could be read: nothing to ingest")
        lost = len(self.infos) - len(self._frames) - len(self._quarantine)
        if lost:
            raise StoreError(f"{lost} frames of {self.header.name!r} were neither written nor quarantined")
        if len(self._frames) != len(self.infos):
            self._make_array(len(self._frames))  # the same shards under the true number of frames
        write_atomic(self.staging / "frames.jsonl", lines_of(asdict(f) for f in self._frames))
        write_atomic(self.staging / "quarantine.jsonl", lines_of(asdict(q) for q in self._quarantine))
        write_atomic(self.staging / "shards.sha256", _sums(self._shards))
        self._write_group(metadata or {})
        (self.staging / "owner.json").unlink()
        settle_tree(self.staging)
        try:
            os.rename(self.staging, self.path)
        except OSError:
            raise StoreError(
                f"{self.path} appeared meanwhile: somebody else ingested this sequence"
            ) from None
        settle_folders([self.path.parent, self.path.parent.parent])
        return SourceStore(self.path)

    def abandon(self) -> None:
        """Leave nothing behind. Harmless after `finish`."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _next(self, count: int) -> tuple[int, ...]:
        bad = {q.index for q in self._quarantine}
        start = self._frames[-1].index + 1 if self._frames else 0
        return tuple(i for i in range(start, len(self.infos)) if i not in bad)[:count]

    def _whole(self, t0: int, count: int) -> int:
        """Frames that make the shard whole although quarantined ones left the array too long."""
        return min(self.grid.shard[0], self.grid.shape[0] - t0) if self._ended else count

    def _make_array(self, frames: int) -> None:
        (self.staging / PIXELS / "zarr.json").unlink(missing_ok=True)
        grid = Grid((frames, *self.grid.shape[1:]), self.grid.chunk, self.grid.shard)
        create_array(self.staging, PIXELS, grid, self.header.dtype, names=ome.AXES, attributes={})

    def _write_group(self, metadata: Mapping[str, Any]) -> None:
        header = header_as_json(replace(self.header, metadata={**self.header.metadata, **metadata}))
        meta = {
            "format": FORMAT,
            "header": header,
            "digest": _root(self.staging, header),
            "summary": _summary(self._frames, self._quarantine),
            "array": sha256_file(self.staging / PIXELS / "zarr.json"),
        }
        image = ome.multiscale(
            name=self.header.name,
            paths=[PIXELS],
            channels=self.header.channels,
            dtype=self.header.dtype,
            largest=None if self.header.bits is None else 2.0**self.header.bits - 1,
            frame_rate=self.header.frame_rate,
            pixel_size=self.header.pixel_size,
        )
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}}
        meta["sha256"] = with_digest(meta | {"group": group})["sha256"]
        group["attributes"] = {"ome": image, "deblur": meta}
        write_json(self.staging / "zarr.json", group)


def _summary(frames: Sequence[FrameRecord], quarantined: Sequence[QuarantinedFrame]) -> dict[str, Any]:
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


def _sums(digests: Mapping[str, str]) -> bytes:
    """The format of sha256sum, so that `sha256sum -c shards.sha256` checks a source without deblur."""
    ordered = sorted(digests, key=lambda key: index_of(key)[1])
    return "".join(f"{digests[key]}  {key}\n" for key in ordered).encode()


def _root(path: Path, header: Mapping[str, Any]) -> str:
    return digest_of({"header": dict(header)} | {name: sha256_file(path / name) for name in LISTS})
