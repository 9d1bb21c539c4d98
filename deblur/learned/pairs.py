"""Pairs to learn from: what the physics makes of a film, and what it should have made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deblur.deconv.hybrid import CELL, Evidence, fields_of, images_of
from deblur.learned.films import Film
from deblur.light import resolve
from deblur.sequence import restored_frame
from deblur.types import Estimate, Float
from deblur.window import RestoreSettings

SETTINGS = RestoreSettings(method="hybrid")


@dataclass(frozen=True, slots=True)
class Pair:
    """`images`: (21, y, x) and `fields`: (10, y, x), as the network sees them (`deblur.deconv.hybrid`); `truth`: (y, x)
    light; `limit`: (y, x), the most that a weight may be;
    `root`: codes are as square roots of light, not as light: where an error is to be counted."""

    images: Float
    fields: Float
    truth: Float
    limit: Float
    root: bool


@dataclass(slots=True)
class _Witness:
    """Stands where the network will, and only looks."""

    seen: list[Evidence] = field(default_factory=list)

    def refine(self, seen: Evidence) -> tuple[Float, Float]:
        self.seen.append(seen)
        return seen.restored, seen.weight


def pairs_of(film: Film, *, side: int, rng: np.random.Generator, motion_method: str = "fast") -> list[Pair]:
    """As many squares of `side` pixels as the film's frame holds, as pairs; where they begin is drawn from `rng`. None of a
    film that the product would leave alone."""
    witness, stack = _Witness(), film.frames[:, None]
    light = resolve(stack.dtype, transfer=film.transfer, largest=float(stack.max()), bits=16)
    told = Estimate(film.fraction, 0.0)
    restored_frame(
        stack,
        film.at,
        light=light,
        exposure=told,
        motion_method=motion_method,
        settings=SETTINGS,
        network=witness,
    )
    if not witness.seen:  # its motion is beyond what is ever restored
        return []
    (seen,) = witness.seen
    images, fields = images_of(seen, 0), fields_of(seen)
    rows, columns = ([int(n) for n in _starts(length, side, rng)] for length in film.truth.shape)
    parts = [(..., slice(y, y + side), slice(x, x + side)) for y in rows for x in columns]
    return [
        Pair(images[part], fields[part], film.truth[part], seen.limit[part], film.transfer == "srgb")
        for part in parts
    ]


def _starts(length: int, side: int, rng: np.random.Generator) -> NDArray[np.int64]:
    left = (length % side) // CELL
    return np.arange(length // side) * side + int(rng.integers(left + 1)) * CELL
