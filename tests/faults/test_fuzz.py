"""Readers and files that somebody broke on purpose: a ReadError, or frames as the header says; no crash, hang or blow-up.

Hypothesis breaks real files of every format (what `test_contract` writes, and more ways to write them; a format that an
extra reads where that is installed); a process of its own, with limits on memory and time, reads each.
"""

from __future__ import annotations

import math
import os
import re
import resource
import signal
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deblur.errors import DeblurError
from deblur.io import READERS, ReadLimits, ReadOptions
from tests.faults.world import child, end_of
from tests.io import extras
from tests.io.test_contract import SAMPLES, interleaved, truth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied that might not survive"),
]
EXAMPLES = 12  # a seed and a way to write
LIMITS = ReadLimits(max_pixels=1 << 20, max_bytes=1 << 22, max_pages=1 << 12)
MEMORY = 384 << 20  # bytes beyond what the process has
SECONDS = 10  # of CPU
NUMBERS = (
    0,
    1,
    2,
    3,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
WORDS = (
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"99999999999999999999",
    b"1e999",
    b"NaN",
    b"null",
    b'"x"',
    b"[]",
)

Write = Callable[[Path, NDArray[Any]], str]
Bodies = Mapping[str, bytes]  # {file below the folder: its bytes}


@dataclass(frozen=True)
class Edit:
    """Bytes start..stop of a file are replaced; `sums`: a PNG's checksums are made right again."""

    file: str
    start: int
    stop: int
    new: bytes
    sums: bool = False

    def __call__(self, body: bytes) -> bytes:
        changed = body[: self.start] + self.new + body[self.stop :]
        return with_sums(changed) if self.sums else changed


# Ways to write


def jpegs(**how: Any) -> Write:
    def write(root: Path, frames: NDArray[Any]) -> str:
        for number, frame in enumerate(frames[:2]):
            Image.fromarray(interleaved(frame)).save(root / f"f{number}.jpg", quality=80, **how)
        return str(root)

    return write


def tiff(**how: Any) -> Write:
    def write(root: Path, frames: NDArray[Any]) -> str:
        tifffile.imwrite(root / "a.tif", frames[:3, 0], photometric="minisblack", **how)
        return str(root / "a.tif")

    return write


def video(name: str, codec: str, pixels: str, **how: str) -> Write:
    def write(root: Path, frames: NDArray[Any]) -> str:
        with av.open(str(root / name), "w") as out:
            stream: Any = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 34, 20, pixels
            stream.options = {"g": "3", **how}
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame[0], format="gray")
                out.mux(stream.encode(picture.reformat(format=pixels)))
            out.mux(stream.encode(None))
        return str(root / name)

    return write


def ome_zarr(version: int) -> Write:
    def write(root: Path, frames: NDArray[Any]) -> str:
        group = zarr.create_group(root / "a.zarr", zarr_format=version)
        packed: Any = (
            {"shards": (4, 1, 32, 32)}
            if version == 3
            else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        )
        array = group.create_array(
            "0", shape=frames.shape, dtype=frames.dtype, chunks=(2, 1, 16, 16), **packed
        )
        array[:] = frames
        scale = {"type": "scale", "scale": [0.04, 1.0, 0.5, 0.5]}
        axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
        axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        levels = [{"path": "0", "coordinateTransformations": [scale]}]
        told = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": levels}]}
        group.attrs.update({"ome": told} if version == 3 else told)
        return str(root / "a.zarr")

    return write


WAYS: dict[str, tuple[Write, str, int]] = {
    **{f"{s.reader} {s.write.__name__}": (s.write, s.dtype, s.channels) for s in SAMPLES},
    "raw photographs": (extras.write_dngs, "uint16", 3),
    "JPEG": (jpegs(), "uint8", 3),
    "JPEG, progressive": (jpegs(progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), "uint8", 1),
    "TIFF, tiles, LZW": (tiff(tile=(16, 16), compression="lzw", predictor=True), "uint16", 1),
    "TIFF, strips, Zstandard": (tiff(rowsperstrip=5, compression="zstd"), "uint8", 1),
    "TIFF, strips, PackBits": (tiff(rowsperstrip=7, compression="packbits", byteorder=">"), "uint8", 1),
    "TIFF, JPEG": (tiff(compression="jpeg"), "uint8", 1),
    "BigTIFF, Deflate": (tiff(bigtiff=True, compression="zlib", predictor=True), "float32", 1),
    "ImageJ": (tiff(imagej=True, metadata={"axes": "TYX", "finterval": 0.04}), "uint16", 1),
    "MP4, H.264": (video("a.mp4", "libx264", "yuv420p", bf="2"), "uint8", 1),
    "AVI, MPEG-4": (video("a.avi", "mpeg4", "yuv420p"), "uint8", 1),
    "MOV, Motion JPEG": (video("a.mov", "mjpeg", "yuvj420p"), "uint8", 1),
    "Matroska, raw": (video("a.mkv", "rawvideo", "yuv420p"), "uint8", 1),
    "OME-Zarr 0.5, shards": (ome_zarr(3), "uint16", 1),
    "OME-Zarr 0.4": (ome_zarr(2), "uint8", 1),
}
NEEDED = {f"{s.reader} {s.write.__name__}": s.needs for s in SAMPLES if s.needs} | {
    "raw photographs": "rawpy"
}


# Ways to break


def with_sums(body: bytes) -> bytes:
    """A PNG whose chunks have the checksums that go with them, so that a decoder looks into them."""
    at, made = 8, body[:8]
    while at + 12 <= len(body):
        (length,) = struct.unpack(">I", body[at : at + 4])
        inner = body[at + 4 : at + 8 + length]
        made += body[at : at + 4] + inner + struct.pack(">I", zlib.crc32(inner))
        at += 12 + length
    return made + body[at:]


@st.composite
def edits(draw: st.DrawFn, bodies: Bodies) -> list[Edit]:
    now, found = dict(bodies), list[Edit]()
    for _ in range(draw(st.integers(1, 3))):
        file = draw(st.sampled_from(sorted(now)))
        if not now[file]:
            continue
        start, stop, new = draw(_change(now[file]))
        edit = Edit(file, start, stop, new, file.endswith(".png") and draw(st.booleans()))
        now[file] = edit(now[file])
        found.append(edit)
    return found


@st.composite
def _change(draw: st.DrawFn, body: bytes) -> tuple[int, int, bytes]:
    last = len(body) - 1
    places = st.integers(0, last) | st.integers(0, min(last, 250)) | st.integers(max(0, last - 250), last)
    at = draw(places)
    kind = draw(st.sampled_from(["flip", "field", "field", "word", "cut", "splice", "zeros"]))
    if kind == "flip":
        return at, at + 1, bytes([body[at] ^ 1 << draw(st.integers(0, 7))])
    if kind == "field":
        width = draw(st.sampled_from([1, 2, 4, 8]))
        number = draw(st.sampled_from(NUMBERS)) % 256**width
        return at, at + width, number.to_bytes(width, draw(st.sampled_from(["little", "big"])))
    if kind == "word":
        words = [match.span() for match in re.finditer(rb"[0-9.]+|\"[a-z0-9]+\"", body[: 1 << 14])]
        start, stop = draw(st.sampled_from(words)) if words else (at, at)
        return start, stop, draw(st.sampled_from(WORDS))
    length = draw(st.integers(1, 300))
    if kind == "splice":
        source = draw(places)
        return at, at + draw(st.sampled_from([0, length])), body[source : source + length]
    return (at, len(body), b"") if kind == "cut" else (at, at + length, bytes(len(body[at : at + length])))


# What must hold


def read_all(source: str) -> int:
    """How many frames are sound. Anything but a DeblurError in one line comes through."""
    opener = next(opener for opener in READERS.values() if opener.matches(source))
    sound = 0
    try:
        readers = opener.open(source, ReadOptions(limits=LIMITS))
    except DeblurError as error:
        return _named(error)
    for reader in readers:
        with reader:
            header = reader.header
            assert header.frame_rate is None or 0 < header.frame_rate < math.inf
            for index in range(min(len(reader.frames), 20)):
                told = reader.frames[index]
                assert told.time is None or math.isfinite(told.time)
                assert told.exposure_time is None or 0 < told.exposure_time < math.inf
                try:
                    frame = reader.read(index)
                except DeblurError as error:
                    _named(error)
                    continue
                assert (frame.shape, frame.dtype.name) == (header.shape, header.dtype)
                sound += 1
    return sound


def _named(error: DeblurError) -> int:
    assert "\n" not in str(error)
    return 0


def survives(source: str) -> None:
    """Read it in a process that may die of it."""

    def act() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        signal.alarm(6 * SECONDS)
        read_all(source)

    code = end_of(child(act))
    names = {-number: number.name for number in signal.Signals}
    assert code == 0, f"reading it ended with {names.get(code, code)}"


def try_out(source: str, root: Path, bodies: Bodies, found: list[Edit]) -> None:
    """Break the files, read them, and put them right again."""
    now = dict(bodies)
    for edit in found:
        now[edit.file] = edit(now[edit.file])
    changed = [file for file in now if now[file] != bodies[file]]
    for file in changed:
        (root / file).write_bytes(now[file])
    try:
        survives(source)
    finally:
        for file in changed:
            (root / file).write_bytes(bodies[file])


@pytest.fixture(params=WAYS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Bodies]:
    """(the source, its folder, its bytes)."""
    if needed := NEEDED.get(request.param):
        pytest.importorskip(needed, reason=f"{request.param}: read by an extra; CI installs it")
    write, dtype, channels = WAYS[request.param]
    source = write(tmp_path, truth(dtype, channels))
    assert read_all(source) > 1, "what nobody broke is read, and its decoders are loaded"
    return (
        source,
        tmp_path,
        {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()},
    )


@pytest.mark.seeds(1)
def test_broken_files(written: tuple[str, Path, Bodies], seed: int) -> None:
    source, root, bodies = written

    @seeded(seed)
    @settings(
        max_examples=EXAMPLES, derandomize=False, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(edits(bodies))
    def breaks(found: list[Edit]) -> None:
        try_out(source, root, bodies, found)

    breaks()
