"""The PSF from one image: shape, sum, truth on a scene of edges, one line for what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve

from deblur.blind import estimate_psf
from deblur.deconv import deconvolve
from deblur.errors import ArrayError


def scene(side: int = 160) -> np.ndarray:
    rng = np.random.default_rng(4)
    image = np.full((side, side), 0.5, np.float32)
    for _ in range(70):
        y, x = rng.integers(0, side, 2)
        image[y : y + rng.integers(4, 40), x : x + rng.integers(4, 40)] = rng.uniform(0.1, 0.9)
    return image


def shaken() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    psf = np.zeros((11, 11), np.float32)
    for k in range(9):
        psf[1 + k, 5 + round(2 * np.sin(k / 2))] = 1
    psf /= psf.sum()
    sharp = scene()
    return sharp, np.asarray(convolve(sharp, psf, mode="nearest"), np.float32), psf


def test_a_known_shake_is_found_and_undone() -> None:
    sharp, seen, _ = shaken()
    found = estimate_psf(seen, size=15)
    assert found.shape == (15, 15)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert abs(float(found.sum()) - 1) < 1e-5
    cut = np.s_[24:-24, 24:-24]
    restored = deconvolve(seen, psf=found)
    shifts = [np.roll(restored, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    after = min(float(np.mean((v - sharp)[cut] ** 2)) for v in shifts)
    assert after < 0.4 * float(np.mean((seen - sharp)[cut] ** 2))


def test_planes_are_averaged_and_arguments_stay() -> None:
    _, seen, _ = shaken()
    stack = np.stack([seen[:80, :80]] * 3)
    kept = stack.copy()
    found = estimate_psf(stack, size=9)
    np.testing.assert_array_equal(stack, kept)
    np.testing.assert_allclose(found, estimate_psf(seen[:80, :80], size=9), atol=1e-3)


def test_wrong_use_is_refused_in_one_line() -> None:
    image = np.zeros((40, 40), np.float32)
    for words, given, size in (
        ("size", image, 8),
        ("size", image, 31),
        ("shape", image[0], 5),
        ("NaN", np.full((40, 40), np.nan), 5),
    ):
        with pytest.raises(ArrayError, match=words) as caught:
            estimate_psf(given, size=size)
        assert "\n" not in str(caught.value)
