"""What a restored clip keeps of its original beside the pictures: audio streams, copied packet by packet, and notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from deblur.errors import ConfigError
from deblur.io.container import open_container

OF_THE_FILE = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
)  # said anew by the new one


class Sound:
    """The audio of an original, muxed into a new container just ahead of its pictures."""

    def __init__(self, original: Any, container: Any, *, shift: Fraction) -> None:
        """`shift`: seconds that the pictures were moved by, from the original's clock to the new one's."""
        pairs = [(stream, container.add_stream_from_template(stream)) for stream in original.streams.audio]
        for old, new in pairs:
            new.metadata.update(
                {key: old.metadata[key] for key in old.metadata if key in ("language", "title")}
            )
        self._new = {old.index: new for old, new in pairs}
        self._container, self._shift = container, shift
        self._packets = original.demux(*[old for old, _ in pairs]) if pairs else iter(())
        self._held: Any = None

    def copy(self, until: Fraction | None) -> None:
        """Audio up to a time in seconds, None for all of it, so that no stream runs far ahead of another."""
        while self._held is not None or self._fetch():
            if until is not None and self._time() > until:
                return
            packet, self._held = self._held, None
            if self._shift:
                ticks = round(self._shift / packet.time_base)
                packet.pts = packet.pts + ticks
                packet.dts = packet.dts + ticks
            packet.stream = self._new[packet.stream_index]
            self._container.mux(packet)

    def _fetch(self) -> bool:
        self._held = next(
            (p for p in self._packets if p.size and p.dts is not None and p.pts is not None), None
        )
        return self._held is not None

    def _time(self) -> Fraction:
        return Fraction(self._held.dts * self._held.time_base) + self._shift


@contextmanager
def opened(original: Path | None) -> Iterator[Any]:
    """The original video, or None where there is none that can be opened: its sound can then not be had."""
    import av

    if original is None:
        yield None
        return
    try:
        container = open_container(original)
    except (av.FFmpegError, OSError):
        yield None
        return
    with container:
        yield container


def notes(original: Any) -> dict[str, str]:
    """Title, place, date and whatever else the file says of itself."""
    return {key: text for key, text in original.metadata.items() if key.lower() not in OF_THE_FILE}


def check_sound(original: Path, output: Path, *, name: str) -> None:
    """Raise ConfigError, before hours of work, where `output` can't hold the audio of `original`, known as `name`."""
    import av

    with opened(original) as source:
        if source is None:
            return
        for stream in source.streams.audio:
            codec = stream.codec_context.name if stream.codec_context else "unknown"
            kind = av.format.ContainerFormat({".mp4": "mp4", ".mkv": "matroska"}[output.suffix.lower()], "w")
            if not _holds(kind.name, stream):
                raise ConfigError(f"{output} can't hold the audio of {name} ({codec}): write .mkv")


def _holds(kind: str, stream: Any) -> bool:
    import io

    import av

    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
