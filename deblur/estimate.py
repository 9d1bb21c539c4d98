"""What must be known before restoring: the noise, as one number, and as it grows with the light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from deblur.deconv import noise_of
from deblur.errors import ArrayError
from deblur.types import Float

LEVELS = 24  # of light, with as many pixels each
FEWEST = 400  # pixels of a level
ROUNDS = 20  # of reweighting the line


@dataclass(frozen=True, slots=True)
class NoiseCurve:
    """Noise variance as a line over the light: `gain` × light + `floor` (photons, and what a sensor reads out)."""

    gain: float
    floor: float

    def sigma(self, light: float) -> float:
        """Standard deviation at that light."""
        return float(np.sqrt(max(self.floor + self.gain * light, 0.0)))


def noise_curve(image: NDArray[Any]) -> NoiseCurve:
    """How an image's noise grows with its light; `image`: (y, x) or (c, y, x) in linear light.

    Pixels are sorted into levels of light by their surroundings; in each the noise is measured as in `noise_level`,
    and a line through the variances, neither falling nor below zero, is fitted by least absolute differences:
    the Poisson-Gaussian model of Foi, Trimeche, Katkovnik & Egiazarian 2008 (doi:10.1109/TIP.2008.2001399). A
    clipped level has no noise and has no say. Returns zeros for images too small to tell. Raises ArrayError for
    other shapes or what isn't finite.

    >>> rng = np.random.default_rng(0)
    >>> light = np.tile(np.linspace(0.05, 0.9, 400, dtype=np.float32), (300, 1))
    >>> found = noise_curve(light + np.sqrt(2e-4 * light + 1e-5) * rng.standard_normal(light.shape))
    >>> round(found.gain, 5), round(found.sigma(0.5), 3)
    (0.0002, 0.01)
    """
    planes = _planes(image)
    if min(planes.shape[1:]) < 5:
        return NoiseCurve(0.0, 0.0)
    light = np.concatenate([uniform_filter(plane, 5)[2:-2, 2:-2].ravel() for plane in planes])
    second = np.concatenate([np.abs(_second(plane))[1:-1, 1:-1].ravel() for plane in planes])
    open_ = (light > 0.002) & (light < 0.98)
    light, second = light[open_], second[open_]
    if light.size < 3 * FEWEST:
        return NoiseCurve(0.0, noise_level(image) ** 2)
    order = np.argsort(light, kind="stable")
    levels = np.array_split(order, min(LEVELS, light.size // FEWEST))
    at = np.array([light[level].mean(dtype=np.float64) for level in levels])
    variance = np.array([(float(np.median(second[level])) / 0.6745 / 6) ** 2 for level in levels])
    return _line(at, variance)


def _line(at: NDArray[np.float64], variance: NDArray[np.float64]) -> NoiseCurve:
    """The line of least absolute differences, relative to the noise: of texture some levels have too much."""
    weight = 1 / (variance + variance.mean() + 1e-15)
    gain, floor = 0.0, float(np.median(variance))
    for _ in range(ROUNDS):
        mean = np.average(at, weights=weight), np.average(variance, weights=weight)
        across = float(np.sum(weight * (at - mean[0]) ** 2))
        gain = max(0.0, float(np.sum(weight * (at - mean[0]) * (variance - mean[1]))) / (across + 1e-15))
        floor = float(mean[1] - gain * mean[0])
        if floor < 0:
            floor, gain = 0.0, max(0.0, float(np.sum(weight * at * variance) / np.sum(weight * at * at)))
        scale = variance + variance.mean() + 1e-15
        weight = 1 / (scale * np.maximum(np.abs(variance - gain * at - floor), 0.02 * scale))
    return NoiseCurve(gain, floor)


def _second(plane: Float) -> Float:
    rows = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    return np.asarray(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:], np.float32)


def noise_level(image: NDArray[Any]) -> float:
    """Standard deviation of an image's noise, (y, x) or (c, y, x), in the image's own units.

    The median of the second mixed difference's magnitude, which smooth content and edges hardly touch
    (Immerkaer 1996, doi:10.1006/cviu.1996.0060; the median as in Donoho & Johnstone 1994,
    doi:10.1093/biomet/81.3.425).
    Returns 0 for images too small to tell. Raises ArrayError for other shapes or what isn't finite.

    >>> rng = np.random.default_rng(0)
    >>> round(noise_level(0.5 + 0.02 * rng.standard_normal((200, 200))), 3)
    0.02
    """
    return noise_of(_planes(image))


def _planes(image: NDArray[Any]) -> Float:
    planes = np.asarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"noise can't be measured on shape {planes.shape}: use (y, x) or (c, y, x)")
    if not np.isfinite(planes).all():
        raise ArrayError("noise can't be measured on NaN or infinity: fill what is unknown first")
    return planes.reshape(-1, *planes.shape[-2:])
