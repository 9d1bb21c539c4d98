"""What is larger than it looks, and what leads elsewhere: refused by name, before it costs memory or is read."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from deblur import job as work
from deblur.config import load_job
from deblur.errors import ConfigError, DeblurError, ReadError
from deblur.io import open_source
from deblur.io.reader import check_size
from deblur.types import Isolation, ReadLimits
from tests.small import write_frames, write_job

SMALL = np.zeros((20, 34), np.uint8)
MOST = 200_000  # KiB that a process may have at its peak, Python and all libraries included


def png_header(folder: Path) -> Path:
    file = folder / "a.png"
    data = bytes(imagecodecs.png_encode(SMALL))
    file.write_bytes(data[:16] + struct.pack(">II", 65535, 65535) + data[24:])
    return file


def jpeg_header(folder: Path) -> Path:
    file = folder / "a.jpg"
    data = bytes(imagecodecs.jpeg8_encode(SMALL))
    place = data.index(b"\xff\xc0") + 5
    file.write_bytes(data[:place] + struct.pack(">HH", 65500, 65500) + data[place + 4 :])
    return file


def ifd(next_: int, *tags: tuple[int, int, int, int]) -> bytes:
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<H", len(tags)) + body + struct.pack("<I", next_)


def page(next_: int = 0, *more: tuple[int, int, int, int], side: int = 16, stored: int = 256) -> bytes:
    tags = {256: (4, side), 257: (4, side), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1),
            278: (4, side), 279: (4, stored)}  # fmt: skip
    own = [(tag, kind, 1, value) for tag, (kind, value) in tags.items()]
    return ifd(next_, *own, *more)


def tiff(file: Path, *parts: bytes, first: int = 8) -> Path:
    file.write_bytes(b"II*\0" + struct.pack("<I", first) + b"".join(parts) + bytes(256))
    return file


def tiff_header(folder: Path) -> Path:
    return tiff(folder / "a.tif", page(side=65535))


def tiff_ratio(folder: Path) -> Path:
    return tiff(folder / "a.tif", page(side=30000, stored=70_000))


def tiff_cycle(folder: Path) -> Path:
    """Two pages, each followed by the other."""
    size = len(page())
    return tiff(folder / "a.tif", page(8 + size), page(8))


def tiff_nested(folder: Path) -> Path:
    """Directories below directories, 20,000 deep."""
    size = len(page(0, (330, 4, 1, 0)))
    return tiff(folder / "a.tif", *(page(0, (330, 4, 1, 8 + (n + 1) * size)) for n in range(20_000)), page())


def tiff_entities(folder: Path) -> Path:
    lines = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "aaaaaaaaaa">{lines}]><OME xmlns="o">&a11;</OME>'
    tifffile.imwrite(folder / "a.ome.tif", SMALL, description=text, metadata=None)
    return folder / "a.ome.tif"


def video_header(folder: Path) -> Path:
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 300, 260, "gray"
        for _ in range(3):
            plane = np.zeros((260, 300), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format="gray")))
        container.mux(stream.encode(None))
    data = (folder / "a.mkv").read_bytes()
    for mark, side in ((b"\xb0\x82", 300), (b"\xba\x82", 260)):
        assert data.count(mark + struct.pack(">H", side)) == 1
        data = data.replace(mark + struct.pack(">H", side), mark + b"\xff\xff")
    (folder / "a.mkv").write_bytes(data)
    return folder / "a.mkv"


def npy_header(folder: Path) -> Path:
    np.save(folder / "a.npy", SMALL[np.newaxis])
    data = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(data.replace(b"(1, 20, 34), }    ", b"(1, 65535, 65535)}"))
    return folder / "a.npy"


def zarr_with(folder: Path, **changed: Any) -> Path:
    array = zarr.create_array(folder / "a.zarr", shape=(2, 20, 34), chunks=(1, 20, 34), dtype="uint8")
    array[:] = 1
    file = folder / "a.zarr" / "zarr.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | changed))
    return folder / "a.zarr"


def zarr_shape(folder: Path) -> Path:
    return zarr_with(folder, shape=[1 << 40, 20, 34])


def zarr_planes(folder: Path) -> Path:
    return zarr_with(folder, shape=[1 << 40, 20, 34], dimension_names=["z", "y", "x"])


def zarr_chunks(folder: Path) -> Path:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1 << 20, 1 << 20]}}
    return zarr_with(folder, chunk_grid=grid)


def zarr_shards(folder: Path) -> Path:
    """A shard of 2**30 chunks, whose index alone is 16 GiB."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1 << 15, 1 << 15]}}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    told = {"chunk_shape": [1, 1, 1], "codecs": [{"name": "bytes"}], "index_codecs": [little]}
    codecs = [{"name": "sharding_indexed", "configuration": told}]
    return zarr_with(folder, shape=[2, 1 << 15, 1 << 15], chunk_grid=grid, codecs=codecs)


BOMBS: list[tuple[Callable[[Path], Path], str]] = [
    (png_header, "max_pixels"),
    (jpeg_header, "max_pixels"),
    (tiff_header, "max_pixels"),
    (tiff_ratio, "max_ratio"),
    (tiff_cycle, ""),
    (tiff_nested, ""),
    (tiff_entities, "document type"),
    (video_header, "holds no frame that decodes"),  # FFmpeg itself has a limit below ours
    (npy_header, "a.npy"),
    (zarr_shape, "max_pages"),
    (zarr_planes, "max_pages"),
    (zarr_chunks, "max_bytes"),
    (zarr_shards, "max_bytes"),
]
OPEN = r"""
import re, sys
from deblur.errors import ReadError
from deblur.io import open_source
for path in sys.argv[1:]:
    try:
        for reader in open_source(path):
            reader.read(0)
        said = ""
    except ReadError as error:
        said = str(error)
    print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1], said)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are told by Linux's /proc")
def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    files = []
    for make, _ in BOMBS:
        (tmp_path / make.__name__).mkdir()
        files.append(str(make(tmp_path / make.__name__)))
    assert all(os.path.isdir(file) or os.path.getsize(file) < 6_000_000 for file in files)
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, "-c", OPEN, *files],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    for (make, word), line in zip(BOMBS, lines, strict=True):
        peak, _, said = line.partition(" ")
        assert word in said, (make.__name__, said)
        assert bool(word) == bool(said), (make.__name__, said)
        assert int(peak) < MOST, (make.__name__, peak)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory")
def test_a_chunk_that_decodes_to_more_than_it_says(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(2, 20, 34),
        chunks=(1, 20, 34),
        dtype="uint8",
        compressors=zarr.codecs.GzipCodec(),
    )
    array[:] = 1
    member = gzip.compress(bytes(1 << 26), 9)  # members follow one another: 4 GiB in 4 MB
    (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").write_bytes(member * 64)
    (reader,) = open_source(str(tmp_path / "a.zarr"), isolation=Isolation(memory=1 << 28))
    with reader:
        with pytest.raises(ReadError, match=r"a\.zarr"):
            reader.read(0)
        assert (reader.read(1) == 1).all()


def test_a_large_mosaic_is_within_the_limits() -> None:
    check_size("mosaic", (3, 32768, 32768), "uint16", limits=ReadLimits(), stored=100 << 20)


def test_the_job_file_raises_and_lowers_limits(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    job.write_text(job.read_text() + "[limits]\nmax_pixels = 100\n")
    with pytest.raises(ReadError, match=r"raise limits\.max_pixels"):
        work.ingest(load_job(job))


def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    write_frames(tmp_path / "outside" / "frames")
    return tmp_path / "outside" / "frames"


def test_links_out_of_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    outside = elsewhere(tmp_path)
    frames = write_frames(tmp_path / "in")
    (tmp_path / "in" / "0001.png").unlink()
    (tmp_path / "in" / "0001.png").symlink_to(outside / "0001.png")
    (tmp_path / "in" / "0002.png").unlink()
    (tmp_path / "in" / "0002.png").symlink_to("0000.png")
    for source in (tmp_path / "in", tmp_path / "in" / "*.png"):
        (reader,) = open_source(str(source))
        assert np.array_equal(reader.read(2), frames[0])
        with pytest.raises(ReadError, match=r"0001\.png leads out of"):
            reader.read(1)
        (reader,) = open_source(str(source), limits=ReadLimits(links="anywhere"))
        assert np.array_equal(reader.read(1), frames[1])
    (tmp_path / "named").symlink_to(outside)  # somebody named it: that is no trap
    assert np.array_equal(open_source(str(tmp_path / "named"))[0].read(1), frames[1])


def test_a_link_in_a_watched_place_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    from deblur.night import with_arrivals

    outside = elsewhere(tmp_path)
    write_frames(tmp_path / "in" / "a")
    (tmp_path / "in" / "b").symlink_to(outside)
    job = tmp_path / "job.toml"
    job.write_text('archive = "archive"\n[[watch]]\npath = "in"\nquiet = 0\n')
    found = {item.source.id: item for item in work.ingest(with_arrivals(load_job(job)))}
    assert found["in-a"].error is None
    assert "leads out of" in str(found["in-b"].error)
    job.write_text(job.read_text() + '[limits]\nlinks = "anywhere"\n')
    assert not any(item.error for item in work.ingest(with_arrivals(load_job(job))))


def test_zarr_reads_nothing_beyond_its_folder(tmp_path: Path) -> None:
    outside = zarr_with(tmp_path)
    group = zarr.create_group(tmp_path / "b.zarr")
    axes = [{"name": name} for name in "tyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "../a.zarr"}]}]}
    with pytest.raises(DeblurError, match=r"b\.zarr"):
        open_source(str(tmp_path / "b.zarr"))
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_bytes((outside / "zarr.json").read_bytes())
    (tmp_path / "c.zarr" / "c").symlink_to(outside / "c")
    with pytest.raises(ReadError, match="leads out of"):
        open_source(str(tmp_path / "c.zarr"))[0].read(0)


@pytest.mark.parametrize("name", ["../b.tif", "/b.tif", "..\\b.tif"])
def test_ome_names_no_files_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "b.tif", SMALL)
    uuid = "urn:uuid:00000000-0000-0000-0000-000000000001"
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="34" SizeY="20" SizeC="1" SizeZ="1" SizeT="1">'
        f'<Channel ID="Channel:0:0"/><TiffData><UUID FileName="{name}">{uuid}</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "in" / "a.ome.tif", SMALL, description=text, metadata=None)
    with pytest.raises(ReadError, match="names a file elsewhere"):
        open_source(str(tmp_path / "in" / "a.ome.tif"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ts", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("a.mkv", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("a.mp4", "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{clip}</BaseURL></MPD>"),
    ],
)
def test_a_playlist_is_no_video(tmp_path: Path, name: str, text: str) -> None:
    clip = video_header(tmp_path).rename(tmp_path / "clip.mkv")
    (tmp_path / name).write_text(text.format(clip=clip.name))
    with pytest.raises(ReadError, match="can't be read as video"):
        open_source(str(tmp_path / name))


def test_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = Path("concat:a|b.mkv")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 34, 20, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(SMALL, format="gray")))
        container.mux(stream.encode(None))
    Path("a.mkv").rename(clip)
    (reader,) = open_source(str(clip))
    assert np.array_equal(reader.read(0)[0], SMALL)


def test_devices_pipes_and_sockets_are_no_sources(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.tif"))
        for path in (tmp_path / "a.png", tmp_path / "a.tif", "/dev/zero"):
            with pytest.raises(ReadError, match="is a device, a pipe or a socket"):
                open_source(str(path))


@pytest.mark.parametrize(
    "address",
    ["http://h/a.zarr", "zip::s3://b/a.zip", "reference://b", "s3://b/../a", "simplecache::http://h/a"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"give a folder, or|write the address"):
        open_source(address)


@pytest.mark.parametrize("codec", ["pickle", "json2", "vlen-bytes"])
def test_codecs_that_are_not_known_are_refused(tmp_path: Path, codec: str) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 8, 8), chunks=(1, 8, 8), dtype="uint8", zarr_format=2
    )
    array[:] = 1
    file = tmp_path / "a.zarr" / ".zarray"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"filters": [{"id": codec}]}))
    with pytest.raises(ReadError, match=codec):
        open_source(str(tmp_path / "a.zarr"))
