"""Raw photographs: a Bayer mosaic that the test writes as DNG is developed to the colour that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur.errors import ReadError
from deblur.io import open_source

from .extras import write_dng

pytest.importorskip("rawpy", reason="raw photographs are read by the extra deblur[raw]; CI installs it")


def test_a_raw_photograph_becomes_linear_colour(tmp_path: Path) -> None:
    colours = [(0.5, 0.25, 0.125), (0.25, 0.125, 0.0625)]
    for number, colour in enumerate(colours):
        write_dng(tmp_path / f"{number}.dng", colour)
    (reader,) = open_source(str(tmp_path))
    header = reader.header
    assert (header.shape[0], header.dtype, header.transfer) == (3, "uint16", "linear")
    assert reader.frames[0].exposure_time == pytest.approx(0.008, rel=1e-3)
    middles = [np.median(reader.read(index), axis=(1, 2)) / 65535 for index in range(2)]
    for middle, colour in zip(middles, colours, strict=True):
        np.testing.assert_allclose(middle, colour, rtol=0.03)
    np.testing.assert_allclose(middles[0], 2 * middles[1], rtol=0.005)  # no brightness of their own


def test_a_broken_photograph_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(b"II*\0" + b"\xa5" * 500)
    with pytest.raises(ReadError, match=r"a\.dng is broken or no raw photograph"):
        open_source(str(tmp_path / "a.dng"))
