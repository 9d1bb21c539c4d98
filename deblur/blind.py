"""The PSF of one shaken image, from that image alone, coarse to fine.

On every level of a pyramid, an image of few, sharp edges is found for the present PSF (differences penalised by
their number: Xu, Lu, Xu & Jia 2011, doi:10.1145/2024156.2024208; Xu, Zheng & Jia 2013,
doi:10.1109/CVPR.2013.147), and then the PSF that turns its strongest edges into those seen (Cho & Lee 2009,
doi:10.1145/1661412.1618491). What such an image leaves out are the weak details that would vote for no blur.
The PSF found so is near, but a little wide; from there the likely one over all images is sought
(`deblur.marginal`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import label, shift, zoom

from deblur.deconv import noise_of
from deblur.deconv.wiener import closed
from deblur.errors import ArrayError
from deblur.marginal import likely_psf, spectrum_of
from deblur.types import Float

NUMERICS_VERSION = 2
ROUNDS = 5  # of image and PSF in turn, on each level
EDGES = 8e-3  # price of a difference that is not zero, at first ...
EDGES_LEAST = 1e-4  # ... and in the end: it falls by EDGES_DECAY a round
EDGES_DECAY = 1.1
STIFFEST = 1e5  # the coupling at which the image of few edges is final
RIDGE = 2.0  # on the PSF's square, against the votes of the edges
WEAKEST = 0.05  # share of the PSF's largest value below which it is noise


def estimate_psf(image: NDArray[Any], *, size: int) -> Float:
    """The PSF (size, size) that blurred `image`: not negative, sum 1, its centre of mass in the middle.

    `image`: (y, x) or (c, y, x) in linear light, nominally [0, 1]; the planes are averaged. `size`: odd, at
    least the PSF's width in pixels. Raises ArrayError for other shapes, an even size or one that leaves too
    little image, and for what isn't finite.

    >>> flat = np.full((40, 40), 0.5, np.float32)
    >>> float(estimate_psf(flat, size=5)[2, 2])
    1.0
    """
    planes = np.asarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"image of shape {planes.shape} has no PSF: use (y, x) or (c, y, x)")
    if not np.isfinite(planes).all():
        raise ArrayError("image holds NaN or infinity: fill what is unknown first")
    plane = planes if planes.ndim == 2 else planes.mean(axis=0)
    if size < 3 or size % 2 == 0 or min(plane.shape) < 2 * size:
        raise ArrayError(f"size {size} doesn't fit: use an odd number from 3 to half of {min(plane.shape)}")
    sizes = [size]
    while sizes[-1] > 5:
        sizes.append(max(3, 2 * int(sizes[-1] / np.sqrt(2) / 2) + 1))
    psf = np.zeros((sizes[-1], sizes[-1]), np.float32)
    psf[psf.shape[0] // 2, psf.shape[0] // 2] = 1
    price = EDGES
    for level in reversed(range(len(sizes))):
        scale = 0.5 ** (level / 2)
        psf = _resized(psf, sizes[level])
        seen = plane if level == 0 else _reduced(plane, scale)
        psf, price = _level(seen, psf, price)
    return _centred(likely_psf(plane, psf, noise=noise_of(plane[None])))


def _level(seen: Float, psf: Float, price: float) -> tuple[Float, float]:
    """Improve the PSF on one level; also how far the price of edges has fallen."""
    size = len(psf)
    shape = [scipy.fft.next_fast_len(n + size - 1, real=True) for n in seen.shape]
    before = [(s - n) // 2 for s, n in zip(shape, seen.shape, strict=True)]
    ring = closed(seen, before, shape)
    inner = tuple(slice(b, b + n) for b, n in zip(before, seen.shape, strict=True))
    slopes = _slopes(ring)
    for axis_slope in slopes:
        outside = np.ones(ring.shape, bool)
        outside[inner] = False
        axis_slope[outside] = 0
    spectra = [scipy.fft.rfft2(s, workers=1) for s in slopes]
    threshold: float | None = None
    for _ in range(ROUNDS):
        sparse = _few_edges(ring, psf, price)
        edges, threshold = _strong(_slopes(sparse), size, threshold)
        psf = _fitted(edges, spectra, size)
        price = max(price / EDGES_DECAY, EDGES_LEAST)
    return psf, price


def _few_edges(ring: Float, psf: Float, price: float) -> Float:
    """The image whose blur is near `ring` while few of its differences are not zero."""
    shape = ring.shape
    transfer = spectrum_of(psf, shape)
    spot = np.zeros(shape, np.float32)
    spot[0, 0] = 1
    power = sum(np.abs(scipy.fft.rfft2(s)) ** 2 for s in _slopes(spot))
    base = np.conj(transfer) * scipy.fft.rfft2(ring, workers=1)
    gain = np.abs(transfer) ** 2
    x, stiffness = ring, np.float32(2 * price)
    while stiffness < STIFFEST:
        dy, dx = _slopes(x)
        small = dy * dy + dx * dx < price / stiffness
        dy[small], dx[small] = 0, 0
        pull = (np.roll(dy, 1, 0) - dy) + (np.roll(dx, 1, 1) - dx)
        spectrum = (base + stiffness * scipy.fft.rfft2(pull, workers=1)) / (gain + stiffness * power)
        x = np.asarray(scipy.fft.irfft2(spectrum, s=shape, workers=1), np.float32)
        stiffness *= np.float32(2)
    return x


def _strong(slopes: list[Float], size: int, threshold: float | None) -> tuple[list[Float], float]:
    """Only the strongest slopes, enough of every direction; the threshold falls a little each time."""
    strength = np.hypot(*slopes)
    if threshold is None:
        turn = np.mod(np.arctan2(slopes[0], slopes[1]), np.pi)
        wanted = size * 20
        threshold = np.inf
        for k in range(4):
            sector = strength[(turn >= k * np.pi / 4) & (turn < (k + 1) * np.pi / 4)]
            count = min(wanted, sector.size)
            least = float(np.partition(sector, sector.size - count)[sector.size - count]) if count else 0.0
            threshold = min(threshold, least)
    else:
        threshold /= 1.1
    weak = strength < threshold
    return [np.where(weak, np.float32(0), s) for s in slopes], threshold


def _fitted(edges: list[Float], seen: list[NDArray[np.complex64]], size: int) -> Float:
    """The PSF by ridge regression of what was seen on the edges, cleaned."""
    shape = edges[0].shape
    spectra = [scipy.fft.rfft2(e, workers=1) for e in edges]
    cross = sum(np.conj(e) * s for e, s in zip(spectra, seen, strict=True))
    power = sum(np.abs(e) ** 2 for e in spectra)
    target = _cropped(scipy.fft.irfft2(cross, s=shape), size)
    psf = np.zeros((size, size))
    rest = target.copy()
    way = rest.copy()
    energy = float((rest * rest).sum())
    for _ in range(21):  # conjugate gradients on the PSF's own small grid
        if energy < 1e-12:
            break
        image = np.zeros(shape)
        image[:size, :size] = way
        image = np.roll(image, (-(size // 2), -(size // 2)), (0, 1))
        bent = _cropped(scipy.fft.irfft2(scipy.fft.rfft2(image) * power, s=shape), size) + RIDGE * way
        step = energy / float((way * bent).sum())
        psf += step * way
        rest -= step * bent
        fresh = float((rest * rest).sum())
        way = rest + fresh / energy * way
        energy = fresh
    return _cleaned(psf)


def _cleaned(psf: NDArray[np.float64]) -> Float:
    """Not negative, without specks, sum 1; a point where nothing is left."""
    kept = np.where(psf < WEAKEST * psf.max(), 0.0, psf)
    parts, count = label(kept, np.ones((3, 3)))
    total = kept.sum()
    for k in range(1, count + 1):
        if kept[parts == k].sum() < 0.1 * total:
            kept[parts == k] = 0
    total = kept.sum()
    if not total > 0:
        kept = np.zeros_like(kept)
        kept[len(kept) // 2, len(kept) // 2] = total = 1
    return np.asarray(kept / total, np.float32)


def _centred(psf: Float) -> Float:
    """Moved by whole pixels so that the centre of mass is in the middle pixel."""
    middle = (len(psf) - 1) / 2
    grid = np.arange(len(psf)) - middle
    off = [round(float((psf.sum(axis=1 - a) * grid).sum())) for a in (0, 1)]
    moved = shift(psf, [-o for o in off], order=0)
    return np.asarray(moved / moved.sum(), np.float32)


def _slopes(plane: Float) -> list[Float]:
    """Forward differences down and across, closed into a ring."""
    return [np.roll(plane, -1, axis) - plane for axis in (0, 1)]


def _cropped(plane: NDArray[Any], size: int) -> NDArray[np.float64]:
    """The (size, size) around the origin of a ring."""
    return np.asarray(np.roll(plane, (size // 2, size // 2), (0, 1))[:size, :size], np.float64)


def _reduced(plane: Float, scale: float) -> Float:
    """Reduced by `scale`, low-passed in the frequency domain first."""
    fy, fx = scipy.fft.fftfreq(plane.shape[0])[:, None], scipy.fft.rfftfreq(plane.shape[1])[None]
    keep = np.exp(-0.5 * (fy * fy + fx * fx) * (2 * np.pi) ** 2 * 0.25 * (1 / scale**2 - 1))
    smooth = scipy.fft.irfft2(scipy.fft.rfft2(plane) * keep, s=plane.shape)
    return np.asarray(zoom(smooth, scale, order=1, mode="nearest", grid_mode=True), np.float32)


def _resized(psf: Float, size: int) -> Float:
    """Enlarged to (size, size) about its centre."""
    if len(psf) == size:
        return psf
    grown = np.clip(zoom(psf, size / len(psf), order=1, mode="nearest", grid_mode=True), 0, None)
    out = np.zeros((size, size), np.float32)
    k = min(size, len(grown))
    out[:k, :k] = grown[:k, :k]
    return np.asarray(out / out.sum(), np.float32)
