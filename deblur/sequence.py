"""Restoration of frames with the help of their neighbours: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.deconv.hybrid import Refiner
from deblur.errors import ArrayError, ConfigError
from deblur.labels import check_names, labelled
from deblur.light import Light, decode, luma, merge, resolve
from deblur.motion.rolling import check_readout, motion_per_interval
from deblur.neighbours import BEND, neighbour, spread, turning_at, vector
from deblur.shutter import STRETCH, estimate_exposure_fraction
from deblur.still import RestoredStill, restore_still
from deblur.survey import Survey, dequantise, quantise, refine, survey
from deblur.tiling import Box
from deblur.types import Estimate, Float, Restoration
from deblur.window import RestoredWindow, RestoreSettings, restore_window


def restore(
    frames: NDArray[Any],
    *,
    exposure_fraction: float | None = None,
    transfer: str = "auto",
    method: str = "variational",
    motion_method: str = "fast",
    readout: float = 0.0,
    settings: RestoreSettings | None = None,
    network: Refiner | None = None,
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
    goes before `method`. `network`: of the method "hybrid" (`deblur.deconv.network.Network(file.read_bytes())`), the
    shipped one if not given. Every frame is restored along the path that the motion to its neighbours gives;
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
        window = _restored(stack, t, found, (forward, backward), light, exposure, chosen, row_time, network)
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
    network: Refiner | None = None,
) -> tuple[NDArray[Any], RestoredWindow]:
    """One frame of a short stack, restored and merged as `restore` would: for a look before all is computed.

    `frames`: (t, c, y, x), frame `index` and a few on either side of it, which tell how the camera moved. Returns its
    codes (c, y, x) and what was made of it. `rounding`: as for `deblur.survey.survey`; `network`: as for
    `deblur.window.restore_window`. Raises as `restore` does.
    """
    row_time = check_readout(readout) / frames.shape[2]
    found = survey(
        frames, light=light, motion_method=motion_method, fraction=exposure.value, rounding=rounding
    )
    near = np.abs(np.arange(len(frames)) - index + 0.5) < 1  # the pairs that this frame is one of
    motion = _motion(frames, replace(found, linked=found.linked & near), light, motion_method)
    window = _restored(frames, index, found, motion, light, exposure, settings, row_time, network)
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
    network: Refiner | None = None,
) -> RestoredWindow:
    """Frame `t` of a stack, as one window. `motion`: to the next and to the previous frames."""
    forward, backward = motion
    fraction, beside = exposure.value, []
    fields = {"forward": found.forward, "backward": found.backward[1:]}
    turned = turning_at(t, found.linked, lambda name, pair: fields[name][pair], reduction=found.reduction)
    turned = spread(turned, Box(0, stack.shape[2], 0, stack.shape[3]), reduction=found.reduction)
    if found.linked[t]:
        frame = decode(stack[t + 1], light)
        beside.append(
            neighbour(
                frame, forward[t], backward[t + 1], fraction, found.shake[t], found.shake[t + 1], turned
            )
        )
    if t > 0 and found.linked[t - 1]:
        frame = decode(stack[t - 1], light)
        beside.append(
            neighbour(
                frame, backward[t], forward[t - 1], -fraction, found.shake[t], found.shake[t - 1], turned
            )
        )
    return restore_window(
        decode(stack[t], light),
        tuple(beside),
        noise=float(found.noise[t]),
        settings=settings,
        bend=vector(found.shake[t, BEND]),
        unsteady=doubt(float(found.unsteady[t]), exposure.uncertainty),
        row_time=row_time,
        network=network,
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
