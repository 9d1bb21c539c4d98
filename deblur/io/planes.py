"""A file's axes to sequences: time and channels make one, every step of any other axis another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Plane:
    """One sequence of frames in a file of more axes.

    `suffix`: "/z003" or the like, empty where there is only one. `place`: axis letter -> step. `groups`: for
    each time the file's planes (numbers in its order) that make up the channels.
    """

    suffix: str
    place: Mapping[str, int]
    groups: tuple[tuple[int, ...], ...]


def layout(axes: str, extent: tuple[int, ...]) -> tuple[Plane, ...]:
    """Sort the planes of a file, whose axes are given slowest first, into sequences.

    Time is T, else the first of I and Q (tifffile's letters for "some sequence"); C are channels; every other
    axis longer than 1 (z, position, angle ...) makes sequences of its own.

    >>> [(plane.suffix, plane.groups) for plane in layout("TZ", (2, 2))]
    [('/z000', ((0,), (2,))), ('/z001', ((1,), (3,)))]
    """
    numbers = np.arange(int(np.prod(extent, dtype=np.int64))).reshape(extent)
    time = next((axis for axis in "TIQ" if axis in axes), "")
    others = [axis for axis in axes if axis not in (time, "C")]
    order = [axes.index(axis) for axis in others]
    order += [axes.index(axis) for axis in (time, "C") if axis and axis in axes]
    arranged = numbers.transpose(order)
    lengths = tuple(extent[axes.index(axis)] for axis in others)
    times = extent[axes.index(time)] if time else 1
    planes = []
    for steps in itertools.product(*(range(length) for length in lengths)):
        block = arranged[steps].reshape(times, -1)
        groups = tuple(tuple(int(number) for number in row) for row in block)
        planes.append(Plane(suffix(others, lengths, steps), dict(zip(others, steps, strict=True)), groups))
    return tuple(planes)


def suffix(axes: list[str], lengths: tuple[int, ...], steps: tuple[int, ...]) -> str:
    """ "/z003" for the fourth z of several; axes of length 1 are not mentioned.

    >>> suffix(["P", "Z"], (2, 9), (1, 3))
    '/p001-z003'
    """
    named = zip(axes, lengths, steps, strict=True)
    parts = [f"{axis.lower()}{step:03d}" for axis, length, step in named if length > 1]
    return "/" + "-".join(parts) if parts else ""
