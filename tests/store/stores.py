"""Small stores for the tests of the store: one sequence, one run, both of odd sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deblur.store import Archive, RunSpec, RunStore, SequenceStore, SourceStore, halve
from deblur.tiling import Box, blocks, boxes
from deblur.types import FrameInfo, SequenceHeader

FRAMES, CHANNELS, HEIGHT, WIDTH = 3, 2, 37, 52
BLOCK, SHARD, CHUNK = 2, 32, 8
SPEC = RunSpec(
    (FRAMES, CHANNELS, HEIGHT, WIDTH),
    "uint16",
    shard_frames=BLOCK,
    shard_size=SHARD,
    chunk=CHUNK,
    levels=4,
    channels=("red", "green"),
    frame_rate=25.0,
    parameters={"restore": {"iterations": 20}, "window": 16},
)


def header(name: str = "clip") -> SequenceHeader:
    return SequenceHeader(
        name,
        (CHANNELS, HEIGHT, WIDTH),
        "uint16",
        ("red", "green"),
        bits=12,
        frame_rate=25.0,
        pixel_size=(0.5, 0.5, "µm"),
    )


def infos(count: int = FRAMES) -> list[FrameInfo]:
    return [FrameInfo(f"frame{i:03d}.png", i / 25, 0.01) for i in range(count)]


def pixels(count: int = FRAMES, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (count, CHANNELS, HEIGHT, WIDTH)).astype(np.uint16)


def ingest(sequence: SequenceStore, frames: np.ndarray, *, name: str = "clip") -> SourceStore:
    with SourceStore.create(
        sequence.source.path,
        header(name),
        infos(len(frames)),
        chunk=CHUNK,
        shard_frames=BLOCK,
        shard_size=SHARD,
    ) as writer:
        for t0, t1 in blocks(len(frames), BLOCK):
            writer.write(t0, frames[t0:t1])
        return writer.finish()


def sequence_at(path: Path, *, name: str = "clip") -> SequenceStore:
    archive = Archive.create(path)
    sequence = archive.sequence(archive.id_of(name))
    ingest(sequence, pixels(), name=name)
    return sequence


def write_unit(run: RunStore, t0: int, t1: int, box: Box, frames: np.ndarray) -> dict[str, str]:
    """What a unit writes, with frames for the image and something plain for the rest."""
    image = frames[t0:t1, :, *box.slices]
    written: dict[str, str] = {}
    for level in range(run.spec.unit_levels):
        written |= run.write(str(level), t0, run.spec.level_box(box, level), image)
        image = halve(image)
    for name in ("motion/forward", "motion/backward"):
        written |= run.write(name, t0, box, np.zeros((t1 - t0, 2, *box.shape), np.int16))
    for name in ("quality/weight", "quality/reason"):
        written |= run.write(name, t0, box, np.full((t1 - t0, *box.shape), 255, np.uint8))
    return written


def fill(run: RunStore, frames: np.ndarray, *, writer: str = "tests") -> None:
    """Compute every unit of a run and its pyramid, with a ledger."""
    ledger = run.ledger(writer)
    for t0, t1 in blocks(FRAMES, BLOCK):
        for box in boxes(HEIGHT, WIDTH, SHARD):
            shards = write_unit(run, t0, t1, box, frames)
            ledger.append({"key": f"unit-{t0}-{box.y0}-{box.x0}", "shards": shards, "began": 1.0})
    ledger.append({"key": "pyramid", "shards": run.finish_pyramid()})
