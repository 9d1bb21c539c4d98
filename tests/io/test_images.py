"""Folders of pictures: order, EXIF, and everything that is refused by name."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur.errors import ConfigError, ReadError
from deblur.io import ReadLimits, open_source
from deblur.io.pictures import read_exif
from deblur.io.reader import natural

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
RGB = np.stack([GREY, GREY + 50, GREY + 100], axis=-1)


def png(path: Path, image: np.ndarray = GREY, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG with further chunks put in after its header."""
    data = imagecodecs.png_encode(image)
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    path.write_bytes(data[:33] + extra + data[33:])
    return path


def exif(
    *, exposure: float | None = None, date: str | None = None, fraction: str | None = None
) -> Image.Exif:
    block = Image.Exif()
    ifd = block.get_ifd(0x8769)
    for tag, value in ((33434, exposure), (36867, date), (37521, fraction)):
        if value is not None:
            ifd[tag] = value
    return block


def jpeg(path: Path, image: np.ndarray = RGB, block: Image.Exif | None = None) -> Path:
    Image.fromarray(image).save(path, "JPEG", quality=95, **({} if block is None else {"exif": block}))
    return path


def refused(source: Path | str, match: str, **options: object) -> None:
    with pytest.raises((ReadError, ConfigError), match=match) as caught:
        open_source(str(source), **options)[0].read(0)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert ":" in str(caught.value)  # the remedy stands behind it


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_natural_order_is_that_of_numbers(numbers: list[int]) -> None:
    names = [f"shot {number}.png" for number in numbers]
    assert sorted(names, key=natural) == [f"shot {number}.png" for number in sorted(numbers)]


@given(st.text(max_size=12), st.text(max_size=12))
def test_natural_order_tells_names_apart(one: str, other: str) -> None:
    assert (natural(one) == natural(other)) == (one == other)


def parts_of(text: str) -> tuple[tuple[int, int, str], ...]:
    """The order in plain tuples, which take ten times the memory."""
    parts = [part for part in re.split(r"([0-9]+)", text) if part]
    found = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in parts)
    return (*found, (1, 0, text))


PATHS = st.text("019aAb./ \u0301é３-", min_size=1, max_size=8)


@settings(max_examples=200)
@given(PATHS, PATHS)
def test_natural_order_is_that_of_its_parts(one: str, other: str) -> None:
    assert (natural(one) < natural(other)) == (parts_of(one) < parts_of(other))


def test_sixteen_bit_colour_keeps_its_bits(tmp_path: Path) -> None:
    deep = (RGB.astype(np.uint16) << 8) + 77  # Pillow would give 8 bits
    png(tmp_path / "a.png", deep)
    (reader,) = open_source(str(tmp_path))
    assert reader.header.bits == 16
    assert np.array_equal(reader.read(0), np.moveaxis(deep, -1, 0))


def test_significant_bits_and_transfer_are_read(tmp_path: Path) -> None:
    png(tmp_path / "a.png", GREY.astype(np.uint16), (b"sBIT", b"\x0c"), (b"gAMA", struct.pack(">I", 100000)))
    (reader,) = open_source(str(tmp_path))
    assert (reader.header.bits, reader.header.transfer) == (12, "linear")


def test_srgb_is_read(tmp_path: Path) -> None:
    png(tmp_path / "a.png", GREY, (b"sRGB", b"\0"))
    assert open_source(str(tmp_path))[0].header.transfer == "srgb"


def test_exposure_and_time_come_from_exif(tmp_path: Path) -> None:
    jpeg(tmp_path / "b.jpg", RGB, exif(exposure=1 / 50, date="2026:11:22 10:00:01", fraction="250"))
    jpeg(tmp_path / "a.jpg", RGB, exif(exposure=1 / 50, date="2026:11:22 10:00:01", fraction="75"))
    (by_name,) = open_source(str(tmp_path))
    (by_time,) = open_source(str(tmp_path), order="time")
    assert [info.name for info in by_name.frames] == ["a.jpg", "b.jpg"]
    assert [info.name for info in by_time.frames] == ["b.jpg", "a.jpg"]
    first, second = by_time.frames[:]
    assert first.exposure_time == pytest.approx(0.02)
    assert second.time is not None
    assert first.time is not None
    assert second.time - first.time == pytest.approx(0.5)


def test_exif_of_a_png(tmp_path: Path) -> None:
    png(tmp_path / "a.png", GREY, (b"eXIf", exif(exposure=0.125).tobytes()[6:]))
    assert open_source(str(tmp_path))[0].frames[0].exposure_time == pytest.approx(0.125)


@given(st.binary(max_size=200))
def test_damaged_exif_is_no_reason_to_fail(data: bytes) -> None:
    read_exif(data)


def test_order_by_time_needs_times(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    refused(tmp_path, "order='name'", order="time")
    refused(tmp_path, "use 'name' or 'time'", order="date")


def test_globs_and_other_files(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b1.png", ".hidden.png"):
        png(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [info.name for info in open_source(str(tmp_path))[0].frames] == ["a1.png", "a2.png", "b1.png"]
    (reader,) = open_source(str(tmp_path / "a*"))
    assert [info.name for info in reader.frames] == ["a1.png", "a2.png"]
    assert reader.header.name == tmp_path.name


def test_glob_over_folders_keeps_names_apart(tmp_path: Path) -> None:
    for folder in ("cam10", "cam9"):
        (tmp_path / folder).mkdir()
        png(tmp_path / folder / "f.png")
    (reader,) = open_source(str(tmp_path / "*" / "f.png"))
    assert [info.name for info in reader.frames] == ["cam9/f.png", "cam10/f.png"]


def test_one_picture_is_a_sequence_of_one(tmp_path: Path) -> None:
    assert len(open_source(str(png(tmp_path / "a.png")))[0].frames) == 1


def test_the_first_sound_file_gives_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    png(tmp_path / "b.png")
    (reader,) = open_source(str(tmp_path))
    assert reader.read(1).shape == (1, 6, 8)
    with pytest.raises(ReadError, match=r"a\.png is empty"):
        reader.read(0)


def test_another_size_or_depth_is_named_with_both(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    png(tmp_path / "b.png", GREY[:5])
    png(tmp_path / "c.png", GREY.astype(np.uint16))
    png(tmp_path / "d.png", RGB)
    (reader,) = open_source(str(tmp_path))
    for index, name in ((1, "8x5"), (2, "uint16"), (3, "3 channels")):
        with pytest.raises(ReadError, match=name) as caught:
            reader.read(index)
        assert "8x6, 1 channel, uint8" in str(caught.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_cut_off_pictures_are_refused(tmp_path: Path, part: float) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    for path in (png(tmp_path / "a.png", noise), jpeg(tmp_path / "b.jpg", noise)):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        refused(path, "cut off|broken")


def test_what_names_itself_wrongly_is_taken_for_what_it_is(tmp_path: Path) -> None:
    png(tmp_path / "a.jpg")
    assert np.array_equal(open_source(str(tmp_path / "a.jpg"))[0].read(0)[0], GREY)
    (tmp_path / "b.png").write_bytes(b"<html>not found</html>")
    refused(tmp_path / "b.png", "not a PNG, JPEG or TIFF")


def test_pictures_refused_by_name(tmp_path: Path) -> None:
    def save(name: str, mode: str, **options: object) -> Path:
        Image.new(mode, (8, 6)).save(tmp_path / name, **options)  # type: ignore[arg-type]
        return tmp_path / name

    refused(save("p.png", "P"), "palette")
    refused(save("a.png", "RGBA"), "alpha")
    refused(save("la.png", "LA"), "alpha")
    refused(save("one.png", "1"), "1 bit a pixel")
    refused(save("cmyk.jpg", "CMYK"), "CMYK")
    refused(save("anim.gif", "P"), "palette")
    refused(save("w.webp", "RGB"), "WebP")
    frames = [Image.new("L", (8, 6), value) for value in (0, 9)]
    frames[0].save(tmp_path / "anim.png", save_all=True, append_images=frames[1:])
    refused(tmp_path / "anim.png", "animated PNG")
    refused(png(tmp_path / "t.png", RGB, (b"tRNS", b"\0" * 6)), "alpha")


def test_a_many_page_tiff_among_pictures_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(GREY)
    refused(tmp_path, "2 pages: open such a file by itself")


def test_kinds_don_t_mix(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    jpeg(tmp_path / "a.jpg")
    refused(tmp_path, "mixes JPEG and PNG")
    assert len(open_source(str(tmp_path / "*.png"))[0].frames) == 1


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "does not exist")
    refused(tmp_path, "holds no PNG, JPEG or TIFF")
    refused(tmp_path / "*.png", "matches no PNG")
    refused("https://example.org/a.png", "knows no https://")
    (tmp_path / "a.txt").write_text("words")
    refused(tmp_path / "a.txt", r"\*\.txt are not read")
    (tmp_path / "a.mp4").touch()
    refused(tmp_path / "a.mp4", "0 bytes")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0" * 4
    (tmp_path / "bomb.png").write_bytes(body + struct.pack(">I4s", 0, b"IDAT") + b"\0" * 4)
    refused(tmp_path, "max_pixels")
    refused(tmp_path, "max_bytes", limits=ReadLimits(max_pixels=1 << 40, max_bytes=1 << 31))
    refused(tmp_path, "max_ratio", limits=ReadLimits(max_pixels=1 << 40, max_bytes=1 << 40))
