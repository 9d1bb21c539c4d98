"""Frames to video: H.264 for looking at, FFV1 for keeping every bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError
from deblur.io.colour import from_rgb
from deblur.types import SequenceHeader

FALLBACK_RATE = Fraction(25)  # for sources that have no rate, such as folders
FINE_BASE = Fraction(1, 90_000)  # a clock for frames whose source has none of its own
BT709, SRGB, GREY_MATRIX = 1, 13, 2  # ITU-T H.273 codes; 2 is "unspecified"
LIMITED, FULL = 1, 2


def write_video(
    frames: Iterable[NDArray[Any]],
    path: Path,
    *,
    header: SequenceHeader,
    times: Sequence[float | None] | None = None,
) -> None:
    """Encode (c, y, x) frames of 1 or 3 channels: `.mp4` as H.264 (8 bits, BT.709, limited range), else FFV1.

    H.264's chroma is halved where height and width are even. Matroska keeps times to a millisecond. Raises
    ConfigError for frames that the format can't hold.
    """
    import av

    lossy = path.suffix.lower() == ".mp4"
    _refuse(path, header, lossy=lossy)
    rate = Fraction(str(header.metadata.get("frame_rate") or header.frame_rate or FALLBACK_RATE))
    rate = rate.limit_denominator(1_000_000)
    stamps, base = _clock(header, rate, times)
    try:
        with av.open(str(path), mode="w") as container:
            stream: Any = container.add_stream("libx264" if lossy else "ffv1", rate=rate)
            stream.height, stream.width = header.shape[1:]
            stream.pix_fmt = _h264_format(header) if lossy else _ffv1_format(header)
            stream.codec_context.time_base = base
            stream.codec_context.thread_count = 1
            stream.options = {"crf": "14", "preset": "medium"} if lossy else {"level": "3", "slicecrc": "1"}
            _tag(stream.codec_context, header, lossy=lossy)
            for number, frame in enumerate(frames):
                picture = _picture(av, frame, stream.pix_fmt)
                _tag(picture, header, lossy=lossy)
                picture.pts = stamps[number] if stamps is not None else number
                picture.time_base = base
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise ConfigError(f"{path} can't be encoded ({error.strerror}): export a folder or .tif") from error


def _refuse(path: Path, header: SequenceHeader, *, lossy: bool) -> None:
    if header.shape[0] not in (1, 3):
        raise ConfigError(f"{path} can't hold {header.shape[0]} channels: export a folder, .tif or .npy")
    if header.dtype not in ("uint8", "uint16"):
        raise ConfigError(f"{path} can't hold {header.dtype} without loss: export a folder, .tif or .npy")
    if lossy and header.dtype == "uint16":
        raise ConfigError(f"{path} would narrow 16 bits to 8: export .mkv (FFV1), a folder or .tif")


def _clock(
    header: SequenceHeader, rate: Fraction, times: Sequence[float | None] | None
) -> tuple[list[int] | None, Fraction]:
    """Each frame's stamp, or None to count them, and the time base."""
    if not header.metadata.get("variable_frame_rate") or times is None or any(time is None for time in times):
        return None, 1 / rate
    base = Fraction(str(header.metadata.get("time_base", FINE_BASE)))
    stamps = [round(Fraction(time) / base) for time in times if time is not None]
    if any(later <= earlier for earlier, later in pairwise(stamps)):
        raise ConfigError("the frames' times don't rise: export a folder, or without times")
    return stamps, base


def _h264_format(header: SequenceHeader) -> str:
    even = header.shape[1] % 2 == 0 and header.shape[2] % 2 == 0
    return "yuv420p" if even else "yuv444p"


def _ffv1_format(header: SequenceHeader) -> str:
    if header.shape[0] == 1:
        return "gray" if header.dtype == "uint8" else "gray16le"
    return "bgr0" if header.dtype == "uint8" else "gbrp16le"


def _tag(target: Any, header: SequenceHeader, *, lossy: bool) -> None:
    """Say what the numbers mean, in a codec context or a frame."""
    target.color_range = LIMITED if lossy else FULL
    if lossy:
        target.colorspace = BT709
        target.color_primaries = BT709
    linear = header.transfer == "linear"
    encoded = header.transfer == "srgb" or (header.transfer is None and header.dtype == "uint8")
    if linear or encoded:
        target.color_trc = 8 if linear else SRGB


def _picture(av: Any, frame: NDArray[Any], name: str) -> Any:
    height, width = frame.shape[1:]
    picture = av.VideoFrame(width, height, name)
    for plane, data in zip(picture.planes, _planes(frame, name), strict=True):
        row = np.ascontiguousarray(data).reshape(data.shape[0], -1).view(np.uint8)
        padded = np.zeros((row.shape[0], plane.line_size), np.uint8)
        padded[:, : row.shape[1]] = row
        plane.update(padded)
    return picture


def _planes(frame: NDArray[Any], name: str) -> Sequence[NDArray[Any]]:
    if name in ("gray", "gray16le"):
        return (frame[0],)
    if name == "bgr0":
        nothing = np.zeros(frame.shape[1:], np.uint8)
        return (np.stack([frame[2], frame[1], frame[0], nothing], axis=-1),)
    if name == "gbrp16le":
        return frame[1], frame[2], frame[0]
    colour = frame if frame.shape[0] == 3 else np.repeat(frame, 3, axis=0)
    return from_rgb(colour, subsample=2 if name == "yuv420p" else 1)
