"""How a path has to change to explain one frame best, from that frame alone.

An image with few, sharp edges is found for the present path, shocked a little (Osher & Rudin
1990, doi:10.1137/0727053; Cho & Lee 2009, doi:10.1145/1661412.1618491), and a Gauss-Newton step on the slopes
of its blur says where the path should go. Blurring the plainly restored image again would be content with any
path; the sharpened edges are not.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from deblur.deconv.model import AlongPath
from deblur.deconv.variational import Variational
from deblur.types import Float

NUMERICS_VERSION = 1
ROUNDS = 12
FEW_EDGES = Variational(iterations=10, regularisation=2.0, power=0.2)
TOLERANCE = 1.0  # reduced pixels by which a path may differ from its cell's: only the whole is sought
SHOCKS = 1  # steps of the shock filter
PUSH = 2.5  # steps are too short by about this: the image still remembers the path that it was found for
LONGEST_STEP = 1.0  # reduced pixels
LEAST_PATH = 1.0  # reduced pixels; shorter blur says nothing about its length
BORDER = 8  # reduced pixels without a say: light came in from outside


def explain(blurred: Float, path: Float, sure: Float, along: list[Float]) -> Float:
    """How much of each field of `along`, (2, y, x) each, to add to `path` so that it explains `blurred` best.

    The fields change the path by about a reduced pixel a unit. Zero where there is too little to tell.
    """
    found = np.zeros(len(along), np.float32)
    if min(blurred.shape) < 4 * BORDER or np.median(np.hypot(path[0], path[1])) < LEAST_PATH:
        return found
    seen = _slopes(blurred)
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    for _ in range(ROUNDS):
        present = path + sum(n * field for n, field in zip(found, along, strict=True))
        here = _model(present)
        sharp = _shocked(FEW_EDGES.solve(blurred, here, noise=0.0, trust=None)[0])
        strength = gaussian_filter(np.hypot(*_slopes(sharp)), 2)
        weight = np.where(strength > np.quantile(strength, 0.7), sure, 0)[inner]
        rest = (seen - _slopes(here.apply(sharp)))[:, *inner]
        turns = [_slopes(_turned(sharp, present, field))[:, *inner] for field in along]
        step = _least_squares(turns, rest, weight)
        found += np.clip(np.float32(PUSH) * step, -LONGEST_STEP, LONGEST_STEP)
    return found


def _turned(sharp: Float, path: Float, field: Float) -> Float:
    """How the blurred image changes when the path grows by `field`."""
    half = np.float32(0.5) * field
    return _model(path + half).apply(sharp) - _model(path - half).apply(sharp)


def _model(path: Float) -> AlongPath:
    return AlongPath(path, tolerance=TOLERANCE, smallest=8)


def _least_squares(turns: list[Float], rest: Float, weight: Float) -> Float:
    """The step along `turns` that explains most of `rest`, robustly (Geman & McClure's weights)."""
    scale = 1.4826 * float(np.median(np.abs(rest))) + 1e-4
    robust = weight / (1 + (rest / np.float32(3 * scale)) ** 2)
    matrix = np.array([[np.sum(robust * a * b, dtype=np.float64) for a in turns] for b in turns])
    right = np.array([np.sum(robust * a * rest, dtype=np.float64) for a in turns])
    ridge = 1e-4 * np.trace(matrix) + 1e-12
    return np.asarray(np.linalg.solve(matrix + ridge * np.eye(len(turns)), right), np.float32)


def _slopes(plane: Float) -> Float:
    """(2, y, x): forward differences, zero at the far border."""
    out = np.zeros((2, *plane.shape), np.float32)
    np.subtract(plane[1:], plane[:-1], out=out[0, :-1])
    np.subtract(plane[:, 1:], plane[:, :-1], out=out[1, :, :-1])
    return out


def _shocked(plane: Float) -> Float:
    for _ in range(SHOCKS):
        out = np.empty_like(plane)
        _shock(plane, gaussian_filter(plane, 1.0), out)
        plane = out
    return plane


@njit(cache=True, nogil=True)
def _shock(x, smooth, out):  # type: ignore[no-untyped-def]
    """One step of the shock filter: towards the brighter or darker neighbours on each side of an edge."""
    h, w = x.shape
    half, zero = np.float32(0.5), np.float32(0)
    for i in range(h):
        up, down = max(i - 1, 0), min(i + 1, h - 1)
        for j in range(w):
            lo, hi = max(j - 1, 0), min(j + 1, w - 1)
            gy, gx = half * (smooth[down, j] - smooth[up, j]), half * (smooth[i, hi] - smooth[i, lo])
            c = smooth[i, j]
            gyy, gxx = smooth[down, j] - 2 * c + smooth[up, j], smooth[i, hi] - 2 * c + smooth[i, lo]
            gyx = (smooth[down, hi] - smooth[down, lo] - smooth[up, hi] + smooth[up, lo]) * np.float32(0.25)
            bend = gy * gy * gyy + 2 * gy * gx * gyx + gx * gx * gxx
            v = x[i, j]
            if bend < 0:
                a = max(max(x[up, j], x[down, j]) - v, zero)
                b = max(max(x[i, lo], x[i, hi]) - v, zero)
                out[i, j] = v + half * np.sqrt(a * a + b * b)
            else:
                a = max(v - min(x[up, j], x[down, j]), zero)
                b = max(v - min(x[i, lo], x[i, hi]), zero)
                out[i, j] = v - half * np.sqrt(a * a + b * b)
