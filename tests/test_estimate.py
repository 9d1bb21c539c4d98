"""Noise is measured where there is some, and little is made up where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.estimate import noise_level


@given(st.floats(0.001, 0.1), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_noise_is_found_on_smooth_content(level: float, seed: int) -> None:
    y, x = np.mgrid[:96, :128] / 40
    image = 0.5 + 0.3 * np.sin(x) * np.cos(y) + level * np.random.default_rng(seed).standard_normal((96, 128))
    assert abs(noise_level(image) / level - 1) < 0.1


def test_none_on_a_flat_or_tiny_image() -> None:
    assert noise_level(np.full((3, 20, 20), 0.3)) == 0
    assert noise_level(np.zeros((2, 2))) == 0


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ArrayError, match="shape"):
        noise_level(np.zeros(4))
    with pytest.raises(ArrayError, match="NaN"):
        noise_level(np.full((4, 4), np.inf))
