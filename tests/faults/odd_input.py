"""Kinds of pictures and clips that hold no light to deblur, or not all of it: each is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import tifffile
from PIL import Image

from tests.conftest import pan
from tests.small import HEIGHT, WIDTH, write_job

Prepare = Callable[[Path], Path]  # makes the fault in a folder, returns the job file
COUNT = 3


def pictures(mode: str, name: str = "{}.png", **how: Any) -> Prepare:
    """A folder of pictures of one of Pillow's modes."""

    def prepare(folder: Path) -> Path:
        (folder / "frames").mkdir()
        for number, frame in enumerate(pan(COUNT, HEIGHT, WIDTH)[0]):
            Image.fromarray(frame[0]).convert(mode).save(folder / "frames" / name.format(number), **how)
        return write_job(folder)

    return prepare


def animated(folder: Path) -> Path:
    (folder / "frames").mkdir()
    first, *others = (Image.fromarray(frame[0]) for frame in pan(COUNT, HEIGHT, WIDTH)[0])
    first.save(folder / "frames" / "0.png", save_all=True, append_images=others)
    return write_job(folder)


def pages(change: Callable[[Any], Any], **how: Any) -> Prepare:
    """A TIFF of several pages."""

    def prepare(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "clip.tif") as out:
            for frame in pan(COUNT, HEIGHT, WIDTH)[0]:
                out.write(change(frame[0]), **how)
        return write_job(folder, path="clip.tif")

    return prepare


def clip(codec: str, pixels: str, **how: str) -> Prepare:
    def prepare(folder: Path) -> Path:
        with av.open(str(folder / "clip.mkv"), "w") as out:
            stream: Any = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, pixels, how
            for frame in pan(COUNT, HEIGHT, WIDTH)[0]:
                out.mux(
                    stream.encode(av.VideoFrame.from_ndarray(frame[0], format="gray").reformat(format=pixels))
                )
            out.mux(stream.encode(None))
        return write_job(folder, path="clip.mkv")

    return prepare


PALETTE = np.repeat(np.arange(256, dtype=np.uint16) * 257, 3).reshape(256, 3).T
ODD: dict[str, tuple[Prepare, list[str]]] = {
    "PNG with a palette": (pictures("P"), ["0.png", "palette", "convert it"]),
    "PNG with alpha": (pictures("RGBA"), ["0.png", "alpha", "flatten it"]),
    "PNG of 1 bit": (pictures("1"), ["0.png", "1 bit", "give 8 or 16"]),
    "animated PNG": (animated, ["0.png", "animated", "convert it"]),
    "animated GIF": (pictures("P", "{}.gif"), ["frames", "name the folder"]),
    "JPEG in CMYK": (pictures("CMYK", "{}.jpg"), ["0.jpg", "CMYK", "convert it to RGB"]),
    "TIFF with a palette": (
        pages(np.asarray, photometric="palette", colormap=PALETTE), ["clip.tif", "palette", "convert it"]
    ),
    "TIFF in CMYK": (
        pages(lambda grey: np.stack([grey] * 4, -1), photometric="separated"), ["clip.tif", "CMYK", "convert it"]
    ),
    "TIFF with alpha": (
        pages(lambda grey: np.stack([grey] * 4, -1), photometric="rgb", extrasamples=["unassalpha"]),
        ["clip.tif", "alpha", "flatten it"],
    ),
    "TIFF of 1 bit": (pages(lambda grey: grey > 99), ["clip.tif", "1 bit", "give 8 or 16"]),
    "TIFF of signed numbers": (pages(lambda grey: grey.astype(np.int16)), ["clip.tif", "int16", "convert it"]),
    "interlaced video": (
        clip("mpeg2video", "yuv420p", flags="+ildct+ilme"), ["clip.mkv", "interlaced", "deinterlace it"]
    ),
    "video with alpha": (clip("ffv1", "yuva420p"), ["clip.mkv", "alpha", "convert it"]),
}  # fmt: skip
