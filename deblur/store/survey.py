"""The survey beside its source: a dictionary of arrays and one of plain values, kept as a Zarr group."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import StoreError
from deblur.place import Place, told
from deblur.store import zarrs
from deblur.store.arrays import codecs, create_group, zarr_settings
from deblur.store.durable import canonical, digest_of, read_json, replacing

FORMAT = 1
CHUNK_BYTES = 4 << 20


def write_survey(path: Place, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> str:
    """Store a survey at `path`, whole or not at all; an earlier one is replaced. Returns its digest.

    Array names are made of letters, digits and underscores. `attrs` must be JSON-able.
    """
    import zarr
    from zarr.storage import LocalStore

    canonical(dict(attrs))
    bad = [name for name in arrays if not name.isidentifier()]
    if bad:
        raise StoreError(f"{bad[0]!r} can't name an array of the survey: use letters, digits and underscores")
    digest = survey_digest(arrays, attrs)
    with replacing(path) as staging:
        meta = {"format": FORMAT, "digest": digest, "attrs": dict(attrs), "arrays": sorted(arrays)}
        create_group(staging, {"deblur": meta})
        with zarr_settings():
            for name, values in arrays.items():
                array = zarr.create_array(
                    LocalStore(staging),
                    name=name,
                    shape=values.shape,
                    dtype=values.dtype,
                    chunks=_chunk(values),
                    compressors=codecs(),
                    fill_value=0,
                    zarr_format=3,
                )
                array[...] = values
    return digest


def read_survey(path: Place) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All arrays and plain values. StoreError where there is none, or where it isn't what was written."""
    meta = _meta(path)
    arrays = {name: _read(path, name, ...) for name in meta["arrays"]}
    if survey_digest(arrays, meta["attrs"]) != meta["digest"]:
        raise StoreError(f"the survey at {path} is damaged: remove that folder and run again")
    return arrays, dict(meta["attrs"])


def read_survey_part(path: Place, name: str, t0: int, t1: int) -> NDArray[Any]:
    """Rows t0..t1 of one array, without reading the rest (its chunks carry checksums)."""
    if name not in _meta(path)["arrays"]:
        raise StoreError(f"the survey at {path} has no array {name!r}: remove that folder and run again")
    return _read(path, name, slice(t0, t1))


def read_survey_attrs(path: Place) -> dict[str, Any]:
    """The plain values alone."""
    return dict(_meta(path)["attrs"])


def read_survey_digest(path: Place) -> str:
    """The digest that `write_survey` returned."""
    return str(_meta(path)["digest"])


def survey_digest(arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> str:
    """The sha256 of everything in a survey."""
    parts = {
        name: [
            str(values.dtype),
            list(values.shape),
            hashlib.sha256(np.ascontiguousarray(values).data).hexdigest(),
        ]
        for name, values in arrays.items()
    }
    return digest_of({"arrays": parts, "attrs": dict(attrs)})


def _meta(path: Place) -> dict[str, Any]:
    meta = read_json(path / "zarr.json", what="survey").get("attributes", {}).get("deblur")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise StoreError(f"{path} is not a survey of format {FORMAT}: remove that folder and run again")
    return meta


def _read(path: Place, name: str, rows: Any) -> NDArray[Any]:
    import zarr

    store, top = zarrs.reading(path)
    with zarr_settings():
        try:
            with told(path):
                array = zarr.open_array(store, path=f"{top}/{name}", mode="r", zarr_format=3)
                return np.asarray(array[rows])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            message = " ".join(str(error).split())
            raise StoreError(
                f"{name!r} of the survey at {path} is damaged ({message}): remove that folder and run again"
            ) from None


def _chunk(values: NDArray[Any]) -> tuple[int, ...]:
    """Rows of a few megabytes: a worker reads the frames it needs, not the sequence."""
    if values.ndim == 0:
        return ()
    row = max(1, math.prod(values.shape[1:]) * values.itemsize)
    return max(1, min(len(values), CHUNK_BYTES // row)), *(max(1, extent) for extent in values.shape[1:])
