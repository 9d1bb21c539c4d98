"""What a neighbour says about a frame: how it moved, and the neighbour itself as a second look at the same scene.

A neighbour, brought here along the motion, is this frame's scene blurred along the neighbour's path. Two looks are worth
more than one: their noise is not the same, and what one path erased the other may have kept (Cai, Ji, Liu & Shen 2009,
Journal of Computational Physics 228). A look counts only where blurring each along the other's path agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from deblur.deconv.model import AlongPath
from deblur.motion.warping import warp
from deblur.paths import bent
from deblur.types import Float

NUMERICS_VERSION = 1
SHARE = 0.5  # of a neighbour's data at full agreement: the motion between is never exact
AGREEMENT = 2.0  # half of that share where the two differ by this many times what noise explains
AROUND = 9  # pixels, the side of the square over which they are compared
PATHS = 0.004  # light that small errors of the paths leave between two that agree
NEXT, PREVIOUS, BEND = 0, 1, 2  # rows of `Survey.shake`
LEFT = 0.25  # of the noise after blurring along a path


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame beside the one to restore.

    `frame`: (c, y, x) linear light. `motion`: (2, y, x) pixels, from the frame to restore to this one;
    `back`: from this one to the frame to restore, on this one's grid. `scale`: exposure time / signed time
    to this frame: +fraction for the next frame, -fraction for the previous one. `lack`: (dy, dx), pixels that the path
    which this neighbour suggests lacks; `its_lack`: the same for the neighbour's own path, as the frame to restore
    suggests it; `its_bend`: the bend of that (`Survey.shake`).
    """

    frame: Float
    motion: Float
    back: Float
    scale: float
    lack: tuple[float, float] = (0.0, 0.0)
    its_lack: tuple[float, float] = (0.0, 0.0)
    its_bend: tuple[float, float] = (0.0, 0.0)


def neighbour(
    frame: Float, motion: Float, back: Float, scale: float, shake: Float, its_shake: Float
) -> Neighbour:
    """A neighbour from what the survey found, (3, 2) each, about the frame to restore and about the neighbour."""
    side, other = (NEXT, PREVIOUS) if scale > 0 else (PREVIOUS, NEXT)
    return Neighbour(
        frame, motion, back, scale, vector(shake[side]), vector(its_shake[other]), vector(its_shake[BEND])
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


def look(frame: Float, model: AlongPath, beside: Neighbour, sure: Float, *, noise: float) -> Look:
    """The neighbour `beside` as a second look at `frame`, (c, y, x), which `model` blurred.

    `sure`: (y, x), trust in the motion to it; `noise`: standard deviation of both.
    """
    brought, inside = [], np.ones(sure.shape, np.bool_)
    for plane in beside.frame:
        moved, inside = warp(np.ascontiguousarray(plane), beside.motion)
        brought.append(moved)
    path = np.float32(beside.scale) * beside.motion
    path += np.array(beside.its_lack, np.float32)[:, None, None]
    theirs = AlongPath(bent(path, beside.its_bend))
    difference = np.zeros_like(sure)
    for here, there in zip(frame, brought, strict=True):
        difference += (theirs.apply(here) - model.apply(there)) ** 2 / np.float32(len(frame))
    expected = np.float32(AGREEMENT * (LEFT * noise + PATHS))
    excess = uniform_filter(difference, AROUND, mode="nearest") / expected**2
    trust = np.float32(SHARE) * sure**2 / (1 + excess**2)
    trust[~inside] = 0
    return Look(np.stack(brought), theirs, np.asarray(trust, np.float32))
