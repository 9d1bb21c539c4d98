"""Exports: what was written reads back, exactly where the format can; nothing half-written is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from deblur.errors import ArrayError, ConfigError
from deblur.io import open_source
from deblur.io.export import export_frames
from deblur.types import SequenceHeader

COUNT, HEIGHT, WIDTH = 5, 20, 34
NAMES = [f"shot {number}.jpg" for number in range(8, 8 + COUNT)]


def header_of(dtype: str, channels: int) -> SequenceHeader:
    return SequenceHeader("run", (channels, HEIGHT, WIDTH), dtype, tuple("abcd"[:channels]), frame_rate=25.0)


def truth(dtype: str, channels: int) -> np.ndarray:
    random = np.random.default_rng(4)
    shape = (COUNT, channels, HEIGHT, WIDTH)
    return (random.random(shape) * (1 if dtype.startswith("f") else np.iinfo(dtype).max)).astype(dtype)


def smooth(count: int = COUNT) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = [[128 + 60 * np.sin((x + 2 * t + 9 * c) / 9 + y / 11) for c in range(3)] for t in range(count)]
    return np.array(frames).astype(np.uint8)


EXACT = [
    (destination, dtype, channels)
    for destination, dtypes in {
        "out": ("uint8", "uint16", "float16", "float32"),
        "out.tif": ("uint8", "uint16", "float16", "float32", "float64"),
        "out.npy": ("uint8", "float16", "float64"),
        "out.mkv": ("uint8", "uint16"),
    }.items()
    for dtype in dtypes
    for channels in (1, 3)
]


@pytest.mark.parametrize(("destination", "dtype", "channels"), EXACT)
def test_exact_formats_come_back_bit_for_bit(
    tmp_path: Path, destination: str, dtype: str, channels: int
) -> None:
    frames, header = truth(dtype, channels), header_of(dtype, channels)
    path = export_frames(iter(frames), tmp_path / "new" / destination, header=header, names=NAMES)
    (reader,) = open_source(str(path))
    assert np.array_equal(np.stack([reader.read(index) for index in range(COUNT)]), frames)
    assert [entry.name for entry in path.parent.iterdir()] == [destination]


@pytest.mark.parametrize("destination", ["out", "out.tif", "out.npy"])
def test_other_numbers_of_channels(tmp_path: Path, destination: str) -> None:
    frames = truth("uint16", 2)
    path = export_frames(frames, tmp_path / destination, header=header_of("uint16", 2), names=NAMES)
    assert np.array_equal(open_source(str(path))[0].read(3), frames[3])


def test_files_are_named_after_the_originals(tmp_path: Path) -> None:
    frames, header = truth("uint8", 1), header_of("uint8", 1)
    path = export_frames(frames, tmp_path / "a", header=header, names=NAMES)
    assert sorted(file.name for file in path.iterdir()) == sorted(f"shot {n}.png" for n in range(8, 13))
    names = ["cam/1.tif", "cam/1.png", "clip.mp4#2", "../x", "y:z"]
    path = export_frames(frames, tmp_path / "b", header=header, names=names)
    assert sorted(file.name for file in path.iterdir()) == [
        ".._x-3.png", "cam_1-0.png", "cam_1-1.png", "clip.mp4_2-2.png", "y_z-4.png",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (HEIGHT - 1, WIDTH - 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_h264_is_near_and_tagged(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    frames = np.ascontiguousarray(smooth()[:, :channels, : size[0], : size[1]])
    header = replace(header_of("uint8", channels), shape=frames.shape[1:])
    path = export_frames(frames, tmp_path / "out.mp4", header=header, names=NAMES)
    (reader,) = open_source(str(path))
    assert reader.header.frame_rate == 25
    assert reader.header.metadata["colour_matrix_tagged"]
    assert (reader.header.metadata["colour_matrix"], reader.header.metadata["colour_range"]) == (
        "bt709",
        "limited",
    )
    error = np.stack([reader.read(index) for index in range(COUNT)]).astype(float) - frames
    assert np.sqrt((error**2).mean()) < 3.0
    assert np.abs(error.mean()) < 0.6


def test_frame_rates_and_transfer_are_kept(tmp_path: Path) -> None:
    header = replace(header_of("uint16", 1), metadata={"frame_rate": "30000/1001"}, transfer="linear")
    path = export_frames(truth("uint16", 1), tmp_path / "a.mkv", header=header, names=NAMES)
    (reader,) = open_source(str(path))
    assert reader.header.frame_rate == pytest.approx(30000 / 1001, rel=1e-4)
    assert reader.header.transfer == "linear"


def test_variable_times_are_kept_exactly(tmp_path: Path) -> None:
    stamps = [0, 1001, 3003, 4004, 9009]
    metadata = {"variable_frame_rate": True, "time_base": "1/30000", "frame_rate": "13"}
    header = replace(header_of("uint8", 3), metadata=metadata)
    times = [float(Fraction(stamp, 30000)) for stamp in stamps]
    path = export_frames(smooth(), tmp_path / "a.mp4", header=header, names=NAMES, times=times)
    (reader,) = open_source(str(path))
    assert [info.time for info in reader.frames] == pytest.approx(times, abs=1e-9)


@pytest.mark.parametrize(
    ("destination", "dtype", "channels", "match"),
    [
        ("a.mp4", "uint16", 1, "narrow 16 bits"),
        ("a.mkv", "float32", 1, "float32 without loss"),
        ("a.mkv", "uint8", 2, "2 channels"),
        ("a.gif", "uint8", 1, "ends in .gif"),
    ],
)
def test_what_would_lose_is_refused(
    tmp_path: Path, destination: str, dtype: str, channels: int, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        export_frames(
            truth(dtype, channels), tmp_path / destination, header=header_of(dtype, channels), names=NAMES
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("destination", ["out", "out.tif", "out.npy", "out.mkv", "out.mp4"])
def test_a_failure_leaves_nothing(tmp_path: Path, destination: str) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from truth("uint8", 3)[:2]
        raise RuntimeError("the store broke")

    with pytest.raises(RuntimeError, match="the store broke"):
        export_frames(failing(), tmp_path / destination, header=header_of("uint8", 3), names=NAMES)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists already"):
        export_frames(truth("uint8", 1), tmp_path / "a.npy", header=header_of("uint8", 1), names=NAMES)
    assert (tmp_path / "a.npy").read_bytes() == b"precious"


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_frames_and_names_must_agree(tmp_path: Path, count: int) -> None:
    frames = truth("uint8", 1)[[0] * count]
    with pytest.raises(ArrayError, match="give a name for each"):
        export_frames(frames, tmp_path / "a.npy", header=header_of("uint8", 1), names=NAMES)
    with pytest.raises(ArrayError, match="frame 0 is"):
        export_frames(frames[:, :, 1:], tmp_path / "a.npy", header=header_of("uint8", 1), names=NAMES)
    assert list(tmp_path.iterdir()) == []
