"""EXIF of the original pictures, given on to restored ones: camera, lens, time, place."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

ORIENTATION = 0x0112
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
