"""FITS: what its cards tell, and which axes and extensions are frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblur.errors import ReadError
from deblur.io import open_source

pytest.importorskip("astropy", reason="FITS is read by the extra deblur[fits]; CI installs it")
from astropy.io import fits

CODES = np.arange(4 * 5 * 12 * 9, dtype=np.int16).reshape(4, 5, 12, 9)
SKY = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CUNIT1": "deg",
    "CUNIT2": "deg",
    "CD1_1": -3e-4,
    "CD2_2": 5e-4,
}


def image(data: np.ndarray, **cards: object) -> fits.ImageHDU:
    return fits.ImageHDU(data, fits.Header({**cards}))


def test_exposure_time_scale_and_world_coordinates(tmp_path: Path) -> None:
    for number, second in enumerate((3, 1, 2)):  # by name, not by time
        cards = {**SKY, "EXPTIME": 0.5, "DATE-OBS": f"2026-11-22T20:00:0{second}.250", "OBJECT": "M 1"}
        fits.PrimaryHDU(CODES[0, number].astype(np.uint16), fits.Header(cards)).writeto(
            tmp_path / f"{number}.fits"
        )
    (reader,) = open_source(str(tmp_path))
    (by_time,) = open_source(str(tmp_path), order="time")
    assert reader.header.dtype == "uint16"
    assert reader.header.pixel_size == pytest.approx((1.8, 1.08, "arcsec"))
    assert reader.header.metadata["fits"]["OBJECT"] == "M 1"
    assert reader.header.metadata["fits"]["CD1_1"] == -3e-4
    assert [info.exposure_time for info in reader.frames] == [0.5] * 3
    assert [info.name for info in by_time.frames] == ["1.fits", "2.fits", "0.fits"]
    assert by_time.frames[1].time - by_time.frames[0].time == pytest.approx(1)


def test_a_time_axis_runs_over_frames_and_others_are_planes(tmp_path: Path) -> None:
    cards = {"CTYPE3": "TIME", "CUNIT3": "ms", "CDELT3": 40.0, "CTYPE4": "FREQ", "EXPOSURE": 0.02}
    fits.PrimaryHDU(CODES, fits.Header(cards)).writeto(tmp_path / "cube.fits")
    readers = open_source(str(tmp_path / "cube.fits"))
    assert [reader.header.name for reader in readers] == [f"cube/s{number:03d}" for number in range(4)]
    assert readers[2].header.frame_rate == pytest.approx(25)
    assert readers[2].header.metadata["stored"] == "int16"
    assert readers[2].frames[3].time == pytest.approx(0.12)
    assert readers[2].frames[3].exposure_time == 0.02
    assert np.array_equal(readers[2].read(3)[0], CODES[2, 3].astype(np.float32))


def test_extensions_that_are_alike_are_frames_and_masks_are_not(tmp_path: Path) -> None:
    hdus = [fits.PrimaryHDU()]
    for frame in CODES[0]:
        hdus += [image(frame, EXTNAME="SCI"), image(frame * 0, EXTNAME="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "visit.fits")
    (reader,) = open_source(str(tmp_path / "visit.fits"))
    assert len(reader.frames) == 5
    assert np.array_equal(reader.read(4)[0], CODES[0, 4])


def test_scaled_and_compressed_values_come_as_they_are_meant(tmp_path: Path) -> None:
    scaled = fits.ImageHDU(CODES[0, 0].astype(np.float32) / 4)
    scaled.scale("int16", bscale=0.25)
    fits.HDUList([fits.PrimaryHDU(), scaled]).writeto(tmp_path / "scaled.fits")
    packed = fits.CompImageHDU(CODES[0], compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "packed.fz")
    assert np.array_equal(open_source(str(tmp_path / "scaled.fits"))[0].read(0)[0], CODES[0, 0] / 4)
    (reader,) = open_source(str(tmp_path / "packed.fz"))
    assert np.array_equal(reader.read(4)[0], CODES[0, 4])


@pytest.mark.parametrize(("keep", "match"), [(1000, "broken or no FITS"), (2880 * 3 + 50, "cut off")])
def test_what_is_cut_off_is_refused(tmp_path: Path, keep: int, match: str) -> None:
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), *(image(frame) for frame in CODES[0])]).writeto(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ReadError, match=match):
        open_source(str(path))


def test_tables_hold_no_frames(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "t.fits")
    with pytest.raises(ReadError, match="holds no image"):
        open_source(str(tmp_path / "t.fits"))


def test_a_damaged_card_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), *(image(frame) for frame in CODES[0])]).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"XTENSION= 'IMAGE", b"XTENSION= ?IMAGE"))
    with pytest.raises(ReadError, match=r"a\.fits is broken or no FITS .*XTENSION"):
        open_source(str(path))
