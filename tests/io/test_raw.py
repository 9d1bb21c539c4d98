"""Raw photographs: a Bayer mosaic that the test writes as DNG is developed to the colour that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from deblur.errors import ReadError
from deblur.io import open_source

pytest.importorskip("rawpy", reason="raw photographs are read by the extra deblur[raw]; CI installs it")

HEIGHT, WIDTH, WHITE = 64, 96, 16383
TO_CAMERA = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)  # XYZ to linear sRGB


def write_dng(path: Path, colour: tuple[float, float, float], *, exposure: float = 0.008) -> None:
    """A flat colour (linear sRGB, 0 to 1) behind an RGGB mosaic, of a camera that sees as sRGB does."""
    mosaic = np.empty((HEIGHT, WIDTH), np.uint16)
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
