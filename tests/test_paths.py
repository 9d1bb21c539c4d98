"""The blur along a path: its adjoint, its limits, a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.paths import blur, blur_adjoint, exposure_path, psf_of

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.floats(0, 40)


def random_case(seed: int, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2))
    image, other = rng.random((2, *shape), np.float32)
    return image, other, rng.normal(0, length / 2, (2, *shape)).astype(np.float32)


def tent_integral(s: float) -> float:
    s = min(max(s, -1.0), 1.0)
    return 0.5 * (1 + s) ** 2 if s <= 0 else 1 - 0.5 * (1 - s) ** 2


def reference_blur(image: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Plain Python: the exact integral along the longer axis, linear across."""
    height, width = image.shape
    out = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        dy, dx = (float(v) for v in path[:, y, x])
        length = max(abs(dy), abs(dx))
        if length < 0.01:
            out[y, x] = image[y, x]
            continue
        for k in range(-int(np.ceil(length / 2)), int(np.ceil(length / 2)) + 1):
            weight = (tent_integral(length / 2 - k) - tent_integral(-length / 2 - k)) / length
            main_x = abs(dx) >= abs(dy)
            across = k * (dy / dx if main_x else dx / dy)
            low = int(np.floor(across))
            for step, share in ((low, 1 - (across - low)), (low + 1, across - low)):
                i, j = (y + step, x + k) if main_x else (y + k, x + step)
                out[y, x] += weight * share * image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
    return out


@given(SEEDS, LENGTHS)
@settings(max_examples=60, deadline=None)
def test_the_adjoint_is_exact(seed: int, length: float) -> None:
    image, other, path = random_case(seed, length)
    left = float(np.sum(blur(image, path).astype(np.float64) * other))
    right = float(np.sum(image.astype(np.float64) * blur_adjoint(other, path)))
    assert abs(left - right) <= 1e-5 * max(abs(left), 1)


@given(SEEDS, LENGTHS)
@settings(max_examples=20, deadline=None)
def test_blur_equals_the_plain_reference(seed: int, length: float) -> None:
    image, _, path = random_case(seed, length)
    np.testing.assert_allclose(blur(image, path), reference_blur(image, path), atol=3e-5)


@given(SEEDS, LENGTHS, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_flat_image_stays_flat_and_nothing_leaves_the_range(seed: int, length: float, level: float) -> None:
    image, _, path = random_case(seed, length)
    np.testing.assert_allclose(blur(np.full_like(image, level), path), level, atol=1e-5)
    seen = blur(image, path)
    assert seen.min() >= image.min() - 1e-5
    assert seen.max() <= image.max() + 1e-5


def test_no_path_is_the_identity_and_arguments_stay() -> None:
    image = np.random.default_rng(1).random((2, 9, 7), np.float32)
    path = np.zeros((2, 9, 7), np.float32)
    kept = image.copy()
    np.testing.assert_array_equal(blur(image, path), image)
    np.testing.assert_array_equal(blur_adjoint(image, path), image)
    np.testing.assert_array_equal(image, kept)


def test_a_window_gives_the_bits_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    image = rng.random((60, 80), np.float32)
    path = rng.normal(0, 3, (2, 60, 80)).astype(np.float32)
    whole, part = blur(image, path), blur(image[10:50, 20:70], path[:, 10:50, 20:70])
    np.testing.assert_array_equal(part[12:-12, 12:-12], whole[22:38, 32:58])


def test_psf_is_centred_and_sums_to_one() -> None:
    for vector in ((0, 0), (3.3, -5.2), (8, 1), (0.2, 0.1)):
        psf = psf_of(vector, size=15)
        offsets = np.arange(15) - 7
        assert abs(psf.sum() - 1) < 1e-5
        assert abs((psf.sum(0) * offsets).sum()) < 1e-5
        assert abs((psf.sum(1) * offsets).sum()) < 1e-5


def test_exposure_path_trusts_the_surer_side() -> None:
    ahead, behind = np.full((2, 1, 2), 4, np.float32), np.full((2, 1, 2), -8, np.float32)
    sure, unsure = np.array([[1.0, 1.0]], np.float32), np.array([[1.0, 0.0]], np.float32)
    path = exposure_path([ahead, behind], [0.5, -0.5], [sure, unsure])
    np.testing.assert_allclose(path[:, 0, 0], 3, rtol=1e-5)
    np.testing.assert_allclose(path[:, 0, 1], 2, rtol=1e-2)


def test_wrong_arrays_are_refused_in_one_line() -> None:
    image = np.zeros((4, 5), np.float32)
    for wrong in (np.zeros((2, 5, 4)), np.full((2, 4, 5), np.nan)):
        with pytest.raises(ArrayError, match="path"):
            blur(image, wrong)
    with pytest.raises(ArrayError, match="image"):
        blur(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(ArrayError, match="odd size"):
        psf_of((0, 9), size=5)
