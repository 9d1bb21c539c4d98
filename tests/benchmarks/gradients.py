#!/usr/bin/env python3
"""Sobel and temporal difference against their peers, interleaved in one run, one thread each.

usage: python tests/benchmarks/gradients.py [--quick] [--json]
Milliseconds of CPU time per megapixel, the least of several rounds; peers where installed (extra "bench").
"""

from __future__ import annotations

# ruff: noqa: E402 (threads are pinned before anything that starts them is imported)
import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from deblur.gradients import gaussian_gradient, scharr, sobel, temporal_difference


def contenders(dtype: str, side: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; all on the same picture."""
    values = np.random.default_rng(0).random((2, side, side))
    a, b = (values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)
    runs: dict[str, Callable[[], object]] = {
        f"deblur sobel {k}": lambda k=k: sobel(a, size=k) for k in (3, 5, 7)
    }
    runs["deblur scharr"] = lambda: scharr(a)
    runs["deblur gaussian_gradient 1"] = lambda: gaussian_gradient(a, sigma=1)
    runs["deblur temporal difference"] = lambda: temporal_difference(a, b)
    runs["copy float32"] = a.astype(np.float32).copy
    try:
        import cv2

        cv2.setNumThreads(1)
        for k in (3, 5, 7):
            runs[f"opencv sobel {k}"] = lambda k=k: (
                cv2.Sobel(a, cv2.CV_32F, 0, 1, ksize=k),
                cv2.Sobel(a, cv2.CV_32F, 1, 0, ksize=k),
            )
    except ImportError:
        pass
    from scipy import ndimage

    wide = a.astype(np.float32)
    runs["scipy sobel 3"] = lambda: (ndimage.sobel(wide, axis=0), ndimage.sobel(wide, axis=1))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller picture, fewer rounds")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    side, rounds = (512, 10) if args.quick else (1024, 40)
    table: dict[str, dict[str, float]] = {}
    for dtype in ("float32", "uint8"):
        runs = contenders(dtype, side)
        for call in runs.values():
            call()
        least = dict.fromkeys(runs, float("inf"))
        for _ in range(rounds):
            for label, call in runs.items():
                call()  # memory that the one before gave back to the system costs time to get again
                start = time.process_time()
                call()
                least[label] = min(least[label], time.process_time() - start)
        table[dtype] = {label: seconds * 1e9 / side**2 for label, seconds in least.items()}
    if args.json:
        print(json.dumps({"ms_per_megapixel": table}))
        return
    print(f"{'ms per megapixel, one thread':32s} {'float32':>9s} {'uint8':>9s}")
    for label in table["float32"]:
        print(f"{label:32s} {table['float32'][label]:9.2f} {table['uint8'][label]:9.2f}")
    for size in (3, 5, 7) if "opencv sobel 3" in table["float32"] else ():
        shares = [
            table[d][f"deblur sobel {size}"] / table[d][f"opencv sobel {size}"] for d in ("float32", "uint8")
        ]
        print(f"{f'share of OpenCV, {size}x{size} (at most 0.7)':32s} {shares[0]:9.2f} {shares[1]:9.2f}")


if __name__ == "__main__":
    main()
