"""Noise is measured where there is some, and little is made up where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.estimate import NoiseCurve, noise_curve, noise_level


@given(st.floats(0.001, 0.1), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_noise_is_found_on_smooth_content(level: float, seed: int) -> None:
    y, x = np.mgrid[:96, :128] / 40
    image = 0.5 + 0.3 * np.sin(x) * np.cos(y) + level * np.random.default_rng(seed).standard_normal((96, 128))
    assert abs(noise_level(image) / level - 1) < 0.1


def test_none_on_a_flat_or_tiny_image() -> None:
    assert noise_level(np.full((3, 20, 20), 0.3)) == 0
    assert noise_level(np.zeros((2, 2))) == 0


@given(st.floats(0, 2e-3), st.floats(1e-6, 1e-3), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_noise_that_grows_with_the_light_is_found(gain: float, floor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :260] / 60
    light = 0.45 + 0.3 * np.sin(x) * np.cos(y) + 0.1 * np.sin(3 * x)
    for _ in range(12):  # edges, which are no noise
        i, j = rng.integers(0, 180, 2)
        light[i : i + 20, j : j + 20] *= rng.uniform(0.6, 1.2)
    found = noise_curve(light + np.sqrt(gain * light + floor) * rng.standard_normal(light.shape))
    for at in (0.2, 0.5, 0.8):
        assert abs(found.sigma(at) / np.sqrt(gain * at + floor) - 1) < 0.2
    assert found.gain >= 0
    assert found.floor >= 0


def test_what_is_clipped_has_no_say() -> None:
    rng = np.random.default_rng(5)
    light = np.tile(np.linspace(0.1, 1.6, 300), (200, 1))
    seen = np.clip(light + np.sqrt(1e-3 * light) * rng.standard_normal(light.shape), 0, 1)
    assert abs(noise_curve(seen).sigma(0.5) / np.sqrt(5e-4) - 1) < 0.15


def test_a_curve_of_a_flat_or_tiny_image() -> None:
    assert noise_curve(np.full((3, 60, 60), 0.3)) == NoiseCurve(0.0, 0.0)
    assert noise_curve(np.zeros((2, 2))) == NoiseCurve(0.0, 0.0)
    flat = 0.5 + 0.02 * np.random.default_rng(1).standard_normal((120, 120))
    assert abs(noise_curve(flat).sigma(0.5) - 0.02) < 0.002


@pytest.mark.parametrize("measure", [noise_level, noise_curve])
def test_wrong_arrays_are_refused(measure: Callable[[np.ndarray], object]) -> None:
    with pytest.raises(ArrayError, match="shape"):
        measure(np.zeros(4))
    with pytest.raises(ArrayError, match="NaN"):
        measure(np.full((4, 4), np.inf))
