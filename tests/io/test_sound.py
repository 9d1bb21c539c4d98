"""A restored clip keeps its original's audio, notes and tags, 10 bits stay 10, and sound stays with its pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deblur.errors import ConfigError
from deblur.io import open_source
from deblur.io.export import export_frames
from deblur.io.sound import check_sound
from deblur.types import SequenceHeader

COUNT, RATE, SAMPLES = 6, 25, 48_000
NOTES = {"title": "A walk", "com.apple.quicktime.location.ISO6709": "+47.37+008.54/"}


def film(path: Path, *, codec: str = "libx264", pixels: str = "yuv420p", audio: str = "aac") -> Path:
    """A clip with a tone, limited range, BT.2020 primaries."""
    flags = {"movflags": "use_metadata_tags"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=flags) as container:
        video: Any = container.add_stream(codec, rate=RATE)
        sound: Any = container.add_stream(audio, rate=SAMPLES, layout="mono")
        container.metadata.update(NOTES)
        video.height, video.width, video.pix_fmt = 48, 64, pixels
        video.options = {"crf": "8"} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
        context = video.codec_context
        context.color_range, context.colorspace, context.color_trc, context.color_primaries = 1, 1, 1, 9
        y, x = np.mgrid[:48, :64]
        for k in range(COUNT):
            wave = 128 + 90 * np.sin((x + 3 * k) / 7 + y / 9)
            rgb = np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = k, Fraction(1, RATE)
            container.mux(video.encode(frame))
            tone = np.sin(np.arange(SAMPLES // RATE) / 9).astype(np.float32)[None]
            piece = av.AudioFrame.from_ndarray(tone, format="flt", layout="mono")
            piece.sample_rate, piece.pts = SAMPLES, k * SAMPLES // RATE
            container.mux(sound.encode(piece))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def told(path: Path) -> dict[str, Any]:
    """What another program's library says of a clip."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frame = next(container.decode(video))
        found = {
            "codec": video.codec_context.name, "pixels": frame.format.name, "range": int(frame.color_range),
            "matrix": int(frame.colorspace), "curve": int(frame.color_trc), "primaries": int(frame.color_primaries),
            "rate": video.average_rate, "notes": {key.lower(): text for key, text in container.metadata.items()},
        }  # fmt: skip
    with av.open(str(path)) as container:
        sounds = container.streams.audio
        packets = [bytes(p) for p in container.demux(sounds[0]) if p.size] if sounds else []
    return found | {"audio": packets}


def copied(source: Path, output: Path, *, leave_out: int | None = None) -> Path:
    (reader,) = open_source(str(source))
    with reader:
        kept = [k for k in range(len(reader.frames)) if k != leave_out]
        return export_frames(
            (reader.read(k) for k in kept),
            output,
            header=reader.header,
            names=[reader.frames[k].name for k in kept],
            times=[reader.frames[k].time for k in kept],
            original=source,
        )


@pytest.mark.parametrize("bits", [8, 10])
def test_mp4_keeps_sound_notes_tags_and_depth(tmp_path: Path, bits: int) -> None:
    deep = {"codec": "libx265", "pixels": "yuv420p10le"} if bits == 10 else {}
    source = film(tmp_path / "a.mp4", **deep)
    before, after = told(source), told(copied(source, tmp_path / "b.mp4"))
    for key in ("codec", "pixels", "range", "matrix", "curve", "primaries", "rate", "audio"):
        assert after[key] == before[key], key
    assert len(before["audio"]) > 3
    assert all(after["notes"][key.lower()] == text for key, text in NOTES.items())
    (one,), (two,) = open_source(str(source)), open_source(str(tmp_path / "b.mp4"))
    top = np.iinfo(one.header.dtype).max
    apart = [np.abs(one.read(k).astype(float) - two.read(k)).mean() / top for k in range(COUNT)]
    assert max(apart) < 0.01
    means = [abs(float(one.read(k).mean()) - float(two.read(k).mean())) / top for k in range(COUNT)]
    assert max(means) < 0.003  # limited range stays what it was: no step of brightness


def test_matroska_keeps_sound_and_every_bit_of_ten(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", codec="libx265", pixels="yuv420p10le")
    after = told(copied(source, tmp_path / "b.mkv"))
    assert after["audio"] == told(source)["audio"]
    assert (after["curve"], after["primaries"]) == (1, 9)
    (one,), (two,) = open_source(str(source)), open_source(str(tmp_path / "b.mkv"))
    assert all(np.array_equal(one.read(k), two.read(k)) for k in range(COUNT))


def test_a_frame_that_is_left_out_does_not_shift_the_rest_from_their_sound(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4")
    (reader,) = open_source(str(copied(source, tmp_path / "b.mp4", leave_out=2)))
    assert [info.time for info in reader.frames] == pytest.approx([0, 0.04, 0.12, 0.16, 0.2], abs=1e-4)


def test_sound_that_a_format_cannot_hold_is_named_before_the_work(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mkv", audio="wavpack")
    check_sound(source, tmp_path / "b.mkv", name="a.mkv")
    with pytest.raises(ConfigError, match=r"can't hold the audio of .* \(wavpack\): write \.mkv"):
        check_sound(source, tmp_path / "b.mp4", name="a.mkv")


def test_an_original_that_is_gone_costs_only_its_sound(tmp_path: Path) -> None:
    header = SequenceHeader("run", (1, 8, 8), "uint8", ("grey",), frame_rate=25.0)
    frames = np.zeros((2, 1, 8, 8), np.uint8)
    out = export_frames(
        frames, tmp_path / "b.mkv", header=header, names=["0", "1"], original=tmp_path / "no.mp4"
    )
    assert told(out)["audio"] == []
