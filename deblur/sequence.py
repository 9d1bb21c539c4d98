"""Restoration of frames with the help of their neighbours: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur import deconv, paths, quality
from deblur.deconv.model import AlongPath, Jointly, Solver
from deblur.errors import ArrayError, ConfigError
from deblur.labels import check_names, labelled
from deblur.light import Light, decode, luma, merge, resolve
from deblur.motion.rolling import check_readout, motion_per_interval
from deblur.neighbours import BEND, Look, Neighbour, look, neighbour, vector
from deblur.shutter import STRETCH, estimate_exposure_fraction
from deblur.still import RestoredStill, restore_still
from deblur.survey import Survey, dequantise, quantise, refine, survey
from deblur.types import Bool, Bytes, Estimate, Float, Iterations, Reason, Restoration

NUMERICS_VERSION = 3
JOINT = 0.005  # noise from which neighbours are restored from together: without it they gain little for their cost
UNEVEN, STRONGEST = 0.2, 0.27  # shares of the path (`certainty`)
LEAST_TRUST = 0.07  # where the motion is unsure the prior decides, but not alone


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """All numbers of the last stage. `iterations`, `regularisation`: None takes the method's own.

    `strength`: what every weight is multiplied by, in [0, 1]; at 0 the source comes back bit for bit. Raises
    ConfigError beyond.
    """

    method: str = "variational"
    iterations: int | None = None
    regularisation: float | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength is {self.strength}: it must be from 0 to 1")

    def solver(self) -> Solver:
        """The method with these settings. Raises ConfigError when it is unknown."""
        return deconv.solver(self.method, iterations=self.iterations, regularisation=self.regularisation)


@dataclass(frozen=True, slots=True)
class RestoredWindow:
    """`image`: (c, y, x) linear light; `weight`: (y, x) in [0, 1]; `reason`: (y, x) uint8, see `Reason`."""

    image: Float
    weight: Float
    reason: Bytes
    iterations: Iterations


def restore_halo(settings: RestoreSettings, longest_path: float) -> int:
    """Pixels that a window must read beyond its core so that it agrees with the whole frame.

    `longest_path`: pixels. A solver step carries news one path further, but it fades: on real frames whose
    longest path was 99 px, 64 px left 99.9 % of a core within 1/255 and all of it within 1.4/255; 128 px, all
    within 0.2. Looking up a neighbour's motion reaches as far as the motion itself: the caller adds that.
    """
    steps = settings.solver().iterations
    return 32 + int(np.ceil(max(0.0, longest_path) * max(1.0, (steps / 15) ** 0.5)))


def restore_window(
    frame: Float,
    neighbours: tuple[Neighbour, ...],
    *,
    noise: float,
    settings: RestoreSettings,
    invalid: Bool | None = None,
    bend: tuple[float, float] = (0.0, 0.0),
    unsteady: float = 1.0,
    row_time: float = 0.0,
) -> RestoredWindow:
    """Restore one window of one frame with the motion to its neighbours.

    `frame`: (c, y, x) linear light; `noise`: its standard deviation, decided once for the frame; `invalid`:
    (y, x), pixels without meaning; `bend`: (dy, dx), what both ends of the path gain over its middle;
    `unsteady`: `Survey.unsteady` of the frame; `row_time`: as for `deblur.paths.exposure_path`, for a rolling shutter.
    Without a neighbour the frame comes back with weight 0. Raises
    ConfigError for an unknown method, NumericsError when the solver leaves the finite numbers.

    >>> flat, still = np.full((1, 16, 16), 0.5, np.float32), np.zeros((2, 16, 16), np.float32)
    >>> beside = Neighbour(flat, motion=still, back=still, scale=0.5)
    >>> restore_window(flat, (beside,), noise=0.0, settings=RestoreSettings()).weight.max()
    np.float32(0.0)
    """
    shape = frame.shape[1:]
    if not neighbours:
        reason = np.full(shape, Reason.NO_NEIGHBOUR, np.uint8)
        return RestoredWindow(frame.copy(), np.zeros(shape, np.float32), reason, Iterations(0, 0.0, 0.0))
    chosen = settings.solver()
    sure = [quality.confidence(n.motion, n.back) for n in neighbours]
    path = paths.exposure_path(
        [n.motion for n in neighbours],
        [n.scale for n in neighbours],
        sure,
        [n.lack for n in neighbours],
        row_time=row_time,
    )
    path = paths.bent(path, bend)
    model = AlongPath(path)
    rules = quality.Gate()
    unknown = (
        quality.clipped_at(frame, rules) if invalid is None else quality.clipped_at(frame, rules) | invalid
    )
    best = np.max(sure, axis=0)
    trust = np.maximum(best, np.float32(LEAST_TRUST))
    trust[unknown] = 0
    seen = frame if invalid is None else np.where(invalid, np.float32(0), frame)
    looks = [Look(np.ascontiguousarray(seen), model, trust)]
    if noise >= JOINT:
        looks += [look(seen, model, n, s, noise=noise) for n, s in zip(neighbours, sure, strict=True)]
    scene = Jointly([each.model for each in looks])
    trusts = certainty(unsteady) * np.stack([each.trust for each in looks])
    records, planes = [], []
    for stack in np.stack([each.planes for each in looks], axis=1):
        restored, record = chosen.solve(stack, scene, noise=noise, trust=trusts)
        planes.append(restored)
        records.append(record)
    image, beyond = quality.held(frame, np.stack(planes), noise=noise, rules=rules)
    again = np.stack([model.apply(plane) for plane in image])
    weight, reason = quality.gate(
        frame, image, again, path, best, beyond, noise=noise, invalid=invalid, rules=rules
    )
    worst = max(records, key=lambda record: record.change)
    return RestoredWindow(image, weight * np.float32(settings.strength), reason, worst)


def restore(
    frames: NDArray[Any],
    *,
    exposure_fraction: float | None = None,
    transfer: str = "auto",
    method: str = "variational",
    motion_method: str = "fast",
    readout: float = 0.0,
    settings: RestoreSettings | None = None,
) -> Restoration:
    """Take the motion blur out of a stack of frames from one camera.

    `frames`: (t, y, x) or (t, c, y, x), unsigned integers or floats, in order of time; NumPy, or what becomes that
    (dask), or has names to its axes (xarray), which the result then has too.
    `exposure_fraction`: exposure time × frame rate, in (0, 1]; estimated where it isn't given
    (`deblur.estimate_exposure_fraction`), and the result says how surely. `transfer`: "srgb", "linear" or "auto" (8-bit
    images as sRGB, everything else as linear). `method`: a name from `deblur.deconv.METHODS`;
    `motion_method`: one from `deblur.motion.METHODS`. `readout`: the time from the first row to the last as a
    fraction of the frame interval, for a rolling shutter; frames keep its geometry (see
    `deblur.motion.rolling`). `settings`: all numbers of the restoration; its method
    goes before `method`. Every frame is restored along the path that the motion to its neighbours gives;
    where the evidence is weak a pixel keeps its source value, and `weight` and `reason` of the result say
    so. The whole frame is one window: an archive job computes the same from tiles.

    One frame alone is taken as a still that a shaking camera blurred everywhere alike: its PSF is found
    blindly (`deblur.estimate_psf`) and returned as `psf`; `exposure_fraction` is then nan, `motion` zero.

    Returns a `Restoration`; its `motion` is that to the next frame (for the last frame and before a cut: the
    opposite of that to the previous one). Raises ArrayError for a wrong stack, ConfigError for a wrong
    setting. After Kim & Lee 2015 (doi:10.1109/CVPR.2015.7299181) and Dai & Wu 2008
    (doi:10.1109/CVPR.2008.4587582).

    >>> rng = np.random.default_rng(0)
    >>> view = rng.random((48, 64), np.float32)
    >>> restore(np.stack([view, view]), exposure_fraction=0.5).weight.max()
    np.float32(0.0)
    """
    check_names(frames)
    stack = _checked(frames)
    given = _checked_fraction(exposure_fraction)
    rows = stack.shape[2]
    row_time = check_readout(readout) / rows
    chosen = settings or RestoreSettings(method=method)
    chosen.solver()
    light = resolve(stack.dtype, transfer=transfer, largest=float(stack.max()))
    if len(stack) == 1:
        return _still(frames, stack, light, chosen.strength)
    exposure = given or estimate_exposure_fraction(
        stack[:STRETCH], transfer=transfer, motion_method=motion_method
    )
    fraction = exposure.value
    found = survey(stack, light=light, motion_method=motion_method, fraction=fraction)
    forward, backward = _motion(stack, found, light, motion_method)
    out = np.empty_like(stack)
    weight = np.zeros((len(stack), *stack.shape[2:]), np.float32)
    reason = np.zeros(weight.shape, np.uint8)
    records = []
    for t in range(len(stack)):
        window = _restored(stack, t, found, (forward, backward), light, exposure, chosen, row_time)
        weight[t], reason[t] = stored_weight(window.weight), window.reason
        out[t] = merge(stack[t], window.image, weight[t], light)
        records.append(window.iterations)
    motion = np.stack([
        motion_per_interval(there, readout=readout, rows=rows)
        if linked
        else -motion_per_interval(back, readout=readout, rows=rows, step=-1)
        for there, back, linked in zip(forward, backward, found.linked, strict=True)
    ])  # fmt: skip
    return Restoration(
        labelled(out.reshape(np.shape(frames)), frames),
        labelled(weight, frames),
        labelled(reason, frames),
        motion,
        fraction,
        found.noise,
        tuple(records),
        exposure_uncertainty=exposure.uncertainty,
        source=frames,
        transfer=light.transfer,
    )


def restored_frame(
    frames: NDArray[Any],
    index: int,
    *,
    light: Light,
    exposure: Estimate,
    motion_method: str,
    settings: RestoreSettings,
    readout: float = 0.0,
    rounding: float = 0.0,
) -> tuple[NDArray[Any], RestoredWindow]:
    """One frame of a short stack, restored and merged as `restore` would: for a look before all is computed.

    `frames`: (t, c, y, x), frame `index` and a few on either side of it, which tell how the camera moved. Returns its
    codes (c, y, x) and what was made of it. `rounding`: as for `deblur.survey.survey`. Raises as `restore` does.
    """
    row_time = check_readout(readout) / frames.shape[2]
    found = survey(
        frames, light=light, motion_method=motion_method, fraction=exposure.value, rounding=rounding
    )
    near = np.abs(np.arange(len(frames)) - index + 0.5) < 1  # the pairs that this frame is one of
    motion = _motion(frames, replace(found, linked=found.linked & near), light, motion_method)
    window = _restored(frames, index, found, motion, light, exposure, settings, row_time)
    window = replace(window, weight=stored_weight(window.weight))
    return merge(frames[index], window.image, window.weight, light), window


def _restored(
    stack: NDArray[Any],
    t: int,
    found: Survey,
    motion: tuple[Float, Float],
    light: Light,
    exposure: Estimate,
    settings: RestoreSettings,
    row_time: float,
) -> RestoredWindow:
    """Frame `t` of a stack, as one window. `motion`: to the next and to the previous frames."""
    forward, backward = motion
    fraction, beside = exposure.value, []
    if found.linked[t]:
        frame = decode(stack[t + 1], light)
        beside.append(
            neighbour(frame, forward[t], backward[t + 1], fraction, found.shake[t], found.shake[t + 1])
        )
    if t > 0 and found.linked[t - 1]:
        frame = decode(stack[t - 1], light)
        beside.append(
            neighbour(frame, backward[t], forward[t - 1], -fraction, found.shake[t], found.shake[t - 1])
        )
    return restore_window(
        decode(stack[t], light),
        tuple(beside),
        noise=float(found.noise[t]),
        settings=settings,
        bend=vector(found.shake[t, BEND]),
        unsteady=doubt(float(found.unsteady[t]), exposure.uncertainty),
        row_time=row_time,
    )


def restored_still(
    codes: NDArray[Any], light: Light, *, strength: float = 1.0
) -> tuple[NDArray[Any], RestoredStill]:
    """One frame alone, (c, y, x) codes, restored and merged; the weights are those that it was merged with."""
    found = restore_still(decode(codes, light))
    found = replace(found, weight=stored_weight(found.weight * np.float32(strength)))
    return merge(codes, found.image, found.weight, light), found


def _still(frames: NDArray[Any], stack: NDArray[Any], light: Light, strength: float) -> Restoration:
    image, found = restored_still(stack[0], light, strength=strength)
    return Restoration(
        labelled(image.reshape(np.shape(frames)), frames),
        labelled(found.weight[None], frames),
        labelled(found.reason[None], frames),
        np.zeros((1, 2, *found.weight.shape), np.float32),
        float("nan"),
        np.array([found.noise], np.float32),
        (found.iterations,),
        psf=found.psf,
        source=frames,
        transfer=light.transfer,
    )


def doubt(unsteady: float, uncertainty: float | None) -> float:
    """`Survey.unsteady` of a frame, given the `uncertainty` of its exposure: 1 where that was estimated."""
    return 1.0 if uncertainty else unsteady


def certainty(unsteady: float) -> np.float32:
    """How much more the data count than on a frame whose path is in doubt, where only the prior can help (`doubt`).

    Even speed makes paths exact, and an exact path bears a weak prior: a steady pan gained 2 dB from it, shaking
    hands lost nothing.
    """
    if unsteady >= 1:
        return np.float32(1)
    return np.float32(1 / min(max(unsteady / UNEVEN, STRONGEST), 0.6))


def stored_weight(weight: Float) -> Float:
    """Weights as they are stored, in steps of 1/255: an archive and `restore` merge with the same."""
    return np.asarray(np.rint(weight * np.float32(255)) / np.float32(255), np.float32)


def _motion(stack: NDArray[Any], found: Survey, light: Light, method: str) -> tuple[Float, Float]:
    """Motion to the next and to the previous frame, (t, 2, y, x) each, as the store would give it."""
    forward = np.zeros((len(stack), 2, *stack.shape[2:]), np.float32)
    backward = np.zeros_like(forward)
    for t in np.flatnonzero(found.linked):
        here, there = luma(stack[t], light), luma(stack[t + 1], light)
        for field, a, b, coarse, at in (
            (forward, here, there, found.forward[t], t),
            (backward, there, here, found.backward[t + 1], t + 1),
        ):
            fine = refine(a, b, coarse, reduction=found.reduction, y0=0, x0=0, method=method)
            field[at] = dequantise(quantise(fine))
    return forward, backward


def _checked(frames: NDArray[Any]) -> NDArray[Any]:
    stack = np.ascontiguousarray(frames)
    if stack.ndim not in (3, 4) or stack.size == 0:
        raise ArrayError(f"frames of shape {stack.shape} can't be restored: use (t, y, x) or (t, c, y, x)")
    if stack.dtype.kind == "f" and not np.isfinite(stack).all():
        bad = int(np.flatnonzero(~np.isfinite(stack).reshape(len(stack), -1).all(axis=1))[0])
        raise ArrayError(f"frame {bad} holds NaN or infinity: fill what is unknown first")
    return stack if stack.ndim == 4 else stack[:, None]


def _checked_fraction(fraction: float | None) -> Estimate | None:
    if fraction is not None and not 0 < fraction <= 1:
        raise ConfigError(f"exposure_fraction is {fraction}: it must be above 0 and at most 1")
    return None if fraction is None else Estimate(float(fraction), 0.0)
