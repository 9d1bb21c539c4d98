#!/usr/bin/env python3
"""Restoration of H.264 clips and JPEG pictures: what it is worth that the codec's own rounding counts as noise.

usage: python tests/benchmarks/compressed.py [--frames DIR] [--quick] [--json]

The demo's scene, and with --frames seven of eight neighbouring sharp frames averaged at three places, are encoded as H.264
at CRF 18, 23 and 28 and as JPEG of quality 90 and 75; the middle one of seven frames is restored with the noise that is
measured, and with the rounding that the codec tells. Gain in dB over the decoded frame, against the sharp one; the share of
pixels kept as `residual`.
"""

from __future__ import annotations

import os

for _name in ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse  # noqa: E402
import json  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import av  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from deblur.io import open_source  # noqa: E402
from deblur.light import Light  # noqa: E402
from deblur.report.compose import psnr  # noqa: E402
from deblur.scene import make_scene, moving_view  # noqa: E402
from deblur.sequence import restored_frame  # noqa: E402
from deblur.types import Estimate, Reason  # noqa: E402
from deblur.window import RestoreSettings  # noqa: E402

COUNT, MIDDLE, MEAN, PERIOD = 7, 3, 7, 8
LIGHT = Light(0, 255, "srgb")
Film = tuple[
    str, np.ndarray, np.ndarray, float
]  # name, blurred (t, c, y, x), the sharp middle one, exposure fraction


def films(folder: Path | None, quick: bool) -> Iterator[Film]:
    film = moving_view(make_scene(), shape=(288, 384), count=COUNT)
    yield "demo", film.frames, film.truth[MIDDLE], film.exposure_fraction
    files = sorted(folder.glob("*.png")) if folder else []
    for start in (30,) if quick else (0, 30, 50):
        if files[start:]:
            sharp = [
                np.asarray(Image.open(file).convert("RGB")) for file in files[start : start + COUNT * PERIOD]
            ]
            stack = np.moveaxis(np.stack(sharp), -1, 1)[..., 160:480, 400:848]
            groups = [stack[k * PERIOD : k * PERIOD + MEAN] for k in range(COUNT)]
            blurred = np.rint([group.mean(0) for group in groups]).astype(np.uint8)
            yield f"frames from {start}", blurred, groups[MIDDLE][MEAN // 2], MEAN / PERIOD


def encoded(frames: np.ndarray, crf: int) -> tuple[np.ndarray, float]:
    """What is decoded again, and the rounding that the stream tells."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[2:], "yuv420p"
            stream.codec_context.thread_count = 1  # its choices depend on it
            for frame in frames:
                pixels = np.ascontiguousarray(np.moveaxis(frame, 0, -1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        (reader,) = open_source(str(path))
        with reader:
            return np.stack([reader.read(k) for k in range(COUNT)]), reader.header.metadata["rounding"]


def as_pictures(frames: np.ndarray, quality: int) -> tuple[np.ndarray, float]:
    """The same of JPEG files."""
    with TemporaryDirectory() as folder:
        for k, frame in enumerate(frames):
            pixels = np.ascontiguousarray(np.moveaxis(frame, 0, -1))
            Image.fromarray(pixels).save(Path(folder) / f"{k}.jpg", quality=quality)
        (reader,) = open_source(folder)
        with reader:
            return np.stack([reader.read(k) for k in range(COUNT)]), reader.header.metadata["rounding"]


def rows(folder: Path | None, quick: bool) -> Iterator[dict[str, object]]:
    for name, frames, truth, fraction in films(folder, quick):
        clips = [(f"CRF {crf}", *encoded(frames, crf)) for crf in ((23,) if quick else (18, 23, 28))]
        stills = [(f"JPEG {q}", *as_pictures(frames, q)) for q in ((75,) if quick else (90, 75))]
        for how, seen, told in clips + stills:
            row: dict[str, object] = {"film": name, "codec": how, "rounding": round(told, 4)}
            for kind, rounding in (("measured", 0.0), ("told", told)):
                found, window = restored_frame(
                    seen[1:-1], MIDDLE - 1, light=LIGHT, exposure=Estimate(fraction, 0.0),
                    motion_method="fast", settings=RestoreSettings(), rounding=rounding,
                )  # fmt: skip
                gain = psnr(found, truth, 255) - psnr(seen[MIDDLE], truth, 255)
                residual = float((window.reason == Reason.RESIDUAL).mean())
                row |= {kind: round(gain, 2), f"{kind} residual": round(residual, 3)}
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = list(rows(options.frames, options.quick))
    if options.json:
        print(json.dumps(found))
        return
    for row in found:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    for codec in ("CRF", "JPEG"):
        some = [row for row in found if str(row["codec"]).startswith(codec)]
        means = [np.mean([float(str(row[kind])) for row in some]) for kind in ("measured", "told")]
        print(
            f"{codec}, mean gain: {means[0]:+.2f} dB with the measured noise, {means[1]:+.2f} dB with the rounding told"
        )


if __name__ == "__main__":
    main()
