"""What restoring a source will cost, before a frame of it is read: from its header and the speed of this machine.

A plan says it better, but a plan needs the frames ingested and surveyed, which is part of the cost.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur.clusters import fitting_workers
from deblur.config import JobConfig
from deblur.io import Reader
from deblur.plan import check_methods
from deblur.probe import seconds_per_megapixel

LONG = 60.0  # megapixels of all channels together from which on it is worth telling: about a minute's work
SHORT = 4.0  # up to which one process is done before workers have started
HALO = 1.3  # how much more is computed than kept, as plans of usual sizes say
READING = 0.3  # CPU s a megapixel of a channel: decoding, the stores, the survey; measured on 720p clips
SHRUNK = 0.7  # of camera frames, what the stores' compression leaves


@dataclass(frozen=True, slots=True)
class Outlook:
    """Roughly: `seconds` of wall time on `workers`; `disk`: bytes of scratch and result, of which `free` are there."""

    frames: int
    height: int
    width: int
    seconds: float
    workers: int
    disk: int
    free: int


def is_long(readers: Sequence[Reader]) -> bool:
    """Whether this is work for minutes rather than moments."""
    return _work(readers) > LONG


def is_short(readers: Sequence[Reader]) -> bool:
    """Whether this is work of moments, for which it does not pay to start workers."""
    return _work(readers) < SHORT


def _work(readers: Sequence[Reader]) -> float:
    return sum(_megapixels(reader) * reader.header.shape[0] for reader in readers)


def outlook(job: JobConfig, readers: Sequence[Reader], folder: Path) -> Outlook:
    """What restoring one source takes, its planes alike; its stores are written below `folder`."""
    header = readers[0].header
    channels, height, width = header.shape
    pixels = sum(map(_megapixels, readers))
    speed = seconds_per_megapixel(check_methods(job), job.motion.method)
    each = HALO * (speed["motion"] + channels * speed["restore"])
    workers = 1 if job.cluster.kind == "serial" else job.cluster.workers or fitting_workers(0)
    itemsize = np.dtype(header.dtype).itemsize
    source, restored, evidence = channels * itemsize, channels * itemsize * 4 / 3, 4  # bytes a pixel
    return Outlook(
        sum(len(reader.frames) for reader in readers),
        height,
        width,
        pixels * (READING * channels + each / workers),  # one process reads
        workers,
        int(pixels * 1e6 * SHRUNK * (source + restored + evidence)),
        shutil.disk_usage(_there(folder)).free,
    )


def _megapixels(reader: Reader) -> float:
    return len(reader.frames) * reader.header.shape[1] * reader.header.shape[2] / 1e6


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
