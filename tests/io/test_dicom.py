"""DICOM in and out: clocks, exposure, scale; what a derived image says of itself, and what is kept from the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur.errors import ConfigError, ReadError
from deblur.io import Reader, open_source
from deblur.io.export import export_frames

from .extras import data_set

pydicom = pytest.importorskip("pydicom", reason="DICOM is read by the extra deblur[dicom]; CI installs it")

FRAMES = np.random.default_rng(3).integers(0, 4096, (5, 1, 20, 34)).astype(np.uint16)


def write(path: Path, frames: np.ndarray = FRAMES, **values: Any) -> Path:
    data = data_set(frames)
    for name, value in values.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def opened(path: Path) -> Reader:
    (reader,) = open_source(str(path))
    return reader


def exported(reader: Reader, path: Path, *, original: Path | None, kept: slice = slice(None)) -> Path:
    frames = [reader.read(index) for index in range(len(reader.frames))][kept]
    names = [info.name for info in reader.frames][kept]
    return export_frames(frames, path, header=reader.header, names=names, original=original)


def test_clock_exposure_scale_and_bits(tmp_path: Path) -> None:
    told = {
        "FrameTime": "40",
        "AveragePulseWidth": "8",
        "BitsStored": 12,
        "HighBit": 11,
        "PixelSpacing": ["0.3", "0.2"],
    }
    header = (reader := opened(write(tmp_path / "a.dcm", **told))).header
    assert header.frame_rate == pytest.approx(25)
    assert [info.time for info in reader.frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert reader.frames[1].exposure_time == pytest.approx(0.008)
    assert (header.bits, header.pixel_size, header.transfer) == (12, (0.3, 0.2, "mm"), "linear")
    vector = opened(
        write(tmp_path / "b.dcm", FrameTimeVector=["0", "40", "50", "40", "40"], ExposureTime="99")
    )
    assert [info.time for info in vector.frames] == pytest.approx([0, 0.04, 0.09, 0.13, 0.17])
    assert vector.frames[0].exposure_time is None  # of the whole loop


def test_nothing_of_the_patient_is_read_into_the_archive(tmp_path: Path) -> None:
    header = opened(write(tmp_path / "a.dcm")).header
    assert header.metadata == {"format": "DICOM", "modality": "US", "photometric": "MONOCHROME2"}


def test_a_derived_loop_says_what_it_is(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", FrameTime="40")
    path = exported(opened(source), tmp_path / "out.dcm", original=source)
    old, new = pydicom.dcmread(source), pydicom.dcmread(path)
    assert list(new.ImageType) == ["DERIVED", "SECONDARY", "CARDIAC"]
    assert (new.PatientName, new.StudyInstanceUID, new.SOPClassUID) == (
        old.PatientName,
        old.StudyInstanceUID,
        old.SOPClassUID,
    )
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert new.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "deblur" in new.DerivationDescription
    assert np.array_equal(new.pixel_array, FRAMES[:, 0])
    assert opened(path).header.frame_rate == pytest.approx(25)


def test_signed_values_and_colours_come_back(tmp_path: Path) -> None:
    signed = FRAMES.astype(np.int16) - 2000
    colour = (
        np.random.default_rng(4).integers(0, 256, (3, 3, 21, 33)).astype(np.uint8)
    )  # an odd number of bytes
    for name, frames in (("signed", signed), ("colour", colour)):
        source = write(tmp_path / f"{name}.dcm", frames)
        path = exported(opened(source), tmp_path / f"{name}-out.dcm", original=source)
        pixels = pydicom.dcmread(path).pixel_array
        assert np.array_equal(pixels, frames[:, 0] if name == "signed" else np.moveaxis(frames, 1, -1))


def test_frames_left_out_take_their_times_along(tmp_path: Path) -> None:
    source = write(tmp_path / "a.dcm", FrameTimeVector=["0", "40", "50", "60", "70"])
    path = exported(opened(source), tmp_path / "out.dcm", original=source, kept=slice(0, 5, 2))
    new = pydicom.dcmread(path)
    assert (new.NumberOfFrames, list(new.FrameTimeVector)) == (3, [0, 50, 70])


def test_a_series_of_files_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write(
            tmp_path / "in" / f"i{number}.dcm",
            FRAMES[number : number + 1],
            AcquisitionDateTime=f"2026112220000{number}.5",
            ExposureTime="5",
        )
    (reader,) = open_source(str(tmp_path / "in"), order="time")
    assert [info.exposure_time for info in reader.frames] == [0.005] * 3
    out = exported(reader, tmp_path / "out", original=tmp_path / "in")
    found = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
    assert [path.name for path in sorted(out.iterdir())] == ["i0.dcm", "i1.dcm", "i2.dcm"]
    assert len({data.SeriesInstanceUID for data in found}) == 1
    assert np.array_equal(found[2].pixel_array, FRAMES[2, 0])


@pytest.mark.parametrize("gone", [True, False])
def test_without_a_patient_there_is_no_dicom(tmp_path: Path, gone: bool) -> None:
    source = write(tmp_path / "a.dcm")
    reader = opened(source)
    frames, names = [reader.read(0)], [reader.frames[0].name]
    if gone:
        source.unlink()
    original = source if gone else None
    with pytest.raises(ConfigError, match="a DICOM file that is still there"):
        export_frames(frames, tmp_path / "out.dcm", header=reader.header, names=names, original=original)
    assert not list(tmp_path.glob("*out*"))


def test_palettes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="palette"):
        opened(write(tmp_path / "a.dcm", PhotometricInterpretation="PALETTE COLOR"))
