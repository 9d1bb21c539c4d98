"""A filter over a big Zarr array on one worker, by our units and by dask.array.map_overlap: parts of scale.py."""

from __future__ import annotations

import numpy as np

from deblur.clusters import connect
from deblur.config import Cluster
from deblur.unit import peak_memory

HALO = 32


def smooth(block: np.ndarray) -> np.ndarray:
    """Something with a halo and the appetite of a real filter."""
    from scipy.ndimage import uniform_filter

    return uniform_filter(block.astype(np.float32), 2 * HALO + 1)


def filter_part(path: str, target: str, y: int, x: int) -> int:
    """One block that reads its halo from the store; returns the worker's peak in bytes."""
    import zarr

    source = zarr.open_array(path, mode="r")
    side = source.shape[0]
    a, b = max(0, y - HALO), max(0, x - HALO)
    block = smooth(source[a : min(side, y + 1024 + HALO), b : min(side, x + 1024 + HALO)])
    zarr.open_array(target, mode="r+")[y : y + 1024, x : x + 1024] = block[
        y - a : y - a + 1024, x - b : x - b + 1024
    ]
    return peak_memory()


def warmed() -> int:
    """The worker's peak once everything is imported and one block of the work is done."""
    import dask.array  # noqa: F401
    import zarr  # noqa: F401

    smooth(np.zeros((64, 64), np.uint16))
    return peak_memory()


def filter_memory(kind: str, path: str, target: str) -> int:
    """Peak bytes of the one worker, above what it had before."""
    import dask.array as da
    import zarr

    source = zarr.open_array(path, mode="r")
    out = zarr.create_array(
        target, shape=source.shape, dtype="float32", shards=(1024, 1024), chunks=(256, 256)
    )
    with connect(Cluster(kind="local", workers=1), memory=6 * 2**30) as client:
        before = client.submit(warmed).result()
        if kind == "ours":
            for y in range(0, source.shape[0], 1024):
                row = [
                    client.submit(filter_part, path, target, y, x) for x in range(0, source.shape[1], 1024)
                ]
                client.gather(row)
        else:
            image = da.from_zarr(path, chunks=(1024, 1024))
            image.map_overlap(smooth, depth=HALO, boundary="reflect", dtype=np.float32).store(out, lock=False)
        return int(client.submit(peak_memory, pure=False).result() - before)
