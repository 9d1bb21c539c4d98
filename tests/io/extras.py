"""Sources in the formats that extras read, made for the contract suite, and how to break one of their frames."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

WHITE = 16383  # of raw photographs
TO_CAMERA = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)  # XYZ to linear sRGB


def write_fits(root: Path, frames: NDArray[Any]) -> str:
    """A cube: time is the slowest axis, colour the next where there are three."""
    from astropy.io import fits

    cube = frames[:, 0] if frames.shape[1] == 1 else frames
    fits.PrimaryHDU(cube).writeto(root / "cube.fits")
    return str(root / "cube.fits")


def write_fits_extensions(root: Path, frames: NDArray[Any]) -> str:
    from astropy.io import fits

    images = [fits.ImageHDU(frame[0] if len(frame) == 1 else frame) for frame in frames]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(root / "night.fits")
    return str(root / "night.fits")


def spoil_fits(root: Path) -> int:
    """Cut the file off in the middle of its last frame."""
    from astropy.io import fits

    (path,) = root.glob("*.fits")
    with fits.open(path) as hdus:
        last, start = hdus[-1].data, hdus[-1].fileinfo()["datLoc"]
    frame = last.nbytes // (len(last) if len(hdus) == 1 else 1)
    path.write_bytes(path.read_bytes()[: start + last.nbytes - frame // 2])
    return 6


def write_hdf5(root: Path, frames: NDArray[Any]) -> str:
    import h5py

    with h5py.File(root / "stack.h5", "w") as file:
        data = file.create_dataset(
            "entry/data", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip"
        )
        for number, name in enumerate("tcyx"):
            data.dims[number].label = name
    return str(root / "stack.h5")


def spoil_hdf5(root: Path) -> int:
    import h5py

    with h5py.File(root / "stack.h5") as file:
        found = file["entry/data"].id.get_chunk_info(3)
    _scribble(root / "stack.h5", found.byte_offset, found.size)
    return 3


def data_set(frames: NDArray[Any]) -> Any:
    """A DICOM data set of (t, c, y, x) frames, uncompressed."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    count, channels, height, width = frames.shape
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientName, data.PatientID, data.Modality, data.SeriesNumber = "Doe^Jane", "7", "US", 3
    data.ImageType, data.NumberOfFrames = ["ORIGINAL", "PRIMARY", "CARDIAC"], count
    data.Rows, data.Columns, data.SamplesPerPixel = height, width, channels
    data.PhotometricInterpretation = "MONOCHROME2" if channels == 1 else "RGB"
    data.BitsAllocated = data.BitsStored = frames.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(frames.dtype.kind == "i")
    if channels > 1:
        data.PlanarConfiguration = 0
    body = np.ascontiguousarray(np.moveaxis(frames, 1, -1)).tobytes()
    data.PixelData = body + b"\0" * (len(body) % 2)
    data["PixelData"].VR = "OB" if frames.dtype.itemsize == 1 else "OW"
    return data


def write_dicom(root: Path, frames: NDArray[Any]) -> str:
    data_set(frames).save_as(root / "loop.dcm", enforce_file_format=True)
    return str(root / "loop.dcm")


def write_dicom_rle(root: Path, frames: NDArray[Any]) -> str:
    """Frames compressed one by one."""
    from pydicom.uid import RLELossless

    data = data_set(frames)
    data.compress(RLELossless, encoding_plugin="pydicom")
    data.save_as(root / "loop.dcm", enforce_file_format=True)
    return str(root / "loop.dcm")


def spoil_dicom_rle(root: Path) -> int:
    """The fourth frame begins with a number of segments that it can't have."""
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    path = root / "loop.dcm"
    frames = list(generate_frames(dcmread(path).PixelData, number_of_frames=7))
    _scribble(path, path.read_bytes().index(frames[3]), 8)
    return 3


def cut(name: str) -> Any:
    """Cut the file's end off; what is not packed has no broken frame, so that all of it is refused."""

    def spoil(root: Path) -> int:
        path = root / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return -1

    return spoil


def write_czi(root: Path, frames: NDArray[Any]) -> str:
    from pylibCZIrw import czi

    with czi.create_czi(str(root / "cells.czi")) as document:
        for time, frame in enumerate(frames):
            for channel, plane in enumerate(frame):
                document.write(plane[..., None], plane={"T": time, "C": channel, "Z": 0})
    return str(root / "cells.czi")


def write_dv(root: Path, frames: NDArray[Any]) -> str:
    """DeltaVision's, of one channel."""
    import mrc

    mrc.imsave(str(root / "cells.dv"), frames[:, 0], zAxisOrder="t")
    return str(root / "cells.dv")


def write_nd2(root: Path, frames: NDArray[Any]) -> str:
    """A time loop at 10 frames a second, as NIS-Elements 3 lays one out: named chunks, and a map of them at the end."""
    count, channels, height, width = frames.shape
    bits = frames.dtype.itemsize * 8
    dye = {"uiCompCount": 1, "pFluorescentProbe": {"m_uiColor": 255}}
    planes = {f"a{c}": {"sDescription": f"dye {c}", **dye} for c in range(channels)}
    loop = {"uiCount": count, "dStart": 0.0, "dPeriod": 100.0, "dDuration": 0.0}
    chunks = {
        "ImageAttributesLV!": _lite(
            {
                "SLxImageAttributes": {
                    "uiWidth": width, "uiHeight": height, "uiWidthBytes": width * channels * bits // 8,
                    "uiComp": channels, "uiBpcInMemory": bits, "uiBpcSignificant": bits, "uiSequenceCount": count,
                    "eCompression": 2,
                }
            }
        ),
        "ImageMetadataSeqLV|0!": _lite(
            {
                "SLxPictureMetadata": {
                    "dCalibration": 0.5, "bCalibrated": 1,
                    "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
                }
            }
        ),
        "ImageMetadataLV!": _lite(
            {"SLxExperiment": {"eType": 1, "uLoopPars": loop}}
        ),
        "CustomData|AcqTimesCache!": (np.arange(count) * 100.0).tobytes(),
    }  # fmt: skip
    for number, frame in enumerate(frames):
        stamp = struct.pack("<d", 100.0 * number)
        chunks[f"ImageDataSeq|{number}!"] = stamp + np.moveaxis(frame, 0, -1).tobytes()
    path = root / "cells.nd2"
    with path.open("wb") as file:
        _chunk(file, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"))
        listed = b""
        for name, body in chunks.items():
            at = _chunk(file, name.encode().ljust(4072, b"\0"), body)  # so that pixels begin at a page
            listed += name.encode() + struct.pack("<QQ", at, len(body))
        listed += (end := b"ND2 CHUNK MAP SIGNATURE 0000001!")
        at = _chunk(file, b"ND2 FILEMAP SIGNATURE NAME 0001!", listed)
        file.write(end + struct.pack("<Q", at))
    return str(path)


def _chunk(file: Any, name: bytes, body: bytes) -> int:
    at: int = file.tell()
    file.write(struct.pack("<IIQ", 0x0ABECEDA, len(name), len(body)) + name + body)
    return at


def _lite(tree: dict[str, Any]) -> bytes:
    """ND2's binary form of nested values: type, length of the name, name, value; a level is followed by a table."""
    out = b""
    for name, value in tree.items():
        head = f"{name}\0".encode("utf-16-le")
        start = len(head) // 2
        if isinstance(value, dict):
            body = _lite(value)
            size = 2 + len(head) + 12 + len(body)
            out += (
                bytes([11, start])
                + head
                + struct.pack("<IQ", len(value), size)
                + body
                + bytes(8 * len(value))
            )
        elif isinstance(value, str):
            out += bytes([8, start]) + head + f"{value}\0".encode("utf-16-le")
        else:
            kind, form = (6, "<d") if isinstance(value, float) else (3, "<I")
            out += bytes([kind, start]) + head + struct.pack(form, value)
    return out


def write_dng(path: Path, colour: tuple[float, float, float], *, exposure: float = 0.008) -> None:
    """A flat colour (linear sRGB, 0 to 1) behind an RGGB mosaic, of a camera that sees as sRGB does."""
    mosaic = np.empty((64, 96), np.uint16)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = round(colour[channel] * WHITE)
    matrix = tuple(value for part in TO_CAMERA for value in (round(part * 10000), 10000))
    tags = [
        (271, "s", 0, "Synthetic", True),
        (272, "s", 0, "Camera", True),
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes((0, 1, 1, 2)), True),  # CFAPattern
        (33434, "2I", 1, (round(exposure * 1e6), 1_000_000), True),
        (50706, "B", 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50708, "s", 0, "Synthetic Camera", True),
        (50717, "I", 1, WHITE, True),  # WhiteLevel
        (50721, "2i", 9, matrix, True),  # ColorMatrix1
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None)


def write_dngs(root: Path, frames: NDArray[Any]) -> str:
    """A raw photograph a frame, of its mean colour."""
    for number, frame in enumerate(frames):
        write_dng(root / f"{number}.dng", tuple(frame.mean(axis=(1, 2)) / 65535))
    return str(root)


def _scribble(path: Path, start: int, size: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xa5" * size)
