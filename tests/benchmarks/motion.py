#!/usr/bin/env python3
"""Motion: accuracy and CPU time of every method and its peers, interleaved in one run, one thread each.

usage: python tests/benchmarks/motion.py [--quick] [--json] [--data DIR] [--blurred DIR] [--rolling DIR] [--pictures DIR]
Scenes: synthetic pairs with known motion (also blurred by it), with --data Middlebury's pairs
(frame10.png, frame11.png, flow10.flo in one folder each). AEE: mean end-point error in px where known; "kept":
what is left of it without the fifth of the pixels that estimate_motion_pair trusts least (0.5 or less is wanted).
--blurred: sharp frames at a high rate; 11 are averaged every 12, and motion between two such frames is compared
with DIS chained over the sharp ones between them (itself good to 2 px; "sharp" rows: the two middle frames, as if
nothing were blurred; a blurred frame shows the mean place of a thing, and a shaking camera was elsewhere in
mid-exposure, so no two-frame method can reach the sharp rows). --rolling: rolling-shutter triplets, brought
to one time by the measured motion. --pictures: every field in Middlebury's colour wheel, the truth beside it.
Peers: OpenCV DIS medium, and scikit-image TV-L1 without --quick, where they are installed (extra "bench").
"""

from __future__ import annotations

# ruff: noqa: E402 (threads are pinned before anything that starts them is imported)
import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from deblur.motion import METHODS, estimate_motion, estimate_motion_pair
from deblur.motion.rolling import motion_per_interval, to_global_shutter
from deblur.report.colour import motion_to_rgb

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


def chained(
    folder: Path, *, count: int = 11, period: int = 12, step: int = 16, most: int = 6
) -> Iterator[Pair]:
    """Blurred pairs, then their sharp middle frames, with the motion that DIS chains over all frames between."""
    import cv2
    from PIL import Image

    files, half = sorted(folder.glob("*.png")), count // 2
    dis = contenders(quick=True)["opencv dis medium"]

    def load(index: int) -> np.ndarray:
        return np.asarray(Image.open(files[index]).convert("L"), np.float32) / np.float32(255)

    def follow(frames: list[np.ndarray]) -> np.ndarray:
        y, x = np.mgrid[: frames[0].shape[0], : frames[0].shape[1]].astype(np.float32)
        total = np.zeros((2, *y.shape), np.float32)
        for a, b in itertools.pairwise(frames):
            field = np.ascontiguousarray(dis(a, b), np.float32)
            total += np.stack([cv2.remap(f, x + total[1], y + total[0], cv2.INTER_LINEAR) for f in field])
        return total

    for middle in list(range(half, len(files) - period - half, step))[:most]:
        frames = [load(k) for k in range(middle - half, middle + period + half + 1)]
        between = frames[half : half + period + 1]
        there, back = follow(between), follow(between[::-1])
        y, x = np.mgrid[: there.shape[1], : there.shape[2]].astype(np.float32)
        trip = there + np.stack([
            cv2.remap(f, x + there[1], y + there[0], cv2.INTER_LINEAR, borderValue=1e3) for f in back
        ])  # fmt: skip
        texture = cv2.GaussianBlur(
            np.hypot(cv2.Sobel(between[0], -1, 1, 0), cv2.Sobel(between[0], -1, 0, 1)), (0, 0), 3
        )
        known = (np.hypot(*trip) < 0.5) & (texture > np.median(texture))
        known[:32] = known[-32:] = known[:, :32] = known[:, -32:] = False
        one, other = (
            np.round(np.mean(v, 0) * 255).astype(np.float32) / np.float32(255)
            for v in (frames[:count], frames[period:][:count])
        )
        yield f"blurred {middle}", one, other, there, known
        yield f"sharp {middle}", between[0], between[-1], there, known


def kept(error: np.ndarray, trust: np.ndarray) -> float:
    """The mean error without the fifth of the pixels that are trusted least, as a share of that of all."""
    return float(error[trust >= np.quantile(trust, 0.2)].mean() / error.mean())


def rolling(folder: Path, methods: dict[str, Method]) -> Iterator[dict[str, object]]:
    """By how many dB rs_1 comes nearer to gs_1 when each method's motion to rs_0 brings it to one time."""
    from PIL import Image

    for path in sorted(folder.glob("*/*/gs_1.png")):
        before, frame, truth = (
            np.asarray(Image.open(path.parent / f"{name}.png").convert("L"), np.float32) / np.float32(255)
            for name in ("rs_0", "rs_1", "gs_1")
        )
        rows = len(frame)
        for name, method in methods.items():
            back = np.ascontiguousarray(method(frame, before), np.float32)
            speed = -motion_per_interval(back, readout=1.0, rows=rows, step=-1)
            moved = to_global_shutter(frame, speed, readout=1.0, rows=rows)
            power = [np.mean((v - truth)[16:-16, 16:-16] ** 2) for v in (frame, moved)]
            gain = float(10 * np.log10(power[0] / power[1]))
            yield {"set": "rolling", "pair": path.parent.name, "method": name, "gain_db": gain}


def summary(rows: list[dict[str, object]]) -> Iterator[str]:
    """The issue's table: means over the labelled pairs, and over the blurred ones, against DIS in this run."""
    gains = [r for r in rows if r["set"] == "rolling"]
    for n in dict.fromkeys(r["method"] for r in gains):
        found = [r["gain_db"] for r in gains if r["method"] == n]
        told = f"mean {np.mean(found):+.1f} dB, least {np.min(found):+.1f}, of {len(found)} triplets"
        yield f"{'rolling':12s} {n:20s} gain {told}"
    for title in ("middlebury", "blurred", "sharp"):
        some = [r for r in rows if r["set"] == title]
        names = list(dict.fromkeys(r["method"] for r in some))
        mean = {
            n: {
                k: float(np.mean([r[k] for r in some if r["method"] == n]))
                for k in ("aee", "median", "p90", "ms_per_megapixel")
            }
            for n in names
        }
        peer = mean.get("opencv dis medium")
        for n in names:
            scores = mean[n]
            line = f"{title:12s} {n:20s} AEE {scores['aee']:6.3f}  median {scores['median']:5.2f}  p90 {scores['p90']:5.2f}"
            line += f"  {mean[n]['ms_per_megapixel']:6.0f} ms/MP"
            if peer:
                shares = [mean[n][k] / peer[k] for k in ("ms_per_megapixel", "aee", "median", "p90")]
                line += "  of DIS: time {:.2f} AEE {:.2f} median {:.2f} p90 {:.2f}".format(*shares)
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller scenes, no TV-L1")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="a folder of pairs in Middlebury's layout")
    parser.add_argument("--blurred", type=Path, help="a folder of sharp frames at a high rate")
    parser.add_argument("--rolling", type=Path, help="a folder of rolling-shutter triplets rs_0, rs_1, gs_1")
    parser.add_argument("--pictures", type=Path, help="where to draw the fields")
    args = parser.parse_args()
    sets: list[tuple[str, list[Pair]]] = [("synthetic", list(synthetic(256 if args.quick else 512)))]
    if args.data:
        sets.append(("middlebury", list(middlebury(args.data))))
    if args.blurred:
        both = list(chained(args.blurred, most=2 if args.quick else 6))
        sets += [(kind, [p for p in both if p[0].startswith(kind)]) for kind in ("blurred", "sharp")]
    methods = contenders(args.quick)
    for method in methods.values():  # compile
        method(sets[0][1][0][1][:64, :64], sets[0][1][0][2][:64, :64])
    rows: list[dict[str, object]] = []
    pooled: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for title, pairs in sets:
        for label, a, b, truth, known in pairs:
            longest = float(np.percentile(np.hypot(*truth)[known], 99))
            drawn = [
                motion_to_rgb(
                    np.where(known | (title in ("blurred", "sharp")), truth, np.nan), longest=longest
                )
            ]
            for name, method in methods.items():
                least = float("inf")
                for _ in range(1 if "tvl1" in name else 4):
                    start = time.process_time()
                    field = method(a, b)
                    least = min(least, time.process_time() - start)
                error = np.hypot(*(field - truth))[known]
                row = {"set": title, "pair": label, "method": name, "aee": float(error.mean())}
                row |= {"median": float(np.median(error)), "p90": float(np.percentile(error, 90))}
                row["ms_per_megapixel"] = least * 1e9 / a.size
                if name.startswith("deblur "):
                    trust = estimate_motion_pair(a, b, method=name.removeprefix("deblur ")).confidence[known]
                    row["kept"] = kept(error, trust)
                    pooled[title, name] = [*pooled.get((title, name), []), (error, trust)]
                rows.append(row)
                drawn.append(motion_to_rgb(field, longest=longest))
            if args.pictures:
                from PIL import Image

                args.pictures.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.hstack(drawn)).save(args.pictures / f"{label.replace(' ', '_')}.png")
    if args.rolling:
        rows += rolling(args.rolling, methods)
    shares = {
        f"{title} {name}": kept(*map(np.concatenate, zip(*found, strict=True)))
        for (title, name), found in pooled.items()
    }
    if args.json:
        print(json.dumps({"rows": rows, "kept": shares}))
        return
    print(f"{'pair':16s} {'method':22s} {'AEE px':>8s} {'ms/MP':>8s} {'kept':>6s}")
    for r in rows:
        if r["set"] == "rolling":
            continue
        left = f"{r['kept']:6.2f}" if "kept" in r else ""
        print(f"{r['pair']:16s} {r['method']:22s} {r['aee']:8.3f} {r['ms_per_megapixel']:8.0f} {left}")
    print(*summary(rows), sep="\n")
    for label, share in shares.items():
        print(f"{label}: error left without the least trusted fifth, all pairs together: {share:.2f}")


if __name__ == "__main__":
    main()
