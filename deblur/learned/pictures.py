"""Sharp pictures to make films from: what people have, and dead leaves, which anyone can make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deblur.errors import ConfigError
from deblur.io import open_source
from deblur.io.reader import Reader
from deblur.light import resolve
from deblur.report.pictures import display
from deblur.types import Bytes

SMALLEST = 200  # pixels: less is no scene
EVERY = 24  # frames of a film, of which one is taken
ASIDE = 8  # one of so many pictures is never learned from
LEAVES = 8  # dead leaves are one of so many pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """`codes`: (y, x, 3) uint8, sRGB; `source`: the file; `digest`: of the codes."""

    codes: Bytes
    source: str
    digest: str


def gather(paths: Sequence[Path]) -> list[Picture]:
    """The pictures of files and folders: every picture file, and of films and stacks a frame now and then.

    Raises ConfigError where there are none, and what reading raises.
    """
    found = [picture for path in paths for file in _files(path) for picture in _of_file(file)]
    if not found:
        raise ConfigError(
            f"{', '.join(map(str, paths))}: no picture of {SMALLEST} pixels or more: name folders of pictures or films"
        )
    return found


def parted(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Pictures to learn from, and every eighth, in its order, to check with. Of one source all are on one side."""
    sources = sorted({picture.source for picture in pictures})
    aside = set(sources[ASIDE // 2 :: ASIDE]) if len(sources) > ASIDE // 2 else set(sources[-1:])
    if len(sources) == 1:  # of one film: its end
        cut = max(1, len(pictures) - max(1, len(pictures) // ASIDE))
        return list(pictures[:cut]), list(pictures[cut:]) or list(pictures)
    return [p for p in pictures if p.source not in aside], [p for p in pictures if p.source in aside]


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder: check the path")
    if path.is_file() or path.suffix == ".zarr":
        yield path
        return
    yield from (file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith("."))


def _of_file(file: Path) -> Iterator[Picture]:
    for reader in open_source(str(file)):
        with reader:
            yield from _of_reader(reader, file)


def _of_reader(reader: Reader, file: Path) -> Iterator[Picture]:
    for t in range(0, len(reader.frames), EVERY):
        codes = reader.read(t)
        if min(codes.shape[1:]) < SMALLEST or len(codes) not in (1, 3):
            continue
        header = reader.header
        light = resolve(
            header.dtype, transfer=header.transfer or "auto", largest=float(codes.max()), bits=header.bits
        )
        shown = display(codes, light)
        yield Picture(shown, file.name, hashlib.sha256(shown.tobytes()).hexdigest())


def dead_leaves(rng: np.random.Generator, *, side: int = 640) -> Bytes:
    """(side, side, 3) codes of discs and rectangles before one another, small ones by far the most: the statistics of
    natural scenes, as Lee, Mumford & Huang 2001 (doi:10.1023/A:1011109015675) made them."""
    picture = np.full((side, side, 3), 128, np.uint8)
    sizes = np.minimum(
        3 / rng.uniform(1e-4, 1.0, 6000) ** 0.5, side / 3
    )  # radii by a power law, cubic in its fall
    for size in sizes:
        y, x = rng.integers(0, side, 2)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.6:
            cv2.circle(picture, (int(x), int(y)), int(size), colour, -1, cv2.LINE_AA)
        else:
            tall = float(size * rng.uniform(0.1, 1.5))
            box = cv2.boxPoints(((float(x), float(y)), (float(size) * 2, tall), float(rng.uniform(0, 180))))
            cv2.fillConvexPoly(picture, np.rint(box).astype(np.int32), colour, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def with_leaves(pictures: Sequence[Bytes], seed: int) -> list[Bytes]:
    """The same and some made by `dead_leaves`."""
    rng = np.random.default_rng((seed, len(pictures)))
    return [*pictures, *(dead_leaves(rng) for _ in range(max(1, len(pictures) // LEAVES)))]
