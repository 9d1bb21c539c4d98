"""Writes the ingested frames of one sequence: they appear under their name only when all of them are safe.

On a disk they are written into a staging folder beside it, which gets the name at the end. In an object store, where
nothing can be renamed, they are written in place by whoever holds the sequence's lease, and `zarr.json`, without which
there is no source, comes last.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError, LeaseError, StoreError
from deblur.header import header_as_json
from deblur.place import ObjectPlace, Place
from deblur.store import ome
from deblur.store.arrays import ShardedArray, create_array, create_group
from deblur.store.durable import (
    json_bytes,
    lines_of,
    settle_folders,
    settle_tree,
    sha256_file,
    with_digest,
    write_atomic,
    write_json,
    write_new,
)
from deblur.store.frames import FrameRecord, FrameTable
from deblur.store.lease import Lease, check_token
from deblur.store.owner import Owner, sweep_staging
from deblur.store.shards import Grid, index_of, key_of
from deblur.store.source import (
    FORMAT,
    PIXELS,
    QuarantinedFrame,
    SourceStore,
    pixel_digest,
    root_of,
    summary_of,
)
from deblur.tiling import boxes, round_up
from deblur.types import FrameInfo, SequenceHeader


class SourceWriter:
    """Takes blocks of whole frames; at the end makes the source visible. A `with` sweeps up after failures."""

    def __init__(
        self,
        path: Place,
        header: SequenceHeader,
        infos: Sequence[FrameInfo],
        *,
        chunk: int,
        shard_frames: int,
        shard_size: int,
    ) -> None:
        c, y, x = header.shape
        if SourceStore(path).exists or (isinstance(path, Path) and path.exists()):
            raise StoreError(f"{path} is ingested already: a source is never written twice")
        if not infos or shard_frames < 1 or chunk < 1 or shard_size % chunk:
            raise ArrayError(
                f"can't lay out {len(infos)} frames in shards of {shard_frames} frames of {shard_size} px"
            )
        side = tuple(min(shard_size, round_up(extent, chunk)) for extent in (y, x))
        self.path, self.header, self.infos = path, header, infos
        self.grid = Grid((len(infos), c, y, x), (1, 1, chunk, chunk), (shard_frames, c, *side))
        self._frames = FrameTable()
        self._quarantine: list[QuarantinedFrame] = []
        self._digests = np.zeros((self.grid.size, 32), np.uint8)  # of the shards, in C order
        self._ended = False
        self._turn = ExitStack()  #: in an object store the lease
        self.staging: Place = self._taken(path) if isinstance(path, ObjectPlace) else _beside(path)
        self._make_array(len(infos))

    def _taken(self, path: ObjectPlace) -> ObjectPlace:
        """The place itself, once it is ours alone, without what a killed ingest left there."""
        self._lease = self._turn.enter_context(Lease(path.parent).held())
        if SourceStore(path).exists:
            self._turn.close()
            raise StoreError(f"{path} appeared meanwhile: somebody else ingested this sequence")
        path.delete_tree()
        return path

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
        if isinstance(self.staging, ObjectPlace):
            check_token(self.staging.parent, self._lease.token or 0)  # not into what a successor writes
        self._ended = count < self.grid.shard[0]
        spare = np.zeros((self._whole(t0, count) - count, *frames.shape[1:]), frames.dtype)
        block = np.concatenate([frames, spare]) if len(spare) else frames
        pixels, (height, width) = ShardedArray(self.staging, PIXELS), self.header.shape[1:]
        for box in boxes(
            height, width, max(self.grid.shard[2:])
        ):  # Zarr holds copies of all that it is given
            region = self.grid.region(t0, t0 + len(block), box)
            for key, digest in pixels.write(region, block[..., *box.slices]).items():
                self._digests[self.grid.ordinal(index_of(key)[1])] = np.frombuffer(
                    bytes.fromhex(digest), np.uint8
                )
        for place, (index, frame) in enumerate(zip(indices, frames, strict=True)):
            info = self.infos[index]
            file = files[place] if files is not None else None
            self._frames.add(
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
        write_atomic(self.staging / "frames.jsonl", lines_of(asdict(f) for f in self._frames.records))
        write_atomic(self.staging / "quarantine.jsonl", lines_of(asdict(q) for q in self._quarantine))
        write_atomic(self.staging / "shards.sha256", self._sums())
        if not self._appeared(self._group(metadata or {})):
            raise StoreError(f"{self.path} appeared meanwhile: somebody else ingested this sequence")
        return SourceStore(self.path)

    def _appeared(self, group: Mapping[str, Any]) -> bool:
        """Make the source visible; False where there is one already."""
        if isinstance(self.path, ObjectPlace):
            self._lease.renew()
            made = write_new(self.path / "zarr.json", json_bytes(group))
            self._turn.close()
            return made
        write_json(self.staging / "zarr.json", group)
        (self.staging / "owner.json").unlink()
        settle_tree(Path(str(self.staging)))
        try:
            os.rename(str(self.staging), self.path)
        except OSError:
            return False
        settle_folders([self.path.parent, self.path.parent.parent])
        return True

    def abandon(self) -> None:
        """Leave nothing behind. Harmless after `finish`."""
        if isinstance(self.staging, Path):
            shutil.rmtree(self.staging, ignore_errors=True)
            return
        with self._turn, suppress(LeaseError):
            self._lease.renew()  # not held any more after `finish`
            if not SourceStore(self.path).exists:
                self.staging.delete_tree()

    def _next(self, count: int) -> tuple[int, ...]:
        bad = {q.index for q in self._quarantine}
        start = self._frames.records[-1].index + 1 if self._frames else 0
        return tuple(i for i in range(start, len(self.infos)) if i not in bad)[:count]

    def _whole(self, t0: int, count: int) -> int:
        """Frames to write so that the shard is whole although quarantined frames left the array too long."""
        return min(self.grid.shard[0], self.grid.shape[0] - t0) if self._ended else count

    def _grid_of(self, frames: int) -> Grid:
        return Grid((frames, *self.grid.shape[1:]), self.grid.chunk, self.grid.shard)

    def _sums(self) -> Iterator[bytes]:
        """The format of sha256sum, so that `sha256sum -c shards.sha256` checks a source without deblur."""
        for index in self._grid_of(len(self._frames)).indices():
            digest = self._digests[self.grid.ordinal(index)].tobytes().hex()
            yield f"{digest}  {key_of(PIXELS, index)}\n".encode()

    def _make_array(self, frames: int) -> None:
        (self.staging / PIXELS / "zarr.json").unlink(missing_ok=True)
        create_array(
            self.staging, PIXELS, self._grid_of(frames), self.header.dtype, names=ome.AXES, attributes={}
        )

    def _group(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        header = header_as_json(replace(self.header, metadata={**self.header.metadata, **metadata}))
        meta = {
            "format": FORMAT,
            "header": header,
            "digest": root_of(self.staging, header),
            "summary": summary_of(self._frames.records, self._quarantine),
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
            colours=self.header.metadata.get("colours", ()),
        )
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}}
        meta["sha256"] = with_digest(meta | {"group": group})["sha256"]
        return group | {"attributes": {"ome": image, "deblur": meta}}


def _beside(path: Path) -> Path:
    """A new staging folder; what was left by those who are gone goes."""
    sweep_staging(path)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.staging")
    staging.mkdir(parents=True)
    write_json(staging / "owner.json", asdict(Owner.here()))
    create_group(staging, {})
    return staging
