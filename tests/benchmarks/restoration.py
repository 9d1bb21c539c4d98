#!/usr/bin/env python3
"""Restoration, ours and the peers interleaved in one run, one thread each.

usage: python tests/benchmarks/restoration.py [--quick] [--json]
       python tests/benchmarks/restoration.py --operator [--frames DIR] [--peer FILE] [--quick] [--json]
       python tests/benchmarks/restoration.py --frames DIR [--peer FILE] [--only table|ablation] [--quick] [--json]

A synthetic scene is blurred along a known turning path, with and without noise; every solver gets that path
(or, for the uniform case, the PSF). Peers: scikit-image's Richardson-Lucy and Wiener where it is installed
(uniform PSF only).
Prints gain in dB and seconds per megapixel, the best of several rounds.

--operator measures the blur along paths alone: forward, adjoint, and making a path ready, in CPU milliseconds per
megapixel, the least of many interleaved rounds. --frames, a folder of sharp frames of a high-speed camera: also along
a measured path (seven frames averaged, eight apart). --peer, a Python file: its `_line(image, dy, dx, taps, out,
adjoint)`, which blurs pixel by pixel, beside ours.

--frames without --operator: what `deblur.restore` gains on those frames, averaged into blurred ones, case by case, and
what each of its choices is worth (restoration_frames.py says how). --peer, a Python file: its `restore(frames,
exposure_fraction=, transfer=)`, which returns an object with `frames`, beside ours. --quick: one stack a case.
"""

from __future__ import annotations

import os

for _name in ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from restoration_frames import ablation, print_ablation, print_table, table  # noqa: E402

from deblur.deconv import ALONG_PATHS, METHODS, deconvolve  # noqa: E402
from deblur.deconv.model import AlongPath  # noqa: E402
from deblur.motion import estimate_motion  # noqa: E402
from deblur.paths import blur, psf_of  # noqa: E402

CUT = 24
Run = Callable[[np.ndarray, float], np.ndarray]


def scene(side: int) -> np.ndarray:
    """Overlapping rectangles whose sizes follow a power law, slightly textured."""
    rng = np.random.default_rng(11)
    image = np.full((side, side), 0.5, np.float32)
    for _ in range(side * 3):
        y, x = rng.integers(-side // 8, side, 2)
        h, w = (3 / rng.uniform(0.02, 1, 2)).astype(int)
        image[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = rng.uniform(0.05, 0.95)
    return np.clip(image + rng.normal(0, 0.01, image.shape), 0, 1).astype(np.float32)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b)[CUT:-CUT, CUT:-CUT] ** 2)))


def along_path(path: np.ndarray) -> dict[str, Run]:
    return {f"deblur {n}": lambda v, s, n=n: deconvolve(v, path=path, method=n, noise=s) for n in ALONG_PATHS}  # type: ignore[misc]


def uniform(psf: np.ndarray) -> dict[str, Run]:
    runs: dict[str, Run] = {
        f"deblur {n}": lambda v, s, n=n: deconvolve(v, psf=psf, method=n, noise=s)  # type: ignore[misc]
        for n in METHODS
    }
    if importlib.util.find_spec("skimage"):
        from skimage.restoration import richardson_lucy, wiener

        runs["skimage richardson_lucy"] = lambda v, s: richardson_lucy(v, psf, num_iter=30)
        runs["skimage wiener"] = lambda v, s: wiener(v, psf, balance=0.01 + 30 * s * s)
    return runs


def race(
    sharp: np.ndarray, seen: np.ndarray, runs: dict[str, Run], noise: float, rounds: int
) -> list[dict[str, object]]:
    noisy = (seen + np.random.default_rng(3).normal(0, noise, seen.shape)).astype(np.float32)
    best = dict.fromkeys(runs, np.inf)
    gain: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            found = run(noisy, noise)
            best[name] = min(best[name], time.perf_counter() - start)
            gain[name] = psnr(np.clip(found, 0, 1), sharp) - psnr(noisy, sharp)
    area = sharp.size / 1e6
    return [
        {"solver": n, "noise": noise, "gain_db": round(gain[n], 2), "s_per_mp": round(best[n] / area, 3)}
        for n in runs
    ]


def turning_path(side: int) -> np.ndarray:
    path = np.empty((2, side, side), np.float32)
    path[0], path[1] = np.linspace(-6, 6, side), 12
    return path


def measured_path(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A blurred frame, and the path that motion to the next one gives it."""
    files = sorted(folder.glob("*.png"))[:15]
    sharp = [np.asarray(Image.open(f).convert("L"), np.float32) / 255 for f in files]
    here, there = np.mean(sharp[:7], axis=0), np.mean(sharp[8:], axis=0)
    return here, estimate_motion(here, there) * np.float32(7 / 8)


def operator(rounds: int, side: int, frames: Path | None, peer: Path | None) -> list[dict[str, object]]:
    path = turning_path(side)
    cases = {"12-13 px, turning": (scene(side), path), "12-13 px, upright": (scene(side), path[::-1].copy())}
    if frames:
        cases["measured"] = measured_path(frames)
    runs: dict[tuple[str, str, str], tuple[Callable[[], object], int]] = {}
    for case, (plane, field) in cases.items():
        model, n = AlongPath(field), plane.size
        runs[case, "deblur", "forward"] = partial(model.apply, plane), n
        runs[case, "deblur", "adjoint"] = partial(model.adjoint, plane), n
        runs[case, "deblur", "setup"] = partial(AlongPath, field), n
        if peer:
            line, out = _module(peer)._line, np.empty_like(plane)
            taps = int(np.clip(np.hypot(*field).max(), 9, 64))
            runs[case, "peer", "forward"] = partial(line, plane, *field, taps, out, False), n
            runs[case, "peer", "adjoint"] = partial(line, plane, *field, taps, out, True), n
    best = dict.fromkeys(runs, np.inf)
    for run, _ in runs.values():
        run()
    for _ in range(rounds):
        for name, (run, n) in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - start) / n * 1e9)
    return [
        {"path": case, "longest_px": round(float(np.hypot(*cases[case][1]).max()), 1), "by": by, "what": what}
        | {"ms_per_mp": round(value, 2)}
        for (case, by, what), value in best.items()
    ]


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("peer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_frames(options: argparse.Namespace) -> None:
    """Print the tables of real frames."""
    folder, peer = options.frames, options.peer
    if not any(folder.glob("*.png")):
        raise SystemExit(f"{folder} holds no PNG frames: name the folder of sharp high-speed frames")
    most = 1 if options.quick else 100
    restore = _module(peer).restore if peer else None
    tables = {"table": (table(folder, restore, most), print_table)}
    tables["ablation"] = ablation(folder, most), print_ablation
    chosen = {name: each for name, each in tables.items() if options.only in (None, name)}
    if options.json:
        print(json.dumps({name: list(rows) for name, (rows, _) in chosen.items()}))
        return
    for rows, show in chosen.values():
        show(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small scene, two rounds; or one stack a case")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--operator", action="store_true", help="the blur along paths alone")
    parser.add_argument("--frames", type=Path, help="a folder of sharp frames of a high-speed camera")
    parser.add_argument("--peer", type=Path, help="a Python file with `restore`, or `_line`")
    parser.add_argument("--only", choices=("table", "ablation"), help="one of the two tables of real frames")
    options = parser.parse_args()
    if options.only and not options.frames:
        parser.error("--only chooses between tables of real frames: name their folder with --frames")
    if options.operator:
        found = operator(
            3 if options.quick else 25, 512 if options.quick else 1024, options.frames, options.peer
        )
        if options.json:
            print(json.dumps({"rows": found}))
            return
        print(f"{'path':20s}{'longest px':>11s}  {'by':8s}{'what':10s}{'CPU ms/MP':>10s}")
        for row in found:
            print("{path:20s}{longest_px:11.1f}  {by:8s}{what:10s}{ms_per_mp:10.2f}".format(**row))
        return
    if options.frames:
        on_frames(options)
        return
    side, rounds = (192, 2) if options.quick else (512, 4)
    sharp = scene(side)
    path = turning_path(side)
    psf = psf_of((4, 11))
    flat = np.empty_like(path)
    flat[0], flat[1] = 4, 11
    rows = []
    for kind, seen, runs in (
        ("turning path", blur(sharp, path), along_path(path)),
        ("uniform psf", blur(sharp, flat), uniform(psf)),
    ):
        for noise in (0.0, 0.01):
            rows += [{"blur": kind, **row} for row in race(sharp, seen, runs, noise, rounds)]
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'blur':14s}{'solver':28s}{'noise':>7s}{'gain dB':>9s}{'s/MP':>9s}")
    for row in rows:
        gain = "" if row["gain_db"] is None else f"{row['gain_db']:+.2f}"
        print(f"{row['blur']:14s}{row['solver']:28s}{row['noise']:7.2f}{gain:>9s}{row['s_per_mp']:9.3f}")


if __name__ == "__main__":
    main()
