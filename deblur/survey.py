"""The survey: one cheap pass over reduced whole frames, in which everything global is decided once.

Windows must not estimate anything for themselves that their neighbours would estimate differently. So how far things
move, which frames belong together and how noisy each frame is are settled here, before the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.estimate import noise_curve, noise_level
from deblur.light import Light, decode, luma
from deblur.motion import estimate_motion, estimate_motion_pair
from deblur.motion.pyramid import upsample
from deblur.quality import confidence
from deblur.strips import ROWS, VALUES, Read, of_array, reduced
from deblur.tiling import Box, round_up
from deblur.trajectory import REACH, change_of_path, exposures
from deblur.types import Bool, Float

NUMERICS_VERSION = 5
LONGEST_SIDE = 512  # of a reduced frame: enough for motion to a pixel or two, cheap enough to do serially
LEVELS = 4  # of the pyramid at the most, full resolution included, that windows refine the coarse motion on
QUANTUM = 64  # stored motion counts in 1/64 px
NOISE_SIDE = 1024  # noise is measured on a central crop of this side at full resolution
CURVE_SIDE = 512  # the same for how it grows with the light, which takes longer
ROUGH = 0.005  # finer rounding is no noise: believed where neighbours don't help (`window.JOINT`) it lost up to 0.4 dB
LARGEST_SIDE = 4096  # of what is looked at to estimate the exposure
# Measured: planes of float32 at the peak, besides the channels; of a block's fields there are four a frame
STRIP_PLANES, CROP_PLANES, PAIR_PLANES, FIELD_PLANES, SHARE_PLANES = 5, 8, 40, 32, 16


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


@dataclass(frozen=True, slots=True)
class View:
    """What the survey keeps of a frame while it looks at the next one: `seen`, its reduced encoded luma (h, w), and
    `lit`, the same in linear light, where paths are to be compared. `factor`: by which both are reduced."""

    seen: Float
    lit: Float | None
    factor: int


@dataclass(frozen=True, slots=True)
class Pair:
    """What two neighbouring frames say together. `forward`, `backward`: (2, h, w), as in `Survey`, of the first and
    of the second one, zero unless `linked`. `longest`: displacement, in pixels. `move`: (2,), of the view as a whole;
    `change`: (2,), of the path (`deblur.trajectory.change_of_path`), NaN where unknown."""

    linked: bool
    forward: Float
    backward: Float
    longest: float
    move: Float
    change: Float


def view_of(read: Read, height: int, width: int, *, light: Light, lit: bool) -> View:
    """Reduce a frame, read in strips. `lit`: the linear light is wanted too."""
    factor = reduction_for(height, width)

    def planes(codes: NDArray[Any]) -> Float:
        both = [luma(codes, light), decode(codes, light).mean(axis=0)] if lit else [luma(codes, light)]
        return np.stack(both)

    seen = reduced(read, height, width, factor=factor, planes=planes)
    return View(seen[0], seen[1] if lit else None, factor)


def noise_of_frame(
    read: Read, height: int, width: int, *, light: Light, rounding: float
) -> tuple[float, tuple[float, float]]:
    """The noise of a frame and (gain, floor) of its curve, from its middle.

    `rounding`: what a codec added, as for `survey`. It doesn't show where pixels are smooth, so it isn't in the curve.
    """
    whole, part = middle(height, width, NOISE_SIDE), middle(height, width, CURVE_SIDE)
    codes = read(whole)
    crop = decode(codes, light)
    inner = crop[:, part.y0 - whole.y0 : part.y1 - whole.y0, part.x0 - whole.x0 : part.x1 - whole.x0]
    curve = noise_curve(inner)
    level = float(np.mean([noise_level(np.ascontiguousarray(plane)) for plane in crop]))
    if rounding:
        step = rounding * light.scale
        brighter = replace(light, black=light.black - step, white=light.white - step)
        added = decode(codes, brighter) - crop
        spread = float(np.sqrt(np.mean(added * added, dtype=np.float64)))
        level = float(np.hypot(level, spread)) if spread >= ROUGH else level
    return level, (curve.gain, curve.floor)


def pair_of(before: View, after: View, *, motion_method: str, fraction: float | None, apart: bool) -> Pair:
    """Compare two neighbours. `apart`: more than a frame interval lies between them, so they aren't linked."""
    one = np.float32(before.factor)
    found = (
        None
        if apart
        else estimate_motion_pair(before.seen, after.seen, method=motion_method, reduced=before.factor)
    )
    change = np.full(2, np.nan, np.float32)
    if found is None or found.cut:
        nothing = np.zeros((2, *before.seen.shape), np.float32)
        return Pair(False, nothing, nothing.copy(), 0.0, np.zeros(2, np.float32), change)
    forward, backward = found.forward * one, found.backward * one
    longest = max(float(np.hypot(field[0], field[1]).max()) for field in (forward, backward))
    if fraction is not None and before.lit is not None and after.lit is not None:
        flow, back = forward / one, backward / one
        sure = confidence(flow, back)
        change = change_of_path(before.lit, after.lit, flow, sure, fraction=fraction) * one
    return Pair(True, forward, backward, longest, np.median(forward, axis=(1, 2)), change)


def survey(
    frames: Iterable[NDArray[Any]],
    *,
    light: Light,
    motion_method: str,
    gaps: Sequence[bool] | None = None,
    fraction: float | None = None,
    rounding: float = 0.0,
) -> Survey:
    """Survey a sequence.

    `frames`: arrays (c, y, x) of codes in order of time, all alike; of few are more than the
    reduced ones held. `gaps[t]`: frames t
    and t + 1 are further apart in time than one frame interval, so they are not linked. `fraction`: exposure time ×
    frame rate; without it the paths are not known and `shake` stays zero. `rounding`: standard deviation of what a codec
    rounded, as a share of the codes' range: noise that can't be measured, since a codec leaves frames smooth.
    Raises ArrayError for no frame or unlike
    ones. An archive job does the same in blocks of frames (`deblur.surveying`).

    >>> rng = np.random.default_rng(0)
    >>> view = rng.random((1, 64, 80), np.float32)
    >>> found = survey([view, view], light=Light(0, 1, "linear"), motion_method="accurate")
    >>> found.linked.tolist(), found.longest
    ([True, False], 0.0)
    """
    pairs: list[Pair] = []
    noise: list[float] = []
    curves: list[tuple[float, float]] = []
    shape: tuple[int, ...] | None = None
    before: View | None = None
    for index, frame in enumerate(frames):
        if shape is None:
            shape = frame.shape
        elif frame.shape != shape:
            raise ArrayError(
                f"frame {index} is {frame.shape}, the first one {shape}: give frames of one size"
            )
        read = of_array(frame)
        here = view_of(read, *shape[1:], light=light, lit=fraction is not None)
        level, curve = noise_of_frame(read, *shape[1:], light=light, rounding=rounding)
        noise.append(level)
        curves.append(curve)
        if before is not None:
            apart = bool(gaps is not None and gaps[index - 1])
            pairs.append(pair_of(before, here, motion_method=motion_method, fraction=fraction, apart=apart))
        before = here
    if before is None:
        raise ArrayError("no frames to survey: give at least one")
    nothing = np.zeros((2, *before.seen.shape), np.float32)
    linked = np.array([*(pair.linked for pair in pairs), False])
    shakes, unsteady = np.zeros((len(noise), 3, 2), np.float32), np.ones(len(noise), np.float32)
    if fraction is not None and pairs:
        moves, changes = (np.array([getattr(pair, name) for pair in pairs]) for name in ("move", "change"))
        for t in range(len(noise)):
            shakes[t], unsteady[t] = shake_at(t, linked, moves, changes, fraction)
    return Survey(
        before.factor,
        np.stack([*(pair.forward for pair in pairs), nothing]),
        np.stack([nothing, *(pair.backward for pair in pairs)]),
        linked,
        np.array(noise, np.float32),
        max((pair.longest for pair in pairs), default=0.0),
        shakes,
        np.array(curves, np.float32),
        unsteady,
    )


def shake_at(t: int, linked: Bool, moves: Float, changes: Float, fraction: float) -> tuple[Float, float]:
    """`Survey.shake` and `Survey.unsteady` of frame `t`.

    Of the others only the `trajectory.REACH` pairs before and after it have a say; row t of each array is about
    frames t and t + 1.
    """
    out = np.zeros((3, 2), np.float32)
    start = end = t
    while start > max(0, t - REACH) and linked[start - 1]:
        start -= 1
    while end < min(len(moves), t + REACH) and linked[end]:
        end += 1
    if start == end:
        return out, 1.0
    path, bend = exposures(moves[start:end], changes[start:end], t - start, fraction)
    if end > t:
        out[0] = path - np.float32(fraction) * moves[t]
    if start < t:
        out[1] = path - np.float32(fraction) * moves[t - 1]
    out[2] = bend
    if not start < t < end:
        return out, 1.0
    return out, float(min(1, np.hypot(*out[:2].T).max() / (np.hypot(*path) + 1)))


def survey_memory(shape: tuple[int, int, int, int], dtype: str, *, estimate: bool = False) -> int:
    """Bytes that a block of the survey holds at its peak, beyond the process itself.

    `shape`: (t, c, y, x); `estimate`: the exposure is estimated from the frames as well.
    """
    _, channels, height, width = shape
    factor, item = reduction_for(height, width), np.dtype(dtype).itemsize
    rows = min(height, round_up(max(1, VALUES // width), max(ROWS, factor)) + 2 * factor)
    strip = rows * width * (channels * (item + 4) + 4 * STRIP_PLANES)
    crop = min(height, NOISE_SIDE) * min(width, NOISE_SIDE) * channels * (item + 4 * CROP_PLANES)
    small = -(-height // factor) * -(-width // factor) * 4
    told = min(height, LARGEST_SIDE) * min(width, LARGEST_SIDE) * 4 * SHARE_PLANES if estimate else 0
    return max(strip, crop, small * PAIR_PLANES, told) + small * FIELD_PLANES


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


def middle(height: int, width: int, side: int) -> Box:
    """The middle of a frame, at most `side` wide and high."""
    y, x = (max(0, (n - side) // 2) for n in (height, width))
    return Box(y, min(y + side, height), x, min(x + side, width))
