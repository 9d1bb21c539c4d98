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
from deblur.io.sound import Sound, notes, opened
from deblur.types import SequenceHeader

FALLBACK_RATE = Fraction(25)  # for sources that have no rate, such as folders
FINE_BASE = Fraction(1, 90_000)  # a clock for frames whose source has none of its own
BT709, SRGB = 1, 13  # ITU-T H.273 codes
LIMITED, FULL = 1, 2
OPTIONS = {
    "libx264": {"crf": "14", "preset": "medium"},
    "libx265": {"crf": "14", "preset": "medium", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}


def write_video(
    frames: Iterable[NDArray[Any]],
    path: Path,
    *,
    header: SequenceHeader,
    times: Sequence[float | None] | None = None,
    original: Path | None = None,
) -> None:
    """Encode (c, y, x) frames of 1 or 3 channels: `.mp4` as H.264 (BT.709, limited range), else FFV1.

    8 bits; of a clip of 9 or 10 bits, `.mp4` becomes 10-bit HEVC. `original`: the clip that the frames came from; its
    audio and its notes are copied. Chroma is halved where height and width are even. Matroska keeps times to a
    millisecond. Raises ConfigError for frames or audio that the format can't hold.
    """
    import av

    lossy = path.suffix.lower() == ".mp4"
    deep = lossy and header.dtype == "uint16"
    _refuse(path, header, lossy=lossy)
    rate = Fraction(str(header.metadata.get("frame_rate") or header.frame_rate or FALLBACK_RATE))
    rate = rate.limit_denominator(1_000_000)
    stamps, base = _clock(header, rate, times)
    flags = {"movflags": "use_metadata_tags"} if lossy else {}  # else phones' places and models are dropped
    try:
        with opened(original) as source, av.open(str(path), mode="w", options=flags) as container:
            codec = "libx265" if deep else "libx264" if lossy else "ffv1"
            stream: Any = container.add_stream(codec, rate=rate)
            stream.height, stream.width = header.shape[1:]
            stream.pix_fmt = _lossy_format(header, deep) if lossy else _ffv1_format(header)
            stream.codec_context.time_base = base
            stream.codec_context.thread_count = 1
            stream.options = OPTIONS[codec]
            if deep:
                stream.codec_context.codec_tag = "hvc1"  # the only one that Apple's players take
            _tag(stream.codec_context, header, lossy=lossy)
            sound = None
            if source is not None:
                container.metadata.update(notes(source))
                sound = Sound(source, container, shift=_shift(stamps, base, times))
            for number, frame in enumerate(frames):
                picture = _picture(av, frame, stream.pix_fmt)
                _tag(picture, header, lossy=lossy)
                picture.pts = stamps[number] if stamps is not None else number
                picture.time_base = base
                container.mux(stream.encode(picture))
                if sound is not None:
                    sound.copy(until=picture.pts * base)
            container.mux(stream.encode(None))
            if sound is not None:
                sound.copy(until=None)
    except av.FFmpegError as error:
        raise ConfigError(f"{path} can't be encoded ({error.strerror}): export a folder or .tif") from error


def _refuse(path: Path, header: SequenceHeader, *, lossy: bool) -> None:
    if header.shape[0] not in (1, 3):
        raise ConfigError(f"{path} can't hold {header.shape[0]} channels: export a folder, .tif or .npy")
    if header.dtype not in ("uint8", "uint16"):
        raise ConfigError(f"{path} can't hold {header.dtype} without loss: export a folder, .tif or .npy")
    if lossy and header.dtype == "uint16" and not 8 < header.metadata.get("code_bits", 16) <= 10:
        raise ConfigError(f"{path} would narrow 16 bits to 8: export .mkv (FFV1), a folder or .tif")


def _clock(
    header: SequenceHeader, rate: Fraction, times: Sequence[float | None] | None
) -> tuple[list[int] | None, Fraction]:
    """Each frame's stamp, or None to count them, and the time base.

    Counting would draw a clip together over a frame that couldn't be read, away from its sound.
    """
    if times is None or any(time is None for time in times):
        return None, 1 / rate
    steps = [float(later or 0) - float(earlier or 0) for earlier, later in pairwise(times)]
    if not header.metadata.get("variable_frame_rate") and max(steps, default=0) < 1.5 / rate:
        return None, 1 / rate
    base = Fraction(str(header.metadata.get("time_base", FINE_BASE)))
    stamps = [round(Fraction(time) / base) for time in times if time is not None]
    if any(later <= earlier for earlier, later in pairwise(stamps)):
        raise ConfigError("the frames' times don't rise: export a folder, or without times")
    return stamps, base


def _shift(stamps: list[int] | None, base: Fraction, times: Sequence[float | None] | None) -> Fraction:
    """Seconds from the original's clock to the new one's; counted frames begin at 0."""
    if stamps is not None or not times or times[0] is None:
        return Fraction(0)
    return -Fraction(times[0]).limit_denominator(1_000_000)


def _lossy_format(header: SequenceHeader, deep: bool) -> str:
    even = header.shape[1] % 2 == 0 and header.shape[2] % 2 == 0
    return ("yuv420p" if even else "yuv444p") + ("10le" if deep else "")


def _ffv1_format(header: SequenceHeader) -> str:
    if header.shape[0] == 1:
        return "gray" if header.dtype == "uint8" else "gray16le"
    return "bgr0" if header.dtype == "uint8" else "gbrp16le"


def _tag(target: Any, header: SequenceHeader, *, lossy: bool) -> None:
    """Say what the numbers mean, in a codec context or a frame."""
    target.color_range = LIMITED if lossy else FULL
    primaries = header.metadata.get("colour_primaries", BT709 if lossy else None)
    if primaries is not None:
        target.color_primaries = primaries
    if lossy:
        target.colorspace = BT709
    linear = header.transfer == "linear"
    encoded = header.transfer == "srgb" or (header.transfer is None and header.dtype == "uint8")
    if linear or encoded:
        target.color_trc = 8 if linear else header.metadata.get("colour_transfer", SRGB)


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
    return from_rgb(colour, subsample=2 if name.startswith("yuv420p") else 1)
