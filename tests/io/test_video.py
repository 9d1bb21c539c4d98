"""Video: times, colours, depths, damage; every clip is encoded here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ReadError
from deblur.io import open_source
from deblur.io.colour import BT709, Coding, expand, from_rgb, to_rgb

HEIGHT, WIDTH = 32, 48
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "video"
TAGS = {"bt709": 1, "bt601": 6, "bt2020": 9}
WEIGHTS = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}


def moving(count: int) -> np.ndarray:
    """(t, y, x) uint8 of a smooth pattern that moves and stays clear of the ends of the range."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([120 + 60 * np.sin((x + 3 * t) / 7) + 30 * np.cos(y / 5) for t in range(count)]).astype(
        np.uint8
    )


def with_grey_chroma(luma: np.ndarray) -> list[list[np.ndarray]]:
    """The planes of yuv420p for pictures without colour."""
    half = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    return [[frame, half, half] for frame in luma]


def fill(picture: Any, planes: Sequence[np.ndarray]) -> Any:
    for plane, data in zip(picture.planes, planes, strict=True):
        lines = np.zeros((plane.height, plane.line_size), np.uint8)
        row = np.ascontiguousarray(data).view(np.uint8)
        lines[:, : row.shape[1]] = row
        plane.update(lines)
    return picture


def encode(
    path: Path,
    frames: Sequence[Sequence[np.ndarray]],
    pixels: str,
    *,
    codec: str = "ffv1",
    stamps: Sequence[int] | None = None,
    base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    matrix: int = 2,
    colours: int = 0,
    curve: int = 2,
    notes: dict[str, str] | None = None,
) -> str:
    """Write planes as they are: `matrix`, `curve` are H.273 codes, `colours` 1 limited, 2 full range."""
    height, width = frames[0][0].shape[:2]
    with av.open(
        str(path), "w", options={"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    ) as out:
        out.metadata.update(notes or {})
        stream: Any = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.options = options or {}
        stream.codec_context.time_base = base
        stream.codec_context.color_range, stream.codec_context.colorspace = colours, matrix
        stream.codec_context.color_trc = curve
        for number, planes in enumerate(frames):
            picture = fill(av.VideoFrame(width, height, pixels), planes)
            picture.color_range, picture.colorspace, picture.color_trc = colours, matrix, curve
            picture.pts = number if stamps is None else stamps[number]
            picture.time_base = base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return str(path)


def only(source: str) -> Any:
    (reader,) = open_source(source)
    return reader


def exact_rgb(luma: float, cb: float, cr: float, coding: Coding) -> np.ndarray:
    """The mapping of colour.py in float64, for one colour."""
    y = (luma - coding.black) / coding.luma_span
    blue = y + 2 * (1 - coding.kb) * (cb - 2 ** (coding.bits - 1)) / coding.chroma_span
    red = y + 2 * (1 - coding.kr) * (cr - 2 ** (coding.bits - 1)) / coding.chroma_span
    green = (y - coding.kr * red - coding.kb * blue) / (1 - coding.kr - coding.kb)
    top = 255 if coding.bits == 8 else 65535
    return np.clip(np.array([red, green, blue]), 0, 1) * top


@settings(deadline=None)
@given(
    bits=st.sampled_from([8, 10, 12, 16]),
    full=st.booleans(),
    matrix=st.sampled_from(sorted(WEIGHTS)),
    parts=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_colours_follow_the_standard(
    bits: int, full: bool, matrix: str, parts: tuple[float, float, float]
) -> None:
    coding = Coding(*WEIGHTS[matrix], bits, full)
    kind = np.uint8 if bits == 8 else np.uint16
    codes = [round(part * (2**bits - 1)) for part in parts]
    planes = [np.full(shape, code, kind) for shape, code in zip([(4, 6), (2, 3), (2, 3)], codes, strict=True)]
    found = to_rgb(*planes, coding)
    exact = exact_rgb(*map(float, codes), coding)
    assert np.abs(found - exact[:, None, None]).max() <= (0.51 if bits == 8 else 0.6)


@pytest.mark.parametrize("bits", [8, 10])
def test_black_and_white_of_limited_range(bits: int) -> None:
    step = 1 << (bits - 8)
    codes = np.array([[0, 16, 126, 235, 255]], np.uint16 if bits > 8 else np.uint8) * step
    middle = np.full_like(codes, 128 * step)
    top = 255 if bits == 8 else 65535
    grey = round((126 - 16) / 219 * top)
    coding = Coding(BT709.kr, BT709.kb, bits, full=False)
    assert to_rgb(codes, middle, middle, coding)[1, 0].tolist() == [0, 0, grey, top, top]
    assert expand(codes, coding)[0].tolist() == [0, 0, grey, top, top]


@pytest.mark.parametrize("left", [True, False])
def test_chroma_is_interpolated_where_it_was_sited(left: bool) -> None:
    """A linear ramp of chroma comes back as the same ramp away from the borders."""
    x = np.arange(32)
    site = 2.0 * np.arange(16) + (0.0 if left else 0.5)
    cb = np.tile(np.rint(100 + 2 * site), (4, 1)).astype(np.uint8)
    luma = np.full((8, 32), 120, np.uint8)
    out = to_rgb(luma, cb, np.full_like(cb, 128), Coding(0.2126, 0.0722, 8, True, sited_left=left))
    expected = 120 + 2 * (1 - 0.0722) * (100 + 2 * x - 128)
    inside = (expected > 0) & (expected < 255) & (x > 1) & (x < 30)
    assert np.abs(out[2, 4] - expected)[inside].max() <= 1.0


def test_rgb_survives_the_way_there_and_back() -> None:
    image = np.random.default_rng(3).integers(0, 255, (3, 16, 20)).astype(np.uint8)
    back = to_rgb(*from_rgb(image, subsample=1), BT709)
    assert np.abs(back.astype(int) - image).max() <= 2
    assert np.abs((back.astype(int) - image).mean()) < 0.05
    smooth = np.stack([np.tile(np.linspace(40, 200, 20), (16, 1))] * 3).astype(np.uint8)
    half = to_rgb(*from_rgb(smooth, subsample=2), BT709)
    assert np.abs(half.astype(int) - smooth).max() <= 2


@pytest.mark.parametrize("matrix", sorted(TAGS))
@pytest.mark.parametrize("colours", [1, 2])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "yuv444p12le"])
def test_tags_decide_matrix_and_range(tmp_path: Path, pixels: str, colours: int, matrix: str) -> None:
    bits = 8 if pixels == "yuv420p" else int(pixels[-4:-2])
    kind = np.uint8 if bits == 8 else np.uint16
    chroma = {"0": (HEIGHT // 2, WIDTH // 2), "2": (HEIGHT, WIDTH // 2), "4": (HEIGHT, WIDTH)}[pixels[5]]
    codes = [150 << (bits - 8), 110 << (bits - 8), 140 << (bits - 8)]
    shapes = ((HEIGHT, WIDTH), chroma, chroma)
    planes = [np.full(shape, code, kind) for shape, code in zip(shapes, codes, strict=True)]
    path = encode(tmp_path / "a.mkv", [planes] * 2, pixels, matrix=TAGS[matrix], colours=colours, curve=1)
    with only(path) as reader:
        exact = exact_rgb(*map(float, codes), Coding(*WEIGHTS[matrix], bits, colours == 2))
        assert np.abs(reader.read(1)[:, 5, 7] - exact).max() <= 0.6
        assert reader.header.dtype == ("uint8" if bits == 8 else "uint16")
        assert reader.header.bits == (8 if bits == 8 else 16)
        assert reader.header.transfer == "srgb"
        assert reader.header.metadata["colour_matrix"] == matrix


def test_untagged_colours_are_taken_as_players_do(tmp_path: Path) -> None:
    small = [np.full((32, 32), 90, np.uint8)] * 3
    large = [np.full((720, 1280), 90, np.uint8)] * 3
    for planes, matrix in ((small, "bt601"), (large, "bt709")):
        reader = only(encode(tmp_path / f"{matrix}.mkv", [planes], "yuv444p"))
        facts = reader.header.metadata
        assert (facts["colour_matrix"], facts["colour_matrix_tagged"]) == (matrix, False)
        assert (facts["colour_range"], reader.header.transfer) == ("limited", None)


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("colours", [0, 1, 2])
def test_grey_keeps_its_codes_unless_they_are_limited(tmp_path: Path, pixels: str, colours: int) -> None:
    bits = int(pixels[4:-2] or 8) if pixels != "gray" else 8
    codes = (
        np.random.default_rng(5)
        .integers(0, 2**bits, (HEIGHT, WIDTH))
        .astype(np.uint8 if bits == 8 else np.uint16)
    )
    with only(encode(tmp_path / "a.mkv", [[codes]], pixels, colours=colours)) as reader:
        limited = colours == 1
        expected = expand(codes, Coding(0.2126, 0.0722, bits, False)) if limited else codes
        assert np.array_equal(reader.read(0)[0], expected)
        assert reader.header.bits == (16 if limited and bits > 8 else bits)
        assert reader.header.transfer is None  # light.resolve: 8 bits are encoded, deeper grey is linear


def test_deep_colour_keeps_every_bit(tmp_path: Path) -> None:
    image = np.random.default_rng(6).integers(0, 2**10, (3, HEIGHT, WIDTH)).astype(np.uint16)
    with only(encode(tmp_path / "a.mkv", [image[[1, 2, 0]]], "gbrp10le")) as reader:
        assert np.array_equal(reader.read(0), image)
        assert reader.header.bits == 10


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [
    ("libx264", "yuv420p", "mp4"), ("libx264", "yuv420p10le", "mkv"), ("libx264", "yuv420p", "ts"),
    ("mpeg4", "yuv420p", "avi"), ("mjpeg", "yuvj420p", "mov"), ("libvpx-vp9", "yuv420p", "webm"),
])  # fmt: skip
def test_lossy_codecs_in_any_order(tmp_path: Path, codec: str, pixels: str, suffix: str) -> None:
    """Frames between key frames, some shown in another order than stored, each found by its time."""
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    count, deep = 40, pixels.endswith("10le")
    luma = [frame.astype(np.uint16) * 4 if deep else frame for frame in moving(count)]
    half = np.full((HEIGHT // 2, WIDTH // 2), 512 if deep else 128, luma[0].dtype)
    options = (
        {"crf": "12", "g": "12", "bf": "3", "bframes": "3"}
        if codec == "libx264"
        else {"b": "4000000", "g": "12"}
    )
    path = encode(tmp_path / f"a.{suffix}", [[frame, half, half] for frame in luma], pixels, codec=codec,
                  options=options, matrix=6, colours=2 if codec == "mjpeg" else 1)  # fmt: skip
    with only(path) as reader:
        assert len(reader.frames) == count
        times = [info.time for info in reader.frames]
        assert np.allclose(np.diff(times), 0.04, atol=1e-3)
        assert reader.header.frame_rate == pytest.approx(25, rel=1e-3)
        in_order = [reader.read(index) for index in range(count)]
        span = 255 if codec == "mjpeg" else 219
        top = 65535 if deep else 255
        for index in (0, 1, 17, 39):  # each frame is nearest to itself
            shown = in_order[index][1] / top * span + (0 if codec == "mjpeg" else 16)
            distances = [np.abs(shown - frame).mean() for frame in moving(count)]
            assert int(np.argmin(distances)) == index
            assert min(distances) < 3
        for index in (30, 2, 31, 32, 11, 12, 39, 0):
            assert np.array_equal(reader.read(index), in_order[index]), index


def test_variable_rate_keeps_exact_times(tmp_path: Path) -> None:
    stamps = [0, 1001, 2002, 4004, 9009]
    planes = with_grey_chroma(moving(5))
    path = encode(
        tmp_path / "a.mp4", planes, "yuv420p", codec="libx264", stamps=stamps, base=Fraction(1, 30000)
    )
    reader = only(path)
    base = Fraction(reader.header.metadata["time_base"])
    assert reader.header.metadata["variable_frame_rate"] is True
    for info, stamp in zip(reader.frames, stamps, strict=True):
        assert info.time is not None
        assert Fraction(round(info.time / base)) * base == Fraction(stamp, 30000)
    assert reader.header.frame_rate == pytest.approx(4 / (9009 / 30000))


def test_ntsc_rate_is_exact(tmp_path: Path) -> None:
    planes = with_grey_chroma(moving(6))
    path = encode(tmp_path / "a.mp4", planes, "yuv420p", codec="libx264", base=Fraction(1001, 30000))
    reader = only(path)
    assert Fraction(reader.header.metadata["frame_rate"]) == Fraction(30000, 1001)
    assert "variable_frame_rate" not in reader.header.metadata


def test_shutter_angle_gives_the_exposure(tmp_path: Path) -> None:
    planes = with_grey_chroma(moving(3))
    notes = {"com.example.camera.ShutterAngle": "172.8"}
    reader = only(encode(tmp_path / "a.mov", planes, "yuv420p", codec="libx264", notes=notes))
    assert reader.header.exposure_fraction == pytest.approx(0.48)
    assert reader.frames[0].exposure_time == pytest.approx(0.48 / 25)


def refused(source: str, match: str) -> None:
    with pytest.raises(ReadError, match=match) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_video_is_refused(tmp_path: Path, codec: str) -> None:
    planes = with_grey_chroma(moving(4))
    options = {"x264-params": "tff=1:interlaced=1"} if codec == "libx264" else {"flags": "+ildct+ilme"}
    refused(encode(tmp_path / "a.mkv", planes, "yuv420p", codec=codec, options=options), "interlaced")


@pytest.mark.parametrize(("pixels", "parts", "match"), [("yuva420p", 4, "alpha"), ("bgra", 1, "alpha")])
def test_alpha_is_refused(tmp_path: Path, pixels: str, parts: int, match: str) -> None:
    full, half = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    planes = [full, half, half, full] if parts == 4 else [np.zeros((HEIGHT, WIDTH * 4), np.uint8)]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pixels
        out.mux(stream.encode(fill(av.VideoFrame(WIDTH, HEIGHT, pixels), planes)))
        out.mux(stream.encode(None))
    refused(str(path), match)


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_curves_are_refused(tmp_path: Path, curve: int, name: str) -> None:
    planes = [np.full((HEIGHT, WIDTH), 500, np.uint16)] * 3
    refused(encode(tmp_path / "a.mkv", [planes], "yuv444p10le", curve=curve, matrix=9), name)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video at all" * 100)
    refused(str(tmp_path / "a.mp4"), "can't be read as video")
    planes = with_grey_chroma(moving(9))
    path = Path(encode(tmp_path / "b.mp4", planes, "yuv420p", codec="libx264"))
    path.write_bytes(path.read_bytes()[:-400])
    refused(str(path), "can't be read as video")  # the index stands at the end


def test_a_cut_off_matroska_keeps_what_is_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(8).integers(0, 255, (9, HEIGHT, WIDTH)).astype(np.uint8)
    path = Path(encode(tmp_path / "a.mkv", [[frame] for frame in noise], "gray", options={"g": "1"}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with only(str(path)) as reader:
        whole = len(reader.frames) - 1
        assert 3 <= whole <= 6
        for index in range(whole):
            assert np.array_equal(reader.read(index)[0], noise[index])
        with pytest.raises(ReadError, match="does not decode"):  # what is lost is noticed
            reader.read(whole)


def test_damage_inside_h264_spares_other_groups(tmp_path: Path) -> None:
    planes = with_grey_chroma(moving(36))
    path = encode(
        tmp_path / "a.mkv", planes, "yuv420p", codec="libx264", options={"g": "12", "sc_threshold": "0"}
    )
    with only(path) as reader:
        sound = [reader.read(index) for index in range(36)]
    with av.open(path) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts == 560)
        body = bytes(packet)
    data = bytearray(Path(path).read_bytes())
    place = data.index(body)
    data[place : place + len(body)] = b"\xff" * len(body)
    Path(path).write_bytes(data)
    lost = []
    with only(path) as reader:
        for index in range(36):
            try:
                assert np.array_equal(reader.read(index), sound[index]), index
            except ReadError:
                lost.append(index)
    assert lost
    assert set(lost) <= set(range(12, 24))


@pytest.mark.parametrize(("name", "count"), [("bikes.mp4", 250), ("solidWhiteRight.mp4", 221)])
def test_real_clips(name: str, count: int) -> None:
    if not (REAL / name).is_file():
        pytest.skip(f"{name} is not here: it lies beside the repository, in shared/data/video")
    with only(str(REAL / name)) as reader:
        assert len(reader.frames) == count
        assert reader.header.frame_rate == 25
        frame = reader.read(40)
        with av.open(str(REAL / name)) as container:
            picture = next(item for number, item in enumerate(container.decode(video=0)) if number == 40)
        scaled = picture.to_ndarray(format="rgb24").transpose(2, 0, 1).astype(int)
        assert np.abs(frame.astype(int) - scaled).mean() < 2  # swscale truncates and repeats chroma
        assert np.array_equal(reader.read(40), frame)
