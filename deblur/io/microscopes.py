"""Microscopes' own formats through bioio and its plugins; z and positions (scenes) become planes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError, ReadError
from deblur.io.planes import suffix as plane_suffix
from deblur.io.reader import Reader, ReadOptions, channel_names, check_count, check_dtype, check_size, stem
from deblur.io.stack import BROKEN, OpenFile, StackReader, broken, library, stored, widened
from deblur.types import FrameInfo, SequenceHeader

KIND = "microscope's file"
# What each plugin reads and tifffile doesn't; bioio finds the plugins that are installed.
PLUGINS = {
    ".czi": "bioio-czi",
    ".nd2": "bioio-nd2",
    ".lif": "bioio-lif",
    ".dv": "bioio-dv",
    ".sldy": "bioio-sldy",
    ".ims": "bioio-bioformats",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".vsi": "bioio-bioformats",
    ".lsm": "bioio-tifffile",
}


def matches(path: str) -> bool:
    """One file of a microscope's own format."""
    return Path(path).suffix.lower() in PLUGINS and Path(path).is_file()


def open_microscope(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The sequences of a microscope's file: one, or one for each position and z.

    Raises ReadError for damage and beyond the limits, ConfigError where bioio or the format's plugin is not installed.
    """
    bioio = library("bioio", what=path, extra="microscopes")
    unsupported = library("bioio_base.exceptions", what=path, extra="microscopes").UnsupportedFileFormatError
    plugin = PLUGINS[Path(path).suffix.lower()]
    if find_spec(plugin.replace("-", "_")) is None:
        raise ConfigError(f"{path} can't be read here (bioio lacks its plugin): pip install {plugin}")
    try:
        image = bioio.BioImage(path)
        file = OpenFile(Path(path), lambda: None)  # the plugins open it anew for each plane
        readers = [
            reader for number in range(len(image.scenes)) for reader in _readers(file, image, number, options)
        ]
    except unsupported:  # it tells of plugins, whatever is wrong
        raise ReadError(f"{path} is broken, {plugin} can't read it: copy it again or leave it out") from None
    except _faults() as error:
        raise broken(path, error, kind=KIND) from error
    check_count(path, sum(len(reader.frames) for reader in readers), options.limits)
    return tuple(readers)


def _readers(file: OpenFile, image: Any, scene: int, options: ReadOptions) -> Iterator[StackReader]:
    image.set_scene(scene)
    path, dims = str(file.path), image.dims
    kind = np.dtype(image.dtype)
    samples = dims.S if "S" in dims.order else 1
    shape = (int(dims.C * samples), int(dims.Y), int(dims.X))
    check_size(path, shape, widened(kind), limits=options.limits)
    check_count(path, int(dims.T), options.limits)
    others = [axis for axis in dims.order if axis not in "TCYXS"]
    extent = tuple(int(dims[axis][0]) for axis in others)
    prefix = f"/p{scene:03d}" if len(image.scenes) > 1 else ""
    interval = _seconds(image.time_interval)
    for steps in product(*(range(length) for length in extent)):
        place = dict(zip(others, steps, strict=True))
        suffix = prefix + plane_suffix(others, extent, steps)
        header = SequenceHeader(
            name=stem(path) + suffix,
            shape=shape,
            dtype=check_dtype(path, widened(kind)),
            channels=_channels(image, shape[0]),
            frame_rate=1 / interval if interval and dims.T > 1 else None,
            pixel_size=_pixel_size(image),
            metadata={"format": Path(path).suffix[1:].upper(), **stored(kind)},
        )
        times = [None if interval is None else number * interval for number in range(int(dims.T))]
        frames = [FrameInfo(f"{file.path.name}{suffix}#{number}", time) for number, time in enumerate(times)]
        yield StackReader(
            header,
            frames,
            file,
            partial(_plane, image, scene, place),
            kind=KIND,
        )


def _plane(image: Any, scene: int, place: dict[str, int], index: int) -> NDArray[Any]:
    """(c, y, x) of one frame, the samples of colours as channels."""
    image.set_scene(scene)
    order = "CSYX" if "S" in image.dims.order else "CYX"
    lazy = image.get_image_dask_data(order, T=index, **place)
    try:
        data = np.asarray(lazy.compute(scheduler="synchronous"))
    except _faults() as error:
        raise broken(f"frame {index}", error, kind=KIND) from error
    return data.reshape(-1, *data.shape[-2:])


def _faults() -> tuple[type[Exception], ...]:
    """What is raised for damage; the exceptions of CZI's library have nothing in common but where they come from."""
    czi = vars(sys.modules["_aicspylibczi"]) if "_aicspylibczi" in sys.modules else {}
    return (*BROKEN, *(value for name, value in czi.items() if name.startswith("PylibCZI_")))


def _channels(image: Any, count: int) -> tuple[str, ...]:
    names = tuple(map(str, image.channel_names or ()))
    return names if len(names) == count and len(set(names)) == count else channel_names(count)


def _pixel_size(image: Any) -> tuple[float, float, str] | None:
    size = image.physical_pixel_sizes
    return (float(size.Y), float(size.X), "µm") if size.Y and size.X else None


def _seconds(interval: Any) -> float | None:
    """bioio gives a timedelta or a number of seconds."""
    value = interval.total_seconds() if hasattr(interval, "total_seconds") else interval
    return float(value) if isinstance(value, int | float) and value > 0 else None
