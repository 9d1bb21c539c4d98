"""The camera's trajectory through a few frames: what motion between frames can't say about motion during one.

Motion between two frames is a mean over the time from one mid-exposure to the next. A hand changes its speed in
between, so the path during each exposure may be a third longer or shorter, and bent. Two measurements settle it.

How far the view moved from frame to frame (the optical flow), and by how much two neighbours' paths differ: if
`here` was blurred along p and `there` along q, then `here` blurred along q looks like `there` (brought here)
blurred along p. Blurring commutes, so neither needs to be sharp and no prior on images is needed. (Comparing two
blurred images by blurring each with the other's kernel: Portz, Zhang & Jiang 2012, doi:10.1109/CVPR.2012.6247871.)

Through these measurements goes the smoothest trajectory, the one of least acceleration. It gives each frame's path
and bend as fixed linear combinations of what was measured at its neighbours.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from deblur.deconv.model import AlongPath
from deblur.types import Float

NUMERICS_VERSION = 1
ROUNDS = 10
TOLERANCE = 0.25  # pixels by which a path may differ from its cell's: only the whole is sought
LEAST_PATH = 1.0  # pixels; shorter blur says nothing about its length
LONGEST_STEP = 2.0  # pixels a round
CORRELATED = 50  # neighbouring slopes of blurred images that err together: as many count as one
VAGUE = 1.0  # pixels of standard error from which a change counts as unknown
SETTLED = 0.02  # pixels; a step below it is the last
REGISTERED = 4  # rounds in which the two frames are still being brought together
OUTLIER = 4.0  # robust standard deviations from which slopes count less: occlusions, other motions
BORDER = 12  # pixels without a say: light came in from outside
SMOOTH = 16  # flow is smoothed over this part of the longer side: finer flow bends one blur into the other
REACH = 2  # frames before and after one that have a say in its trajectory
SAMPLES = 32  # of the trajectory, a frame interval


def change_of_path(here: Float, there: Float, motion: Float, sure: Float, *, fraction: float) -> Float:
    """By how much the path of `there` is longer than that of `here`, for the frame as a whole: (dy, dx) in pixels.

    `here`, `there`: (y, x), two frames in linear light, reduced so that paths are a few pixels long; `motion`:
    (2, y, x), from `here` to `there`; `sure`: (y, x), trust in it, in [0, 1]; `fraction`: exposure time over the time
    between the two. NaN where there is too little blur or texture to tell. Gauss-Newton on the slopes of the two
    images, each blurred along the other's path, robust (Geman & McClure's weights).

    >>> still = np.zeros((2, 64, 64), np.float32)
    >>> change_of_path(still[0], still[0], still, still[0] + 1, fraction=0.5).tolist()
    [nan, nan]
    """
    unknown = np.full(2, np.nan, np.float32)
    if min(here.shape) < 4 * BORDER:
        return unknown
    flow = _smoothed(motion, sure)
    path = np.float32(fraction) * flow
    if np.median(np.hypot(path[0], path[1])) < LEAST_PATH:
        return unknown
    change, shift = np.zeros(2, np.float32), np.zeros(2, np.float32)
    weight = _inside(flow) * sure[_INNER]
    brought = _brought(there, flow)
    for step in range(ROUNDS):
        half = change / 2
        first, second = _along(path, half, here), _along(path, -half, brought)
        rest = _slopes(first) - _slopes(second)
        turns = [np.add(_turn(path, half, here, k), _turn(path, -half, brought, k)) for k in range(2)]
        turns += [-_slopes(np.asarray(side, np.float32)) for side in np.gradient(second)]
        found, error = _least_squares(turns, rest, weight)
        if step < REGISTERED:
            shift -= found[2:]
            brought = _brought(there, flow + shift[:, None, None])
        longest = float(np.abs(found[:2]).max())
        change -= 2 * found[:2] * np.float32(min(1.0, LONGEST_STEP / max(longest, 1e-9)))
        if longest < SETTLED:
            break
    return change if error < VAGUE else unknown


def _smoothed(motion: Float, sure: Float) -> Float:
    """`motion` as one smooth sheet: weighted by trust, over a `SMOOTH`th of the frame."""
    sigma = max(motion.shape[1:]) / SMOOTH
    weight = sure + np.float32(1e-3)
    total = gaussian_filter(weight, sigma)
    return np.stack([gaussian_filter(part * weight, sigma) / total for part in motion])


def exposures(moves: Float, changes: Float, at: int, fraction: float) -> tuple[Float, Float]:
    """Path (2,) and bend (2,) of frame `at` of a run of frames, from what was measured between them.

    `moves`: (n, 2), how far the view moved from each of n + 1 frames to the next; `changes`: (n, 2), by how much the
    next one's path is longer (`change_of_path`), NaN where unknown. The bend is what both ends of the path gain over
    its middle, as in `deblur.paths`.

    >>> steady = np.full((2, 2), 8, np.float32)
    >>> path, bend = exposures(steady, 0 * steady, 1, 0.5)
    >>> path.round(3).tolist(), (bend + 0).round(3).tolist()
    ([4.0, 4.0], [0.0, 0.0])
    """
    first, last = max(0, at - REACH), min(len(moves), at + REACH)
    told = [bool(np.isfinite(change).all()) for change in changes[first:last]]
    mix = _mix(at - first, tuple(told), round(float(fraction), 6))
    path, bend = mix @ np.concatenate([moves[first:last], changes[first:last][told]])
    return path, bend


@lru_cache(maxsize=64)
def _mix(before: int, told: tuple[bool, ...], fraction: float) -> Float:
    """(2, n + m): how path and bend of the frame with `before` others before it follow from n moves and those m
    changes that are `told`.

    The trajectory is sampled; the sum of its squared second differences is least under the measurements.
    """
    frames = len(told) + 1
    margin = SAMPLES // 2
    count = (frames - 1) * SAMPLES + 2 * margin + 1
    time = (np.arange(count) - margin) / SAMPLES
    centre, slope, bend = zip(*(_functionals(time - k, fraction) for k in range(frames)), strict=True)
    rows = [centre[k + 1] - centre[k] for k in range(frames - 1)]
    rows += [slope[k + 1] - slope[k] for k in range(frames - 1) if told[k]]
    held = np.array([*rows, centre[0]])  # where it starts is nobody's concern, but must be somewhere
    energy = np.diff(np.eye(count), 2, axis=0) * SAMPLES**1.5
    n = len(held)
    system = np.block([[energy.T @ energy, held.T], [held, np.zeros((n, n))]])
    right = np.concatenate([np.zeros((count, n)), np.eye(n)])
    trajectories = np.linalg.solve(system, right)[:count, :-1]
    return np.asarray(np.array([slope[before], bend[before]]) @ trajectories, np.float32)


def _functionals(time: NDArray[np.float64], fraction: float) -> tuple[NDArray[np.float64], ...]:
    """Weights of the samples that give mean, path and bend over the exposure around time 0.

    Path and bend are those of the parabola d s + 4 b s² that fits best, s = time / fraction in [-1/2, 1/2].
    """
    step = 1 / SAMPLES
    covered = np.clip(fraction / 2 - np.abs(time) + step / 2, 0, step)
    s = time / fraction
    basis = np.stack([np.ones_like(s), s, 4 * s * s])
    gram = (basis * covered) @ basis.T
    mean = covered / covered.sum()
    _, path, bend = np.linalg.solve(gram, basis * covered)
    return mean, path, bend


_INNER = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))


def _inside(flow: Float) -> Float:
    """1 where the flow leads to a place within the frame, cut to what has a say."""
    h, w = flow.shape[1:]
    y, x = np.mgrid[:h, :w] + flow
    return np.asarray(((y > 2) & (y < h - 3) & (x > 2) & (x < w - 3))[_INNER], np.float32)


def _brought(there: Float, flow: Float) -> Float:
    at = np.mgrid[: there.shape[0], : there.shape[1]] + flow
    return np.asarray(map_coordinates(there, at, order=3, mode="nearest"), np.float32)


def _along(path: Float, extra: NDArray[np.floating], plane: Float) -> Float:
    field = path + np.asarray(extra, np.float32)[:, None, None]
    return AlongPath(field, tolerance=TOLERANCE, smallest=8).apply(plane)


def _turn(path: Float, extra: NDArray[np.floating], plane: Float, axis: int) -> Float:
    """How the slopes of `plane`, blurred along `path` + `extra`, change a pixel of path along `axis`."""
    half = np.zeros(2, np.float32)
    half[axis] = 0.5
    return _slopes(_along(path, extra + half, plane) - _along(path, extra - half, plane))


def _slopes(plane: Float) -> Float:
    """(2, y, x): forward differences, cut to what has a say."""
    out = np.zeros((2, *plane.shape), np.float32)
    np.subtract(plane[1:], plane[:-1], out=out[0, :-1])
    np.subtract(plane[:, 1:], plane[:, :-1], out=out[1, :, :-1])
    return out[:, *_INNER]


def _least_squares(turns: list[Float], rest: Float, weight: Float) -> tuple[Float, float]:
    """The combination of `turns` that explains most of `rest`, and the standard error of its first two numbers."""
    scale = 1.4826 * float(np.median(np.abs(rest))) + 1e-5
    robust = weight / (1 + (rest / np.float32(OUTLIER * scale)) ** 2)
    matrix = np.array([[np.sum(robust * a * b, dtype=np.float64) for a in turns] for b in turns])
    right = np.array([np.sum(robust * a * rest, dtype=np.float64) for a in turns])
    ridge = 1e-4 * np.trace(matrix) / len(turns) + 1e-12
    inverse = np.linalg.inv(matrix + ridge * np.eye(len(turns)))
    error = scale * float(np.sqrt(CORRELATED * np.trace(inverse[:2, :2])))
    return np.asarray(inverse @ right, np.float32), error
