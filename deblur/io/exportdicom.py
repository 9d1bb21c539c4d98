"""Frames to DICOM: the original's data set, patient and study included, around new pixels, and what says so.

A derived image by DICOM PS3.3 C.7.6.1: instance and series are new, ImageType, SourceImageSequence and
DerivationDescription tell what was done. Pixels are written uncompressed and with every bit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur import __version__
from deblur.errors import ConfigError, ReadError
from deblur.io.dicom import FORMAT, header_of
from deblur.io.stack import library
from deblur.types import SequenceHeader

LARGEST = 2**32 - 2  # bytes of uncompressed pixels in one file
# Of the old pixels; of a part of the frames; or places elsewhere where pixels lie.
STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "IconImageSequence",
    "PixelDataProviderURL",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DataSetTrailingPadding",
)
PER_FRAME = ("FrameTimeVector", "PerFrameFunctionalGroupsSequence")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
PROCESSING = ("109102", "DCM", "Processing Equipment")


def write_dicom(
    frames: Iterable[NDArray[Any]],
    path: Path,
    *,
    header: SequenceHeader,
    names: Sequence[str],
    original: Path | None,
    series: str = "",
) -> None:
    """A derived image of (c, y, x) frames. `names`: "clip.dcm#17", or the file's own for one of one frame; `original`: the
    file that they came from; `series`: the new series' UID, a new one by default.

    Raises ConfigError where the frames came from no DICOM file, or it is gone, or they are too many for one file.
    """
    if header.metadata.get("format") != FORMAT or original is None or not original.is_file():
        raise ConfigError(f"{path.name}: a .dcm takes its patient and study from a DICOM file that is still there: "
                          "use a folder or .tif for other sources")  # fmt: skip
    try:
        data = header_of(original)
    except ReadError as error:
        raise ConfigError(f"{error} (its patient and study are needed)") from error
    kind = np.dtype(header.metadata.get("stored", header.dtype))
    size = len(names) * int(np.prod(header.shape)) * kind.itemsize
    if size > LARGEST:
        raise ConfigError(
            f"{path.name} would hold {size} bytes, DICOM's limit is {LARGEST}: use a folder or .tif"
        )
    _derive(data, series or new_uid())
    _describe_pixels(data, header, kind, names)
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as stream:
        code = b"OB" if kind.itemsize == 1 else b"OW"
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, code, 0, size + size % 2))
        for frame in frames:
            pixels = np.moveaxis(_as_stored(frame, kind), 0, -1)
            stream.write(np.ascontiguousarray(pixels, kind.newbyteorder("<")).data)
        stream.write(b"\0" * (size % 2))


def new_uid() -> str:
    """A UID that nobody has used."""
    return str(library("pydicom.uid", what="DICOM", extra="dicom").generate_uid())


def _as_stored(frame: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    if frame.dtype == kind:
        return frame
    limits = np.iinfo(kind)  # they were read as floats that hold every value
    return np.asarray(np.clip(np.rint(frame), limits.min, limits.max).astype(kind))


def _derive(data: Any, series: str) -> None:
    """Make the data set one of a new instance that was computed from the old one."""
    dataset = library("pydicom.dataset", what="DICOM", extra="dicom").Dataset
    source = dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [_code(dataset(), *SOURCE_IMAGE)]
    equipment = dataset()
    equipment.Manufacturer, equipment.SoftwareVersions = "deblur", __version__
    equipment.PurposeOfReferenceCodeSequence = [_code(dataset(), *PROCESSING)]
    data.ImageType = ["DERIVED", "SECONDARY", *list(data.get("ImageType") or ())[2:]]
    data.SourceImageSequence = [source]
    data.DerivationDescription = (
        f"Motion blur removed by deblur {__version__}: deconvolution along measured motion"
    )
    data.ContributingEquipmentSequence = [
        *deepcopy(data.get("ContributingEquipmentSequence") or []),
        equipment,
    ]
    data.SOPInstanceUID, data.SeriesInstanceUID, data.SeriesNumber = new_uid(), series, None
    data.SeriesDescription = (
        f"{str(data.get('SeriesDescription') or '')[:55]} deblur".strip()
    )  # 64 letters at most
    now = datetime.now()
    data.InstanceCreationDate, data.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = library(
        "pydicom.uid", what="DICOM", extra="dicom"
    ).ExplicitVRLittleEndian


def _code(item: Any, value: str, scheme: str, meaning: str) -> Any:
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _describe_pixels(data: Any, header: SequenceHeader, kind: np.dtype[Any], names: Sequence[str]) -> None:
    """What the data set says of pixels, true of the new ones; frames that were left out take their notes with them."""
    for name in STALE:
        if name in data:
            del data[name]
    kept = [int(number) for number in (name.rpartition("#")[2] for name in names) if number.isdecimal()]
    for name in PER_FRAME:
        values = list(data.get(name) or ())
        if values and len(values) != len(names):
            setattr(data, name, [values[number] for number in kept if number < len(values)])
    if len(names) > 1 or "NumberOfFrames" in data:
        data.NumberOfFrames = len(names)
    colour = header.shape[0] == 3
    data.Rows, data.Columns = header.shape[1:]
    data.SamplesPerPixel, data.BitsAllocated = header.shape[0], kind.itemsize * 8
    if colour:
        data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
