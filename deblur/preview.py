"""A quick look before a long run: a few frames spread over a sequence, each restored with only its neighbours read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.config import JobConfig, Source
from deblur.errors import ArrayError, ConfigError
from deblur.foretell import Outlook, outlook
from deblur.ingest import Progress, readers_of
from deblur.io import Reader
from deblur.light import Light, resolve
from deblur.models import network_of
from deblur.plan import Exposure, check_methods, source_exposure
from deblur.report import pictures
from deblur.sequence import restored_frame
from deblur.shutter import STRETCH, estimate_exposure_fraction
from deblur.turn import orientation_of, upright
from deblur.types import Bytes, Estimate

AROUND = 3  # frames on either side, for the trajectory
WIDTH, DETAIL = 960, 400  # pixels of one side of the picture, and rows of its detail
TRIES = 12  # stretches of frames that are asked for the exposure


@dataclass(frozen=True, slots=True)
class Look:
    """One frame of a preview. `weight`: the mean of its map."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Preview:
    """`looks`: the frames that are shown; `picture`: where; `outlook`: what all of them will take."""

    picture: Path
    outlook: Outlook
    exposure: Exposure
    looks: tuple[Look, ...]


def preview(job: JobConfig, picture: Path, *, count: int, progress: Progress) -> Preview:
    """Restore `count` frames of the one source of `job` and draw them, before and after, into a PNG.

    Of several planes of a stack the first is shown. Raises ConfigError where the exposure isn't known and the frames
    don't tell it, or the picture can't be written, and what reading raises.
    """
    source, settings = job.sources[0], check_methods(job)
    readers = readers_of(source, job)
    try:
        reader = readers[0]
        if len(reader.frames) < 2:
            raise ConfigError(f"{source.path}: one frame alone needs no preview: leave --preview out")
        exposure = source_exposure(source, reader) or _exposure(source, reader, job, progress)
        estimate = Estimate(exposure.fraction, exposure.uncertainty or 0.0)
        rows: list[Bytes] = []
        looks = []
        places = _spread(len(reader.frames), count)
        for done, at in enumerate(places, 1):
            progress("preview", done - 1, len(places))
            first = max(0, at - AROUND)
            stack = np.stack(list(_frames(reader, first, min(at + AROUND + 1, len(reader.frames)))))
            light = _light(source, reader, stack)
            after, window = restored_frame(
                stack,
                at - first,
                light=light,
                exposure=estimate,
                motion_method=job.motion.method,
                settings=settings,
                readout=source.readout,
                rounding=reader.header.metadata.get("rounding", 0.0),
                network=network_of(job.restore),
            )
            looks.append(Look(reader.frames[at].name, float(window.weight.mean())))
            turn = orientation_of(reader.header)
            rows += _rows(upright(stack[at - first], turn), upright(after, turn), light, looks[-1])
            progress("preview", done, len(places))
        cost = outlook(job, readers, picture.parent)
    finally:
        for opened in readers:
            opened.close()
    _write(picture, rows)
    return Preview(picture, cost, exposure, tuple(looks))


def _spread(frames: int, count: int) -> list[int]:
    """Places spread evenly over the sequence, its ends left out."""
    if count < 1:
        raise ConfigError(f"--preview {count}: give how many frames to look at, as 3")
    return sorted({(2 * k + 1) * frames // (2 * count) for k in range(min(count, frames))})


def _frames(reader: Reader, first: int, last: int) -> Iterator[NDArray[Any]]:
    return (reader.read(t) for t in range(first, last))


def _light(source: Source, reader: Reader, stack: NDArray[Any]) -> Light:
    header = reader.header
    transfer = source.transfer if source.transfer != "auto" else header.transfer or "auto"
    return resolve(header.dtype, transfer=transfer, largest=float(stack.max()), bits=header.bits)


def _exposure(source: Source, reader: Reader, job: JobConfig, progress: Progress) -> Exposure:
    """From the first frames that tell, as a run does it, or as assumed; the first stretches only."""
    frames = len(reader.frames)
    for turn, first in enumerate(range(0, frames - 2, STRETCH)[:TRIES], 1):
        stack = np.stack(list(_frames(reader, first, min(first + STRETCH, frames))))
        transfer = _light(source, reader, stack).transfer
        try:
            found = estimate_exposure_fraction(stack, transfer=transfer, motion_method=job.motion.method)
        except ArrayError:
            continue
        finally:
            progress("exposure", turn, turn)
        return Exposure(found.value, None, "estimated", uncertainty=found.uncertainty)
    if assumed := source_exposure(source, reader, assume=True):
        return assumed
    raise ConfigError(
        f"{source.path}: exposure fraction unknown, and its first frames don't tell it: "
        "give --exposure-fraction, or --exposure-time and --frame-rate"
    )


def _rows(before: NDArray[Any], after: NDArray[Any], light: Light, look: Look) -> list[Bytes]:
    """A frame before and after, then its liveliest part, pixel by pixel or enlarged."""
    white = pictures.white_point(before, light)
    views = [pictures.display(codes, light, white=white) for codes in (before, after)]
    whole = [pictures.shrink(view, longest=WIDTH) for view in views]
    side = whole[0].shape[1]
    zoom = 1 if views[0].shape[1] >= 2 * side else 2
    box = pictures.busiest_box(views[0], height=DETAIL // zoom, width=side // zoom)
    detail = [pictures.crop(view, box).repeat(zoom, axis=0).repeat(zoom, axis=1) for view in views]
    label = f"{look.name}: left as it is, right restored (in {look.weight:.0%} of it)"
    return [_titled(label, _beside(whole)), _beside(detail)]


def _beside(pair: list[Bytes], gap: int = 4) -> Bytes:
    left, right = pair
    return np.hstack([left, np.full((left.shape[0], gap, 3), 255, np.uint8), right])


def _titled(text: str, picture: Bytes) -> Bytes:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (picture.shape[1], 28), "white")
    ImageDraw.Draw(strip).text((6, 5), text, fill="black", font=ImageFont.load_default(16))
    return np.vstack([np.asarray(strip), picture])


def _write(path: Path, rows: list[Bytes], gap: int = 6) -> None:
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, gap), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.to_png(np.vstack(padded)))
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another output") from None
