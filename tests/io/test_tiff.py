"""TIFF: axes to sequences, OME and ImageJ facts, damage and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import ReadError
from deblur.io import open_source
from deblur.io.ome import parse
from deblur.io.planes import layout

RANDOM = np.random.default_rng(7)
CODES = RANDOM.integers(0, 4000, (5, 12, 16)).astype(np.uint16)


def ramp(*shape: int) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)


def refused(path: Path, match: str) -> None:
    with pytest.raises(ReadError, match=match) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)


@given(st.permutations("TCZP"), st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_layout_uses_every_plane_once(axes: list[str], extent: list[int]) -> None:
    planes = layout("".join(axes), tuple(extent))
    used = [number for plane in planes for group in plane.groups for number in group]
    assert sorted(used) == list(range(math.prod(extent)))
    assert len({plane.suffix for plane in planes}) == len(planes)
    assert {len(plane.groups) for plane in planes} == {extent[axes.index("T")]}


def test_z_and_positions_become_sequences(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tif"
    first, second = ramp(4, 3, 2, 12, 16), ramp(4, 3, 2, 12, 16) + 1
    with tifffile.TiffWriter(path, ome=True) as writer:
        for data in (first, second):
            writer.write(data, photometric="minisblack", metadata={"axes": "TZCYX"})
    readers = open_source(str(path))
    assert [reader.header.name for reader in readers][:4] == [
        "stack/p000/z000", "stack/p000/z001", "stack/p000/z002", "stack/p001/z000",
    ]  # fmt: skip
    assert np.array_equal(readers[4].read(3), second[3, 1])
    for reader in readers[:-1]:
        reader.close()
    assert np.array_equal(readers[-1].read(0), second[0, 2])  # the file stays open for the last
    readers[-1].close()


def test_ome_facts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.ome.tif"
    facts: dict[str, Any] = {
        "axes": "TCYX",
        "TimeIncrement": 40,
        "TimeIncrementUnit": "ms",
        "SignificantBits": 12,
    }
    facts |= {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2, "Channel": {"Name": ["gfp", "rfp"]}}
    facts["Plane"] = {"ExposureTime": [5.0] * 10, "ExposureTimeUnit": ["ms"] * 10}
    tifffile.imwrite(path, ramp(5, 2, 12, 16), photometric="minisblack", metadata=facts)
    (reader,) = open_source(str(path))
    header = reader.header
    assert header.channels == ("gfp", "rfp")
    assert (header.bits, header.frame_rate) == (12, pytest.approx(25))
    assert header.pixel_size == (0.2, 0.1, "µm")
    assert reader.frames[3].time == pytest.approx(0.12)
    assert reader.frames[3].exposure_time == pytest.approx(0.005)


def test_imagej_facts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.tif"
    notes = {"axes": "TZYX", "finterval": 0.5, "unit": "um"}
    tifffile.imwrite(path, ramp(5, 2, 12, 16), imagej=True, resolution=(10, 5), metadata=notes)
    readers = open_source(str(path))
    assert [reader.header.name for reader in readers] == ["run/z000", "run/z001"]
    assert readers[0].header.frame_rate == pytest.approx(2)
    assert readers[0].header.pixel_size == (pytest.approx(0.2), pytest.approx(0.1), "µm")
    assert np.array_equal(readers[1].read(4)[0], ramp(5, 2, 12, 16)[4, 1])


@pytest.mark.parametrize("keep", [True, False])
def test_hyperstack_described_by_one_page(tmp_path: Path, keep: bool) -> None:
    """As ImageJ writes beyond 4 GB: cut the chain of pages after the first."""
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, CODES, imagej=True, metadata={"axes": "TYX"})
    if not keep:
        with tifffile.TiffFile(path) as tif:
            count = len(tif.pages[0].tags)
            end = tif.pages[0].offset + 2 + 12 * count
        data = bytearray(path.read_bytes())
        data[end : end + 4] = b"\0" * 4
        path.write_bytes(data)
    (reader,) = open_source(str(path))
    assert np.array_equal(np.stack([reader.read(index)[0] for index in range(5)]), CODES)


@pytest.mark.parametrize("separate", [True, False])
def test_colour_planes_and_pixels(tmp_path: Path, separate: bool) -> None:
    data = ramp(4, 3, 12, 16)
    path = tmp_path / "rgb.tif"
    with tifffile.TiffWriter(path) as writer:
        for frame in data:
            image = frame if separate else np.moveaxis(frame, 0, -1)
            writer.write(image, photometric="rgb", planarconfig="separate" if separate else "contig")
    (reader,) = open_source(str(path))
    assert np.array_equal(np.stack([reader.read(index) for index in range(4)]), data)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"bigtiff": True}]
)
def test_ways_to_store(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CODES, photometric="minisblack", **options)
    (reader,) = open_source(str(tmp_path / "a.tif"))
    assert np.array_equal(np.stack([reader.read(index)[0] for index in range(5)]), CODES)


def test_a_page_of_another_kind_is_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for image in (CODES[0], CODES[1, :6], CODES[2].astype(np.uint8), CODES[3]):
            writer.write(image)
    (reader,) = open_source(str(tmp_path / "a.tif"))
    assert len(reader.frames) == 4
    for index, words in ((1, "16x6"), (2, "uint8")):
        with pytest.raises(ReadError, match=words) as caught:
            reader.read(index)
        assert "16x12, 1 channel, uint16" in str(caught.value)
    assert np.array_equal(reader.read(3)[0], CODES[3])


def test_a_cut_off_file_says_so_and_keeps_its_sound_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for image in CODES:
            writer.write(image, metadata=None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    (reader,) = open_source(str(path))
    sound = len(reader.frames) - 1
    assert 1 <= sound < 5
    for index in range(sound - 1):
        assert np.array_equal(reader.read(index)[0], CODES[index])
    with pytest.raises(ReadError, match="cut off"):
        reader.read(sound)


def test_refused_by_name(tmp_path: Path) -> None:
    def save(name: str, image: np.ndarray, **options: Any) -> Path:
        tifffile.imwrite(tmp_path / name, image, **options)
        return tmp_path / name

    grey = CODES[0].astype(np.uint8)
    four = np.zeros((12, 16, 4), np.uint8)
    refused(save("bool.tif", grey > 5), "1 bit")
    refused(save("int.tif", CODES.astype(np.int32)), "int32")
    refused(
        save("palette.tif", grey, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), "palette"
    )
    refused(save("cmyk.tif", four, photometric="separated"), "CMYK")
    refused(save("alpha.tif", four, photometric="rgb", extrasamples=["unassalpha"]), "alpha")
    refused(save("white.tif", grey, photometric="miniswhite"), "white as zero")
    refused(save("named.ome.tif", grey, ome=False), "OME-XML is missing")
    (tmp_path / "text.tif").write_text("no picture")
    refused(tmp_path / "text.tif", "broken or no TIFF")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "b.tif", np.zeros((9000, 9000), np.uint8), compression="zstd", rowsperstrip=9000
    )
    refused(tmp_path / "b.tif", "max_ratio")


@pytest.mark.parametrize("text", ["", "<OME", '<!DOCTYPE a [<!ENTITY b "c">]><OME/>'])
def test_broken_ome_xml(text: str) -> None:
    with pytest.raises(ReadError):
        parse(text)
