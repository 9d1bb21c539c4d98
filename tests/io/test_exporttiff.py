"""TIFF out with what the source said: EXIF, the place on the Earth, and OME's metadata of whole stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from deblur.io import open_source
from deblur.io.export import export_frames
from deblur.io.exporttiff import Layer, write_ome
from deblur.types import SequenceHeader

GREY = np.random.default_rng(2).integers(0, 65536, (3, 1, 20, 34)).astype(np.uint16)
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32632, 3076, 0, 1, 9001)  # projected, UTM 32 N, metres
CITATION = "WGS 84 / UTM zone 32N|"


def write_geo(path: Path, frame: np.ndarray, *, east: float) -> None:
    tags = [
        (33550, "d", 3, (0.5, 0.25, 0.0), False),
        (33922, "d", 6, (0.0, 0.0, 0.0, east, 5.3e6, 0.0), False),
        (34735, "H", len(KEYS), KEYS, False),
        (34737, "s", 0, CITATION, False),
        (42112, "s", 0, '<GDALMetadata>\n  <Item name="STATISTICS_MEAN">7</Item>\n</GDALMetadata>', False),
        (42113, "s", 0, "0", False),
    ]
    tifffile.imwrite(path, frame, photometric="minisblack", extratags=tags, metadata=None)


def corner(path: Path) -> float:
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].geotiff_tags["ProjectedCSTypeGeoKey"] == 32632
        assert tif.pages[0].tags[42113].value == "0"
        assert "STATISTICS" not in tif.pages[0].tags[42112].value
        return float(tif.pages[0].geotiff_tags["ModelTiepoint"][3])


def test_a_strip_of_geotiffs_keeps_the_place_of_each(tmp_path: Path) -> None:
    (tmp_path / "strip").mkdir()
    for number, frame in enumerate(GREY):
        write_geo(tmp_path / "strip" / f"s{number}.tif", frame[0], east=1000.0 * number)
    (reader,) = open_source(str(tmp_path / "strip"))
    assert reader.header.metadata["crs"] == "EPSG:32632"
    assert reader.header.pixel_size == (0.25, 0.5, "m")
    names = [info.name for info in reader.frames]
    out = export_frames(
        GREY, tmp_path / "out", header=reader.header, names=names, original=tmp_path / "strip"
    )
    assert [corner(out / name) for name in names] == [0.0, 1000.0, 2000.0]
    assert np.array_equal(open_source(str(out))[0].read(2), GREY[2])


def test_a_geotiff_of_several_pages_needs_no_original(tmp_path: Path) -> None:
    write_geo(tmp_path / "a.tif", GREY[0, 0], east=500.0)
    (reader,) = open_source(str(tmp_path / "a.tif"))
    out = export_frames(GREY, tmp_path / "out.tif", header=reader.header, names=list("abc"))
    assert corner(out) == 500.0


def test_exif_and_gps_go_into_tiff(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    exif.get_ifd(0x8769)[33434] = IFDRational(1, 125)
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0)})
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 34), np.uint8)).save(tmp_path / "in" / "shot.jpg", exif=exif)
    header = SequenceHeader("in", (1, 20, 34), "float32", ("grey",))
    frames = GREY[:1].astype(np.float32)
    out = export_frames(frames, tmp_path / "out", header=header, names=["shot.jpg"], original=tmp_path / "in")
    with Image.open(out / "shot.tif") as image:
        kept = image.getexif()
        assert (kept[271], kept.get(274, 1)) == ("Maker", 1)
        assert float(kept.get_ifd(0x8769)[33434]) == pytest.approx(1 / 125)
        assert tuple(map(float, kept.get_ifd(0x8825)[2])) == (48.0, 8.0, 15.0)
    (reader,) = open_source(str(out))
    assert reader.frames[0].exposure_time == pytest.approx(1 / 125)
    assert np.array_equal(reader.read(0), frames[0])


@pytest.mark.parametrize("channels", [("DAPI", "GFP"), ("red", "green", "blue")])
def test_ome_tells_scale_times_and_channels(tmp_path: Path, channels: tuple[str, ...]) -> None:
    frames = np.random.default_rng(5).integers(0, 4096, (4, len(channels), 20, 34)).astype(np.uint16)
    header = SequenceHeader(
        "cells", frames.shape[1:], "uint16", channels, bits=12, frame_rate=4.0, pixel_size=(0.5, 0.25, "µm")
    )
    times = [0.0, 0.25, 0.6, 0.75]
    out = export_frames(frames, tmp_path / "out.ome.tif", header=header, names=list("abcd"), times=times)
    (reader,) = open_source(str(out))
    assert replace(reader.header, name="", metadata={}) == replace(header, name="")
    assert [info.time for info in reader.frames] == pytest.approx(times)
    assert np.array_equal(np.stack([reader.read(index) for index in range(4)]), frames)


def test_z_and_positions_are_put_back(tmp_path: Path) -> None:
    stack = np.random.default_rng(6).integers(0, 256, (2, 3, 4, 1, 20, 34)).astype(np.uint8)  # p, z, t
    header = SequenceHeader("cells", (1, 20, 34), "uint8", ("grey",), metadata={"z_size": [2.0, "µm"]})
    layers = [
        Layer(header, f"p{p}", z, [None] * 4, stack[p, z]) for z in (2, 0, 1) for p in (1, 0)
    ]  # in any order
    write_ome(layers, tmp_path / "cells.ome.tif")
    readers = open_source(str(tmp_path / "cells.ome.tif"))
    assert [reader.header.name for reader in readers] == [
        f"cells/p{p:03d}/z{z:03d}" for p in (0, 1) for z in (0, 1, 2)
    ]
    assert readers[0].header.metadata["z_size"] == [2.0, "µm"]
    assert np.array_equal(readers[5].read(3), stack[1, 2, 3])
