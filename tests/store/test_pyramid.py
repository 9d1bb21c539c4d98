"""Smaller copies of an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deblur.errors import ArrayError
from deblur.store import halve, levels_for
from deblur.store.pyramid import level_extent

images = hnp.arrays(
    st.sampled_from(["u1", "u2", "i2", "f4"]), hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)
).filter(lambda image: bool(np.isfinite(image).all() and (np.abs(image.astype(float)) < 1e30).all()))


@given(images)
def test_it_is_the_mean_of_two_by_two(image: np.ndarray) -> None:
    found = halve(image)
    odd = [(0, 0)] * (image.ndim - 2) + [(0, n % 2) for n in image.shape[-2:]]
    even = np.pad(image, odd, mode="edge").astype(float)
    mean = (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
    expected = mean if image.dtype.kind == "f" else np.floor(mean + 0.5)
    assert found.dtype == image.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(even).max())


@given(images, st.integers(0, 4), st.integers(0, 4))
def test_blocks_at_even_places_give_the_same(image: np.ndarray, y: int, x: int) -> None:
    y, x = (min(2 * cut, n - n % 2) for cut, n in zip((y, x), image.shape[-2:], strict=True))
    for rows, left in ((slice(0, y), 0), (slice(y, None), y // 2)):
        for columns, top in ((slice(0, x), 0), (slice(x, None), x // 2)):
            block = image[..., rows, columns]
            if block.size:
                part = halve(block)
                whole = halve(image)[..., left : left + part.shape[-2], top : top + part.shape[-1]]
                np.testing.assert_array_equal(part, whole)


@given(st.integers(1, 5000), st.integers(0, 8))
def test_extents_are_those_of_repeated_halving(extent: int, level: int) -> None:
    side = extent
    for _ in range(level):
        side = (side + 1) // 2
    assert level_extent(extent, level) == side


@given(st.integers(1, 20000), st.integers(1, 20000))
def test_the_last_level_fits_a_chunk_and_the_one_before_does_not(height: int, width: int) -> None:
    levels = levels_for(height, width, chunk=256)
    assert max(level_extent(n, levels - 1) for n in (height, width)) <= 256
    assert levels == 1 or max(level_extent(n, levels - 2) for n in (height, width)) > 256


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 3, 0)])
def test_nothing_to_halve_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArrayError, match="halve"):
        halve(np.zeros(shape))
