"""Video files opened so that they can name no others: FFmpeg otherwise follows playlists, addresses and device names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DEMUXERS = "mov,matroska,avi,mpeg,mpegvideo,mpegts,mxf,yuv4mpegpipe,asf,flv,ogg"  # no playlists, lists of files, devices


def open_container(path: str | Path) -> Any:
    """A file as PyAV's container. Raises what PyAV raises, av.FFmpegError or OSError."""
    import av

    closed = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
    # "file:", so that a name with a colon is no protocol
    return av.open(f"file:{path}", mode="r", container_options=closed, metadata_errors="replace")
