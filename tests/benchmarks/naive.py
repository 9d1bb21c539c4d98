"""Ours against the pipeline people write today, on a film whose truth is known: parts of scale.py.

The camera pans, turns and comes closer, so that the path differs from place to place and its direction from frame to
frame. The peer is dask.array.map_overlap over tiles: scipy's Sobel, scikit-image's optical flow (ILK or TV-L1), and
Richardson-Lucy with the line that the tile's median flow times the known exposure fraction gives, in its true direction.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblur import job as work
from deblur.config import parse_job
from deblur.light import decode, resolve
from deblur.probe import seconds_per_megapixel
from deblur.scene import Camera, make_scene, moving_view
from deblur.store import Archive
from deblur.window import RestoreSettings

FRACTION = 0.6
TILE, DEPTH = 512, 32
PEERS = ("ilk", "tvl1")  # by their optical flow
ROUNDS = 30  # of Richardson-Lucy


def film(folder: str, frames: str, side: str) -> None:
    """Write blurred.npy and truth.npy, (t, 1, y, x) uint16 in linear light."""
    size = int(side)
    scene = make_scene(0, (2 * size + 400, 2 * size + 400))
    camera = Camera(pan=(-5.0, 13.0), sway=0.2, rotation=6 / size, zoom=4 / size)
    seen = moving_view(
        scene, shape=(size, size), count=int(frames), camera=camera, exposure_fraction=FRACTION, subframes=24
    )
    Path(folder).mkdir(exist_ok=True)
    light = resolve(np.dtype(np.uint8), transfer="srgb", largest=255)
    for name, codes in (("blurred", seen.frames), ("truth", seen.truth)):
        grey = np.stack([decode(frame, light).mean(axis=0) for frame in codes])
        np.save(Path(folder) / f"{name}.npy", np.rint(grey[:, None] * 65535).astype(np.uint16))


def psnr(image: NDArray[np.uint16], truth: NDArray[np.uint16]) -> float:
    cut = (..., slice(32, -32), slice(32, -32))
    error = np.mean((image[cut].astype(np.float64) - truth[cut].astype(np.float64)) ** 2)
    return float(10 * np.log10(65535**2 / error))


def our_seconds(folder: str, frames: str, method: str) -> tuple[float, float, float]:
    """(wall and CPU seconds a megapixel of all stages, ingest to publication, kernels loaded; gain in dB)."""
    place = Path(folder)
    blurred, truth = (np.load(place / f"{name}.npy") for name in ("blurred", "truth"))
    np.save(place / "clip.npy", np.concatenate([blurred] * (int(frames) // len(blurred))))
    source = {"path": str(place / "clip.npy"), "exposure_fraction": FRACTION, "transfer": "linear"}
    told = {
        "archive": str(place / f"archive-{method}"),
        "restore": {"method": method},
        "cluster": {"kind": "serial"},
    }
    job = parse_job(told | {"sources": [source]})
    seconds_per_megapixel(RestoreSettings(method=method))
    began, cpu = time.perf_counter(), time.process_time()
    (outcome,) = work.run(job)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert outcome.plan is not None
    if not outcome.published:
        raise SystemExit("; ".join(outcome.faults()))
    pixels = Archive.open(job.archive).sequence("clip").run(outcome.plan.run).read("0", 0, 4)
    megapixels = int(frames) * truth[0, 0].size / 1e6
    return seconds / megapixels, cpu / megapixels, psnr(pixels, truth[:4]) - psnr(blurred[:4], truth[:4])


def naive_seconds(folder: str, side: str, flow: str) -> tuple[float, float, float]:
    """The same for a graph of map_overlap calls, on the middle of four frames."""
    import dask
    import dask.array as da

    blurred, truth = (
        _middle(np.load(Path(folder) / f"{name}.npy")[:4], int(side)) for name in ("blurred", "truth")
    )
    frames = da.from_array(blurred[:, 0].astype(np.float32) / 65535, chunks=(4, TILE, TILE))

    def pipeline(block: NDArray[np.float32]) -> NDArray[np.float32]:
        return restored_tile(block, flow)

    began, cpu = time.perf_counter(), time.process_time()
    with dask.config.set(scheduler="synchronous"):
        found = frames.map_overlap(
            pipeline, depth=(0, DEPTH, DEPTH), boundary="reflect", dtype=np.float32
        ).compute()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    pixels = np.rint(np.clip(found, 0, 1) * 65535).astype(np.uint16)[:, None]
    megapixels = blurred.size / 1e6
    return seconds / megapixels, cpu / megapixels, psnr(pixels, truth) - psnr(blurred, truth)


def restored_tile(block: NDArray[np.float32], flow: str) -> NDArray[np.float32]:
    """(t, y, x) linear light, each frame with the line that its median motion to a neighbour gives."""
    from scipy.ndimage import sobel
    from skimage.registration import optical_flow_ilk, optical_flow_tvl1
    from skimage.restoration import richardson_lucy

    out = np.empty_like(block)
    encoded = np.sqrt(block)  # flow wants evenly lit frames
    for t, frame in enumerate(block):
        np.hypot(sobel(frame, 0), sobel(frame, 1))
        pair = encoded[t], encoded[t + 1] if t + 1 < len(block) else encoded[t - 1]
        field = optical_flow_ilk(*pair, radius=7) if flow == "ilk" else optical_flow_tvl1(*pair)
        psf = line(*(np.median(field, axis=(1, 2)) * FRACTION))
        out[t] = richardson_lucy(frame, psf, num_iter=ROUNDS)
    return out


def line(dy: float, dx: float) -> NDArray[np.float32]:
    """The PSF of an even motion by (dy, dx) pixels, odd sides, sum 1; positions between pixels are shared bilinearly."""
    half = int(np.ceil(max(abs(dy), abs(dx)) / 2)) + 1
    psf = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for s in np.linspace(-0.5, 0.5, 8 * half + 1):
        y, x = half + s * dy, half + s * dx
        i, j = int(y), int(x)
        for k, b in ((i, i + 1 - y), (i + 1, y - i)):
            for m, a in ((j, j + 1 - x), (j + 1, x - j)):
                psf[k, m] += a * b
    return psf / psf.sum()


def _middle(frames: NDArray[np.uint16], side: int) -> NDArray[np.uint16]:
    first = (frames.shape[-1] - side) // 2
    return frames[..., first : first + side, first : first + side]
