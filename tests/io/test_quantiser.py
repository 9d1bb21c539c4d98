"""What H.264, JPEG and Motion JPEG rounded is read from their streams, and restoration is told; other codecs say nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from deblur import job as work
from deblur.config import load_job
from deblur.io import open_source
from deblur.store import Archive
from tests.conftest import pan
from tests.small import write_job

COUNT, HEIGHT, WIDTH = 6, 96, 128


def encode(path: Path, parameter: int, *, codec: str = "libx264") -> Path:
    """A pan with one and the same quantiser in all of its blocks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        if codec == "mjpeg":  # one and the same scale for all frames
            stream.pix_fmt = "yuvj420p"
            stream.options = {"qmin": str(parameter), "qmax": str(parameter)}
        if codec == "libx264":
            stream.options = {"qp": str(parameter), "x264-params": "ipratio=1:pbratio=1:aq-mode=0"}
        for frame in pan(COUNT, HEIGHT, WIDTH)[0]:
            rgb = np.repeat(frame[0][..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def rounding(path: Path) -> float | None:
    (reader,) = open_source(str(path))
    with reader:
        first = reader.read(0)
        assert np.array_equal(reader.read(0), first)  # the look ahead left it at its beginning
        assert len([reader.read(k) for k in range(len(reader.frames))]) == COUNT
        told: float | None = reader.header.metadata.get("rounding")
    return told


def test_the_step_doubles_every_six(tmp_path: Path) -> None:
    """At 4 it is one code."""
    told = [rounding(encode(tmp_path / f"{qp}.mp4", qp)) for qp in (16, 22, 28)]
    steps = np.array([4.0, 8.0, 16.0])
    assert told == pytest.approx(steps / np.sqrt(12) / 255, rel=0.02)


def test_a_codec_without_loss_says_nothing(tmp_path: Path) -> None:
    assert rounding(encode(tmp_path / "clip.mkv", 0, codec="ffv1")) is None


def test_motion_jpeg_tells_as_a_jpeg_does(tmp_path: Path) -> None:
    fine, coarse = (rounding(encode(tmp_path / f"{q}.avi", q, codec="mjpeg")) for q in (4, 16))
    assert fine
    assert coarse
    assert 3.5 < coarse / fine < 4.5


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_tells_by_the_finest_of_its_steps(tmp_path: Path, orientation: int) -> None:
    """Of one code each at quality 100."""
    notes = Image.Exif()
    notes[0x0112] = orientation
    for quality in (100, 75, 50):
        path = tmp_path / f"{quality}.jpg"
        Image.fromarray(pan(1, HEIGHT, WIDTH)[0][0, 0]).save(path, quality=quality, exif=notes)
        with Image.open(path) as picture:
            finest = np.sort(picture.quantization[0])[:16]  # type: ignore[attr-defined]
        (reader,) = open_source(str(path))
        with reader:
            told = reader.header.metadata["rounding"]
        assert told == pytest.approx(np.sqrt(np.mean(finest.astype(float) ** 2) / 12) / 255)
        assert quality < 100 or told == pytest.approx(1 / np.sqrt(12) / 255)


def test_a_job_takes_it_for_noise(tmp_path: Path) -> None:
    encode(tmp_path / "clip.mp4", 28)
    job = load_job(write_job(tmp_path, path="clip.mp4", source='transfer = "linear"'))
    (planned,) = work.plan(job, work.ingest(job))
    assert planned.error is None
    store = Archive.open(tmp_path / "archive").sequence("clip")
    noise = store.survey_part("noise", 0, COUNT)
    assert noise.min() >= store.source.header.metadata["rounding"] > 0.01
