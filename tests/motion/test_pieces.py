"""The kernels behind motion, each against plain NumPy; the pyramid's centre convention."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.motion.consistency import confidence_of, occlusion_of, round_trip
from deblur.motion.median import median5
from deblur.motion.pyramid import halve, reduce, upsample
from deblur.motion.relaxation import relax
from deblur.motion.search import search
from deblur.motion.warping import warp

sizes = st.integers(1, 40)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


@settings(max_examples=25, deadline=None)
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_halve_equals_the_binomial_filter(height: int, width: int, seed: int) -> None:
    image = noise(height, width, seed=seed)
    padded = np.pad(image, ((1, 3), (1, 3)), mode="edge").astype(float)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    taps = np.array([1, 3, 3, 1]) / 8
    expected = sum(
        taps[i] * taps[j] * padded[i : i + 2 * rows : 2, j : j + 2 * columns : 2]
        for i in range(4)
        for j in range(4)
    )
    np.testing.assert_allclose(halve(image), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_reduced_pixels_lie_where_the_convention_says(factor: int) -> None:
    y, x = np.mgrid[:64, :96].astype(np.float32)
    small = reduce(3 * y + x, factor)
    ry, rx = np.mgrid[: 64 // factor, : 96 // factor]
    expected = 3 * ((ry + 0.5) * factor - 0.5) + (rx + 0.5) * factor - 0.5
    np.testing.assert_allclose(small[2:-2, 2:-2], expected[2:-2, 2:-2], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([2, 4, 8]), y0=st.integers(0, 20), x0=st.integers(0, 20))
def test_a_window_of_the_upsampled_field_is_the_field_of_the_window(factor: int, y0: int, x0: int) -> None:
    field = noise(2, 6, 7, seed=factor)
    whole = upsample(field, factor=factor, y0=0, x0=0, height=6 * factor, width=7 * factor)
    height, width = 6 * factor - y0, 7 * factor - x0
    if min(height, width) < 1:
        return
    part = upsample(field, factor=factor, y0=y0, x0=x0, height=height, width=width)
    np.testing.assert_array_equal(part, whole[:, y0:, x0:])


def test_upsampling_a_ramp_gives_the_ramp() -> None:
    y, x = np.mgrid[:32, :48].astype(np.float32)
    ramp = np.stack([y, x])
    small = np.stack([reduce(plane, 4) for plane in ramp])
    back = upsample(small, factor=4, y0=0, x0=0, height=32, width=48)
    np.testing.assert_allclose(back[:, 8:-8, 8:-8], ramp[:, 8:-8, 8:-8], atol=1e-4)


def test_the_pyramid_refuses_what_it_cannot_do() -> None:
    for call in (
        lambda: halve(noise(2, 3, 4)),
        lambda: reduce(noise(8, 8), 3),
        lambda: reduce(noise(8, 8), 0),
        lambda: upsample(noise(8, 8), factor=2, y0=0, x0=0, height=4, width=4),
    ):
        with pytest.raises(ArrayError):
            call()


@settings(max_examples=25, deadline=None)
@given(height=sizes, width=st.integers(1, 300), seed=st.integers(0, 99))
def test_median_equals_the_middle_of_the_sorted(height: int, width: int, seed: int) -> None:
    field = noise(1, height, width, seed=seed)
    padded = np.pad(field[0], 2, mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).reshape(height, width, 25)
    np.testing.assert_array_equal(median5(field)[0], np.sort(views, axis=-1)[..., 12])


def test_warp_is_exact_on_whole_pixels_and_on_a_ramp() -> None:
    image = noise(20, 30)
    field = np.zeros((2, 20, 30), np.float32)
    field[0], field[1] = 3, -2
    moved, inside = warp(image, field)
    np.testing.assert_allclose(moved[:17, 2:], image[3:, :-2], atol=1e-6)
    assert inside[:17, 2:].all()
    assert not inside[17:].any()
    y, x = np.mgrid[:20, :30].astype(np.float32)
    moved, _ = warp(2 * y + x, field * np.float32(0.3))
    np.testing.assert_allclose(moved[3:-3, 3:-3], (2 * y + x + 1.2)[3:-3, 3:-3], rtol=1e-4)


def plain_relax(u, v, wx, wy, inverse, rhs, omega, sweeps):
    height, width = u.shape
    for _ in range(sweeps):
        for colour in (0, 1):
            for y in range(height):
                for x in range(width):
                    if (y + x) % 2 != colour:
                        continue
                    total = rhs[:, y, x].astype(float)
                    for yy, xx, w in (
                        (y, x - 1, wx[y, x]),
                        (y, x + 1, wx[y, x + 1]),
                        (y - 1, x, wy[y, x]),
                        (y + 1, x, wy[y + 1, x]),
                    ):
                        if 0 <= yy < height and 0 <= xx < width:
                            total += w * np.array([u[yy, xx], v[yy, xx]])
                    m11, m12, m22 = inverse[:, y, x]
                    u[y, x] += omega * (m11 * total[0] + m12 * total[1] - u[y, x])
                    v[y, x] += omega * (m12 * total[0] + m22 * total[1] - v[y, x])
    return np.stack([u, v])


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 4), (7, 9)])
def test_relax_equals_sweep_after_sweep(shape: tuple[int, int]) -> None:
    height, width = shape
    wx, wy = np.zeros((height, width + 1), np.float32), np.zeros((height + 1, width), np.float32)
    wx[:, 1:-1], wy[1:-1] = noise(height, width - 1), noise(height - 1, width)
    inverse, rhs, start = (
        noise(3, *shape) * np.float32(0.2),
        noise(2, *shape, seed=1),
        noise(2, *shape, seed=2),
    )
    u, v = np.pad(start, ((0, 0), (1, 1), (1, 1)))
    relax(u, v, wx, wy, inverse, rhs, np.float32(1.7), 3)
    expected = plain_relax(*start.astype(float), wx, wy, inverse, rhs, 1.7, 3)
    np.testing.assert_allclose(np.stack([u, v])[:, 1:-1, 1:-1], expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (3, -5), (-8, 9)])
def test_search_finds_whole_pixels(dy: int, dx: int) -> None:
    scene = noise(3, 80, 90) * np.float32(2)
    one, other = scene[:, 20:56, 20:60], scene[:, 20 - dy : 56 - dy, 20 - dx : 60 - dx]
    field = search(np.ascontiguousarray(one), np.ascontiguousarray(other))
    inner = field[:, 10:-10, 10:-10]
    assert (inner[0] == dy).mean() > 0.98
    assert (inner[1] == dx).mean() > 0.98


def test_search_leaves_large_images_alone() -> None:
    assert not search(noise(3, 200, 200), noise(3, 200, 200, seed=1)).any()


def test_a_round_trip_that_misses_is_not_trusted() -> None:
    forward = np.zeros((2, 20, 30), np.float32)
    forward[1] = 4
    miss, inside = round_trip(forward, -forward)
    assert miss.max() == 0
    assert inside.sum() == 20 * 26
    image = noise(20, 30)
    assert confidence_of(image, image, forward, forward).max() < 0.02
    assert occlusion_of(forward, forward).all()
