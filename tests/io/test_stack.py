"""What readers of files with many frames share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deblur.errors import ConfigError
from deblur.io import open_source


@pytest.mark.parametrize(
    ("name", "modules", "extra"),
    [
        ("a.fits", ["astropy", "astropy.io.fits", "astropy.utils.exceptions"], "fits"),
        ("a.h5", ["h5py"], "hdf5"),
        ("a.dcm", ["pydicom", "pydicom.errors"], "dicom"),
        ("a.nef", ["rawpy"], "raw"),
        ("a.czi", ["bioio"], "microscopes"),
    ],
)
def test_an_absent_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, modules: list[str], extra: str
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ConfigError, match=rf"{name} can't be read here .* pip install 'deblur\[{extra}\]'"):
        open_source(str(tmp_path / name))
