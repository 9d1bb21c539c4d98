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
from deblur.estimate import noise_level
from deblur.light import Light, decode, luma
from deblur.motion import estimate_motion, estimate_motion_pair
from deblur.motion.pyramid import reduce, upsample
from deblur.paths import exposure_path
from deblur.quality import confidence
from deblur.shake import shake
from deblur.types import Bool, Float

NUMERICS_VERSION = 3
LONGEST_SIDE = 512  # of a reduced frame: enough for motion to a pixel or two, cheap enough to do serially
LEVELS = 4  # of the pyramid at the most, full resolution included, that windows refine the coarse motion on
QUANTUM = 64  # stored motion counts in 1/64 px
SHAKIEST = 2.0  # a frame's path may be off by this times the change of speed between frames
NOISE_SIDE = 1024  # noise is measured on a central crop of this side at full resolution


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a sequence of t frames found.

    `reduction`: the power of two by which frames were reduced. `forward`, `backward`: (t, 2, h, w) float32, motion
    from each frame to the next and to the previous one, on the reduced grid, in full-resolution pixels; zero where
    there is none. `linked`: (t,) bool, whether a frame and the next one show the same scene, neighbours in time.
    `noise`: (t,) float32, standard deviation in linear light. `longest`: the longest displacement found, in pixels.
    `shake`: (t, 2) float32, (dy, dx) in pixels that the path measured for a frame lacks everywhere, because the
    camera's speed during the exposure was not its mean speed between frames; zero when no exposure was given.
    """

    reduction: int
    forward: Float
    backward: Float
    linked: Bool
    noise: Float
    longest: float
    shake: Float


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
    readout: float = 0.0,
) -> Survey:
    """Survey a sequence.

    `frames`: arrays (c, y, x) of codes in order of time, all alike; of few are more than the reduced ones
    held. `gaps[t]`: frames t and t + 1 are further apart in time than one frame interval, so they are not
    linked. `fraction`: exposure time × frame rate; without it the paths are not known and `shake` stays zero.
    `readout`: of a rolling shutter, as a fraction of the frame interval. Raises ArrayError for no frame or
    unlike ones.

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
    lights: list[Float] = []  # reduced, in linear light: of the last three frames
    found: list[Float] = []
    previous: Float | None = None
    factor, row_time = 0, 0.0
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        if shape is None:
            shape = frame.shape
            factor = reduction_for(*shape[-2:])
            row_time = readout / shape[-2]
        elif frame.shape != shape:
            raise ArrayError(
                f"frame {index} is {frame.shape}, the first one {shape}: give frames of one size"
            )
        reduced = reduce(luma(frame, light), factor)
        noise.append(_noise(frame, light))
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
            lights = [*lights[-1:], reduce(decode(frame, light).mean(axis=0), factor)]
            if index > 0:
                found.append(
                    _shake(lights[0], index - 1, forward, backward, linked, fraction, factor, row_time)
                )
    if fraction is not None and lights:
        found.append(
            _shake(lights[-1], len(linked) - 1, forward, backward, linked, fraction, factor, row_time)
        )
    if shape is None:
        raise ArrayError("no frames to survey: give at least one")
    fields = np.stack(forward), np.stack(backward)
    longest = max(float(np.hypot(field[:, 0], field[:, 1]).max()) for field in fields)
    shakes = np.zeros((len(linked), 2), np.float32)
    if found:
        shakes = _held(np.array(found, np.float32), _unsteadiness(*fields, linked, np.float32(fraction or 0)))
    return Survey(factor, *fields, np.array(linked), np.array(noise, np.float32), longest, shakes)


def _unsteadiness(forward: Float, backward: Float, linked: list[bool], fraction: np.float32) -> Float:
    """(t,): by how many pixels the paths that the two neighbours suggest differ; 0 with one neighbour."""
    both = np.array(linked) & np.array([False, *linked[:-1]])
    gaps = np.zeros(len(linked), np.float32)
    for t in np.flatnonzero(both):
        gaps[t] = np.hypot(*np.median(forward[t] + backward[t], axis=(1, 2))) * fraction
    return gaps


def _held(shakes: Float, gaps: Float) -> Float:
    """No shake beyond `SHAKIEST` times the unsteadiness around its frame: a steady camera's path is believed."""
    padded = np.pad(gaps, 1)
    around = np.max([padded[:-2], padded[1:-1], padded[2:]], axis=0) * np.float32(SHAKIEST)
    size = np.hypot(shakes[:, 0], shakes[:, 1])
    return np.asarray(
        shakes * np.minimum(1, around / np.maximum(size, np.float32(1e-6)))[:, None], np.float32
    )


def _shake(
    seen: Float,
    t: int,
    forward: list[Float],
    backward: list[Float],
    linked: list[bool],
    fraction: float,
    factor: int,
    row_time: float,
) -> Float:
    """What the path of frame `t` lacks as a whole, in full-resolution pixels; `seen`: its reduced light."""
    one = np.float32(1 / factor)
    motions, scales, backs = [], [], []
    if linked[t]:
        motions, scales, backs = [forward[t] * one], [fraction], [backward[t + 1] * one]
    if t > 0 and linked[t - 1]:
        motions, scales, backs = (
            [*motions, backward[t] * one],
            [*scales, -fraction],
            [*backs, forward[t - 1] * one],
        )
    if not motions:
        return np.zeros(2, np.float32)
    sure = [confidence(motion, back) for motion, back in zip(motions, backs, strict=True)]
    path = exposure_path(motions, scales, sure, row_time=row_time * factor)
    return shake(seen, path, np.max(sure, axis=0)) * np.float32(factor)


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
    _, height, width = frame.shape
    y, x = max(0, (height - NOISE_SIDE) // 2), max(0, (width - NOISE_SIDE) // 2)
    crop = decode(frame[:, y : y + NOISE_SIDE, x : x + NOISE_SIDE], light)
    return float(np.mean([noise_level(np.ascontiguousarray(plane)) for plane in crop]))
