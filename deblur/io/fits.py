"""FITS through astropy: cubes, files with an image an extension, and folders with a file an exposure.

Rows are kept in the file's order. Of the header the exposure, the time, the scale and the world coordinates are carried
on. FITS standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.ome import SECONDS
from deblur.io.pictures import Picture
from deblur.io.planes import Plane, layout
from deblur.io.reader import Reader, ReadOptions, channel_names, check_count, check_dtype, check_size, stem
from deblur.io.stack import BROKEN, OpenFile, StackReader, broken, library, stored, widened
from deblur.types import FrameInfo, SequenceHeader

SUFFIXES = (".fits", ".fit", ".fts", ".fz")
NO_LIGHT = ("ERR", "DQ", "WHT", "CTX", "VAR", "IVAR", "MASK", "UNCERT", "SAMP")  # companions of an image
TIMES = ("TIME", "UTC", "TAI", "TT", "TDB")
EXPOSURES = ("EXPTIME", "EXPOSURE", "XPOSURE")
CARRIED = ("OBJECT", "TELESCOP", "INSTRUME", "FILTER", "DATE-OBS", "BUNIT", "RADESYS", "EQUINOX", "WCSAXES")
WORLD = ("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "CROTA", "CD", "PC", "PV", "LONPOLE", "LATPOLE")
ARCSECONDS = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "": 3600.0}  # degrees unless it is said


def matches(path: str) -> bool:
    """One FITS file."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def open_fits(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The sequences of a FITS file: a cube's planes, or the images of extensions that are alike.

    An axis whose CTYPE tells of time runs over frames, else the slowest axis without a CTYPE does; a third axis of
    length 3 without a CTYPE is colour. Any other axis gives sequences of its own. Extensions of errors, masks and weights
    are left out. Raises ReadError for damage, where there is no image, and beyond the limits; ConfigError where astropy
    is not installed.
    """
    with _telling(path):
        hdus = _opened(path)
    file = OpenFile(Path(path), hdus.close)
    try:
        with _telling(path):
            groups = _groups(path, hdus)
            readers = [
                reader
                for name, group in groups.items()
                for reader in _readers(file, group, f"/{name}" if len(groups) > 1 else "", options)
            ]
        check_count(path, sum(len(reader.frames) for reader in readers), options.limits)
    except BaseException:
        file.force_close()
        raise
    return tuple(readers)


def read_single_header(path: Path) -> Picture:
    """The header of a FITS file of one picture. Raises ReadError for several, and for damage."""
    with _telling(str(path)), _opened(str(path)) as hdus:
        hdu = _only(path, hdus)
        axes, extent = _axes(hdu)
        if any(length > 1 for axis, length in zip(axes, extent, strict=True) if axis != "C"):
            raise ReadError(f"{path} holds a cube: open such a file by itself")
        kind = _dtype(str(path), hdu)
        time, exposure = _when(hdu.header)
        notes = {**_notes(hdu.header), **stored(_stored(hdu))}
        shape = (math.prod(extent), *hdu.shape[-2:])
        return Picture(shape, kind, None, "linear", time, exposure, notes, _scale(hdu.header))


def read_single_pixels(path: Path) -> NDArray[Any]:
    """The (c, y, x) pixels of a FITS file that holds one picture. Raises ReadError when it is broken."""
    with _telling(str(path)), _opened(str(path)) as hdus:
        hdu = _only(path, hdus)
        return _decoded(hdu, range(math.prod(hdu.shape[:-2])))


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """What astropy raises for damage as ReadErrors; it warns of much that doesn't matter here."""
    exceptions = library("astropy.utils.exceptions", what=name, extra="fits")
    verify = library("astropy.io.fits", what=name, extra="fits").VerifyError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.AstropyWarning)
            yield
    except (*BROKEN, verify) as error:
        raise broken(name, error, kind="FITS") from error


def _opened(path: str) -> Any:
    """Read rather than mapped: a mapped file that somebody cuts kills the process."""
    return library("astropy.io.fits", what=path, extra="fits").open(path, memmap=False)


def _images(hdus: Any) -> list[Any]:
    return [
        hdu
        for hdu in hdus
        if hdu.is_image and len(hdu.shape) >= 2 and hdu.header.get("EXTNAME", "") not in NO_LIGHT
    ]


def _groups(path: str, hdus: Any) -> Mapping[str, Sequence[Any]]:
    """Images that are alike, by the name of their extensions or, where they have none, by a number."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for number, hdu in enumerate(_images(hdus)):
        single = all(axis == "C" for axis in _axes(hdu)[0])
        alike = (hdu.header.get("EXTNAME", ""), hdu.shape, _stored(hdu).name)
        found.setdefault(alike if single else (*alike, number), []).append(hdu)
    where = hdus[-1].fileinfo()
    if Path(path).stat().st_size > where["datLoc"] + where["datSpan"]:
        raise ReadError(f"{path} ends in something that is no FITS, it may be cut off: copy it again")
    if not found:
        raise ReadError(f"{path} holds no image, tables at the most: leave it out")
    names = [str(key[0]).lower() or str(number) for number, key in enumerate(found)]
    counted = len(set(names)) < len(names)
    numbered = [f"{name}-{number}" if counted else name for number, name in enumerate(names)]
    return dict(zip(numbered, found.values(), strict=True))


def _only(path: Path, hdus: Any) -> Any:
    images = _images(hdus)
    if len(images) != 1:
        raise ReadError(f"{path} holds {len(images)} images: open such a file by itself, or leave it out")
    return images[0]


def _readers(file: OpenFile, hdus: Sequence[Any], suffix: str, options: ReadOptions) -> Iterator[StackReader]:
    """Of images that are alike and one a frame, one sequence; of a cube as many as its axes make."""
    first, path = hdus[0], str(file.path)
    kind = _dtype(path, first)
    axes, extent = _axes(first)
    planes = layout(axes, extent)
    channels = len(planes[0].groups[0])
    shape = (channels, *first.shape[-2:])
    check_size(path, shape, kind, limits=options.limits)
    check_count(path, len(planes) * len(planes[0].groups) * len(hdus), options.limits)
    interval = _interval(first.header, axes) if len(hdus) == 1 else None
    for plane in planes:
        frames = [(hdu, group) for hdu in hdus for group in plane.groups]
        header = SequenceHeader(
            name=stem(path) + suffix + plane.suffix,
            shape=shape,
            dtype=kind,
            channels=channel_names(channels),
            frame_rate=1 / interval if interval else None,
            transfer="linear",
            pixel_size=_scale(first.header),
            metadata={"format": "FITS", **_notes(first.header), **stored(_stored(first))},
        )
        infos = tuple(_infos(file.path.name + suffix + plane.suffix, frames, plane, interval))
        yield StackReader(header, infos, file, partial(_frame, path, frames), kind="FITS")


def _infos(
    name: str, frames: Sequence[tuple[Any, Any]], plane: Plane, interval: float | None
) -> Iterator[FrameInfo]:
    for number, (hdu, _) in enumerate(frames):
        time, exposure = _when(hdu.header)
        if len(plane.groups) > 1:  # the header tells of the whole cube
            time = None if interval is None else number * interval
            exposure = None if exposure is None or (interval and exposure > interval) else exposure
        yield FrameInfo(f"{name}#{number}", time, exposure)


def _axes(hdu: Any) -> tuple[str, tuple[int, ...]]:
    """Letters for the axes over planes, slowest first, and their lengths."""
    depth = len(hdu.shape)
    kinds = [str(hdu.header.get(f"CTYPE{number}", "")).strip().upper() for number in range(depth, 2, -1)]
    timed = any(kind in TIMES for kind in kinds)
    letters: list[str] = []
    for place, kind in enumerate(kinds):
        colour = place == depth - 3 and hdu.shape[place] == 3 and kind in ("", "RGB")
        if kind in TIMES or (not kind and not timed and not colour):
            letter, timed = "T", True
        else:
            letter = "C" if colour else next(each for each in "SVWABDEFGHJ" if each not in letters)
        letters.append(letter)
    return "".join(letters), hdu.shape[:-2]


def _stored(hdu: Any) -> np.dtype[Any]:
    """The dtype of an image's values; BZERO makes unsigned integers of signed ones, BSCALE floats."""
    return hdu.section[(0,) * (len(hdu.shape) - 1) + (slice(0, 1),)].dtype  # type: ignore[no-any-return]


def _dtype(name: str, hdu: Any) -> str:
    return check_dtype(name, widened(_stored(hdu)))


def _frame(path: str, frames: Sequence[tuple[Any, Sequence[int]]], index: int) -> NDArray[Any]:
    with _telling(f"{path}#{index}"):
        return _decoded(*frames[index])


def _decoded(hdu: Any, numbers: Sequence[int]) -> NDArray[Any]:
    """Planes of an image by their numbers, as (c, y, x)."""
    places = (np.unravel_index(number, hdu.shape[:-2]) if hdu.shape[:-2] else () for number in numbers)
    planes = [hdu.section[(*map(int, place), slice(None), slice(None))] for place in places]
    image = np.stack(planes)
    return image.astype(widened(image.dtype), copy=False)


def _when(header: Any) -> tuple[float | None, float | None]:
    """(seconds since 1970, exposure time in seconds) of an image, where they are told."""
    exposure = next((_positive(header.get(name)) for name in EXPOSURES if name in header), None)
    try:
        moment = datetime.fromisoformat(str(header.get("DATE-OBS", "")).strip())
    except ValueError:
        return None, exposure
    if "T" not in str(header["DATE-OBS"]):
        return None, exposure  # a day alone doesn't order frames
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp(), exposure


def _interval(header: Any, axes: str) -> float | None:
    """Seconds between the frames of a cube, from the step of its time axis."""
    if "T" not in axes:
        return None
    number = len(axes) + 2 - axes.index("T")
    unit = SECONDS.get(str(header.get(f"CUNIT{number}", "")).strip())
    step = _positive(header.get(f"CDELT{number}"))
    return step * unit if step and unit else None


def _scale(header: Any) -> tuple[float, float, str] | None:
    """Arc seconds a pixel, (y, x)."""
    factors = [ARCSECONDS.get(str(header.get(f"CUNIT{number}", "")).strip().lower()) for number in (2, 1)]
    named = all(header.get(f"CTYPE{number}") for number in (1, 2))
    steps = [
        math.hypot(header.get(f"CD1_{number}", 0.0), header.get(f"CD2_{number}", 0.0))
        or abs(header.get(f"CDELT{number}", 0.0))
        for number in (2, 1)
    ]
    if not named or None in factors or not all(_positive(step) for step in steps):
        return None
    y, x = (step * factor for step, factor in zip(steps, factors, strict=True) if factor)
    return y, x, "arcsec"


def _notes(header: Any) -> dict[str, Any]:
    """What is carried on of the cards: who saw what, and where in the sky."""
    kept = {
        card.keyword: card.value
        for card in header.cards
        if card.keyword in CARRIED or card.keyword.rstrip("0123456789_") in WORLD
    }
    plain = {name: value for name, value in kept.items() if isinstance(value, str | int | float | bool)}
    return {"fits": plain} if plain else {}


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
