"""HDF5 stacks through h5py: NeXus, or any file with data sets of three axes and more.

Axes are named by dimension labels; without any they are (t, y, x), (t, c, y, x) or (t, c, z, y, x). What tells of them
is taken from NeXus' fields (https://manual.nexusformat.org/classes/base_classes/NXdata.html), or from attributes of the
data set or the groups above it: `frame_rate`, `exposure_time` (seconds), `element_size_um` (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deblur.errors import ReadError
from deblur.io.ome import SECONDS as SYMBOLS
from deblur.io.reader import Reader, ReadOptions, check_chunk, check_count
from deblur.io.stack import BROKEN, broken, library
from deblur.io.zarr_store import GUESS, Image, letter, readers_of
from deblur.types import ReadLimits

SUFFIXES = (".h5", ".hdf5", ".he5", ".nxs", ".nx5")
SECONDS = SYMBOLS | {"sec": 1.0, "second": 1.0, "seconds": 1.0}


def matches(path: str) -> bool:
    """One HDF5 file."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def open_hdf5(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The sequences of an HDF5 file: of the data that NeXus names as the signal, else of every data set of three axes or
    more, by its name where there are several; z and positions give one each.

    Raises ReadError for damage, where there is no such data set, for pixels that lie in other files, and beyond the
    limits; ConfigError where h5py is not installed.
    """
    h5py = library("h5py", what=path, extra="hdf5")
    try:
        file = h5py.File(path, "r", locking="best-effort")
        found = list(_signals(file)) or list(_stacks(file))
        if not found:
            raise ReadError(f"{path} holds no data set of three axes or more: leave it out")
        readers = [
            reader
            for data in found
            for reader in readers_of(
                path, _image(path, data, options.limits, several=len(found) > 1), options
            )
        ]
    except BROKEN as error:
        raise broken(path, error, kind="HDF5") from error
    check_count(path, sum(len(reader.frames) for reader in readers), options.limits)
    return tuple(readers)  # the file closes when the last of them lets go of its data set


def _signals(file: Any) -> Iterator[Any]:
    """What NeXus says is to be shown: `default` leads from group to group, `signal` names the data set."""
    group = file
    for _ in range(10):  # a file that leads in a circle is damaged
        name = group.attrs.get("default")
        if not isinstance(name, str) or name not in group:
            break
        group = group[name]
    name = group.attrs.get("signal")
    if isinstance(name, str) and name in group and _is_stack(group[name]):
        yield group[name]


def _stacks(file: Any) -> Iterator[Any]:
    """Every stack in the order of names; links into other files are not followed."""
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if _is_stack(item) else None)
    yield from found


def _is_stack(item: Any) -> bool:
    shape = getattr(item, "shape", None)
    kind = getattr(item, "dtype", np.dtype(object)).kind
    return shape is not None and len(shape) >= 3 and min(shape[-2:]) > 1 and kind in "uif"


def _image(path: str, data: Any, limits: ReadLimits, *, several: bool) -> Image:
    name = data.name.strip("/").replace("/", "-")
    if data.external or (data.is_virtual and any(part.file_name != "." for part in data.virtual_sources())):
        raise ReadError(f"{path}: the pixels of {data.name} lie in other files: repack it into one")
    size = math.prod(data.chunks or (1,)) * data.dtype.itemsize
    check_chunk(path, size, limits)
    labels = [dimension.label for dimension in data.dims]
    if not all(labels) and data.ndim not in GUESS:
        raise ReadError(f"{path}: {data.name} has {data.ndim} axes without labels: label its dimensions")
    axes = "".join(map(letter, labels)) if all(labels) else GUESS[data.ndim]
    told = _told(data)
    scale, units = _size(told)
    rate = _number(told.get("frame_rate"))
    if rate:
        scale, units = scale | {"t": 1 / rate}, units | {"t": "second"}
    return Image(
        data,
        axes,
        scale,
        units,
        (),
        "HDF5",
        f"/{name}" if several else "",
        times=_times(data),
        exposure=_exposure(data, told),
    )


def _told(data: Any) -> Mapping[str, Any]:
    """The attributes of a data set and of the groups above it; the nearest counts."""
    told: dict[str, Any] = {}
    group = data
    while True:
        told = dict(group.attrs) | told
        if group.name == "/":
            return told
        group = group.parent


def _size(told: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    size = np.ravel(told.get("element_size_um", ()))
    if size.size != 3 or size.dtype.kind not in "fiu" or not (size > 0).all():
        return {}, {}
    return {"y": float(size[1]), "x": float(size[2])}, dict.fromkeys("yx", "micrometer")


def _times(data: Any) -> Sequence[float]:
    """The seconds of each frame, from the data set that NeXus' `axes` names for the first axis."""
    names = data.parent.attrs.get("axes", ())
    first = names if isinstance(names, str) else next(iter(names), "")
    scale: Any = data.parent.get(first) if first else None
    unit = SECONDS.get(str(getattr(scale, "attrs", {}).get("units", "")))
    if unit is None or getattr(scale, "shape", None) != data.shape[:1]:
        return ()
    times = np.asarray(scale[:], np.float64) * unit
    return tuple(times.tolist()) if np.isfinite(times).all() and (np.diff(times) > 0).all() else ()


def _exposure(data: Any, told: Mapping[str, Any]) -> float | None:
    """NeXus' count_time beside the data, else the attribute."""
    counted = data.parent.get("count_time")
    if getattr(counted, "size", 0) == 1:
        unit = SECONDS.get(str(counted.attrs.get("units", "s")), 0.0)
        return _number(float(np.ravel(counted[()])[0]) * unit)
    return _number(told.get("exposure_time"))


def _number(value: Any) -> float | None:
    number = float(value) if isinstance(value, int | float | np.number) else 0.0
    return number if 0 < number < float("inf") else None
