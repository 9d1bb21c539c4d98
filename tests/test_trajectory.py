"""The camera's trajectory: exact for what the spline can hold, found from blurred frames, silent where none can tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.paths import blur
from deblur.trajectory import change_of_path, exposures

SHAPE = (160, 220)


def scene() -> np.ndarray:
    rng = np.random.default_rng(8)
    image = np.full(SHAPE, 0.5, np.float32)
    for _ in range(160):
        y, x = rng.integers(0, SHAPE)
        image[y : y + rng.integers(3, 30), x : x + rng.integers(3, 30)] = rng.uniform(0.1, 0.9)
    return image


def along(dy: float, dx: float) -> np.ndarray:
    return np.broadcast_to(np.array([dy, dx], np.float32)[:, None, None], (2, *SHAPE)).copy()


@pytest.mark.parametrize(("here", "there"), [((2, 6), (3, 11)), ((-8, 3), (-5, 4)), ((5, 5), (5, 5))])
def test_the_change_of_path_is_measured(here: tuple[float, float], there: tuple[float, float]) -> None:
    move = (np.array(here) + there) / 2 / 0.8  # whole pixels would do the bringing together for it
    sharp = scene()
    moved = np.roll(sharp, np.rint(move).astype(int), axis=(0, 1))
    flow = along(*np.rint(move))
    seen = blur(sharp, along(*here)), blur(moved, along(*there))
    found = change_of_path(*seen, flow, np.ones(SHAPE, np.float32), fraction=0.8)
    np.testing.assert_allclose(found, np.subtract(there, here), atol=0.6)


def test_a_thing_with_a_motion_of_its_own_does_not_decide() -> None:
    sharp, sure = scene(), np.ones(SHAPE, np.float32)
    seen = [blur(sharp, along(0, 8)), blur(np.roll(sharp, 10, axis=1), along(0, 8))]
    seen[1][60:110, 80:140] = scene()[:50, :60]
    found = change_of_path(seen[0], seen[1], along(0, 10), sure, fraction=0.8)
    assert np.abs(found).max() < 0.5


@pytest.mark.parametrize("case", ["still", "small", "flat"])
def test_nothing_is_said_where_nothing_can_be_told(case: str) -> None:
    sharp, sure = scene(), np.ones(SHAPE, np.float32)
    flat = np.full(SHAPE, 0.5, np.float32)
    planes = {
        "still": (sharp, sharp, along(0, 0.5)),
        "small": (sharp[:40, :40], sharp[:40, :40], along(0, 8)[:, :40, :40]),
        "flat": (flat, flat, along(0, 8)),
    }[case]
    assert np.isnan(
        change_of_path(*planes, sure[: planes[0].shape[0], : planes[0].shape[1]], fraction=0.8)
    ).all()


@given(
    st.floats(-5, 5),
    st.floats(-5, 5),
    st.floats(-2, 2),
    st.floats(0.2, 1.0),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_a_trajectory_of_constant_acceleration_is_found(
    place: float, speed: float, pull: float, fraction: float, links: int, at: int
) -> None:
    """x(t) = place + speed t + pull t²: centroids, paths and bends are known, and straight acceleration costs least."""
    at = min(at, links)
    time = np.arange(links + 1)
    mean = place + speed * time + pull * (time**2 + fraction**2 / 12)
    moves = np.stack([np.diff(mean)] * 2, 1).astype(np.float32)
    changes = np.full((links, 2), 2 * pull * fraction, np.float32)
    path, bend = exposures(moves, changes, at, fraction)
    if links > 1:  # with one move and one change, several parabolas fit; the ends of a run see less far
        np.testing.assert_allclose(path, (speed + 2 * pull * at) * fraction, atol=0.35 * abs(pull) + 1e-3)
    sums = sum(exposures(moves, changes, k, fraction)[0] for k in (0, 1))
    np.testing.assert_allclose(sums / 2, fraction * moves[0], atol=0.35 * abs(pull) + 1e-3)
    assert np.abs(bend - pull * fraction**2 / 4).max() < 0.5 * abs(pull) + 1e-3


def test_an_unknown_change_leaves_the_moves_to_decide() -> None:
    moves = np.array([[4, 0], [8, 0]], np.float32)
    unknown = np.full((2, 2), np.nan, np.float32)
    path, bend = exposures(moves, unknown, 1, 0.5)
    np.testing.assert_allclose(path, [3, 0], atol=0.05)
    assert bend[0] > 0.1


def test_what_a_frame_gets_depends_on_its_neighbours_only() -> None:
    rng = np.random.default_rng(2)
    moves, changes = rng.normal(10, 3, (2, 9, 2)).astype(np.float32)
    whole = exposures(moves, changes, 4, 0.7)
    part = exposures(moves[2:6], changes[2:6], 2, 0.7)
    np.testing.assert_array_equal(np.array(whole), np.array(part))
