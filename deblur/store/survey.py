"""The survey beside its source: arrays of a row a frame or a pair of frames, and plain values.

It is made as a draft beside its place, whose shards several processes write; the finished one takes that place as a
whole. A draft that was left by a killed process is gone on with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import StoreError
from deblur.place import Place, place
from deblur.store.arrays import ShardedArray, create_array, create_group
from deblur.store.durable import (
    appearing,
    canonical,
    digest_of,
    move_tree,
    read_json,
    remove_tree,
    write_json,
)
from deblur.store.owner import Owner
from deblur.store.shards import Grid, Region

FORMAT = 2
ABOUT = "draft.json"
AXES = ("t", "component", "y", "x")


class Draft:
    """A survey in the making. Opening costs nothing until something is read; pickled by its path only."""

    def __init__(self, path: str | Place) -> None:
        self.path = place(path)
        self._arrays: dict[str, ShardedArray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Draft, (self.path,)

    @classmethod
    def begin(
        cls,
        survey: Place,
        key: str,
        told: Mapping[str, Any],
        arrays: Mapping[str, tuple[tuple[int, ...], str, int]],
    ) -> Draft:
        """A draft of the survey at `survey`, or the one that was left with the same `key`.

        `key` names all that decides what will be in it. `told`: JSON-able, for those who fill it. `arrays`: shape,
        dtype and the rows of a shard of each. Drafts of other keys are removed where their process is gone.
        """
        sweep(survey, but=key)
        draft = cls(_place(survey, key))
        about = {"told": dict(told), "arrays": sorted(arrays), "owner": asdict(Owner.here())}
        canonical(about)
        if (draft.path / "zarr.json").is_file():
            write_json(draft.path / ABOUT, about)
            return draft
        try:
            with appearing(draft.path) as folder:
                create_group(folder, {})
                for name, (shape, dtype, rows) in arrays.items():
                    create_array(folder, name, _grid(shape, rows), dtype, names=_axes(shape), attributes={})
                write_json(folder / ABOUT, about)
        except OSError as error:
            if not (draft.path / ABOUT).exists():  # somebody else may have begun the same one
                raise StoreError(
                    f"can't make a survey at {survey}: {error.strerror}; check the space there"
                ) from None
        return draft

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """What `begin` was told."""
        return dict(read_json(self.path / ABOUT, what="draft of a survey")["told"])

    def write(self, name: str, t0: int, values: NDArray[Any]) -> dict[str, str]:
        """Rows from t0 on, whole shards of them; {key: sha256} once they are on the disk."""
        array = self._array(name)
        return array.write(_rows(array, t0, t0 + len(values)), np.ascontiguousarray(values))

    def read(self, name: str, t0: int, t1: int) -> NDArray[Any]:
        """Rows t0..t1 that were written. Raises StoreError where some were not."""
        array = self._array(name)
        return array.read(_rows(array, t0, t1))

    def has(self, name: str, t0: int, t1: int) -> bool:
        """Whether these rows were written, whole."""
        array = self._array(name)
        return array.complete(_rows(array, t0, t1))

    def finish(self, survey: Place, attrs: Mapping[str, Any], digest: str) -> None:
        """Put the draft in the place of the survey, with these plain values; an earlier one is replaced."""
        canonical(dict(attrs))
        if not (self.path / ABOUT).exists():
            raise StoreError(f"the survey at {survey} was finished by somebody else meanwhile: run again")
        arrays = read_json(self.path / ABOUT, what="draft of a survey")["arrays"]
        meta = {"format": FORMAT, "digest": digest, "attrs": dict(attrs), "arrays": arrays}
        meta["own"] = digest_of(meta)
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"deblur": meta}}
        write_json(self.path / "zarr.json", group)
        move_tree(self.path, survey)
        (survey / ABOUT).unlink(missing_ok=True)
        sweep(survey)

    def remove(self) -> None:
        remove_tree(self.path)

    def _array(self, name: str) -> ShardedArray:
        return self._arrays.setdefault(name, ShardedArray(self.path, name))


def read_survey_part(path: Place, name: str, t0: int, t1: int) -> NDArray[Any]:
    """Rows t0..t1 of one array, without reading the rest (its chunks carry checksums)."""
    if name not in _meta(path)["arrays"]:
        raise StoreError(f"the survey at {path} has no array {name!r}: remove that folder and run again")
    array = ShardedArray(path, name)
    return array.read(_rows(array, t0, t1))


def check_survey(path: Place) -> None:
    """Read all of it, a shard at a time. Raises StoreError for the first thing that is missing or damaged."""
    for name in _meta(path)["arrays"]:
        array = ShardedArray(path, name)
        count, rows = array.grid.shape[0], array.grid.shard[0]
        for t0 in range(0, count, rows):
            array.read(_rows(array, t0, min(t0 + rows, count)))


def read_survey_attrs(path: Place) -> dict[str, Any]:
    """The plain values alone."""
    return dict(_meta(path)["attrs"])


def is_finished(path: Place) -> bool:
    """Whether this is a survey, or was about to become one."""
    try:
        return bool(_meta(path))
    except StoreError:
        return False


def read_survey_digest(path: Place) -> str:
    """The digest that the survey was finished with."""
    return str(_meta(path)["digest"])


def _meta(path: Place) -> dict[str, Any]:
    meta = read_json(path / "zarr.json", what="survey").get("attributes", {}).get("deblur")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise StoreError(f"{path} is not a survey of format {FORMAT}: run again, it is made anew")
    told = {key: value for key, value in meta.items() if key != "own"}
    if meta.get("own") != digest_of(told):
        raise StoreError(f"the survey at {path} is damaged: remove that folder and run again")
    return told


def _grid(shape: tuple[int, ...], rows: int) -> Grid:
    """Shards of so many rows; a chunk is one row where rows are large, else the shard."""
    held = max(1, min(rows, shape[0]))
    one = 1 if math.prod(shape[1:]) >= 1 << 12 else held
    return Grid(shape, (one, *shape[1:]), (held, *shape[1:]))


def _axes(shape: tuple[int, ...]) -> tuple[str, ...]:
    return AXES if len(shape) == len(AXES) else ("t", "row", "component")[: len(shape)]


def _rows(array: ShardedArray, t0: int, t1: int) -> Region:
    count, *rest = array.grid.shape
    if not 0 <= t0 < t1 <= count:
        raise StoreError(f"{array.name!r} of the survey at {array.path} has {count} rows, not {t0}..{t1}")
    return ((t0, t1), *((0, extent) for extent in rest))


def _place(survey: Place, key: str) -> Place:
    return survey.with_name(f".{survey.name}.{key}.draft")


def sweep(survey: Place, *, but: str = "") -> None:
    """Remove what is left over of surveys, but not the draft that somebody goes on with."""
    for draft in left_over(survey, but=but):
        remove_tree(draft)


def left_over(survey: Place, *, but: str = "") -> list[Place]:
    """The drafts of others that are known to be gone, and what late workers wrote into finished ones.

    While there is no survey a finished one is none: who died as he put it in its place left it instead.
    """
    there, found = survey.exists(), []
    for path in survey.parent.glob(f".{survey.name}.*.draft"):
        gone = not (path / ABOUT).exists()
        if not gone and path != _place(survey, but):
            owner = Owner(**read_json(path / ABOUT, what="draft of a survey")["owner"])
            gone = owner.is_gone() and (there or not is_finished(path))
        if gone:
            found.append(path)
    return found
