"""Video through PyAV: frames by exact time stamps, colours by the stream's tags, nothing narrowed."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.container import open_container
from deblur.io.quantiser import EXPORT, rounding, rounding_of_mjpeg
from deblur.io.reader import (
    Reader,
    ReadOptions,
    channel_names,
    check_count,
    check_index,
    check_like,
    check_size,
    native,
    stem,
)
from deblur.io.videoformat import Format, format_of, frame_array, frame_rate, shutter_angle
from deblur.types import FrameInfo, ReadLimits, SequenceHeader

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".mxf",
            ".y4m", ".wmv", ".flv", ".ogv", ".3gp")  # fmt: skip
TRANSFERS = {  # ITU-T H.273 codes; the camera curves are undone as sRGB, the nearest one that is modelled
    1: "srgb", 4: "srgb", 5: "srgb", 6: "srgb", 7: "srgb", 8: "linear", 11: "srgb", 12: "srgb", 13: "srgb",
    14: "srgb", 15: "srgb",
}  # fmt: skip
REFUSED_TRANSFERS = {9: "logarithmic", 10: "logarithmic", 16: "PQ (HDR)", 17: "SMPTE 428", 18: "HLG (HDR)"}
TORN = ("prematurely", "partial file")  # FFmpeg's words for a file that ends too early
SAMPLED = 16  # frames that are asked how coarsely they were rounded
PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive


def matches(path: str) -> bool:
    """One video file, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def open_video(path: str, options: ReadOptions) -> tuple[Reader, ...]:
    """The video streams of a file, usually one. Packets are walked once for the time stamps, one frame is
    decoded.

    Raises ReadError for damage, interlaced video, and kinds refused by name.
    """
    indexes = _index(path, options.limits)
    readers: list[Reader] = []
    try:
        for index in indexes:
            suffix = f"/video{index.stream}" if len(indexes) > 1 else ""
            readers.append(VideoReader(path, index, suffix=suffix, limits=options.limits))
    except ReadError:
        for reader in readers:
            reader.close()
        raise
    return tuple(readers)


@dataclass(frozen=True, slots=True)
class _Index:
    """Time stamps of one stream, in order of showing, and those of key frames, in units of time_base."""

    stream: int
    stamps: Sequence[int]
    keys: Sequence[int]
    time_base: Fraction


def _open(path: str) -> Any:
    import av

    try:
        return open_container(path)
    except (av.FFmpegError, OSError) as error:
        raise _broken(path, error) from error


def _index(path: str, limits: ReadLimits) -> tuple[_Index, ...]:
    import av

    with _open(path) as container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            raise ReadError(f"{path} holds no video stream: name a video file")
        stamps: dict[int, list[int]] = {stream.index: [] for stream in streams}
        keys: dict[int, list[int]] = {stream.index: [] for stream in streams}
        torn = False
        try:
            for packet, complaints in _packets(container, streams):
                torn = torn or any(sign in text for text in complaints for sign in TORN)
                if packet.size == 0 or packet.is_discard:
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    raise ReadError(
                        f"{path} has frames without a time: remux it (ffmpeg -i IN -c copy OUT.mkv)"
                    )
                stamps[packet.stream_index].append(stamp)
                if packet.is_keyframe:
                    keys[packet.stream_index].append(stamp)
                check_count(path, len(stamps[packet.stream_index]), limits)
        except av.FFmpegError as error:
            if not any(stamps.values()):
                raise _broken(path, error) from error
            torn = True
        found = []
        for stream in streams:
            ordered = sorted(stamps[stream.index])
            check_count(path, len(ordered), limits)
            if torn:  # what was cut off counts as one broken frame, so that it is noticed
                ordered.append(2 * ordered[-1] - ordered[-2] if len(ordered) > 1 else ordered[-1] + 1)
            if any(a == b for a, b in pairwise(ordered)):
                raise ReadError(
                    f"{path} has several frames of the same time: encode it again with right times"
                )
            found.append(_Index(stream.index, ordered, sorted(keys[stream.index]), stream.time_base))
    return tuple(found)


def _packets(container: Any, streams: Sequence[Any]) -> Iterator[tuple[Any, list[str]]]:
    """Packets, each with what FFmpeg complained of while it was fetched."""
    packets = container.demux(streams)
    while True:
        with _complaints() as found:
            packet = next(packets, None)
        if packet is None:
            return
        yield packet, [text for _, _, text in found]


@contextmanager
def _complaints() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg logs as errors, since it tells of much damage nowhere else.

    It ends torn files without raising, and paints over damage: FFV1 shows the frame before, whatever
    `err_detect` says.
    """
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as found:
            yield found
    finally:
        av.logging.set_level(level)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


class VideoReader(Reader):
    """One video stream. In order each frame is decoded once; a jump decodes from the key frame before."""

    def __init__(self, path: str, index: _Index, *, suffix: str, limits: ReadLimits) -> None:
        self._path = path
        self._label = Path(path).name + suffix
        self._index = index
        self._limits = limits
        self._container: Any = None
        self._decoded: Iterator[tuple[Any, bool]] = iter(())
        self._ahead: tuple[Any, bool] | None = None  # decoded, not yet asked for
        self._last: int | None = None  # stamp of the frame read last; None before the first
        try:
            self._rewind(index.stamps[0])
            if self._ahead is None:
                raise ReadError(f"{path} holds no frame that decodes: copy it again or leave it out")
            self._format: Format = self._describe(self._ahead[0])
            self.header: SequenceHeader = self._head(self._ahead[0], suffix)
            self.frames: Sequence[FrameInfo] = self._infos()
        except ReadError:
            self.close()
            raise

    def _describe(self, frame: Any) -> Format:
        _refuse_interlaced(self._path, frame, self._stream.codec_context)
        if frame.color_trc in REFUSED_TRANSFERS:
            curve = REFUSED_TRANSFERS[frame.color_trc]
            raise ReadError(
                f"{self._path} has a {curve} transfer curve, which is not undone: convert it to BT.709"
            )
        kind = format_of(self._path, frame, codec=self._stream.codec_context.name)
        check_size(self._path, (kind.channels, frame.height, frame.width), kind.dtype, limits=self._limits)
        return kind

    @property
    def _stream(self) -> Any:
        return self._container.streams[self._index.stream]

    def _head(self, frame: Any, suffix: str) -> SequenceHeader:
        stamps, base = self._index.stamps, self._index.time_base
        rate, constant = frame_rate(stamps, base, self._stream.average_rate)
        notes = {**self._container.metadata, **self._stream.metadata}
        angle = shutter_angle(notes)
        curve = TRANSFERS.get(frame.color_trc)
        if curve is None and self._format.encoded and self._format.dtype != "uint8":
            curve = "srgb"  # colour difference video is never linear light, however deep
        ratio = self._stream.sample_aspect_ratio
        facts = {
            "format": f"video ({self._stream.codec_context.name}, {frame.format.name})",
            **self._format.facts,
            "time_base": str(base),
            "frame_rate": str(rate) if rate else None,
            "variable_frame_rate": None if constant else True,
            "rotation": frame.rotation or None,
            "pixel_aspect_ratio": str(ratio) if ratio and ratio != 1 else None,
            "created": notes.get("creation_time"),
            "rounding": self._rounding(),
        }
        return SequenceHeader(
            name=stem(self._path) + suffix,
            shape=(self._format.channels, frame.height, frame.width),
            dtype=self._format.dtype,
            channels=channel_names(self._format.channels),
            bits=self._format.bits,
            frame_rate=float(rate) if rate else None,
            exposure_fraction=None if angle is None else angle / 360,
            transfer=curve,
            metadata={key: value for key, value in facts.items() if value is not None},
        )

    def _rounding(self) -> float | None:
        """Of the first frames; then the reader stands at its beginning again."""
        if self._stream.codec_context.name == "mjpeg":
            with _open(self._path) as again:
                return rounding_of_mjpeg(bytes(next(again.demux(again.streams[self._index.stream]))))
        if self._ahead is None or self._stream.codec_context.name != "h264":
            return None
        ahead = (frame for frame, _ in islice(self._decoded, SAMPLED - 1))
        found = rounding(chain((self._ahead[0],), ahead), bits=self._format.facts["code_bits"])
        self._rewind(self._index.stamps[0])
        return found

    def _infos(self) -> tuple[FrameInfo, ...]:
        fraction, rate = self.header.exposure_fraction, self.header.frame_rate
        steady = "variable_frame_rate" not in self.header.metadata
        exposure = fraction / rate if fraction and rate and steady else None
        times = (float(stamp * self._index.time_base) for stamp in self._index.stamps)
        return tuple(
            FrameInfo(f"{self._label}#{number}", time, exposure) for number, time in enumerate(times)
        )

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        name = f"{self._path}#{index}"
        target = self._index.stamps[index]
        if self._container is None:
            raise ReadError(f"{name} was asked for after its reader was closed: open the file again")
        if self._jumps(target):
            self._rewind(target)
        frame, damaged = self._advance(name, target)
        if damaged:
            raise ReadError(
                f"{name} is broken, or refers to a broken frame: copy the file again or leave it out"
            )
        _refuse_interlaced(name, frame, None)
        shape = (self.header.shape[0], frame.height, frame.width)
        check_like(name, shape, self.header.dtype, self.header)
        image = frame_array(frame, self._format)
        check_like(name, image.shape, image.dtype, self.header)
        return native(image)

    def _jumps(self, target: int) -> bool:
        """Is it shorter to start at a key frame than to go on from here?"""
        if self._ahead is not None and self._ahead[0].pts is not None and self._ahead[0].pts <= target:
            here = self._ahead[0].pts
        elif self._last is not None and self._last < target:
            here = self._last
        else:
            return True
        return self._key_before(target) > self._next_key(here)

    def _key_before(self, stamp: int) -> int:
        place = bisect.bisect_right(self._index.keys, stamp)
        return self._index.keys[place - 1] if place else self._index.stamps[0]

    def _next_key(self, stamp: int) -> int:
        place = bisect.bisect_right(self._index.keys, stamp)
        return self._index.keys[place] if place < len(self._index.keys) else self._index.stamps[-1] + 1

    def _advance(self, name: str, target: int) -> tuple[Any, bool]:
        """Decode up to the frame of this time. Raises ReadError when the stream goes past it."""
        self._last = target
        while True:
            item = self._ahead if self._ahead is not None else next(self._decoded, None)
            self._ahead = None
            if item is not None and item[0].pts == target:
                return item
            if item is None or (item[0].pts is not None and item[0].pts > target):
                self._ahead = item
                raise ReadError(f"{name} does not decode: copy the file again or leave the frame out")

    def _rewind(self, target: int) -> None:
        """Make `_decoded` start at or before the frame of this time."""
        import av

        if self._container is not None:
            try:
                self._container.seek(self._key_before(target), stream=self._stream, backward=True)
                self._restart()
                if self._ahead is not None and self._ahead[0].pts <= target:
                    return
            except (av.FFmpegError, OSError):
                pass  # a file without a seek table: decode it from the start, below
            self._container.close()
        self._container = _open(self._path)
        context = self._stream.codec_context
        if context is None:
            raise ReadError(f"{self._path} has a codec that this FFmpeg doesn't know: convert it")
        context.thread_count = 1
        check_size(self._path, (1, context.height or 1, context.width or 1), "uint8", limits=self._limits)
        # never let a decoder paint over damage unseen, nor grow in the middle
        context.options = {
            "err_detect": "crccheck+explode",
            "max_pixels": str(self._limits.max_pixels),
            "export_side_data": EXPORT,
        }
        self._restart()

    def _restart(self) -> None:
        self._last = None
        self._decoded = self._decode()
        self._ahead = next(self._decoded, None)

    def _decode(self) -> Iterator[tuple[Any, bool]]:
        """Frames in order of showing, each with whether damage may have reached it.

        After a packet that doesn't decode, everything up to the next key frame may refer to it.
        """
        import av

        bad_before: int | None = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):
                return  # the file ends inside a packet
            if packet is None:
                return
            frames, sound = _decode_packet(packet)
            if not sound:
                stamp = packet.pts if packet.pts is not None else packet.dts
                bad_before = self._index.stamps[-1] + 1 if stamp is None else self._next_key(stamp)
            for frame in frames:
                damaged = bad_before is not None and frame.pts is not None and frame.pts < bad_before
                yield frame, damaged or frame.is_corrupt

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None
        self._ahead = None


def _decode_packet(packet: Any) -> tuple[Sequence[Any], bool]:
    """The frames that a packet completes, and whether the decoder was content."""
    import av

    try:
        with _complaints() as found:
            frames = packet.decode()
    except (av.FFmpegError, OSError):
        return (), False
    return frames, not found


def _refuse_interlaced(name: str, frame: Any, context: Any) -> None:
    if frame.interlaced_frame or (context is not None and int(context.field_order) not in PROGRESSIVE):
        raise ReadError(
            f"{name} is interlaced video, whose fields have different times: deinterlace it first (bwdif)"
        )


def _broken(path: str, error: Exception) -> ReadError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return ReadError(f"{path} can't be read as video ({reason}): copy it again or leave it out")
