"""What a shaking camera added to the path: found on a scene of edges, zero where nothing can be told."""

from __future__ import annotations

import numpy as np

from deblur.paths import blur
from deblur.shake import shake


def seen_along(dy: float, dx: float) -> np.ndarray:
    rng = np.random.default_rng(8)
    image = np.full((140, 190), 0.5, np.float32)
    for _ in range(140):
        y, x = rng.integers(0, (140, 190))
        image[y : y + rng.integers(3, 30), x : x + rng.integers(3, 30)] = rng.uniform(0.1, 0.9)
    return blur(image, constant(dy, dx))


def constant(dy: float, dx: float) -> np.ndarray:
    return np.stack([np.full((140, 190), v, np.float32) for v in (dy, dx)])


def test_a_path_that_is_wrong_everywhere_is_mended() -> None:
    seen, sure = seen_along(2, 8), np.ones((140, 190), np.float32)
    for error in ((0.0, 2.0), (1.5, -2.0)):
        measured = constant(2 - error[0], 8 - error[1])
        found = shake(seen, measured, sure)
        assert np.hypot(*(found - np.array(error))) < 0.6 * np.hypot(*error)
    assert np.hypot(*shake(seen, constant(2, 8), sure)) < 1.0


def test_without_blur_or_room_it_says_nothing() -> None:
    sure = np.ones((140, 190), np.float32)
    assert not shake(seen_along(0, 0.2), constant(0, 0.2), sure).any()
    assert not shake(
        np.zeros((20, 20), np.float32), np.full((2, 20, 20), 4, np.float32), sure[:20, :20]
    ).any()
