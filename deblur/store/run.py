"""The store of one run: restored pixels and the evidence, written shard by shard by whoever computes them.

A shard has one writer and is written whole. What is in the ledger is on the disk; what is not in the ledger
does not count, whatever files there are. A published run is sealed: nothing writes into it again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import PlanError, StoreError
from deblur.place import ObjectPlace, Place, files_below, listed, place
from deblur.store import ome
from deblur.store.arrays import ShardedArray, create_array, create_group
from deblur.store.durable import (
    appearing,
    canonical,
    copy_file,
    read_checked,
    read_json,
    settle_folders,
    sha256_file,
)
from deblur.store.ledger import Ledger
from deblur.store.pyramid import halve, level_extent
from deblur.store.shards import Grid, index_of, key_of
from deblur.store.table import ShardTable
from deblur.tiling import Box, round_up

logger = logging.getLogger("deblur.store")
FORMAT = 1
QUANTUM = 1 / 64  #: pixels per step of the stored motion
SEAL = "sealed.json"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run store holds. `shape`: (t, c, y, x) of the full level. `levels`: pyramid levels, the full one
    included. `gradients`: whether the spatial and temporal gradients are stored too. `parameters`: the
    resolved parameters and whatever else the run is to be known by, JSON-able."""

    shape: tuple[int, int, int, int]
    dtype: str
    shard_frames: int
    shard_size: int
    chunk: int = 256
    levels: int = 1
    gradients: bool = False
    name: str = ""
    channels: tuple[str, ...] = ()
    frame_rate: float | None = None
    pixel_size: tuple[float, float, str] | None = None
    colours: tuple[str, ...] = ()
    largest: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.shard_frames < 1 or self.shard_size < 1 or self.shard_size % self.chunk:
            raise PlanError(f"a shard of {self.shard_size} px is not made of whole chunks of {self.chunk} px")
        if self.levels < 1 or min(self.shape) < 1:
            raise PlanError(f"can't store {self.levels} levels of an image of shape {self.shape}")

    @property
    def unit_levels(self) -> int:
        """How many levels the writer of a level-0 shard writes: those where its part is whole chunks."""
        return sum(self.shard_size % (self.chunk << level) == 0 for level in range(self.levels))

    def level_shape(self, level: int) -> tuple[int, int, int, int]:
        t, c, y, x = self.shape
        return t, c, level_extent(y, level), level_extent(x, level)

    def level_box(self, box: Box, level: int) -> Box:
        """A box of the full level, seen on a lower one."""
        return Box(*(level_extent(edge, level) for edge in (box.y0, box.y1, box.x0, box.x1)))

    def arrays(self) -> dict[str, tuple[Grid, str, tuple[str, ...]]]:
        """{array name: (shards, dtype, axes)}, everything the run holds."""
        t, _, y, x = self.shape
        vector, plane = ("t", "c", "y", "x"), ("t", "y", "x")
        found: dict[str, tuple[Grid, str, tuple[str, ...]]] = {
            str(l): (self._image_grid(l), self.dtype, ome.AXES) for l in range(self.levels)
        }
        for name in ("motion/forward", "motion/backward"):
            found[name] = (self._grid((t, 2, y, x), self.shard_size), "int16", vector)
        for name in ("quality/weight", "quality/reason"):
            found[name] = (self._grid((t, y, x), self.shard_size), "uint8", plane)
        if self.gradients:
            found["gradients/spatial"] = (self._grid((t, 2, y, x), self.shard_size), "float32", vector)
            found["gradients/temporal"] = (self._grid((t, y, x), self.shard_size), "float32", plane)
        return found

    def _image_grid(self, level: int) -> Grid:
        side = self.shard_size >> level if level < self.unit_levels else self.shard_size
        return self._grid(self.level_shape(level), side, channels_per_chunk=1)

    def _grid(self, shape: tuple[int, ...], side: int, *, channels_per_chunk: int = 2) -> Grid:
        middle, part = (shape[1:2], (channels_per_chunk,)) if len(shape) == 4 else ((), ())
        sides = tuple(min(side, round_up(extent, self.chunk)) for extent in shape[-2:])
        return Grid(shape, (1, *part, self.chunk, self.chunk), (self.shard_frames, *middle, *sides))


class RunStore:
    """One run. Opening costs nothing until something is read or written; pickled by its path only."""

    def __init__(self, path: str | Place) -> None:
        self.path = place(path)
        self._arrays: dict[str, ShardedArray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return RunStore, (self.path,)

    def __repr__(self) -> str:
        return f"RunStore({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | Place, spec: RunSpec) -> RunStore:
        """Make the store, or open the one that is there if it was made for the same spec (a resumed run).

        Raises StoreError where another run has that name.
        """
        run = cls(path)
        if run.exists:
            if canonical(_as_json(run.spec)) != canonical(_as_json(spec)):
                raise StoreError(f"{run.path} holds a run with other parameters: choose another run name")
            return run
        try:
            with appearing(run.path) as folder:
                _lay_out(folder, spec, name=spec.name or run.path.name)
        except OSError:
            return cls.create(path, spec) if run.exists else _refuse(run.path)
        return run

    @property
    def id(self) -> str:
        return self.path.name.removesuffix(".ome.zarr")

    @property
    def exists(self) -> bool:
        return (self.path / "zarr.json").is_file()

    @cached_property
    def spec(self) -> RunSpec:
        attributes = read_json(self.path / "zarr.json", what="run").get("attributes", {})
        meta = attributes.get("deblur") if isinstance(attributes, dict) else None
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise StoreError(
                f"{self.path} is not a deblur run of format {FORMAT}: use the version that wrote it"
            )
        try:
            return _spec_from(meta["spec"])
        except (KeyError, TypeError, PlanError):
            raise StoreError(f"the metadata of run {self.path} is damaged: restore it from a copy") from None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The resolved parameters that the run was created with."""
        return self.spec.parameters

    @property
    def sealed(self) -> bool:
        """True once published: nothing is written into it again."""
        return (self.path / SEAL).is_file()

    def seal(self) -> dict[str, Any]:
        """What was fixed when this run was published: digest, at, summary, files ({name: sha256})."""
        return read_checked(self.path / SEAL, what="seal", keys=("digest", "at", "summary", "files"))

    def documents(self) -> list[Place]:
        """Every file of a finished run but its shards and the seal: metadata, ledger, record."""
        groups = {part for name in self.spec.arrays() for part in (name, name.rpartition("/")[0])} | {""}
        found = [
            self.path / group / "zarr.json" if group else self.path / "zarr.json" for group in sorted(groups)
        ]
        found += [path for path in listed(self.path, "[!.]*.json") if path.name not in ("zarr.json", SEAL)]
        return found + [
            path for path, _ in files_below(self.path / "provenance") if not path.name.startswith(".")
        ]

    @property
    def units_folder(self) -> Place:
        return self.path / "provenance" / "units"

    def ledger(self, writer: str | None = None) -> Ledger:
        """The ledger of finished units; each process appends under a `writer` name of its own."""
        return Ledger(self.units_folder, writer=writer)

    def array(self, name: str) -> ShardedArray:
        if name not in self._arrays:
            if name not in self.spec.arrays():
                raise StoreError(
                    f"run {self.id} has no array {name!r}: it has {', '.join(self.spec.arrays())}"
                )
            self._arrays[name] = ShardedArray(self.path, name)
        return self._arrays[name]

    def write(self, array_name: str, t0: int, box: Box, data: NDArray[Any]) -> dict[str, str]:
        """Write whole shards of an array; returns {key: sha256 of the file} once they are on the disk.

        `data`: (t, c, y, x), or (t, y, x) for planes, of the array's dtype; `box` in the pixels of that
        array. Raises PlanError for a region that is not whole shards, StoreError where the run is published
        already.
        """
        if self.sealed:
            raise StoreError(f"run {self.id} is published and never changes: reprocess into a new run")
        array = self.array(array_name)
        return array.write(array.grid.region(t0, t0 + len(data), box), data)

    def read(self, array_name: str, t0: int, t1: int, box: Box | None = None) -> NDArray[Any]:
        """Frames t0..t1 of any box (the whole frame by default). StoreError where a shard is missing or
        damaged."""
        array = self.array(array_name)
        height, width = array.grid.shape[-2:]
        return array.read(array.grid.region(t0, t1, box or Box(0, height, 0, width)))

    def shard_digests(self, array_name: str, t0: int, t1: int, box: Box | None = None) -> dict[str, str]:
        """{key: sha256} of the shards that hold these pixels, as the ledger has them."""
        array = self.array(array_name)
        height, width = array.grid.shape[-2:]
        region = array.grid.region(t0, t1, box or Box(0, height, 0, width))
        known = self.table()
        found = {
            key_of(array_name, index): known.digest(array_name, index) for index in array.grid.touched(region)
        }
        absent = [key for key, digest in found.items() if digest is None]
        if absent:
            raise StoreError(
                f"shard {absent[0]} of run {self.id} is not in its ledger: that unit has not finished"
            )
        return {key: digest for key, digest in found.items() if digest is not None}

    def copy_shards(self, parent: RunStore, shards: Mapping[str, str]) -> dict[str, str]:
        """Take over shards of another run, {key: sha256}, as they are; returns the same once they are on the
        disk.

        Raises StoreError where this run is laid out otherwise, or a shard is not what the digest says.
        """
        if self.sealed:
            raise StoreError(f"run {self.id} is published and never changes: reprocess into a new run")
        for name in {index_of(key)[0] for key in shards}:
            if (
                self.array(name).grid != parent.array(name).grid
                or self.array(name).dtype != parent.array(name).dtype
            ):
                raise StoreError(
                    f"array {name!r} is laid out otherwise in run {parent.id}: nothing can be carried over"
                )
        for key, digest in shards.items():
            copy_file(parent.path / key, self.path / key, digest)
        settle_folders(
            {folder for key in shards for folder in (self.path / key).parents if self.path in folder.parents}
        )
        return dict(shards)

    def digest(self) -> str:
        """The root digest of a finished run: it fixes the metadata and every shard's bytes."""
        return self.table().root(sha256_file(self.path / "zarr.json"))

    def table(self) -> ShardTable:
        """Every shard that a finished unit wrote, with its digest; flat in memory however many there are."""
        return ShardTable(
            {name: grid for name, (grid, _, _) in self.spec.arrays().items()}, self.ledger().latest()
        )

    def expected_shards(self) -> int:
        """How many shard files a complete run has."""
        return sum(grid.size for grid, _, _ in self.spec.arrays().values())

    def finish_pyramid(self) -> dict[str, str]:
        """Write the levels that units could not (one of their chunks spans several units), from the level
        below.

        Returns {key: sha256}: append it to the ledger. Doing it again gives the same bytes.
        """
        digests: dict[str, str] = {}
        for level in range(self.spec.unit_levels, self.spec.levels):
            grid = self.array(str(level)).grid
            for index in grid.indices():
                t0, _, y0, x0 = (i * size for i, size in zip(index, grid.shard, strict=True))
                t1 = min(t0 + grid.shard[0], grid.shape[0])
                box = Box(
                    y0, min(y0 + grid.shard[2], grid.shape[2]), x0, min(x0 + grid.shard[3], grid.shape[3])
                )
                digests |= self.write(str(level), t0, box, self._halved(level - 1, t0, t1, box))
        return digests

    def _halved(self, level: int, t0: int, t1: int, box: Box) -> NDArray[Any]:
        """What a box of the next level becomes; a frame at a time, which bounds the memory."""
        _, channels, height, width = self.spec.level_shape(level)
        full = Box(2 * box.y0, min(2 * box.y1, height), 2 * box.x0, min(2 * box.x1, width))
        block = np.empty((t1 - t0, channels, *box.shape), self.spec.dtype)
        for t in range(t0, t1):
            block[t - t0] = halve(self.read(str(level), t, t + 1, full)[0])
        return block

    def sweep(self) -> int:
        """Remove the half-written files of killed writers; only while holding the sequence's lease."""
        if isinstance(self.path, ObjectPlace):
            return 0  # there a PUT is whole or not there
        partials = list(self.path.rglob("*.partial"))
        for path in partials:
            path.unlink(missing_ok=True)
        begun = list(
            self.path.parent.glob(".*.staging")
        )  # of runs, this one or others, that were being laid out
        for folder in begun:
            shutil.rmtree(folder, ignore_errors=True)
        return len(partials) + len(begun)


def _lay_out(path: Path, spec: RunSpec, *, name: str) -> None:
    image = ome.multiscale(
        name=name,
        paths=[str(level) for level in range(spec.levels)],
        channels=spec.channels or tuple(str(c) for c in range(spec.shape[1])),
        dtype=spec.dtype,
        largest=spec.largest,
        frame_rate=spec.frame_rate,
        pixel_size=spec.pixel_size,
        colours=spec.colours,
    )
    create_group(path, {"ome": image, "deblur": {"format": FORMAT, "spec": _as_json(spec)}})
    for group in sorted({array.split("/")[0] for array in spec.arrays() if "/" in array}):
        create_group(path / group, {})
    for array, (grid, dtype, axes) in spec.arrays().items():
        create_array(path, array, grid, dtype, names=axes, attributes=_about(array))
    (path / "provenance" / "units").mkdir(parents=True)


def _about(name: str) -> dict[str, Any]:
    """What a reader of the array alone should know."""
    if name.startswith("motion/"):
        return {"quantum": QUANTUM, "unit": "pixel per frame interval", "components": ["dy", "dx"]}
    if name == "gradients/spatial":
        return {"components": ["d/dy", "d/dx"]}
    if name == "quality/weight":
        return {"quantum": 1 / 255, "meaning": "255 restored, 0 source kept"}
    return {}


def _as_json(spec: RunSpec) -> dict[str, Any]:
    return asdict(spec) | {"parameters": dict(spec.parameters)}


def _spec_from(fields: Mapping[str, Any]) -> RunSpec:
    tuples = {name: tuple(fields.get(name, ())) for name in ("shape", "channels", "colours")}
    size = fields.get("pixel_size")
    return RunSpec(**{**fields, **tuples, "pixel_size": tuple(size) if size else None})


def _refuse(path: Place) -> RunStore:
    raise StoreError(f"can't create run {path}: check the space and the rights there")
