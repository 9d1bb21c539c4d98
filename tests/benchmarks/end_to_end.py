"""The acceptance run: real high-speed frames blurred by averaging, through `deblur run` on a local Dask cluster.

usage: end_to_end.py [FRAMES_DIR] [--count N] [--period T] [--frames K] [--size H W] [--workers W] [--grey]
                     [--quick] [--json] [--keep DIR]
A blurred frame is the mean of N consecutive sharp frames (N odd) in code values, the next one begins T later; the truth
is the middle one. The job runs as a user would run it: a job file, the Prefect flow, W Dask processes. The published
store is opened with plain zarr, and every frame's PSNR against the truth is printed, 16 px of border cut off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from PIL import Image

HERE = Path(__file__).resolve()
CUT = (slice(16, -16), slice(16, -16))


def make_frames(a: argparse.Namespace, folder: Path) -> list[np.ndarray]:
    """Write blurred/ and return the truth, (y, x, c) uint8."""
    files = sorted(a.frames_dir.glob("*.png"))
    half, truth = a.count // 2, []
    (folder / "blurred").mkdir(parents=True)
    for k in range(a.frames):
        stack = [_load(file, a) for file in files[k * a.period : k * a.period + a.count]]
        if len(stack) < a.count:
            break
        mean = np.rint(np.mean([s.astype(np.float64) for s in stack], 0)).astype(np.uint8)
        Image.fromarray(mean).save(folder / "blurred" / f"{k:04d}.png")
        truth.append(stack[half])
    return truth


def _load(file: Path, a: argparse.Namespace) -> np.ndarray:
    image = np.asarray(Image.open(file).convert("L" if a.grey else "RGB"))
    if a.size:
        y, x = ((have - want) // 2 for have, want in zip(image.shape, a.size, strict=False))
        image = image[y : y + a.size[0], x : x + a.size[1]]
    return image


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    error = np.mean((image[CUT].astype(np.float64) - truth[CUT]) ** 2) / 255**2
    return float(-10 * np.log10(max(error, 1e-12)))


def run(a: argparse.Namespace, folder: Path) -> dict[str, object]:
    truth = make_frames(a, folder)
    (folder / "job.toml").write_text(
        f'archive = "archive"\n[[sources]]\npath = "blurred"\nexposure_fraction = {a.count / a.period:.6f}\n'
        f'transfer = "linear"\n[cluster]\nkind = "local"\nworkers = {a.workers}\n'
    )
    began = time.perf_counter()
    command = [sys.executable, "-m", "deblur", "run", str(folder / "job.toml"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"deblur run left with {done.returncode}")
    (outcome,) = json.loads(done.stdout)
    sequence = folder / "archive" / "sequences" / outcome["sequence"]
    current = json.loads((sequence / "current.json").read_text())["run"]
    store = sequence / "runs" / f"{current}.ome.zarr"
    pixels = zarr.open_group(store, mode="r")["0"]
    rows = []
    for k, sharp in enumerate(truth):
        blurred = np.asarray(Image.open(folder / "blurred" / f"{k:04d}.png"))
        restored = np.moveaxis(np.asarray(pixels[k]), 0, -1)
        before, after = psnr(blurred, sharp), psnr(restored[..., 0] if a.grey else restored, sharp)
        rows.append({"frame": k, "before": before, "after": after, "gain": after - before})
    lines = [
        json.loads(x)
        for p in (store / "provenance" / "units").glob("*.jsonl")
        for x in p.read_text().splitlines()
    ]
    megapixels = len(truth) * truth[0].shape[0] * truth[0].shape[1] / 1e6
    cpu = {
        s: sum(r["cpu_seconds"] for r in lines if r.get("stage") == s) / megapixels
        for s in ("motion", "restore")
    }
    gains = [row["gain"] for row in rows]
    return {
        "rows": rows,
        "mean_gain": float(np.mean(gains)),
        "worst_frame": float(min(gains)),
        "motion_cpu_s_per_mp": cpu["motion"],
        "restore_cpu_s_per_mp": cpu["restore"],
        "peak_worker_mib": max(r.get("peak_bytes", 0) for r in lines) / 2**20,
        "projected_mib": outcome["cost"]["memory"] / 2**20,
        "wall_s": wall,
        "megapixels": megapixels,
        "store": str(store),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = HERE.parents[3] / "shared" / "data" / "gopro240"
    parser.add_argument("frames_dir", type=Path, nargs="?", default=default)
    parser.add_argument("--count", type=int, default=11)
    parser.add_argument("--period", type=int, default=12)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--grey", action="store_true")
    parser.add_argument("--quick", action="store_true", help="4 frames of 360 x 640")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    a = parser.parse_args()
    if not any(a.frames_dir.glob("*.png")):
        raise SystemExit(f"{a.frames_dir} holds no PNG frames: name the folder of sharp high-speed frames")
    if a.quick:
        a.frames, a.size = 4, a.size or [360, 640]
    with tempfile.TemporaryDirectory() as scratch:
        found = run(a, a.keep or Path(scratch))
    if a.json:
        print(json.dumps(found))
        return
    for row in found["rows"]:
        print("frame {frame:3d}  {before:.2f} dB → {after:.2f} dB  ({gain:+.2f})".format(**row))
    print("mean gain {mean_gain:+.2f} dB, worst frame {worst_frame:+.2f} dB".format(**found))
    print(
        "motion {motion_cpu_s_per_mp:.2f} + restoration {restore_cpu_s_per_mp:.2f} CPU s per megapixel; peak worker "
        "{peak_worker_mib:.0f} MiB (projected {projected_mib:.0f}); wall {wall_s:.0f} s for {megapixels:.1f} megapixels, "
        "the embedded Prefect server included".format(**found)
    )


if __name__ == "__main__":
    main()
