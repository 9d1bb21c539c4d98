"""The method "hybrid": what physics restored, corrected by a small network that sees how it came about.

The network looks at one plane at a time: the frame, the restored plane, what that leaves unexplained when it is blurred
again, both once more at places along the path, both neighbours brought here, the path, the trust in it, the gate's weight
and the noise. What is left of an edge stands along its path, in distances that the path tells: there the network looks for
it. It answers with a correction and a weight, for which the gate's is the first guess. Where the gate is shut it can't open
it, and what it made is held near the range of the source like any restoration.
Plug-and-play of learned and physical parts as reviewed by Monga, Li & Eldar 2021 (doi:10.1109/MSP.2020.3016905).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deblur.deconv.variational import Variational
from deblur.types import Float

CELL = 8  # pixels: the network's coarsest grid; windows begin at multiples of it
REACH = 128  # pixels beyond a place that have a say in it: 73 of the network, and the furthest that it looks along the path
FURTHEST = 48.0  # pixels: along longer paths it looks no further
PLACES = (
    -1.0,
    -0.75,
    -0.5,
    -0.25,
    0.25,
    0.5,
    0.75,
    1.0,
)  # of the path, where it looks: what is left of an edge repeats there
IMAGES, FIELDS = 5 + 2 * len(PLACES), 10  # planes at full resolution, smooth planes
GATE = 8  # which of the latter is the gate's weight
OPEN = 3.0  # times that weight: as far as the network may open the gate; where it is shut, it stays shut
LONG, BENT, LOUD, UNEXPLAINED = 32.0, 8.0, 0.04, 0.25  # what counts as one


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a network may look at. `frame`, `restored`, `again`: (c, y, x) linear light, the last the restored one
    blurred again; `along`: of a channel, (2, 8, y, x), both of
    `explained` at the `PLACES` of each pixel's path (many planes, so made when they are wanted);
    `beside`: (2, c, y, x), the next and the previous frame brought here, `trusts`: (2, y, x) in each, 0
    where there is none; `path`: (2, y, x) or bent (4, y, x); `weight`: (y, x), the gate's; `limit`: (y, x), the most that
    a weight may be (`deblur.quality.limit`); `noise`: of the frame."""

    frame: Float
    restored: Float
    again: Float
    along: Callable[[int], Float]
    beside: Float
    path: Float
    trusts: Float
    weight: Float
    limit: Float
    noise: float


def images_of(seen: Evidence, channel: int) -> Float:
    """(21, y, x): what the network sees of a plane at full resolution, as square roots of light."""
    images = np.empty((IMAGES, *seen.weight.shape), np.float32)
    images[0] = root(seen.frame[channel])
    images[1:3] = explained(seen.frame[channel], seen.restored[channel], seen.again[channel])
    images[3:5] = root(seen.beside[:, channel])
    images[5:] = seen.along(channel).reshape(2 * len(PLACES), *seen.weight.shape)
    images[~np.isfinite(images)] = 0  # holes are dark
    return images


def explained(frame: Float, restored: Float, again: Float) -> Float:
    """(2, ...): restored planes and what they leave unexplained, as square roots of light."""
    return np.stack([root(restored), (root(again) - root(frame)) / np.float32(UNEXPLAINED)])


def way_to(path: Float, place: float) -> Float:
    """(2, y, x): from each pixel to a place, in shares from its middle, of its path, (2, y, x) or bent (4, y, x)."""
    way = path[:2] * np.float32(place)
    if len(path) == 4:
        way += path[2:] * np.float32(4 * place * place)
    length = np.sqrt(way[0] ** 2 + way[1] ** 2)
    way *= FURTHEST / np.maximum(length, FURTHEST)
    return np.asarray(way, np.float32)


def fields_of(seen: Evidence) -> Float:
    """(10, y, x): what it sees of the motion. A path and its opposite are the same blur, so its angle counts twice."""
    fields = np.zeros((FIELDS, *seen.weight.shape), np.float32)
    dy, dx = seen.path[:2]
    length = np.hypot(dy, dx)
    over = np.float32(1 / LONG) / np.maximum(length, np.float32(1e-3))
    fields[0] = length / LONG
    fields[1], fields[2] = (dy * dy - dx * dx) * over, 2 * dy * dx * over
    if len(seen.path) == 4:
        fields[3:5] = seen.path[2:] / BENT
    fields[5], fields[6:8] = seen.trusts.max(axis=0), seen.trusts
    fields[GATE], fields[9] = seen.weight, min(seen.noise / LOUD, 2.0)
    return fields


class Refiner(Protocol):
    def refine(self, seen: Evidence) -> tuple[Float, Float]:
        """The restored planes corrected, (c, y, x) light, and their weight, (y, x) in [0, 1], below any limit."""
        ...


def root(light: Float) -> Float:
    """The square root, odd: what lies below zero stays below it."""
    return np.asarray(np.copysign(np.sqrt(np.abs(light)), light), np.float32)


@dataclass(frozen=True, slots=True)
class Hybrid(Variational):
    """The physics of "variational"; what is to be corrected afterwards."""
