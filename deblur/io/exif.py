"""EXIF of the original pictures, given on to restored ones: camera, lens, time, place."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

ORIENTATION = 0x0112
CAMERA, PLACE, INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # directories within
TEXTS = (270, 271, 272, 306, 315, 33432)  # description, make, model, time of change, artist, copyright
TEXT = 2
HEAD = 33  # bytes of a PNG's signature and IHDR, which come first
LARGEST = 1 << 20  # bytes; makers' notes can hold whole pictures


def exif_of(file: Path) -> bytes | None:
    """The EXIF block of a picture, said to be upright, since its copy is; None where there is none to be had."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            exif = image.getexif()
            if not exif:
                return None
            exif[ORIENTATION] = 1
            block = exif.tobytes().removeprefix(b"Exif\0\0")
    except (
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        KeyError,
        TypeError,
        Image.DecompressionBombError,
    ):
        return None  # damaged notes are no reason to keep sound pixels back
    return block if len(block) <= LARGEST else None


def with_exif(png: bytes, block: bytes | None) -> bytes:
    """A PNG file with an EXIF chunk in front of its pixels."""
    if block is None:
        return png
    body = b"eXIf" + block
    chunk = struct.pack(">I", len(block)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:HEAD] + chunk + png[HEAD:]


def directories(block: bytes) -> tuple[list[tuple[int, int, int, bytes, bool]], dict[int, Any]]:
    """What a TIFF takes from an EXIF block: texts as tifffile's extra tags, and {tag: directory} of camera and place."""
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    exif = Image.Exif()
    exif.load(block)
    texts = [
        (code, TEXT, 0, str(exif[code]).encode("ascii", "replace"), True) for code in TEXTS if exif.get(code)
    ]
    parts: dict[int, Any] = {}
    for code in (CAMERA, PLACE):
        notes = {tag: value for tag, value in exif.get_ifd(code).items() if tag != INTEROPERABILITY}
        if notes:
            parts[code] = ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=code)
            for tag, value in notes.items():
                parts[code][tag] = value
    return texts, parts
