"""Is a store what its records say? Shards are read and hashed; a file's existence proves nothing.

A sample reads some shards only, chosen by their names and a seed, so that many nights with a seed each read them all;
what can be seen without reading (a missing shard, damaged metadata) is looked for everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from deblur.errors import StoreError
from deblur.place import Place, told
from deblur.store import zarrs
from deblur.store.arrays import ShardedArray
from deblur.store.durable import digest_of, read_json, sha256_file
from deblur.store.run import SEAL, RunStore
from deblur.store.shards import Grid, index_of, key_of, missing_chunks
from deblur.store.source import SourceStore

Kind = Literal["metadata", "unrecorded", "missing", "changed", "incomplete", "unexpected"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `shard`: the file in the store, a shard's key or that of an array's or a group's
    zarr.json; empty where it is no one file. `unit`: the key of the unit that wrote the shard, where the ledger says
    so: computing it again repairs it."""

    kind: Kind
    shard: str
    message: str
    unit: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Sample:
    """Which shards are read: about this share of them, and at least one of every store."""

    share: float = 1.0
    seed: int = 0

    def of(self, keys: Iterable[str]) -> Callable[[str], bool]:
        """Whether one of the keys is in the sample; nothing is held of them."""
        if self.share >= 1:
            return lambda key: True
        least = min(keys, key=self._place, default="")
        return lambda key: key == least or self._place(key) < self.share

    def _place(self, key: str) -> float:
        return int(digest_of([self.seed, key])[:12], 16) / 16**12


ALL = Sample()


def verify_run(
    run: RunStore, *, sample: Sample = ALL, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong with a run: metadata that doesn't parse or is not as planned, shards that are not in the
    ledger, missing, changed, or without some of their chunks. `progress(done, total)` counts shards. Whether others
    understand it: `verify_image`."""
    if problems := list(_metadata(run)):
        return tuple(problems)
    grids = {name: grid for name, (grid, _, _) in run.spec.arrays().items()}
    table = run.table()
    total, done = run.expected_shards(), 0
    chosen = sample.of(key_of(name, index) for name, grid in grids.items() for index in grid.indices())
    for name, grid in grids.items():
        for index in grid.indices():
            key = key_of(name, index)
            problems += _shard(run.path, grid, key, table.digest(name, index), chosen(key))
            done += 1
            if progress is not None:
                progress(done, total)
    for key in table.unexpected:
        text = f"the ledger has a shard {key} or a digest of it that the run can't have"
        problems.append(Problem("unexpected", key, text))
    problems += _seal(run)
    return tuple(_with_units(run, problems))


def _with_units(run: RunStore, problems: list[Problem]) -> list[Problem]:
    """The problems with the units that wrote those shards: looked up only where there are any."""
    wanted = {problem.shard for problem in problems if problem.kind != "unrecorded"} - {""}
    if not wanted:
        return problems
    records = sorted(
        (record for record in run.ledger().latest() if wanted & record.get("shards", {}).keys()),
        key=lambda record: float(record.get("at", 0)),
    )
    units = {key: str(record["key"]) for record in records for key in wanted & record["shards"].keys()}
    return [replace(problem, unit=units.get(problem.shard)) for problem in problems]


def verify_source(
    source: SourceStore, *, sample: Sample = ALL, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong with a source; what is damaged here must come back from the originals."""
    try:
        if source.list_digest() != source.digest:
            return (
                Problem("metadata", "", f"{source.path}: the lists don't give the root digest: ingest again"),
            )
        if not source.layout_is_intact():
            return (Problem("metadata", "", f"{source.path}: its array's metadata changed: ingest again"),)
        digests = source.shard_digests(0, source.shape[0])
    except StoreError as error:
        return (Problem("metadata", "", str(error)),)
    chosen = sample.of(digests)
    problems: list[Problem] = []
    for done, (key, digest) in enumerate(digests.items(), 1):
        problems += _shard(source.path, source.grid, key, digest, chosen(key))
        if progress is not None:
            progress(done, len(digests))
    return tuple(problems)


def _metadata(run: RunStore) -> Iterator[Problem]:
    """The run's own description, and every array against it."""
    try:
        expected = run.spec.arrays()
        image = read_json(run.path / "zarr.json", what="run")["attributes"]["ome"]["multiscales"][0]
        paths = [level["path"] for level in image["datasets"]]
    except (StoreError, KeyError, IndexError, TypeError) as error:
        yield Problem("metadata", "zarr.json", f"{run.path}: metadata is damaged ({error})")
        return
    if paths != [str(level) for level in range(run.spec.levels)]:
        text = f"{run.path}: the image levels are {paths}, expected {run.spec.levels} of them"
        yield Problem("metadata", "zarr.json", text)
    for group in sorted({name.split("/")[0] for name in expected if "/" in name}):
        try:
            if read_json(run.path / group / "zarr.json", what="group").get("node_type") != "group":
                yield Problem("metadata", f"{group}/zarr.json", f"{group} of run {run.id} is no Zarr group")
        except StoreError as error:
            yield Problem("metadata", f"{group}/zarr.json", str(error))
    for name, (grid, dtype, _) in expected.items():
        array = ShardedArray(run.path, name)
        try:
            if array.grid != grid or array.dtype != dtype:
                text = f"array {name!r} of run {run.id} is not laid out as the run says"
                yield Problem("metadata", f"{name}/zarr.json", text)
        except StoreError as error:
            yield Problem("metadata", f"{name}/zarr.json", str(error))


def verify_image(path: Place) -> Iterator[Problem]:
    """Whether a group is an OME-Zarr image to others, by the models of the format's community where installed."""
    try:
        from ome_zarr_models.v05.image import Image
    except ImportError:
        return
    import zarr

    store, top = zarrs.reading(path)
    try:
        with told(path):
            Image.from_zarr(zarr.open_group(store, path=top, mode="r"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        yield Problem("metadata", "", f"{path}: not valid OME-Zarr: {' '.join(str(error).split())[:200]}")


def _shard(root: Place, grid: Grid, key: str, digest: str | None, chosen: bool) -> Iterator[Problem]:
    """What is wrong with a shard; only a `chosen` one is read."""
    path = root / key
    if digest is None:
        yield Problem("unrecorded", key, f"shard {key} is in no record: its unit has not finished")
    elif not path.is_file():
        yield Problem("missing", key, f"shard {key} is missing")
    elif not chosen:
        return
    elif sha256_file(path) != digest:
        yield Problem("changed", key, f"shard {key} is not what was written: its bytes have another sha256")
    else:
        try:
            absent = missing_chunks(path, grid, index_of(key)[1])
        except StoreError as error:
            yield Problem("incomplete", key, str(error))
            return
        if absent:
            yield Problem("incomplete", key, f"shard {key} lacks {absent} chunks, which would read as zeros")


def _seal(run: RunStore) -> Iterator[Problem]:
    """A published run must still have the ledger that it was published with."""
    if not run.sealed:
        return
    try:
        seal = run.seal()
    except StoreError as error:
        yield Problem("metadata", SEAL, str(error))
        return
    if seal["digest"] != run.digest():
        yield Problem(
            "metadata", "", f"the ledger or the metadata of run {run.id} changed after it was published"
        )
    for name, digest in seal.get("files", {}).items():
        path = run.path / name
        if not path.is_file():
            yield Problem("metadata", name, f"{name} of run {run.id} is missing: restore it from a copy")
        elif sha256_file(path) != digest:
            yield Problem("metadata", name, f"{name} of run {run.id} changed after the run was published")
