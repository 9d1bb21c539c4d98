"""Restoration of real frames: the sharp ones of a high-speed camera, averaged into blurred ones, so that the truth is
known. A part of restoration.py, which see.

A blurred frame is the mean of `count` sharp ones in their code values (in linear light where the transfer curve is sRGB),
rounded to 8 bits; the next one is `period` later, so the exposure fraction is count / period. The truth is the middle
sharp frame. Three such frames go to `deblur.restore`, and to the peer. Gains are in dB of PSNR in code values, 16 px of
border cut off: of the middle frames, which have neighbours on both sides, of the ends, and of the worst frame of all;
of the worst of 4 x 4 tiles, and the mean of each frame's four most blurred ("hard") ones, where errors carry a floor at
40 dB. CPU seconds are for a megapixel of pixels, motion included, median of the stacks; beside it, as a multiple of one
run of OpenCV's DIS (medium) between two of the frames.

The ablation takes one choice after another out of the default method, by what `restore_window` and its dataclasses
offer; its rows "as it is" are what `deblur.restore` gives.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

import deblur
from deblur import quality, window
from deblur.deconv import METHODS
from deblur.deconv.variational import Variational
from deblur.light import Light, decode, luma, merge, resolve
from deblur.neighbours import BEND, neighbour, vector
from deblur.sequence import stored_weight
from deblur.survey import Survey, dequantise, quantise, refine, survey
from deblur.window import RestoredWindow, RestoreSettings, restore_window

STEP = 16  # sharp frames from one stack to the next
CUT = 16  # px of border without a say
TILES = 4  # a side
FLOOR = 1e-4  # square error of a tile that nobody sees
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SEEN = 7  # frames from which the exposure is estimated
OFF = 1e9
PRODUCT = RestoreSettings()
SOLVER = PRODUCT.solver()
assert isinstance(SOLVER, Variational)

Restore = Callable[..., Any]  # (frames, *, exposure_fraction, transfer) to an object with `frames`
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    name: str
    count: int = 11
    period: int = 12
    transfer: str = "linear"
    channels: int = 1
    noise: float = 0.0
    exposure: str = "given"


CASES = (
    Case("7/8", 7, 8),
    Case("7/8 noise 0.02", 7, 8, noise=0.02),
    Case("11/12"),
    Case("11/12 sRGB", transfer="srgb"),
    Case("11/12 colour", channels=3),
    Case("11/12 noise 0.02", noise=0.02),
    Case("11/12 exposure estimated", exposure="estimated"),
)


@dataclass(frozen=True)
class Filmed:
    """The sharp frames, read when they are asked for."""

    files: list[Path]
    case: Case

    def sharp(self, index: int) -> np.ndarray:
        """(y, x), or (3, y, x) in colour; codes in [0, 1]."""
        rgb = np.asarray(Image.open(self.files[index]).convert("RGB"), np.float32) / np.float32(255)
        return rgb @ LUMA if self.case.channels == 1 else np.ascontiguousarray(rgb.transpose(2, 0, 1))

    def blurred(self, index: int) -> np.ndarray:
        case, half = self.case, self.case.count // 2
        total = np.zeros(self.sharp(index).shape, np.float64)
        for k in range(index - half, index + half + 1):
            total += _light(self.sharp(k)) if case.transfer == "srgb" else self.sharp(k)
        codes = _codes(total / case.count) if case.transfer == "srgb" else total / case.count
        codes += np.random.default_rng(index).normal(0, case.noise, codes.shape)
        return (np.rint(codes.clip(0, 1) * 255) / 255).astype(np.float32)

    def centres(self, most: int) -> list[int]:
        """The middle sharp frames of the stacks."""
        margin = self.case.period + self.case.count // 2
        found = list(range(margin, len(self.files) - margin, STEP))[:most]
        if not found:
            raise SystemExit(f"{len(self.files)} frames are too few: give at least {2 * margin + 1}")
        return found

    def stack(self, centre: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Three blurred frames, and the truth about each."""
        at = [centre - self.case.period, centre, centre + self.case.period]
        return np.stack([self.blurred(i) for i in at]), [self.sharp(i) for i in at]

    def fraction(self) -> float:
        if self.case.exposure == "given":
            return self.case.count / self.case.period
        half = self.case.count // 2
        at = range(half, len(self.files) - half, self.case.period)[:SEEN]
        frames = np.stack([self.blurred(i) for i in at])
        return deblur.estimate_exposure_fraction(frames, transfer=self.case.transfer).value


def _light(codes: np.ndarray) -> np.ndarray:
    """sRGB (IEC 61966-2-1), written anew so that the product's curve is measured too."""
    return np.where(codes > 0.04045, ((codes + 0.055) / 1.055) ** 2.4, codes / 12.92)


def _codes(light: np.ndarray) -> np.ndarray:
    return np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def _psnr(found: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Of the frame, and (16,) of its tiles."""
    error = (found.clip(0, 1).astype(np.float64) - truth)[..., CUT:-CUT, CUT:-CUT] ** 2
    h, w = (n // TILES for n in error.shape[-2:])
    parts = error[..., : h * TILES, : w * TILES].reshape(-1, TILES, h, TILES, w).mean(axis=(0, 2, 4))
    return -10 * np.log10(error.mean() + 1e-12), -10 * np.log10(parts.ravel() + FLOOR)


def judged(blurred: np.ndarray, found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Gains of one frame."""
    (before, tiles), (after, restored) = _psnr(blurred, truth), _psnr(found, truth)
    gains = (restored - tiles)[np.argsort(tiles)]
    return {"gain": after - before, "worst_tile": gains.min(), "hard_tiles": gains[:TILES].mean()}


def summary(stacks: list[list[dict[str, float]]]) -> Row:
    """Of the gains of stacks of three frames."""
    middle = [frames[1] for frames in stacks]
    every = [frame for frames in stacks for frame in frames]
    return {
        "gain": float(np.mean([f["gain"] for f in middle])),
        "ends": float(np.mean([f["gain"] for frames in stacks for f in frames[::2]])),
        "worst_frame": float(min(f["gain"] for f in every)),
        "worst_tile": float(min(f["worst_tile"] for f in every)),
        "hard_tiles": float(np.mean([f["hard_tiles"] for f in middle])),
        "stacks": len(stacks),
    }


def _runs(peer: Restore | None) -> dict[str, Restore]:
    runs: dict[str, Restore] = {"deblur": deblur.restore}
    if "fast" in METHODS:
        runs["deblur fast"] = lambda frames, **known: deblur.restore(frames, method="fast", **known)
    if importlib.util.find_spec("onnxruntime"):
        runs["deblur hybrid"] = lambda frames, **known: deblur.restore(frames, method="hybrid", **known)
    return runs | ({"peer": peer} if peer else {})


def _dis() -> Callable[[np.ndarray], float] | None:
    """CPU seconds of a run of OpenCV's DIS between two frames of a stack, where it is installed."""
    if not importlib.util.find_spec("cv2"):
        return None
    import cv2

    cv2.setNumThreads(1)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def run(stack: np.ndarray) -> float:
        grey = stack if stack.ndim == 3 else np.tensordot(stack, LUMA, (1, 0))
        a, b = np.rint(grey[:2] * 255).astype(np.uint8)
        start = time.process_time()
        flow.calc(a, b, None)
        return time.process_time() - start

    return run


def _compiled(run: Restore, stack: np.ndarray, **known: object) -> None:
    """Run once on a corner: what Numba compiles isn't timed."""
    run(stack[..., :160, :160].copy(), **known)


def table(folder: Path, peer: Restore | None, most: int) -> Iterator[Row]:
    """Every case by every method, a row each."""
    runs, dis = _runs(peer), _dis()
    for case in CASES:
        film = Filmed(sorted(folder.glob("*.png")), case)
        fraction = film.fraction()
        known = {"exposure_fraction": fraction, "transfer": case.transfer}
        gains: dict[str, list[Any]] = {name: [] for name in runs}
        spent: dict[str, list[float]] = {name: [] for name in runs}
        beside: list[float] = []
        for centre in film.centres(most):
            stack, truth = film.stack(centre)
            megapixels = stack.shape[-2] * stack.shape[-1] / 1e6
            for name, run in runs.items():
                if not beside:
                    _compiled(run, stack, **known)
                start = time.process_time()
                found = np.asarray(run(stack.copy(), **known).frames)
                spent[name].append((time.process_time() - start) / len(stack) / megapixels)
                gains[name].append([judged(*three) for three in zip(stack, found, truth, strict=True)])
            if dis:
                beside += [dis(stack) / megapixels for _ in range(3)]
        for name in runs:
            row = {"case": case.name, "exposure": fraction, "by": name, **summary(gains[name])}
            row["cpu_s_per_mp"] = float(np.median(spent[name]))
            yield row | {"dis": row["cpu_s_per_mp"] / float(np.median(beside)) if beside else None}


@dataclass(frozen=True)
class Variant:
    """What is solved anew. `shake`: how much is left of what the trajectory adds to the path that the next frame
    suggests, to the one that the previous frame suggests, and of the bend. `joint`: noise from which neighbours are
    looked at. `unsteady`: the camera is taken to be at least that."""

    settings: RestoreSettings = PRODUCT
    shake: tuple[float, float, float] = (1.0, 1.0, 1.0)
    motion: str = "fast"
    joint: float = window.JOINT
    unsteady: float = 0.0


PLAIN = "as it is"
VARIANTS = {
    PLAIN: Variant(),
    "paths from motion alone": Variant(shake=(0, 0, 0)),
    "no bend": Variant(shake=(1, 1, 0)),
    "steady like unsteady": Variant(unsteady=1),
    "prior halved": Variant(RestoreSettings(regularisation=SOLVER.regularisation / 2)),
    "prior doubled": Variant(RestoreSettings(regularisation=SOLVER.regularisation * 2)),
    "iterations halved": Variant(RestoreSettings(iterations=SOLVER.iterations // 2)),
    "iterations doubled": Variant(RestoreSettings(iterations=SOLVER.iterations * 2)),
    "motion accurate": Variant(motion="accurate"),
}
ALONE = {PLAIN: Variant(), "each frame alone": Variant(joint=np.inf)}
GATES = {
    "gate blind to path": quality.Gate(path=(-1, -2)),
    "gate blind to contradiction": quality.Gate(consistency=(OFF, 2 * OFF)),
    "gate blind to residual": quality.Gate(residual=OFF),
    "gate blind to overshoot": quality.Gate(overshoot=(OFF, 2 * OFF)),
}
ABLATION = {"7/8": VARIANTS, "11/12": VARIANTS, "11/12 noise 0.02": ALONE}


@dataclass(frozen=True)
class Moved:
    """A stack (t, c, y, x) and how it moves, once for all variants. `seconds`: of CPU that took."""

    stack: np.ndarray
    light: Light
    fraction: float
    found: Survey
    forward: np.ndarray
    backward: np.ndarray
    seconds: float

    def window(self, t: int, variant: Variant) -> RestoredWindow:
        shake = self.found.shake * np.array(variant.shake, np.float32)[:, None]
        beside = []
        for other, there, back, fraction in (
            (t + 1, self.forward, self.backward, self.fraction),
            (t - 1, self.backward, self.forward, -self.fraction),
        ):
            if 0 <= other < len(self.stack) and self.found.linked[min(t, other)]:
                frame = decode(self.stack[other], self.light)
                beside.append(neighbour(frame, there[t], back[other], fraction, shake[t], shake[other]))
        with mock.patch.object(window, "JOINT", variant.joint):
            return restore_window(
                decode(self.stack[t], self.light),
                tuple(beside),
                noise=float(self.found.noise[t]),
                settings=variant.settings,
                bend=vector(shake[t, BEND]),
                unsteady=max(variant.unsteady, float(self.found.unsteady[t])),
            )


def moved(stack: np.ndarray, case: Case, method: str) -> Moved:
    planes, fraction = stack[:, None], case.count / case.period
    light = resolve(stack.dtype, transfer=case.transfer, largest=float(stack.max()))
    start = time.process_time()
    found = survey(planes, light=light, motion_method=method, fraction=fraction)
    forward = np.zeros((len(stack), 2, *stack.shape[1:]), np.float32)
    backward = np.zeros_like(forward)
    views = [luma(frame, light) for frame in planes]
    for t in np.flatnonzero(found.linked):
        for field, coarse, at, other in (
            (forward, found.forward, t, t + 1),
            (backward, found.backward, t + 1, t),
        ):
            fine = refine(
                views[at], views[other], coarse[at], reduction=found.reduction, y0=0, x0=0, method=method
            )
            field[at] = dequantise(quantise(fine))
    return Moved(planes, light, fraction, found, forward, backward, time.process_time() - start)


def frames_of(scene: Moved, variants: dict[str, Variant], t: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """Frame `t` by every variant with this motion, and by every gate: name, codes (y, x), CPU seconds to restore it."""
    for name, variant in variants.items():
        start = time.process_time()
        with mock.patch.object(quality, "gate", wraps=quality.gate) as gate:
            window = scene.window(t, variant)
        seconds = time.process_time() - start
        weights = {name: window.weight}
        if name == PLAIN and gate.call_args:
            given, options = gate.call_args.args, gate.call_args.kwargs
            weights["no gate"] = np.ones_like(window.weight)
            for other, rules in GATES.items():
                weights[other] = quality.gate(*given, **{**options, "rules": rules})[0]
        for each, weight in weights.items():
            codes = merge(scene.stack[t], window.image, stored_weight(weight), scene.light)
            yield each, codes[0], seconds


def ablation(folder: Path, most: int) -> Iterator[Row]:
    """Every variant of the cases in `ABLATION`, a row each; `change`: of the mean gain."""
    for case in (case for case in CASES if case.name in ABLATION):
        film = Filmed(sorted(folder.glob("*.png")), case)
        variants = ABLATION[case.name]
        gains: dict[str, list[Any]] = {}
        spent: dict[str, list[float]] = {}
        for centre in film.centres(most):
            stack, truth = film.stack(centre)
            if not gains:
                _compiled(deblur.restore, stack, exposure_fraction=0.5, transfer="linear")
            for method in dict.fromkeys(variant.motion for variant in variants.values()):
                scene = moved(stack, case, method)
                some = {name: v for name, v in variants.items() if v.motion == method}
                for t, sharp in enumerate(truth):
                    for name, codes, seconds in frames_of(scene, some, t):
                        to = gains.setdefault(name, [])
                        to += [[]] if t == 0 else []
                        to[-1].append(judged(stack[t], codes, sharp))
                        seconds += scene.seconds / len(stack)
                        spent.setdefault(name, []).append(seconds / sharp.size * 1e6)
        rows = {name: summary(found) for name, found in gains.items()}
        for name, row in rows.items():
            change = row["gain"] - rows[PLAIN]["gain"]
            yield {"case": case.name, "choice": name, "change": change, **row} | {
                "cpu_s_per_mp": float(np.median(spent[name]))
            }


HEAD = f"{'gain':>7s}{'ends':>7s}{'worst frame':>13s}{'worst tile':>12s}{'hard tiles':>12s}{'CPU s/MP':>10s}"
CELLS = (
    "{gain:+7.2f}{ends:+7.2f}{worst_frame:+13.2f}{worst_tile:+12.2f}{hard_tiles:+12.2f}{cpu_s_per_mp:10.2f}"
)


def print_table(rows: Iterable[Row]) -> None:
    """Row by row, as they come."""
    print(f"{'case':26s}{'by':13s}{HEAD}{'× DIS':>8s}  exposure", flush=True)
    for row in rows:
        times = f"{row['dis']:8.1f}" if row["dis"] else f"{'–':>8s}"
        print(("{case:26s}{by:13s}" + CELLS).format(**row) + f"{times}  {row['exposure']:.3f}", flush=True)


def print_ablation(rows: Iterable[Row]) -> None:
    """Row by row, as they come."""
    print(f"{'case':18s}{'choice':29s}{HEAD}{'change':>9s}", flush=True)
    for row in rows:
        print(("{case:18s}{choice:29s}" + CELLS + "{change:+9.2f}").format(**row), flush=True)
