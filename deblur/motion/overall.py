"""A start for the motion of a whole frame: one shift by correlation, refined to an affine map.

Where a view is full of alike things, as roofs and rows of trees are, or turns while it moves far, matching
pixel by pixel is lost, while all pixels together still agree. What overlaps is correlated for every shift at
once, its mean and spread taken out (Padfield 2012, doi:10.1109/TIP.2011.2181402); for the best few, six
parameters follow by robust Gauss-Newton steps (Baker & Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deblur.motion.warping import warp
from deblur.types import Float

OVERLAP = 0.4  # share of the frame: shifts that leave less are not tried
PEAKS = 4  # shifts that are refined
TURNS = (0, -5, 5)  # degrees: whole-pixel correlation bears half as much to either side
APART = 2  # px by which they differ at least
FITS = 0.8  # correlation, of brightness and of slopes, from which on a field fits
DISTINCT = 0.04  # ... and by how much it must fit better than another one elsewhere
NOISE = 0.01  # differences of images in [0, 1] below it weigh alike
STEPS = 12
SETTLED = 1e-3  # px: smaller steps end the refinement


def likeness(one: Float, other: Float, field: Float) -> tuple[float, float]:
    """The correlation of `one` with `other` brought back by `field`, where that stays inside, and that of slopes.

    Any two views share their coarse brightness to a degree; only one scene shares its slopes. 0 where nothing
    changes, or too little stays inside to tell.
    """
    moved, inside = warp(other, field)
    if np.mean(inside) < OVERLAP / 2:
        return 0.0, 0.0
    a, b = one[inside], moved[inside]
    values = _correlation(a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64))
    return values, _correlation(_slopes(one)[:, inside], _slopes(moved)[:, inside])


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    both, *power = (float(np.sum(p * q, dtype=np.float64)) for p, q in ((a, b), (a, a), (b, b)))
    return both / float(np.sqrt(power[0] * power[1])) if min(power) > 0 else 0.0


def affine(one: Float, other: Float) -> Float | None:
    """The affine field (2, y, x) that carries `one` to `other`, images (y, x).

    None where nothing fits, as between views that share too little, or where several far apart fit alike.

    >>> scene = np.random.default_rng(0).random((60, 70), np.float32)
    >>> affine(scene[10:50, 10:60], scene[4:44, 17:67]).mean(axis=(1, 2)).round(1).tolist()
    [6.0, -7.0]
    """
    starts = [found for turn in TURNS for found in _starts(one, other, np.deg2rad(turn))]
    likely = sorted(starts, key=lambda found: -found[0])[:PEAKS]
    fields = [_refined(one, other, field) for _, field in likely]
    rated = sorted(((likeness(one, other, field), field) for field in fields), key=lambda pair: -pair[0][0])
    (values, slopes), best = rated[0]
    rivals = [fit[0] for fit, field in rated[1:] if np.abs(field - best).mean() > APART]
    if min(values, slopes) < FITS or max(rivals, default=0.0) > values - DISTINCT:
        return None
    return best


def _starts(one: Float, other: Float, turn: float) -> list[tuple[float, Float]]:
    """The best shifts after a turn (radians): how well what overlaps correlates, and the field (2, y, x)."""
    y, x = (np.arange(n)[:, None] - (n - 1) / 2 for n in one.shape)
    away = np.stack(_turned(y, x.T, turn)) - np.stack(np.broadcast_arrays(y, x.T))
    away = np.ascontiguousarray(away, np.float32)
    seen, inside = warp(other, away)
    found = []
    for score, (dy, dx) in _shifts(one, seen, inside.astype(np.float32)):
        found.append((score, away + np.array(_turned(dy, dx, turn), np.float32)[:, None, None]))
    return found


def _turned(y: Any, x: Any, turn: float) -> tuple[Any, Any]:
    return np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y


def _shifts(one: Float, other: Float, seen: Float) -> list[tuple[float, NDArray[np.int64]]]:
    """Whole-pixel (dy, dx) for which what overlaps correlates best; `seen`: 1 where `other` is known."""
    height, width = one.shape
    size = fft.next_fast_len(2 * height - 1, True), fft.next_fast_len(2 * width - 1, True)
    a, b = one - one.mean(), (other - one.mean()) * seen
    full, known, first, first2, second, second2 = (
        fft.rfft2(plane, size) for plane in (np.ones_like(a), seen, a, a * a, b, b * b)
    )

    def correlate(left: Float, right: Float) -> Float:
        return np.asarray(fft.irfft2(np.conj(left) * right, size))

    count = np.maximum(correlate(full, known), 1)
    sums = correlate(first, known), correlate(full, second)
    spread = np.float32(NOISE**2) * count  # flat areas don't correlate
    power = [
        np.maximum(square - total * total / count, spread)
        for square, total in ((correlate(first2, known), sums[0]), (correlate(full, second2), sums[1]))
    ]
    score = (correlate(first, second) - sums[0] * sums[1] / count) / np.sqrt(power[0] * power[1])
    score[count < OVERLAP * height * width] = -2
    found = []
    for _ in range(PEAKS):
        at = np.array(np.unravel_index(np.argmax(score), size))
        found.append((float(score[tuple(at)]), np.where(2 * at > size, at - size, at)))
        near = np.ix_(*(np.arange(k - APART, k + APART + 1) % n for k, n in zip(at, size, strict=True)))
        score[near] = -2
    return found


def _refined(one: Float, other: Float, start: Float) -> Float:
    """The affine field near `start`, itself one."""
    field = start.copy()
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in one.shape)
    shapes = np.stack(np.broadcast_arrays(np.float32(1), y[:, None], x))
    slopes = _slopes(one)
    for _ in range(STEPS):
        moved, inside = warp(other, field)
        if np.mean(inside) < OVERLAP / 2:
            break
        rest = (moved - one)[inside]
        dy, dx = (np.float32(0.5) * (slopes + _slopes(moved)))[:, inside]
        light = np.stack([np.ones_like(rest), moved[inside]])  # the second frame may be brighter
        columns = np.concatenate([dy * shapes[:, inside], dx * shapes[:, inside], light])
        off = rest - np.median(rest)
        columns, rest = columns.astype(np.float64), rest.astype(np.float64)
        weighted = columns / (1 + np.square(off / (np.median(np.abs(off)) + np.float32(NOISE))))
        matrix = np.einsum("in,jn->ij", weighted, columns)  # no BLAS: the same bits on any number of threads
        matrix[np.diag_indices(len(matrix))] += 1e-6 * np.trace(matrix)
        step = np.linalg.solve(matrix, np.einsum("in,n->i", weighted, rest))[:6].reshape(2, 3)
        for plane, (fixed, down, right) in zip(field, step.astype(np.float32), strict=True):
            plane -= fixed + down * y[:, None] + right * x
        if np.abs(step).max() < SETTLED:
            break
    return field


def _slopes(image: Float) -> Float:
    """(2, y, x): central differences, zero at the border."""
    out = np.zeros((2, *image.shape), np.float32)
    out[0, 1:-1] = (image[2:] - image[:-2]) * np.float32(0.5)
    out[1, :, 1:-1] = (image[:, 2:] - image[:, :-2]) * np.float32(0.5)
    return out
