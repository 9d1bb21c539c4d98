"""One PNG or JPEG file: its header read by hand (so that nothing narrows it unseen), its EXIF, its pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.quantiser import rounding_of_jpeg

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TRANSFERS = {1: "srgb", 6: "srgb", 8: "linear", 13: "srgb"}  # cICP: H.273 codes whose curve we can undo
EXIF_SUBDIRECTORY = 0x8769


@dataclass(frozen=True, slots=True)
class Picture:
    """What a header says. `shape`: (c, y, x). `bits`: significant ones, where it says so. `time`: seconds since 1970, UTC
    unless EXIF says else."""

    shape: tuple[int, int, int]
    dtype: str
    bits: int | None
    transfer: str | None = None
    time: float | None = None
    exposure_time: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pixel_size: tuple[float, float, str] | None = None


@dataclass(frozen=True, slots=True)
class Exif:
    """The few EXIF fields that matter here."""

    time: float | None = None
    exposure_time: float | None = None
    transfer: str | None = None
    orientation: int = 1


def kind_of(path: Path) -> str:
    """ "png", "jpeg" or "tiff", by the file's first bytes. Raises ReadError for anything else."""
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise ReadError(
            f"{path} can't be opened ({error.strerror}): check the file and its permissions"
        ) from error
    if not start:
        raise ReadError(f"{path} is empty (0 bytes): copy it again or leave it out")
    if start.startswith(TIFF):
        return "tiff"
    if start.startswith(JPEG):
        return "jpeg"
    if start.startswith(PNG):
        return "png"
    raise ReadError(f"{path} is not a PNG, JPEG or TIFF whatever its name says: convert it or leave it out")


def read_header(path: Path, kind: str) -> Picture:
    """The header of a "png" or "jpeg" file. Raises ReadError for damage and for kinds refused by name."""
    try:
        with path.open("rb") as stream:
            return _png_header(path, stream) if kind == "png" else _jpeg_header(path, stream)
    except (struct.error, OSError, IndexError, KeyError, ValueError) as error:
        raise ReadError(
            f"{path} is cut off or broken in its header: copy it again or leave it out"
        ) from error


def read_pixels(path: Path, kind: str) -> NDArray[Any]:
    """The (c, y, x) pixels of a "png" or "jpeg" file, as deep as stored. Raises ReadError if broken."""
    try:
        data = path.read_bytes()
        image = _decode_png(data) if kind == "png" else _decode_jpeg(data)
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReadError(f"{path} is broken ({reason}): copy it again or leave it out") from error
    return image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _decode_png(data: bytes) -> NDArray[Any]:
    import imagecodecs  # Pillow narrows 16-bit RGB to 8 bits without a word

    return np.asarray(imagecodecs.png_decode(data))


def _decode_jpeg(data: bytes) -> NDArray[Any]:
    # imagecodecs fills the rest of a cut-off JPEG with grey without a word; Image.open has a limit of its own
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(io.BytesIO(data)) as image:
        return np.array(image)


def _png_header(path: Path, stream: BinaryIO) -> Picture:
    stream.seek(len(PNG))
    chunks = dict(_png_chunks(stream))
    width, height, depth, colour, _, _, _ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if b"acTL" in chunks:
        raise ReadError(
            f"{path} is an animated PNG, which is not read: convert it to single pictures or a video"
        )
    if colour == 3:
        raise ReadError(f"{path} has a palette, which holds no light to deblur: convert it to RGB or grey")
    if colour in (4, 6) or b"tRNS" in chunks:
        raise ReadError(f"{path} has an alpha channel, which is not read: flatten it, or remove the channel")
    if depth < 8:
        raise ReadError(f"{path} has {depth} bit{'s' * (depth > 1)} a pixel, too few to deblur: give 8 or 16")
    bits = max(chunks[b"sBIT"]) if b"sBIT" in chunks else depth
    exif = read_exif(chunks[b"eXIf"]) if b"eXIf" in chunks else Exif()
    metadata: dict[str, Any] = {} if exif.orientation == 1 else {"orientation": exif.orientation}
    shape = (3 if colour == 2 else 1, height, width)
    dtype = "uint16" if depth == 16 else "uint8"
    return Picture(shape, dtype, bits, _png_transfer(chunks), exif.time, exif.exposure_time, metadata)


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Chunks up to the pixels: what an image says of itself stands before them."""
    wanted = (b"IHDR", b"acTL", b"tRNS", b"sBIT", b"eXIf", b"sRGB", b"gAMA", b"cICP")
    while True:
        length, kind = struct.unpack(">I4s", stream.read(8))
        if kind in (b"IDAT", b"IEND"):
            return
        if kind in wanted and length < 1 << 20:
            yield kind, stream.read(length)
            stream.seek(4, io.SEEK_CUR)
        else:
            stream.seek(length + 4, io.SEEK_CUR)


def _png_transfer(chunks: Mapping[bytes, bytes]) -> str | None:
    if b"cICP" in chunks:
        return TRANSFERS.get(chunks[b"cICP"][1])
    if b"sRGB" in chunks:
        return "srgb"
    if b"gAMA" in chunks:
        (gamma,) = struct.unpack(">I", chunks[b"gAMA"])
        return {100000: "linear", 45455: "srgb"}.get(gamma)
    return None


def _jpeg_header(path: Path, stream: BinaryIO) -> Picture:
    exif, rounded = Exif(), dict[str, Any]()
    stream.seek(2)
    while True:
        mark, marker = struct.unpack(">BB", stream.read(2))
        while marker == 0xFF:  # fill bytes
            marker = stream.read(1)[0]
        if mark != 0xFF or marker in (0xD9, 0xDA):
            raise ReadError(
                f"{path} is broken (no frame header before its pixels): copy it again or leave it out"
            )
        (length,) = struct.unpack(">H", stream.read(2))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            depth, height, width, count = struct.unpack(">BHHB", stream.read(6))
            break
        body = stream.read(length - 2)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = read_exif(body)
        if marker == 0xDB:
            rounded = rounded or {"rounding": rounding_of_jpeg(body)}
    if depth != 8 or marker not in (0xC0, 0xC1, 0xC2):
        raise ReadError(f"{path} is a {depth}-bit or lossless JPEG of a rare kind: convert it to PNG or TIFF")
    if count not in (1, 3):
        raise ReadError(f"{path} has {count} channels (CMYK), which is not read: convert it to RGB")
    metadata = rounded if exif.orientation == 1 else rounded | {"orientation": exif.orientation}
    return Picture((count, height, width), "uint8", 8, exif.transfer, exif.time, exif.exposure_time, metadata)


def read_exif(data: bytes) -> Exif:
    """What matters of an EXIF block; fields that are absent or nonsense are left out."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(data)
        tags = dict(exif.get_ifd(EXIF_SUBDIRECTORY))
        orientation = exif.get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, struct.error, KeyError, TypeError):
        return Exif()  # damaged metadata is no reason to refuse sound pixels
    return Exif(
        time=_taken(tags),
        exposure_time=seconds(tags.get(0x829A)),
        transfer="srgb" if tags.get(0xA001) == 1 else None,
        orientation=orientation if orientation in range(1, 9) else 1,
    )


def seconds(value: Any) -> float | None:
    """An EXIF rational (a number, or a pair as tifffile gives it) as positive seconds, else None."""
    try:
        number = float(Fraction(*value)) if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < float("inf") else None


def _taken(tags: Mapping[int, Any]) -> float | None:
    """DateTimeOriginal with SubSecTimeOriginal; a second alone is too coarse to order frames by."""
    date, fraction = tags.get(0x9003), str(tags.get(0x9291, "")).strip(" \0")
    if not isinstance(date, str) or not fraction.isdecimal():
        return None
    try:
        moment = datetime.strptime(date.strip(" \0"), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        offset = _offset(str(tags.get(0x9011, "")))
    except ValueError:
        return None
    return float((moment - offset).timestamp() + int(fraction) * 10.0 ** -len(fraction))


def _offset(text: str) -> timedelta:
    """EXIF's "+02:00" as a time difference; none when it isn't given."""
    text = text.strip(" \0")
    if len(text) != 6 or text[0] not in "+-":
        return timedelta()
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -size if text[0] == "-" else size
