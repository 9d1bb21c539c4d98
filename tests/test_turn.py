"""Upright copies: the eight ways of EXIF, as Pillow turns them; vectors turn with their places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from deblur.io import open_source
from deblur.io.export import export_frames
from deblur.turn import orientation_of, upright, upright_field
from deblur.types import SequenceHeader


def header(**metadata: object) -> SequenceHeader:
    return SequenceHeader("x", (1, 3, 5), "uint8", ("grey",), metadata=metadata)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(orientation: int) -> None:
    picture = np.arange(15, dtype=np.uint8).reshape(3, 5)
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(picture, orientation), np.asarray(ImageOps.exif_transpose(image)))
    assert upright(picture[None], orientation).shape[0] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_vectors_point_to_the_same_places_afterwards(orientation: int) -> None:
    """A field that says how far each pixel is from one place still does so after the turn."""
    y, x = np.mgrid[:3, :5].astype(np.float32)
    turned = upright_field(np.stack([1 - y, 4 - x]), orientation)
    mark = np.zeros((3, 5))
    mark[1, 4] = 1
    (place,) = np.argwhere(upright(mark, orientation))
    rows, columns = np.mgrid[: turned.shape[1], : turned.shape[2]]
    assert np.array_equal(turned, np.stack([place[0] - rows, place[1] - columns]))


def test_what_readers_record() -> None:
    assert orientation_of(header()) == 1
    assert orientation_of(header(orientation=6)) == 6
    assert orientation_of(header(orientation="?")) == 1
    assert [orientation_of(header(rotation=angle)) for angle in (-90, 90, 180, -180)] == [6, 8, 3, 3]


@pytest.mark.parametrize("name", ["out", "out.tif", "out.mkv"])
def test_a_photograph_on_its_side_is_exported_upright(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 20, 34), np.uint8)
    for k, frame in enumerate(frames):
        Image.fromarray(frame[0]).save(tmp_path / "in" / f"{k}.png", exif=exif)
    (reader,) = open_source(str(tmp_path / "in"))
    read = [reader.read(k) for k in range(2)]
    assert np.array_equal(read, frames)  # as the sensor had them
    export_frames(read, tmp_path / name, header=reader.header, names=["0", "1"])
    (back,) = open_source(str(tmp_path / name))
    assert np.array_equal(back.read(1)[:1], np.rot90(frames[1], -1, axes=(1, 2)))
    export_frames(read, tmp_path / "out.npy", header=reader.header, names=["0", "1"])
    assert np.array_equal(np.load(tmp_path / "out.npy"), frames)


def test_the_exif_of_each_picture_is_given_on_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(2):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, f"Maker {k}"
        exif.get_ifd(0x8825)[2] = (47.0, 22.0, 11.5 + k)
        exif.get_ifd(0x8769)[0x829A] = 0.01
        Image.new("RGB", (34, 20), (k, 90, 90)).save(tmp_path / "in" / f"{k}.jpg", exif=exif)
    (reader,) = open_source(str(tmp_path / "in"))
    read, names = [reader.read(k) for k in range(2)], ["0.jpg", "1.jpg"]
    export_frames(read, tmp_path / "out", header=reader.header, names=names, original=tmp_path / "in")
    with Image.open(tmp_path / "out" / "1.png") as image:
        exif = image.getexif()
        image.load()
        assert image.size == (20, 34)
    assert (exif[0x0112], exif[0x010F]) == (1, "Maker 1")
    assert exif.get_ifd(0x8825)[2] == pytest.approx((47, 22, 12.5))
    assert exif.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)
    (back,) = open_source(str(tmp_path / "out"))
    assert back.frames[1].exposure_time == pytest.approx(0.01)
    export_frames(read, tmp_path / "plain", header=reader.header, names=names, original=tmp_path / "gone")
    with Image.open(tmp_path / "plain" / "1.png") as image:
        assert not image.getexif()
