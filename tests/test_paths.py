"""The blur along a path: its adjoint, its limits, a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.paths import TOLERANCE, blur, blur_adjoint, exposure_path, psf_of, trails

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.floats(0, 40)


def random_case(seed: int, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2))
    image, other = rng.random((2, *shape), np.float32)
    return image, other, rng.normal(0, length / 2, (2, *shape)).astype(np.float32)


def reference_blur(image: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Plain Python: time spent in each column along the longer axis, the mean place across, linear."""
    height, width = image.shape
    bent = np.zeros((4, height, width))
    bent[: len(path)] = path
    out = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        d, b = bent[:2, y, x], bent[2:, y, x]
        reach = np.abs(d) / 2 + np.abs(b)
        main = 1 if reach[1] >= reach[0] else 0
        n = int(np.ceil(reach[main])) if reach[main] >= 0.005 else 0
        s = (np.arange(16 * n) + 0.5) / (16 * n) - 0.5 if n else np.zeros(1)
        place = -(d[:, None] * s + 4 * b[:, None] * s * s) if n else np.zeros((2, 1))
        for k in range(-n, n + 1):
            share = np.maximum(1 - np.abs(place[main] - k), 0) / s.size
            if share.sum() <= 0:
                continue
            across = float((share * place[1 - main]).sum() / share.sum())
            low = int(np.floor(across))
            for step, part in ((low, 1 - (across - low)), (low + 1, across - low)):
                i, j = (y + step, x + k) if main == 1 else (y + k, x + step)
                value = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                out[y, x] += share.sum() * part * value
    return out


@st.composite
def fields(draw: st.DrawFn) -> np.ndarray:
    """Paths of any size and kind: straight or bent, even, turning or unlike from pixel to pixel, to 120 px."""
    rng = np.random.default_rng(draw(SEEDS))
    height, width = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    planes, length = draw(st.sampled_from([2, 4])), draw(st.floats(0, 120))
    y, x = np.mgrid[:height, :width] / 50
    slope, start, rough = rng.uniform(-1, 1, (3, planes, 1, 1)) * draw(st.sampled_from([0, 0.05, 1]))
    field = (
        rng.uniform(-1, 1, (planes, 1, 1)) + slope * y + start * x + rough * rng.normal(0, 1, (height, width))
    )
    longest = np.abs(field[:2]).max() + (2 * np.abs(field[2:]).max() if planes == 4 else 0)
    return np.asarray(field / max(longest, 1e-6) * length, np.float32)


CUTS = st.sampled_from([(0.0, 1), (0.125, 1), (0.5, 8), (0.5, 16)])


@given(fields(), CUTS, SEEDS)
@settings(max_examples=100, deadline=None)
def test_the_adjoint_is_exact(path: np.ndarray, cut: tuple[float, int], seed: int) -> None:
    image, other = np.random.default_rng(seed).random((2, *path.shape[1:]), np.float32)
    ready = trails(path, tolerance=cut[0], smallest=cut[1])
    left = float(np.sum(ready.blur(image).astype(np.float64) * other))
    right = float(np.sum(image.astype(np.float64) * ready.adjoint(other)))
    assert abs(left - right) <= 2e-6 * abs(left)


@given(fields(), CUTS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_any_cells_equal_their_taps_one_by_one(path: np.ndarray, cut: tuple[float, int], seed: int) -> None:
    image = np.random.default_rng(seed).random(path.shape[1:], np.float32)
    ready = trails(path, tolerance=cut[0], smallest=cut[1])
    own = np.zeros((4, *path.shape[1:]), np.float32)
    for (y, x, height, width), middle in zip(ready.cells, ready.path, strict=True):
        own[:, y : y + height, x : x + width] = middle[:, None, None]
    single = trails(own, tolerance=-1)  # no cell is even enough
    assert len(single.cells) == image.size
    np.testing.assert_allclose(ready.blur(image), single.blur(image), atol=2e-6)
    np.testing.assert_allclose(ready.adjoint(image), single.adjoint(image), rtol=1e-5, atol=2e-6)


@given(SEEDS, LENGTHS)
@settings(max_examples=20, deadline=None)
def test_blur_equals_the_plain_reference(seed: int, length: float) -> None:
    image, _, path = random_case(seed, length)
    for field in (path, np.concatenate([path, path[::-1] / 4])):
        exact = trails(field, tolerance=0)  # each pixel by its own path
        np.testing.assert_allclose(exact.blur(image), reference_blur(image, field), atol=3e-3)


@given(SEEDS, st.floats(0, 0.05))
@settings(max_examples=12, deadline=None)
def test_cells_stay_near_the_path_of_each_pixel(seed: int, slope: float) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:33, :41].astype(np.float32)
    path = np.stack([3 + slope * x, 9 + slope * y]).astype(np.float32)
    ready = trails(path)
    assert len(ready.cells) < 33 * 41 / 12
    for top, left, height, width in ready.cells:
        cell = path[:, top : top + height, left : left + width]
        assert np.all(np.ptp(cell, axis=(1, 2)) <= 2 * TOLERANCE + 1e-5)
    assert sum(int(c[2]) * int(c[3]) for c in ready.cells) == path[0].size
    image = rng.random((33, 41), np.float32)
    assert np.sqrt(np.mean((ready.blur(image) - reference_blur(image, path)) ** 2)) < 0.012


def test_a_bent_path_collects_light_from_its_bend() -> None:
    spot = np.zeros((21, 21), np.float32)
    spot[10, 10] = 1
    psf = psf_of((0, 8, 3, 0), size=21)
    offsets = np.arange(21) - 10
    assert abs(float(psf.sum()) - 1) < 1e-5
    assert abs(float((psf.sum(1) * offsets).sum()) - 1) < 0.05  # the mean of 4 b s² is b / 3


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
    image = rng.random((100, 120), np.float32)
    turning = np.stack([np.full((100, 120), 2.5), np.mgrid[:100, :120][0] / 30]).astype(np.float32)
    rough = rng.uniform(-9, 9, (2, 100, 120)).astype(np.float32)
    for field in (rough, turning, np.concatenate([turning * 4, turning / 2])):
        whole, part = trails(field), trails(field[:, 16:80, 32:96])
        window = np.ascontiguousarray(image[16:80, 32:96])
        inner = (slice(12, -12), slice(12, -12))
        np.testing.assert_array_equal(part.blur(window)[inner], whole.blur(image)[16:80, 32:96][inner])
        np.testing.assert_array_equal(part.adjoint(window)[inner], whole.adjoint(image)[16:80, 32:96][inner])


def test_planes_are_blurred_one_like_the_other() -> None:
    rng = np.random.default_rng(3)
    colour = rng.random((3, 20, 37), np.float32)
    ready = trails(rng.normal(0, 4, (2, 20, 37)))
    np.testing.assert_array_equal(ready.blur(colour), np.stack([ready.blur(plane) for plane in colour]))
    np.testing.assert_array_equal(ready.adjoint(colour), np.stack([ready.adjoint(plane) for plane in colour]))
    for kind in (
        np.asfortranarray(colour[0]),
        colour[0].astype(np.float64),
        np.repeat(colour[0], 2, axis=1)[:, ::2],
    ):
        np.testing.assert_array_equal(ready.blur(kind), ready.blur(colour[0]))
    with pytest.raises(ArrayError, match="planes"):
        ready.blur(colour[0].T)


def test_a_path_longer_than_the_plane_needs_no_more_room() -> None:
    field = np.full((2, 5, 9), 150, np.float32)
    ready = trails(field)
    assert ready.room[0] * ready.room[1] < 5000
    image = np.random.default_rng(4).random((5, 9), np.float32)
    np.testing.assert_allclose(ready.blur(image), reference_blur(image, field), atol=3e-3)


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
    for wrong in (np.zeros((2, 5, 4)), np.full((2, 4, 5), np.nan), np.full((2, 4, 5), 1e30)):
        with pytest.raises(ArrayError, match="path"):
            blur(image, wrong)
    with pytest.raises(ArrayError, match="image"):
        blur(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(ArrayError, match="odd size"):
        psf_of((0, 9), size=5)
