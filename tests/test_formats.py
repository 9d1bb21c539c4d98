"""Formats from end to end: what comes in by one of them leaves restored, with what the source said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from deblur.io import open_source
from tests.conftest import pan
from tests.io.extras import data_set
from tests.small import SMALL_UNITS, Command

COUNT, HEIGHT, WIDTH = 3, 64, 96

pytestmark = pytest.mark.slow


def test_a_z_stack_comes_back_as_one(tmp_path: Path, deblur: Command) -> None:
    frames, _ = pan(COUNT, HEIGHT, WIDTH)
    stack = np.stack([frames[:, 0], 255 - frames[:, 0]], axis=1)  # t, z, y, x
    notes = {
        "axes": "TZYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeZ": 2.0,
        "TimeIncrement": 0.1,
    }
    tifffile.imwrite(tmp_path / "cells.ome.tif", stack, metadata=notes)
    out = tmp_path / "sharp.ome.tif"
    said = deblur("restore", tmp_path / "cells.ome.tif", out, "-e", "0.75", "--workers", "1", *SMALL_UNITS)
    assert (said.code, said.faults) == (0, [])
    readers = open_source(str(out))
    assert [reader.header.name for reader in readers] == ["sharp/z000", "sharp/z001"]
    assert readers[1].header.pixel_size == (0.5, 0.5, "µm")
    assert readers[1].header.frame_rate == pytest.approx(10)
    with tifffile.TiffFile(out) as tif:
        assert tif.series[0].axes == "TZYX"
    restored = np.stack([readers[1].read(index)[0] for index in range(COUNT)])
    assert restored.shape == stack[:, 1].shape
    assert (restored != stack[:, 1]).mean() > 0.2


def test_a_cine_loop_stays_a_study(tmp_path: Path, deblur: Command) -> None:
    pydicom = pytest.importorskip(
        "pydicom", reason="DICOM is read by the extra deblur[dicom]; CI installs it"
    )
    data = data_set(pan(COUNT, HEIGHT, WIDTH)[0])
    data.FrameTime, data.AveragePulseWidth = "40", "30"
    data.save_as(tmp_path / "loop.dcm", enforce_file_format=True)
    out = tmp_path / "sharp.dcm"
    said = deblur("restore", tmp_path / "loop.dcm", out, "--workers", "1", *SMALL_UNITS)
    assert (said.code, said.faults) == (0, [])
    assert "0.75" in said.out  # 30 ms of 40, from the file
    new = pydicom.dcmread(out)
    assert (new.PatientName, list(new.ImageType[:2])) == ("Doe^Jane", ["DERIVED", "SECONDARY"])
    assert (new.pixel_array != data.pixel_array).mean() > 0.2


def test_a_loop_without_a_patient_is_refused_before_any_work(tmp_path: Path, deblur: Command) -> None:
    np.save(tmp_path / "a.npy", pan(COUNT, HEIGHT, WIDTH)[0])
    said = deblur("restore", tmp_path / "a.npy", tmp_path / "out.dcm", "--workers", "1")
    assert said.code == 2
    assert "patient" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_run_has_the_frame_rate_that_was_given(tmp_path: Path, deblur: Command) -> None:
    np.save(tmp_path / "a.npy", pan(COUNT, HEIGHT, WIDTH)[0])
    exposure = ("--frame-rate", "25", "--exposure-time", "0.03")
    said = deblur(
        "restore", tmp_path / "a.npy", tmp_path / "out.zarr", *exposure, "--workers", "1", *SMALL_UNITS
    )
    assert (said.code, said.faults) == (0, [])
    (reader,) = open_source(str(tmp_path / "out.zarr"))
    assert reader.header.frame_rate == pytest.approx(25)
