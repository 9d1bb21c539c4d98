"""Is a store what its records say? Shards are read and hashed; a file's existence proves nothing.

A sample reads some shards only, chosen by their names and a seed, so that many nights with a seed each read them all;
what can be seen without reading (a missing shard, damaged metadata) is looked for everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblur.errors import StoreError
from deblur.store.arrays import ShardedArray
from deblur.store.durable import digest_of, read_json, sha256_file
from deblur.store.run import SEAL, RunStore
from deblur.store.shards import Grid, index_of, key_of, missing_chunks
from deblur.store.source import SourceStore

Kind = Literal["metadata", "unrecorded", "missing", "changed", "incomplete", "unexpected"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `shard`: the key of the shard, empty for metadata. `unit`: the key of the unit
    that wrote it, where the ledger says so: computing it again repairs the shard."""

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

    def of(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of the keys that are in the sample."""
        if self.share >= 1:
            return frozenset(keys)
        places = {key: int(digest_of([self.seed, key])[:12], 16) / 16**12 for key in keys}
        least = min(places, key=places.__getitem__, default="")
        return frozenset(key for key, place in places.items() if place < self.share or key == least)


ALL = Sample()


def verify_run(
    run: RunStore, *, sample: Sample = ALL, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong with a run: metadata that doesn't parse or is no OME-Zarr, shards that are not in the
    ledger, missing, changed, or without some of their chunks. `progress(done, total)` counts shards."""
    problems = list(_metadata(run)) or list(_image(run.path))
    if problems:
        return tuple(problems)
    grids = {name: grid for name, (grid, _, _) in run.spec.arrays().items()}
    records = sorted(run.ledger().finished().values(), key=lambda record: float(record.get("at", 0)))
    recorded = {key: (digest, str(r["key"])) for r in records for key, digest in r.get("shards", {}).items()}
    total, done = run.expected_shards(), 0
    chosen = sample.of(recorded)
    for name, grid in grids.items():
        for index in grid.indices():
            problems += _shard(run.path, grid, key_of(name, index), recorded, chosen)
            done += 1
            if progress is not None:
                progress(done, total)
    problems += _unexpected(grids, recorded)
    problems += _seal(run)
    return tuple(problems)


def verify_source(
    source: SourceStore, *, sample: Sample = ALL, progress: Callable[[int, int], None] | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong with a source; what is damaged here must come back from the originals."""
    try:
        if source.list_digest() != source.digest:
            return (
                Problem("metadata", "", f"{source.path}: the lists don't give the root digest: ingest again"),
            )
        digests = source.shard_digests(0, source.shape[0])
    except StoreError as error:
        return (Problem("metadata", "", str(error)),)
    recorded = {key: (digest, "") for key, digest in digests.items()}
    chosen = sample.of(recorded)
    problems = list(_image(source.path))
    for done, key in enumerate(digests, 1):
        problems += _shard(source.path, source.grid, key, recorded, chosen)
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
        yield Problem("metadata", "", f"{run.path}: metadata is damaged ({error})")
        return
    if paths != [str(level) for level in range(run.spec.levels)]:
        yield Problem(
            "metadata", "", f"{run.path}: the image levels are {paths}, expected {run.spec.levels} of them"
        )
    for name, (grid, dtype, _) in expected.items():
        array = ShardedArray(run.path, name)
        try:
            if array.grid != grid or array.dtype != dtype:
                yield Problem(
                    "metadata", "", f"array {name!r} of run {run.id} is not laid out as the run says"
                )
        except StoreError as error:
            yield Problem("metadata", "", str(error))


def _image(path: Path) -> Iterator[Problem]:
    """Whether a group is an OME-Zarr image to others, by the models of the format's community where installed."""
    try:
        from ome_zarr_models.v05.image import Image
    except ImportError:
        return
    import zarr

    try:
        Image.from_zarr(zarr.open_group(path, mode="r"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        yield Problem("metadata", "", f"{path}: not valid OME-Zarr: {' '.join(str(error).split())[:200]}")


def _shard(
    root: Path, grid: Grid, key: str, recorded: Mapping[str, tuple[str, str]], chosen: Container[str]
) -> Iterator[Problem]:
    if key not in recorded:
        yield Problem("unrecorded", key, f"shard {key} is in no record: its unit has not finished")
        return
    digest, unit = recorded[key]
    path = root / key
    if not path.is_file():
        yield Problem("missing", key, f"shard {key} is missing", unit or None)
    elif key not in chosen:
        return
    elif sha256_file(path) != digest:
        yield Problem(
            "changed",
            key,
            f"shard {key} is not what was written: its bytes have another sha256",
            unit or None,
        )
    else:
        try:
            absent = missing_chunks(path, grid, index_of(key)[1])
        except StoreError as error:
            yield Problem("incomplete", key, str(error), unit or None)
            return
        if absent:
            yield Problem(
                "incomplete",
                key,
                f"shard {key} lacks {absent} chunks, which would read as zeros",
                unit or None,
            )


def _unexpected(grids: Mapping[str, Grid], recorded: Mapping[str, tuple[str, str]]) -> Iterator[Problem]:
    """Records of shards that the run can't have."""
    for key, (_, unit) in recorded.items():
        try:
            name, index = index_of(key)
        except StoreError:
            name, index = "", ()
        grid = grids.get(name)
        if grid is None or len(index) != len(grid.counts) or any(i >= n for i, n in zip(index, grid.counts)):  # noqa: B905
            yield Problem("unexpected", key, f"the ledger names a shard {key} that the run can't have", unit)


def _seal(run: RunStore) -> Iterator[Problem]:
    """A published run must still have the ledger that it was published with."""
    if run.sealed:
        sealed = read_json(run.path / SEAL, what="seal").get("digest")
        if sealed != run.digest():
            yield Problem(
                "metadata", "", f"the ledger or the metadata of run {run.id} changed after it was published"
            )
