"""What a neighbour says about a frame: how it moved, and the neighbour itself as a second look at the same scene.

A neighbour, brought here along the motion, is this frame's scene blurred along the neighbour's path. Two looks are worth
more than one: their noise is not the same, and what one path erased the other may have kept (Cai, Ji, Liu & Shen 2009,
Journal of Computational Physics 228). A look counts only where blurring each along the other's path agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from deblur.deconv.model import AlongPath
from deblur.motion.pyramid import upsample
from deblur.motion.warping import warp
from deblur.paths import bent
from deblur.quality import confidence
from deblur.tiling import Box
from deblur.types import Bool, Float

NUMERICS_VERSION = 1
SHARE = 0.5  # of a neighbour's data at full agreement: the motion between is never exact
AGREEMENT = 2.0  # half of that share where the two differ by this many times what noise explains
AROUND = 9  # pixels, the side of the square over which they are compared
PATHS = 0.004  # light that small errors of the paths leave between two that agree
NEXT, PREVIOUS, BEND = 0, 1, 2  # rows of `Survey.shake`
UNEVEN = 0.4  # of the motion may come or go in an interval before the path of an end is in doubt (real frames: less)
LEFT = 0.25  # of the noise after blurring along a path


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame beside the one to restore.

    `frame`: (c, y, x) linear light. `motion`: (2, y, x) pixels, from the frame to restore to this one;
    `back`: from this one to the frame to restore, on this one's grid. `scale`: exposure time / signed time
    to this frame: +fraction for the next frame, -fraction for the previous one. `lack`: (dy, dx), pixels that the path
    which this neighbour suggests lacks; `its_lack`: the same for the neighbour's own path, as the frame to restore
    suggests it; `its_bend`: the bend of that (`Survey.shake`). `turned`: (y, x), of the only neighbour of a frame, by how
    many pixels motion there changed between the last two intervals (`turning_at`).
    """

    frame: Float
    motion: Float
    back: Float
    scale: float
    lack: tuple[float, float] = (0.0, 0.0)
    its_lack: tuple[float, float] = (0.0, 0.0)
    its_bend: tuple[float, float] = (0.0, 0.0)
    turned: Float | None = None


def neighbour(
    frame: Float,
    motion: Float,
    back: Float,
    scale: float,
    shake: Float,
    its_shake: Float,
    turned: Float | None = None,
) -> Neighbour:
    """A neighbour from what the survey found, (3, 2) each, about the frame to restore and about the neighbour."""
    side, other = (NEXT, PREVIOUS) if scale > 0 else (PREVIOUS, NEXT)
    lack, its_lack, its_bend = vector(shake[side]), vector(its_shake[other]), vector(its_shake[BEND])
    return Neighbour(frame, motion, back, scale, lack, its_lack, its_bend, turned)


def trust_in(motion: Float, back: Float, scale: float, turned: Float | None) -> Float:
    """(y, x) in [0, 1]: how far the path that a neighbour suggests is to be believed. Arguments as of `Neighbour`.

    A frame between two neighbours has a path measured on both sides. At an end there is one, and what turns round
    there, as a heart does, had another path than it suggests: then the motion changed much in the interval before.
    """
    sure = confidence(motion, back)
    if turned is None:
        return sure
    share = np.float32(abs(scale))
    path = share * np.hypot(motion[0], motion[1])
    excess = np.maximum(0, share * turned - np.float32(UNEVEN) * path)
    return np.asarray(sure / (1 + (excess / (np.float32(0.25) + np.float32(0.05) * path)) ** 2), np.float32)


def turning_at(t: int, linked: Bool, coarse: Callable[[str, int], Float], *, reduction: int) -> Float | None:
    """(h, w) pixels, on the survey's grid: by how much motion changed between the two intervals nearest to frame `t`,
    more than the view as a whole did; None where the frame has two neighbours, or only one more frame is linked.

    `linked`: `Survey.linked`; `coarse`: the survey's field of that name of a pair of frames, k and k + 1.
    """
    after, before = bool(linked[t]), t > 0 and bool(linked[t - 1])
    name, near, far = ("forward", t, t + 1) if after else ("backward", t - 1, t - 2)
    if after == before or far < 0 or not linked[far]:
        return None
    last = coarse(name, near)
    along = np.ascontiguousarray(last / np.float32(reduction))
    earlier = np.stack([warp(np.ascontiguousarray(plane), along)[0] for plane in coarse(name, far)])
    change = last - earlier
    change -= np.median(change, axis=(1, 2))[:, None, None]  # the camera's own: `Survey.shake` knows
    return np.asarray(np.hypot(change[0], change[1]), np.float32)


def spread(turned: Float | None, box: Box, *, reduction: int) -> Float | None:
    """`turning_at` for the pixels of a box of the frame."""
    if turned is None:
        return None
    height, width = box.shape
    return np.asarray(
        upsample(turned[None], factor=reduction, y0=box.y0, x0=box.x0, height=height, width=width)[0]
    )


def vector(pair: Float) -> tuple[float, float]:
    """(dy, dx) as plain numbers."""
    return float(pair[0]), float(pair[1])


@dataclass(frozen=True, slots=True)
class Look:
    """A second look at a frame: `planes`: (c, y, x) linear light on its grid; `model`: how the scene was blurred into
    them; `trust`: (y, x) in [0, 1]."""

    planes: Float
    model: AlongPath
    trust: Float


def brought(beside: Neighbour) -> tuple[Float, Bool]:
    """The neighbour's planes (c, y, x) on the grid of the frame to restore, and (y, x), where it saw that place."""
    moved, inside = np.empty_like(beside.frame), np.ones(beside.motion.shape[1:], np.bool_)
    for plane, out in zip(beside.frame, moved, strict=True):
        out[...], inside = warp(np.ascontiguousarray(plane), beside.motion)
    return moved, inside


def look(frame: Float, model: AlongPath, beside: Neighbour, sure: Float, *, noise: float) -> Look:
    """The neighbour `beside` as a second look at `frame`, (c, y, x), which `model` blurred.

    `sure`: (y, x), trust in the motion to it; `noise`: standard deviation of both.
    """
    moved, inside = brought(beside)
    path = np.float32(beside.scale) * beside.motion
    path += np.array(beside.its_lack, np.float32)[:, None, None]
    theirs = AlongPath(bent(path, beside.its_bend))
    difference = np.zeros_like(sure)
    for here, there in zip(frame, moved, strict=True):
        difference += (theirs.apply(here) - model.apply(there)) ** 2 / np.float32(len(frame))
    expected = np.float32(AGREEMENT * (LEFT * noise + PATHS))
    excess = uniform_filter(difference, AROUND, mode="nearest") / expected**2
    trust = np.float32(SHARE) * sure**2 / (1 + excess**2)
    trust[~inside] = 0
    return Look(moved, theirs, np.asarray(trust, np.float32))
