"""HDF5: which data sets are sequences, and what NeXus and attributes tell of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur.errors import ReadError
from deblur.io import open_source

h5py = pytest.importorskip("h5py", reason="HDF5 is read by the extra deblur[hdf5]; CI installs it")

CODES = np.arange(4 * 3 * 12 * 9, dtype=np.uint16).reshape(4, 3, 12, 9)


def test_nexus_names_the_data_the_times_and_the_exposure(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file.attrs["default"] = "entry"
        file["other"] = CODES
        entry = file.create_group("entry")
        entry.attrs.update({"default": "data"})
        data = entry.create_group("data")
        data.attrs.update({"signal": "counts", "axes": ["time", ".", "."]})
        data["counts"] = CODES[:, 0].astype(np.int32) - 50
        data["time"] = [0.0, 40.0, 80.0, 130.0]
        data["time"].attrs["units"] = "ms"
        data["count_time"] = 0.01
    (reader,) = open_source(str(tmp_path / "scan.nxs"))
    assert reader.header.name == "scan"
    assert reader.header.metadata == {"format": "HDF5", "stored": "int32"}
    assert [info.time for info in reader.frames] == pytest.approx([0, 0.04, 0.08, 0.13])
    assert [info.exposure_time for info in reader.frames] == [0.01] * 4
    assert np.array_equal(reader.read(2)[0], CODES[2, 0].astype(float) - 50)


def test_several_data_sets_are_sequences_and_z_planes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cells.h5", "w") as file:
        file.attrs["frame_rate"] = 4.0
        stack = file.create_dataset("a/stack", data=CODES)
        for place, label in enumerate("tzyx"):
            stack.dims[place].label = label
        stack.attrs["element_size_um"] = (2.0, 0.5, 0.25)
        file["b"] = CODES[:, 0]
        file["table"] = CODES[0, 0]
    readers = open_source(str(tmp_path / "cells.h5"))
    names = [reader.header.name for reader in readers]
    assert names == ["cells/a-stack/z000", "cells/a-stack/z001", "cells/a-stack/z002", "cells/b"]
    assert readers[1].header.pixel_size == (0.5, 0.25, "µm")
    assert readers[1].header.frame_rate == 4
    assert readers[3].frames[2].time == 0.5
    assert np.array_equal(readers[1].read(3)[0], CODES[3, 1])


def test_pixels_in_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pixels.bin").write_bytes(CODES.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        outside = [(str(tmp_path / "pixels.bin"), 0, CODES.nbytes)]
        file.create_dataset("data", CODES.shape, CODES.dtype, external=outside)
    with pytest.raises(ReadError, match="lie in other files"):
        open_source(str(tmp_path / "a.h5"))


def test_a_file_without_stacks_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = CODES[0, 0]
    with pytest.raises(ReadError, match="no data set of three axes"):
        open_source(str(tmp_path / "a.h5"))


def test_the_file_closes_with_its_last_reader(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["two"] = CODES, CODES
    for reader in open_source(str(tmp_path / "a.h5")):
        reader.read(0)
        reader.close()
    with h5py.File(tmp_path / "a.h5", "w"):  # HDF5 refuses this while the file is open
        pass
