"""The survey: one cheap pass over reduced whole frames, in which everything global is decided once.

Windows must not estimate anything for themselves that their neighbours would estimate differently. So how far things
move, which frames belong together and how noisy each frame is are settled here, before the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.estimate import noise_curve, noise_level
from deblur.light import Light, decode, luma
from deblur.motion import estimate_motion, estimate_motion_pair
from deblur.motion.pyramid import reduce, upsample
from deblur.quality import confidence
from deblur.trajectory import change_of_path, exposures
from deblur.types import Bool, Float

NUMERICS_VERSION = 4
LONGEST_SIDE = 512  # of a reduced frame: enough for motion to a pixel or two, cheap enough to do serially
LEVELS = 4  # of the pyramid at the most, full resolution included, that windows refine the coarse motion on
QUANTUM = 64  # stored motion counts in 1/64 px
NOISE_SIDE = 1024  # noise is measured on a central crop of this side at full resolution
CURVE_SIDE = 512  # the same for how it grows with the light, which takes longer


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a sequence of t frames found.

    `reduction`: the power of two by which frames were reduced. `forward`, `backward`: (t, 2, h, w) float32, motion
    from each frame to the next and to the previous one, on the reduced grid, in full-resolution pixels; zero where
    there is none. `linked`: (t,) bool, whether a frame and the next one show the same scene, neighbours in time.
    `noise`: (t,) float32, standard deviation in linear light. `noise_curve`: (t, 2) float32, gain and floor of its
    variance as a line over the light (`deblur.estimate.noise_curve`). `longest`: the longest displacement found, in pixels.
    `shake`: (t, 3, 2) float32, (dy, dx) in pixels: what the path that the next frame suggests lacks everywhere, what
    the one that the previous frame suggests does, because the camera's speed during the exposure was not its mean speed
    between frames, and the bend of the path (`deblur.trajectory`); zero when no exposure was given. `unsteady`: (t,)
    float32, how much one of the two suggested paths lacked as a share of the path: 0 for even speed, 1 where a frame has
    one neighbour or none, and nothing to compare.
    """

    reduction: int
    forward: Float
    backward: Float
    linked: Bool
    noise: Float
    longest: float
    shake: Float
    noise_curve: Float
    unsteady: Float


def reduction_for(height: int, width: int) -> int:
    """The power of two that brings the longer side to at most `LONGEST_SIDE`."""
    factor = 1
    while max(height, width) > factor * LONGEST_SIDE:
        factor *= 2
    return factor


def survey(
    frames: Iterable[NDArray[Any]],
    *,
    light: Light,
    motion_method: str,
    gaps: Sequence[bool] | None = None,
    fraction: float | None = None,
) -> Survey:
    """Survey a sequence.

    `frames`: arrays (c, y, x) of codes in order of time, all alike; of few are more than the
    reduced ones held. `gaps[t]`: frames t
    and t + 1 are further apart in time than one frame interval, so they are not linked. `fraction`: exposure time ×
    frame rate; without it the paths are not known and `shake` stays zero. Raises ArrayError for no frame or unlike
    ones.

    >>> rng = np.random.default_rng(0)
    >>> view = rng.random((1, 64, 80), np.float32)
    >>> found = survey([view, view], light=Light(0, 1, "linear"), motion_method="accurate")
    >>> found.linked.tolist(), found.longest
    ([True, False], 0.0)
    """
    forward: list[Float] = []
    backward: list[Float] = []
    linked: list[bool] = []
    noise: list[float] = []
    curves: list[tuple[float, float]] = []
    moves: list[Float] = []  # of the view as a whole, to the next frame
    changes: list[Float] = []  # of the path, to the next frame's
    lit: Float | None = None  # the previous frame, reduced, in linear light
    previous: Float | None = None
    factor = 0
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        if shape is None:
            shape = frame.shape
            factor = reduction_for(*shape[-2:])
        elif frame.shape != shape:
            raise ArrayError(
                f"frame {index} is {frame.shape}, the first one {shape}: give frames of one size"
            )
        reduced = reduce(luma(frame, light), factor)
        noise.append(_noise(frame, light))
        curve = noise_curve(_middle(frame, light, CURVE_SIDE))
        curves.append((curve.gain, curve.floor))
        nothing = np.zeros((2, *reduced.shape), np.float32)
        forward.append(nothing)
        backward.append(nothing)
        linked.append(False)
        if previous is not None and not (gaps is not None and gaps[index - 1]):
            pair = estimate_motion_pair(previous, reduced, method=motion_method, reduced=factor)
            if not pair.cut:
                linked[index - 1] = True
                forward[index - 1] = pair.forward * np.float32(factor)
                backward[index] = pair.backward * np.float32(factor)
        previous = reduced
        if fraction is not None:
            light_here = reduce(decode(frame, light).mean(axis=0), factor)
            if lit is not None:
                moves.append(np.median(forward[index - 1], axis=(1, 2)))
                changes.append(np.full(2, np.nan, np.float32))
                if linked[index - 1]:
                    flow, back = (
                        field / np.float32(factor) for field in (forward[index - 1], backward[index])
                    )
                    sure = confidence(flow, back)
                    change = change_of_path(lit, light_here, flow, sure, fraction=fraction)
                    changes[-1] = change * np.float32(factor)
            lit = light_here
    if shape is None:
        raise ArrayError("no frames to survey: give at least one")
    fields = np.stack(forward), np.stack(backward)
    longest = max(float(np.hypot(field[:, 0], field[:, 1]).max()) for field in fields)
    shakes, unsteady = np.zeros((len(linked), 3, 2), np.float32), np.ones(len(linked), np.float32)
    if fraction is not None and moves:
        shakes, unsteady = _shakes(np.array(moves), np.array(changes), linked, fraction)
    levels, lines = np.array(noise, np.float32), np.array(curves, np.float32)
    return Survey(factor, *fields, np.array(linked), levels, longest, shakes, lines, unsteady)


def _shakes(moves: Float, changes: Float, linked: list[bool], fraction: float) -> tuple[Float, Float]:
    """`Survey.shake` and `Survey.unsteady`, run by run of linked frames."""
    out, unsteady = np.zeros((len(linked), 3, 2), np.float32), np.ones(len(linked), np.float32)
    start = 0
    for end in np.flatnonzero(~np.array(linked)).tolist():
        run = slice(start, end)
        for t in range(start, end + 1):
            if start == end:
                break
            path, bend = exposures(moves[run], changes[run], t - start, fraction)
            if t < end:
                out[t, 0] = path - np.float32(fraction) * moves[t]
            if t > start:
                out[t, 1] = path - np.float32(fraction) * moves[t - 1]
            out[t, 2] = bend
            if start < t < end:
                unsteady[t] = min(1, np.hypot(*out[t, :2].T).max() / (np.hypot(*path) + 1))
        start = end + 1
    return out, unsteady


def refine(
    reference: Float, moving: Float, coarse: Float, *, reduction: int, y0: int, x0: int, method: str
) -> Float:
    """Motion of one window from the survey's coarse field.

    `reference`, `moving`: (y, x) encoded luma of the window, whose upper left pixel is (y0, x0) in the frame.
    `coarse`: (2, h, w), the survey's field for this pair. Returns (2, y, x) float32.
    """
    height, width = reference.shape
    initial = upsample(coarse, factor=reduction, y0=y0, x0=x0, height=height, width=width)
    return estimate_motion(reference, moving, method=method, initial=initial, levels=window_levels(reduction))


def window_levels(reduction: int) -> int:
    """Pyramid levels that windows work on: from twice the survey's resolution, or 1/8, to the full one."""
    return max(1, min(reduction.bit_length() - 1, LEVELS))


def quantise(motion: Float) -> NDArray[np.int16]:
    """Motion as it is stored: int16, 1/64 px, held within ±511 px."""
    steps = np.clip(np.rint(motion * np.float32(QUANTUM)), -32767, 32767)
    return np.asarray(steps, np.int16)


def dequantise(stored: NDArray[np.int16]) -> Float:
    """Motion as restoration sees it, in the first run and in every later one."""
    return stored.astype(np.float32) / np.float32(QUANTUM)


def _noise(frame: NDArray[Any], light: Light) -> float:
    crop = _middle(frame, light, NOISE_SIDE)
    return float(np.mean([noise_level(np.ascontiguousarray(plane)) for plane in crop]))


def _middle(frame: NDArray[Any], light: Light, side: int) -> Float:
    """Linear light of the middle of a frame, at most `side` wide and high."""
    y, x = (max(0, (n - side) // 2) for n in frame.shape[1:])
    return decode(frame[:, y : y + side, x : x + side], light)
