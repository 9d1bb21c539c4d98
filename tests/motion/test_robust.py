"""What frames from real cameras do to motion: light, noise, clipping, nothing to see, far ways; every method."""

import numpy as np
import pytest

from deblur.motion import METHODS, estimate_motion, estimate_motion_pair
from tests.motion.scenes import photograph, visible

HEIGHT, WIDTH = 144, 176


def views(dy: int, dx: int, *, margin: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    scene = photograph(HEIGHT + 2 * margin, WIDTH + 2 * margin, seed)
    cut = [
        scene[margin - j : margin - j + HEIGHT, margin - i : margin - i + WIDTH]
        for j, i in ((0, 0), (dy, dx))
    ]
    return cut[0].copy(), cut[1].copy()


def errors(field: np.ndarray, dy: float, dx: float) -> np.ndarray:
    return np.hypot(field[0] - dy, field[1] - dx)[visible(HEIGHT, WIDTH, dy, dx)]


methods = pytest.mark.parametrize("method", sorted(METHODS))


@methods
@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_brightness(method: str, gain: float) -> None:
    a, b = views(3, -5)
    field = estimate_motion(a * np.float32(0.8), b * np.float32(0.8 * gain), method=method)
    assert errors(field, 3, -5).mean() < 0.15


@methods
def test_noise(method: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (np.clip(v + rng.normal(0, 5 / 255, v.shape), 0, 1).astype(np.float32) for v in views(3, -5))
    error = errors(estimate_motion(a, b, method=method), 3, -5)
    assert np.median(error) < 0.2
    assert error.mean() < 0.4


@methods
def test_eight_and_sixteen_bits_agree(method: str) -> None:
    a, b = views(3, -5)
    eight = [np.round(v * 255).astype(np.uint8) for v in (a, b)]
    sixteen = [np.round(v * 65535).astype(np.uint16) for v in (a, b)]
    fields = [estimate_motion(*pair, method=method) for pair in (eight, sixteen)]
    assert np.percentile(np.hypot(*(fields[0] - fields[1])), 95) < 0.1


@methods
def test_saturated_areas_follow_what_surrounds_them(method: str) -> None:
    a, b = (
        np.minimum(v * np.float32(2), np.float32(1)) for v in views(3, -5)
    )  # half of all pixels are clipped
    error = errors(estimate_motion(a, b, method=method), 3, -5)
    assert np.median(error) < 0.1
    assert error.mean() < 0.4


@methods
def test_an_area_without_texture_is_filled_and_stops_at_its_edge(method: str) -> None:
    a, b = views(0, 4)  # everything moves by 4, but a flat disc with a rim by -4
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for image, centre in ((a, 90), (b, 86)):
        away = np.hypot(y - 70, x - centre)
        image[away < 30] = 0.95
        image[(away > 26) & (away < 30)] = 0.05
    field = estimate_motion(a, b, method=method)
    away = np.hypot(y - 70, x - 90)
    inside = np.hypot(field[0], field[1] + 4)[away < 24]
    assert np.mean(inside) < 0.5
    outside = np.hypot(field[0], field[1] - 4)[(away > 40) & visible(HEIGHT, WIDTH, 0, 4)]
    assert np.mean(outside) < 0.3


@methods
@pytest.mark.parametrize(("dy", "dx"), [(36, 0), (0, -44), (-36, 36)])
def test_a_quarter_of_the_side(method: str, dy: int, dx: int) -> None:
    a, b = views(dy, dx)
    error = errors(estimate_motion(a, b, method=method), dy, dx)
    assert np.median(error) < 0.1
    assert error.mean() < 2


@methods
def test_a_prior_carries_further_than_any_search(method: str) -> None:
    a, b = views(60, -58)
    initial = np.zeros((2, HEIGHT, WIDTH), np.float32) + np.float32([58, -60])[:, None, None]
    assert np.median(errors(estimate_motion(a, b, method=method, initial=initial, levels=3), 60, -58)) < 0.1


@methods
def test_a_cut_is_reported_and_not_matched(method: str) -> None:
    motion = estimate_motion_pair(photograph(HEIGHT, WIDTH, 1), photograph(HEIGHT, WIDTH, 2), method=method)
    assert motion.cut
    assert not motion.forward.any()
    assert not motion.backward.any()
    assert not motion.confidence.any()
    a, b = views(20, -30)
    assert not estimate_motion_pair(a, b, method=method).cut


@methods
def test_confidence_ranks_errors(method: str) -> None:
    a, b = views(0, 5)
    other = photograph(HEIGHT, WIDTH, 9)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for image, centre in ((a, 80), (b, 72)):  # a disc in front goes the other way
        near = np.hypot(y - 70, x - centre) < 36
        image[near] = other[y[near], x[near] - centre + 80]
    motion = estimate_motion_pair(a, b, method=method)
    truth = np.where(np.hypot(y - 70, x - 80) < 36, -8, 5)
    error = np.hypot(motion.forward[0], motion.forward[1] - truth)
    kept = motion.confidence >= np.quantile(motion.confidence, 0.2)
    assert error[kept].mean() < 0.5 * error.mean()
    hidden = (np.hypot(y - 70, x + 5 - 72) < 36) & (truth == 5)  # where the disc goes over the ground
    assert motion.occluded[hidden].mean() > 0.6
    assert motion.occluded[~hidden & (x < WIDTH - 12)].mean() < 0.1
