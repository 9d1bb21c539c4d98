"""DICOM cine loops and series through pydicom: a multi-frame file, or a folder with a file a frame.

Stored values are kept, whatever the modality makes of them. Nothing that tells of a patient enters the archive; an export
takes it from the original file. DICOM PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.pictures import Picture
from deblur.io.reader import Reader, ReadOptions, channel_names, check_count, check_dtype, check_size, stem
from deblur.io.stack import BROKEN, OpenFile, StackReader, broken, library, stored, widened
from deblur.types import FrameInfo, SequenceHeader

SUFFIXES = (".dcm", ".dicom", ".ima")
REFUSED = {
    "PALETTE COLOR": "has a palette, which holds no light to deblur: convert it to RGB",
    "ARGB": "has an alpha channel, which is not read: flatten it",
    "CMYK": "holds CMYK inks: convert it to RGB",
}
FORMAT = "DICOM"


def matches(path: str) -> bool:
    """One DICOM file."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def open_dicom(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The frames of a DICOM file as one sequence.

    Raises ReadError for damage, palettes and alpha channels, and beyond the limits; ConfigError where pydicom is not
    installed.
    """
    data = header_of(Path(path))
    with _telling(path):
        shape, kind = _kind(path, data)
        check_size(path, shape, kind.name, limits=options.limits)
        count = int(data.get("NumberOfFrames") or 1)
        check_count(path, count, options.limits)
        _check_length(path, data, count)
        times, rate = _clock(data, count)
        title, exposure = Path(path).name, _exposure(data, count)
        header = SequenceHeader(
            name=stem(path),
            shape=shape,
            dtype=widened(kind).name,
            channels=channel_names(shape[0]),
            bits=_bits(data, kind),
            frame_rate=rate,
            transfer=_transfer(data, shape),
            pixel_size=_pixel_size(data),
            metadata={"format": FORMAT, **_notes(data), **stored(kind)},
        )
    frames = [FrameInfo(f"{title}#{number}", time, exposure) for number, time in enumerate(times)]
    file = OpenFile(Path(path), lambda: None)  # pydicom opens it anew for each frame
    return (StackReader(header, frames, file, lambda index: _decoded(Path(path), index), kind=FORMAT),)


def read_single_header(path: Path) -> Picture:
    """The header of a DICOM file of one picture. Raises ReadError for several, and for damage."""
    data = header_of(path)
    with _telling(str(path)):
        count = int(data.get("NumberOfFrames") or 1)
        if count > 1:
            raise ReadError(f"{path} holds {count} frames: open such a file by itself")
        shape, kind = _kind(str(path), data)
        _check_length(str(path), data, 1)
        notes = {**_notes(data), **stored(kind)}
        return Picture(
            shape,
            widened(kind).name,
            _bits(data, kind),
            _transfer(data, shape),
            _taken(data),
            _exposure(data, 1),
            notes,
            _pixel_size(data),
        )


def read_single_pixels(path: Path) -> NDArray[Any]:
    """The (c, y, x) pixels of a DICOM file that holds one picture. Raises ReadError when it is broken."""
    image = _decoded(path, 0)
    return image.astype(widened(image.dtype), copy=False)


def header_of(path: Path) -> Any:
    """The data set of a DICOM file without its pixels. Raises ReadError for damage, ConfigError without pydicom."""
    pydicom = library("pydicom", what=str(path), extra="dicom")
    with _telling(str(path)), _Whole(path) as file:
        return pydicom.dcmread(file, stop_before_pixels=True)


class _Whole(BufferedReader):
    """A file of which no more is asked than there is: a length of 4 GiB in a broken one takes no memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """What pydicom raises for damage as ReadErrors; it warns of much that doesn't matter here."""
    errors = library("pydicom.errors", what=name, extra="dicom")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*BROKEN, NotImplementedError, errors.InvalidDicomError, errors.BytesLengthException) as error:
        raise broken(name, error, kind=FORMAT) from error


def _kind(name: str, data: Any) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """((c, y, x), dtype as stored) of the frames."""
    photometric = str(data.get("PhotometricInterpretation", ""))
    if photometric in REFUSED:
        raise ReadError(f"{name} {REFUSED[photometric]}")
    allocated = int(data.get("BitsAllocated", 0))
    if allocated < 8 or "PixelRepresentation" not in data:
        raise ReadError(f"{name} has {allocated} bit(s) a pixel, or no image: leave it out")
    signed = int(data.PixelRepresentation) == 1
    kind = np.dtype(f"{'int' if signed else 'uint'}{allocated}")
    check_dtype(name, widened(kind))
    return (int(data.SamplesPerPixel), int(data.Rows), int(data.Columns)), kind


def _check_length(name: str, data: Any, count: int) -> None:
    """Uncompressed pixels end the file; pydicom tells of missing ones only when it reaches them."""
    if data.file_meta.TransferSyntaxUID.is_compressed:
        return
    photometric = str(data.PhotometricInterpretation)
    samples = 2 if photometric == "YBR_FULL_422" else int(data.SamplesPerPixel)
    size = count * samples * int(data.Rows) * int(data.Columns) * int(data.BitsAllocated) // 8
    found = Path(name).stat().st_size
    if found < size:
        raise ReadError(f"{name} is cut off ({found} bytes, its pixels alone are {size}): copy it again")


def _bits(data: Any, kind: np.dtype[Any]) -> int | None:
    return int(data.BitsStored) if kind.kind == "u" and kind.itemsize < 4 else None


def _decoded(path: Path, index: int) -> NDArray[Any]:
    pixels = library("pydicom.pixels", what=str(path), extra="dicom")
    with _telling(f"{path}#{index}"), _Whole(path) as file:
        image = np.asarray(pixels.pixel_array(file, index=index))
    return image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _clock(data: Any, count: int) -> tuple[Sequence[float | None], float | None]:
    """(seconds from the first frame on, one a frame; frames per second), where they are told."""
    steps = [float(step) / 1000 for step in data.get("FrameTimeVector") or ()]
    if len(steps) == count and min(steps[1:], default=0) > 0:
        times = list(accumulate(steps[1:], initial=0.0))  # the first has nothing before it
        return times, (count - 1) / times[-1]
    interval = float(data.get("FrameTime") or 0) / 1000
    rate = float(data.get("CineRate") or data.get("RecommendedDisplayFrameRate") or 0)
    interval = interval or (1 / rate if rate > 0 else 0.0)
    if interval <= 0 or count == 1:
        return [None] * count, None
    return [number * interval for number in range(count)], 1 / interval


def _exposure(data: Any, count: int) -> float | None:
    """Seconds. ExposureTime is of the whole loop, so for its frames only the pulse's width counts."""
    milliseconds = data.get("AveragePulseWidth") or (data.get("ExposureTime") if count == 1 else None)
    return float(milliseconds) / 1000 if milliseconds and float(milliseconds) > 0 else None


def _transfer(data: Any, shape: tuple[int, int, int]) -> str | None:
    """Grey values of detectors are linear, eight bits or not; colour comes from cameras, as photographs do."""
    return "linear" if shape[0] == 1 and data.get("PixelIntensityRelationship", "LIN") != "LOG" else None


def _pixel_size(data: Any) -> tuple[float, float, str] | None:
    spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    if spacing and min(map(float, spacing)) > 0:
        return float(spacing[0]), float(spacing[1]), "mm"
    regions = data.get("SequenceOfUltrasoundRegions") or ()
    sizes = {(abs(float(r.PhysicalDeltaY)), abs(float(r.PhysicalDeltaX))) for r in regions if _in_cm(r)}
    if len(sizes) != 1 or 0 in next(iter(sizes)):
        return None
    y, x = next(iter(sizes))
    return 10 * y, 10 * x, "mm"


def _in_cm(region: Any) -> bool:
    units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
    return units == (3, 3)


def _taken(data: Any) -> float | None:
    """Seconds since 1970 of one picture, as the scanner's clock without a zone tells."""
    text = str(data.get("AcquisitionDateTime") or "")
    for kind in ("Acquisition", "Content"):
        text = text or str(data.get(f"{kind}Date") or "") + str(data.get(f"{kind}Time") or "")
    try:
        moment = datetime.strptime(text, "%Y%m%d%H%M%S.%f" if "." in text else "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).timestamp()


def _notes(data: Any) -> dict[str, Any]:
    photometric = str(data.PhotometricInterpretation)
    return {"modality": str(data.get("Modality", "")), "photometric": photometric}
