"""What every registered reader promises; a new line in READERS fails here until it brings a sample."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io import READERS, Reader, ReadLimits, open_source
from deblur.io.reader import DTYPES

from . import extras

COUNT, HEIGHT, WIDTH = 7, 20, 34
SEED = 20261122


@dataclass(frozen=True)
class Sample:
    """A source made from an array, and how to break one of its frames in place."""

    reader: str
    dtype: str
    channels: int
    write: Callable[[Path, NDArray[Any]], str]
    spoil: Callable[[Path], int]  # returns the index of the broken frame
    needs: str = ""  # the module of an extra

    def made(self, root: Path) -> str:
        if self.needs:
            pytest.importorskip(self.needs, reason=f"{self.reader} is read by an extra; CI installs it")
        return self.write(root, truth(self.dtype, self.channels))


def truth(dtype: str, channels: int) -> NDArray[Any]:
    random = np.random.default_rng(SEED)
    shape = (COUNT, channels, HEIGHT, WIDTH)
    if dtype.startswith("float"):
        return random.normal(0.5, 0.3, shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def interleaved(frame: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(frame[0] if frame.shape[0] == 1 else np.moveaxis(frame, 0, -1))


def write_pngs(root: Path, frames: NDArray[Any]) -> str:
    for number, frame in enumerate(frames):  # names whose alphabetical order is wrong
        (root / f"f{number + 8}.png").write_bytes(imagecodecs.png_encode(interleaved(frame)))
    return str(root)


def write_single_tiffs(root: Path, frames: NDArray[Any]) -> str:
    for number, frame in enumerate(frames):
        tifffile.imwrite(root / f"f{number + 8}.tif", interleaved(frame), compression="zlib")
    return str(root / "*.tif")


def write_tiff(root: Path, frames: NDArray[Any]) -> str:
    with tifffile.TiffWriter(root / "stack.tif") as writer:
        for frame in frames:
            writer.write(interleaved(frame), compression="zlib", rowsperstrip=HEIGHT)
    return str(root / "stack.tif")


def write_ome(root: Path, frames: NDArray[Any]) -> str:
    tifffile.imwrite(
        root / "stack.ome.tif", frames, metadata={"axes": "TCYX"}, byteorder=">", compression="zlib"
    )
    return str(root / "stack.ome.tif")


def write_npy(root: Path, frames: NDArray[Any]) -> str:
    np.save(root / "stack.npy", frames.astype(frames.dtype.newbyteorder(">")))
    return str(root / "stack.npy")


def write_zarr(root: Path, frames: NDArray[Any]) -> str:
    array = zarr.create_array(
        root / "stack.zarr", shape=frames.shape, dtype=frames.dtype, chunks=(2, 1, 16, 16)
    )
    array[:] = frames
    return str(root / "stack.zarr")


def write_ffv1(root: Path, frames: NDArray[Any]) -> str:
    grey = frames.shape[1] == 1
    name = {("uint8", True): "gray", ("uint16", True): "gray16le", ("uint16", False): "gbrp16le",
            ("uint8", False): "bgr0"}[frames.dtype.name, grey]  # fmt: skip
    with av.open(str(root / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, name
        stream.options = {"level": "3", "slicecrc": "1", "g": "1"}  # each frame by itself
        for frame in frames:
            source = {"gbrp16le": "rgb48le", "bgr0": "rgb24"}.get(name, name)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(interleaved(frame), format=source)))
        container.mux(stream.encode(None))
    return str(root / "clip.mkv")


def spoil_file(pattern: str, index: int) -> Callable[[Path], int]:
    """Cut the file of one frame in half."""

    def spoil(root: Path) -> int:
        file = sorted(root.glob(pattern), key=lambda path: int(path.stem[1:]))[index]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return index

    return spoil


def spoil_page(name: str) -> Callable[[Path], int]:
    def spoil(root: Path) -> int:
        with tifffile.TiffFile(root / name) as tif:
            page = tif.pages[3 * len(tif.pages) // COUNT]
            start, size = page.dataoffsets[0], page.databytecounts[0]
        scribble(root / name, start, size)
        return 3

    return spoil


def scribble(path: Path, start: int, size: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xa5" * size)


def spoil_npy(root: Path) -> int:
    """A truncated array has no broken frame: all of it is refused."""
    file = root / "stack.npy"
    file.write_bytes(file.read_bytes()[:-10])
    return -1


def spoil_zarr(root: Path) -> int:
    chunk = root / "stack.zarr" / "c" / "3" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    return 6  # the last frame, alone in its chunk


def spoil_packet(root: Path) -> int:
    with av.open(str(root / "clip.mkv")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = (root / "clip.mkv").read_bytes()
    scribble(root / "clip.mkv", data.index(packets[3]) + len(packets[3]) // 2, 40)
    return 3


KINDS = [(dtype, channels) for dtype in ("uint8", "uint16") for channels in (1, 3)]
PNG, PAGE = spoil_file("*.png", 3), spoil_file("*.tif", 3)
SAMPLES = [
    *(Sample("images", dtype, channels, write_pngs, PNG) for dtype, channels in KINDS),
    Sample("images", "float32", 1, write_single_tiffs, PAGE),
    Sample("images", "uint16", 3, write_single_tiffs, PAGE),
    Sample("tiff", "uint8", 3, write_tiff, spoil_page("stack.tif")),
    Sample("tiff", "uint16", 1, write_tiff, spoil_page("stack.tif")),
    Sample("tiff", "float32", 1, write_tiff, spoil_page("stack.tif")),
    Sample("tiff", "float64", 1, write_ome, spoil_page("stack.ome.tif")),
    Sample("tiff", "uint16", 2, write_ome, spoil_page("stack.ome.tif")),
    *(Sample("npy", dtype, 3, write_npy, spoil_npy) for dtype in DTYPES),
    Sample("zarr", "uint16", 3, write_zarr, spoil_zarr),
    Sample("zarr", "float32", 1, write_zarr, spoil_zarr),
    *(Sample("video", dtype, channels, write_ffv1, spoil_packet) for dtype, channels in KINDS),
    *(Sample("fits", dtype, 1, extras.write_fits, extras.spoil_fits, "astropy") for dtype in ("uint16", "float32")),
    Sample("fits", "uint8", 3, extras.write_fits_extensions, extras.spoil_fits, "astropy"),
    *(Sample("hdf5", dtype, 3, extras.write_hdf5, extras.spoil_hdf5, "h5py") for dtype in ("uint16", "float64")),
    *(Sample("dicom", dtype, channels, extras.write_dicom, extras.cut("loop.dcm"), "pydicom") for dtype, channels in KINDS),
    Sample("dicom", "uint16", 1, extras.write_dicom_rle, extras.spoil_dicom_rle, "pydicom"),
    Sample("microscopes", "uint16", 2, extras.write_czi, extras.cut("cells.czi"), "bioio_czi"),
    Sample("microscopes", "uint16", 1, extras.write_dv, extras.cut("cells.dv"), "bioio_dv"),
    Sample("microscopes", "uint16", 2, extras.write_nd2, extras.cut("cells.nd2"), "bioio_nd2"),
]  # fmt: skip


def label(sample: Sample) -> str:
    return f"{sample.reader}-{sample.write.__name__}-{sample.dtype}x{sample.channels}"


@pytest.fixture(params=SAMPLES, ids=label)
def sample(request: pytest.FixtureRequest) -> Sample:
    found: Sample = request.param
    return found


@pytest.fixture
def source(sample: Sample, tmp_path: Path) -> str:
    return sample.made(tmp_path)


def opened(source: str) -> Reader:
    (reader,) = open_source(source)
    return reader


def test_every_reader_has_a_sample() -> None:
    assert {sample.reader for sample in SAMPLES} == set(READERS)


def test_the_registry_picks_this_reader(sample: Sample, source: str) -> None:
    assert next(name for name, opener in READERS.items() if opener.matches(source)) == sample.reader


def test_header_says_what_frames_are(sample: Sample, source: str) -> None:
    with opened(source) as reader:
        assert reader.header.shape == (sample.channels, HEIGHT, WIDTH)
        assert reader.header.dtype == sample.dtype
        assert len(reader.header.channels) == sample.channels
        assert len(reader.frames) == COUNT
        assert reader.header.name
        json.dumps(dict(reader.header.metadata))


def test_frames_are_exact_in_any_order(sample: Sample, source: str) -> None:
    expected = truth(sample.dtype, sample.channels)
    with opened(source) as reader:
        for index in (0, 1, 2, 5, 3, 3, 6, 0):
            frame = reader.read(index)
            assert frame.dtype.name == sample.dtype
            assert frame.dtype.isnative
            assert np.array_equal(frame, expected[index]), index


def test_frames_belong_to_the_caller(source: str) -> None:
    with opened(source) as reader:
        first = reader.read(1)
        before = first.copy()
        assert first.flags.c_contiguous
        first[:] = 0
        assert np.array_equal(reader.read(1), before)


def test_names_differ_and_times_rise(source: str) -> None:
    with opened(source) as reader:
        names = [info.name for info in reader.frames]
        times = [info.time for info in reader.frames]
        assert len(set(names)) == COUNT
        assert all(time is None for time in times) or times == sorted(set(times))


def test_a_file_a_frame_or_none(source: str) -> None:
    with opened(source) as reader:
        files = [reader.file(index) for index in range(COUNT)]
        assert all(file is None for file in files) or len(set(files)) == COUNT


@pytest.mark.parametrize("index", [-1, COUNT])
def test_no_frame_beyond_the_ends(source: str, index: int) -> None:
    with opened(source) as reader, pytest.raises(IndexError):
        reader.read(index)


def test_closing_twice_is_fine(source: str) -> None:
    reader = opened(source)
    reader.read(0)
    reader.close()
    reader.close()


def test_the_source_is_left_alone(tmp_path: Path, source: str) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with opened(source) as reader:
        for index in range(COUNT):
            reader.read(index)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_broken_frame_is_named_and_the_others_are_read(sample: Sample, source: str, tmp_path: Path) -> None:
    broken = sample.spoil(tmp_path)
    if broken < 0:
        with pytest.raises(ReadError, match=Path(source).name):
            open_source(source)
        return
    expected = truth(sample.dtype, sample.channels)
    with opened(source) as reader:
        assert len([info.name for info in reader.frames]) == COUNT
        for index in range(COUNT):
            if index == broken:
                with pytest.raises(ReadError) as caught:
                    reader.read(index)
                assert one_line(caught.value)
            else:
                assert np.array_equal(reader.read(index), expected[index]), index
        with pytest.raises(ReadError):
            reader.read(broken)


LIMITS = [
    ("max_pixels", ReadLimits(max_pixels=HEIGHT * WIDTH - 1)),
    ("max_bytes", ReadLimits(max_bytes=HEIGHT * WIDTH - 1)),
    ("max_pages", ReadLimits(max_pages=COUNT - 1)),
]


@pytest.mark.parametrize(("named", "limits"), LIMITS)
def test_limits_refuse(source: str, named: str, limits: ReadLimits) -> None:
    with pytest.raises(ReadError, match=named) as caught:
        open_source(source, limits=limits)
    assert one_line(caught.value)


def one_line(error: Exception) -> bool:
    return "\n" not in str(error) and ":" in str(error)


@pytest.mark.parametrize("write", [write_tiff, write_npy, write_zarr, write_ffv1, write_pngs])
@settings(max_examples=5, deadline=None)
@given(order=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=8))
def test_any_order_gives_the_same(write: Callable[[Path, NDArray[Any]], str], order: Sequence[int]) -> None:
    expected = truth("uint8", 1)
    with tempfile.TemporaryDirectory() as folder, opened(write(Path(folder), expected)) as reader:
        for index in order:
            assert np.array_equal(reader.read(index), expected[index])


WRITERS = [write_pngs, write_single_tiffs, write_tiff, write_ome, write_npy, write_zarr, write_ffv1]


@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_damage_raises_nothing_but_read_errors(
    write: Callable[[Path, NDArray[Any]], str], data: st.DataObject
) -> None:
    """A byte changed or the end cut off, anywhere: a ReadError, or frames that are as the header says."""
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder), truth("uint8", 1))
        file = sorted(path for path in Path(folder).rglob("*") if path.is_file())[0]
        body = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(body) - 1))
        body = body[:place] if data.draw(st.booleans()) else body[:place] + b"\x7f" + body[place + 1 :]
        file.write_bytes(body)
        with suppress(ReadError):
            for reader in open_source(source):
                read_all(reader)


def read_all(reader: Reader) -> None:
    with reader:
        for index in range(len(reader.frames)):
            with suppress(ReadError):
                frame = reader.read(index)
                assert (frame.shape, frame.dtype.name) == (reader.header.shape, reader.header.dtype)
