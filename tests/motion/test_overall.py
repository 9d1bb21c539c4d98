"""One motion for the whole view: found where matching is lost, and not claimed where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from deblur.light import Light
from deblur.motion import METHODS, estimate_motion_pair
from deblur.motion.overall import affine, likeness
from deblur.motion.pyramid import reduce
from deblur.survey import survey
from tests.motion.scenes import photograph

SCENE = photograph(560, 560, seed=5)
methods = pytest.mark.parametrize("method", sorted(METHODS))


def ground(side: int, seed: int) -> np.ndarray:
    """Roofs in rows, all of one size, each of its own shade: what lies beside a thing looks like it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    shade = rng.uniform(0.5, 0.9, (side // 20 + 1, side // 26 + 1))
    roof = (y % 20 < 14) & (x % 26 < 18)
    return np.where(roof, shade[y // 20, x // 26], 0.3) + rng.normal(0, 0.02, (side, side))


def flown(
    scene: np.ndarray, shape: tuple[int, int], share: float, angle: float, zoom: float, heading: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two views from the air, the motion between them, and where it stays inside."""
    middle = np.array(shape)[:, None, None] / 2
    y, x = np.mgrid[: shape[0], : shape[1]] - middle
    pan = share * np.array([np.sin(heading) * shape[0], np.cos(heading) * shape[1]])
    turn = (1 + zoom) * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = np.stack([y, x])
    there = np.tensordot(turn, place, 1) + pan[:, None, None]
    source = np.tensordot(np.linalg.inv(turn), place - pan[:, None, None], 1)
    a, b = (
        map_coordinates(scene, p + len(scene) / 2, order=1, mode="reflect").astype(np.float32)
        for p in (place, source)
    )
    seen = (np.abs(there) < middle - 3).all(axis=0)
    return a, b, (there - place).astype(np.float32), seen


@settings(max_examples=8, deadline=None)
@given(
    share=st.floats(0, 0.3),
    angle=st.floats(-0.1, 0.1),
    zoom=st.floats(-0.05, 0.05),
    heading=st.floats(0, 6.28),
    gain=st.floats(0.8, 1.2),
)
def test_affine_maps_are_found(share: float, angle: float, zoom: float, heading: float, gain: float) -> None:
    a, b, truth, seen = flown(SCENE, (192, 240), share, angle, zoom, heading)
    one, other = reduce(a, 4), reduce(b * np.float32(gain), 4)
    field = affine(one, other)
    assert field is not None
    off = field - np.stack([reduce(plane, 4) for plane in truth]) / 4
    assert np.hypot(*off)[seen[::4, ::4]].max() < 0.3
    assert min(likeness(one, other, field)) > 0.9


def test_between_other_views_nothing_is_found() -> None:
    views = [photograph(48, 60, seed) for seed in range(6)]
    assert all(affine(views[k], views[(k + 1) % 6]) is None for k in range(6))
    flat = np.full((40, 50), 0.5, np.float32)
    assert affine(flat, flat) is None
    assert likeness(flat, flat, np.zeros((2, 40, 50), np.float32)) == (0.0, 0.0)


def test_what_fits_in_several_places_is_not_claimed() -> None:
    y, x = np.mgrid[:48, :64]
    stripes = np.sin(2 * np.pi * y / 8) + np.sin(2 * np.pi * x / 8)
    assert affine(stripes.astype(np.float32), np.roll(stripes, (3, 2), (0, 1)).astype(np.float32)) is None


@methods
@pytest.mark.parametrize(
    ("share", "angle", "zoom", "heading"),
    [(0.1, 0.02, 0.01, 0.0), (0.18, 0.05, -0.02, 1.6), (0.25, 0.03, 0.02, 2.4), (0.25, 0.08, 0.03, 3.1)],
)
def test_strips_from_the_air(method: str, share: float, angle: float, zoom: float, heading: float) -> None:
    a, b, truth, seen = flown(ground(440, 1), (192, 256), share, angle, zoom, heading)
    motion = estimate_motion_pair(a, b, method=method)
    error = np.hypot(*(motion.forward - truth))[seen]
    assert np.median(error) < 0.2
    assert np.mean(error) < 1
    assert np.mean(motion.confidence[seen] > 0.5) > 0.9


def test_the_survey_follows_a_strip() -> None:
    scene = ground(700, 2)
    views = [flown(scene, (192, 256), 0.25 * k, 0.0, 0.0, 0.4)[1] for k in (-1, 0, 1)]
    codes = [np.round(np.clip(v, 0, 1) * 255).astype(np.uint8)[None] for v in views]
    found = survey(codes, light=Light(0, 255, "linear"), motion_method="fast")
    assert found.linked.tolist() == [True, True, False]
    pan = 0.25 * np.array([np.sin(0.4) * 192, np.cos(0.4) * 256])
    assert np.abs(np.median(found.forward[0], axis=(1, 2)) - pan).max() < 0.5


@methods
@pytest.mark.parametrize("heading", [0.0, 2.0, 4.0])
def test_too_little_overlap_is_a_cut(method: str, heading: float) -> None:
    a, b, _, _ = flown(SCENE, (160, 200), 0.8, 0.02, 0.0, heading)
    motion = estimate_motion_pair(a, b, method=method)
    assert motion.cut
    assert not motion.confidence.any()
