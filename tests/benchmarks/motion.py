#!/usr/bin/env python3
"""Motion: accuracy and CPU time of every method and its peers, interleaved in one run, one thread each.

usage: python tests/benchmarks/motion.py [--quick] [--json] [--data DIR]
Scenes: synthetic pairs with known motion (also blurred by it), and with --data Middlebury's pairs
(frame10.png, frame11.png, flow10.flo in one folder each). AEE: mean end-point error in px where known.
Peers: OpenCV DIS medium, and scikit-image TV-L1 without --quick, where they are installed (extra "bench").
"""

from __future__ import annotations

# ruff: noqa: E402 (threads are pinned before anything that starts them is imported)
import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from deblur.motion import METHODS, estimate_motion

Pair = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def leaves(side: int, seed: int) -> np.ndarray:
    """Discs of all sizes that cover one another: the statistics of photographs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    out = np.full((side, side), 0.5)
    for radius in sorted(np.exp(rng.uniform(np.log(2), np.log(side / 4), side * 3)), reverse=True):
        cy, cx, value = rng.uniform(0, side), rng.uniform(0, side), rng.random()
        out[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = value
    return out


def synthetic(side: int) -> Iterator[Pair]:
    """A turning, zooming, panning view, its exposure shut at once or open for most of the interval."""
    margin = 80
    scene = spline_filter(leaves(side + 2 * margin, 1), order=3)
    y, x = np.mgrid[:side, :side] - side / 2

    def view(t: float, pan: tuple[float, float], angle: float, zoom: float) -> tuple[np.ndarray, np.ndarray]:
        scale, turn = np.exp(-zoom * t), -angle * t
        yy = scale * (np.cos(turn) * y + np.sin(turn) * x) - pan[0] * t
        xx = scale * (-np.sin(turn) * y + np.cos(turn) * x) - pan[1] * t
        return yy, xx

    for label, pan, angle, zoom in (("slow", (2.3, -3.7), 0.01, 0.005), ("fast", (14.0, -38.0), 0.02, 0.01)):
        for blur in (0.0, 0.8):
            frames = []
            for middle in (0.0, 1.0):
                times = np.linspace(middle - blur / 2, middle + blur / 2, 17 if blur else 1)
                total = sum(
                    map_coordinates(
                        scene,
                        [v + side / 2 + margin for v in view(t, pan, angle, zoom)],
                        order=3,
                        prefilter=False,
                    )
                    for t in times
                )
                frames.append(
                    np.round(np.clip(total / len(times), 0, 1) * 255).astype(np.float32) / np.float32(255)
                )
            yy, xx = y + pan[0], x + pan[1]  # the inverse of view(1)
            scale, turn = np.exp(zoom), angle
            truth = np.stack(
                [
                    scale * (np.cos(turn) * yy + np.sin(turn) * xx) - y,
                    scale * (-np.sin(turn) * yy + np.cos(turn) * xx) - x,
                ]
            )
            to = truth + np.stack([y, x]) + side / 2
            known = ((to >= 0) & (to <= side - 1)).all(axis=0)
            yield f"{label}{' blurred' if blur else ''}", frames[0], frames[1], truth, known


def middlebury(folder: Path) -> Iterator[Pair]:
    """The pairs with their true motion."""
    from PIL import Image

    for path in sorted(folder.glob("*/flow10.flo")):
        raw = np.fromfile(path, np.float32)
        width, height = raw[1:3].view(np.int32)
        truth = np.moveaxis(raw[3:].reshape(height, width, 2), -1, 0)[::-1]
        a, b = (
            np.asarray(Image.open(path.parent / f"frame{n}.png").convert("RGB"), np.float32)
            @ np.float32([0.299, 0.587, 0.114])
            for n in (10, 11)
        )
        yield (
            path.parent.name,
            a / np.float32(255),
            b / np.float32(255),
            truth,
            (np.abs(truth) < 1e6).all(axis=0),
        )


def contenders(quick: bool) -> dict[str, Method]:
    """Every registered method and the peers that are installed."""
    methods: dict[str, Method] = {
        f"deblur {name}": lambda a, b, name=name: estimate_motion(a, b, method=name) for name in METHODS
    }
    try:
        import cv2

        cv2.setNumThreads(1)
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        methods["opencv dis medium"] = lambda a, b: np.moveaxis(
            dis.calc(*(np.round(v * 255).astype(np.uint8) for v in (a, b)), None), -1, 0
        )[::-1]
    except ImportError:
        pass
    if not quick:
        try:
            from skimage.registration import optical_flow_tvl1

            methods["skimage tvl1"] = lambda a, b: np.asarray(optical_flow_tvl1(a, b))
        except ImportError:
            pass
    return methods


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller scenes, no TV-L1")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="a folder of pairs in Middlebury's layout")
    args = parser.parse_args()
    pairs = list(synthetic(256 if args.quick else 512)) + (list(middlebury(args.data)) if args.data else [])
    methods = contenders(args.quick)
    for method in methods.values():  # compile
        method(pairs[0][1][:64, :64], pairs[0][2][:64, :64])
    rows = []
    for label, a, b, truth, known in pairs:
        for name, method in methods.items():
            least = float("inf")
            for _ in range(1 if "tvl1" in name else 2):
                start = time.process_time()
                field = method(a, b)
                least = min(least, time.process_time() - start)
            aee = float(np.hypot(*(field - truth))[known].mean())
            rows.append({"pair": label, "method": name, "aee": aee, "ms_per_megapixel": least * 1e9 / a.size})
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'pair':16s} {'method':22s} {'AEE px':>8s} {'ms/MP':>8s}")
    for row in rows:
        print(f"{row['pair']:16s} {row['method']:22s} {row['aee']:8.3f} {row['ms_per_megapixel']:8.0f}")


if __name__ == "__main__":
    main()
