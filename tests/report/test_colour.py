"""The colour wheel is Middlebury's, and its legend says the same as its pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.report.colour import amount_to_rgb, motion_to_rgb, motion_wheel, ramp, signed_ramp, signed_to_rgb


def _one(dy: float, dx: float, longest: float) -> list[int]:
    return motion_to_rgb(np.array([dy, dx], np.float32)[:, None, None], longest=longest)[0, 0].tolist()


@given(angle=st.floats(-3.14, 3.14), length=st.floats(0.05, 1.0), scale=st.floats(0.1, 500))
@settings(max_examples=60, deadline=None)
def test_colour_depends_on_direction_and_relative_length_only(
    angle: float, length: float, scale: float
) -> None:
    dy, dx = length * np.sin(angle), length * np.cos(angle)
    here, there = np.array(_one(dy, dx, 1.0)), np.array(_one(dy * scale, dx * scale, scale))
    assert np.abs(here - there).max() <= 1


@given(angle=st.floats(-3.1, 3.1), short=st.floats(0.0, 0.9))
@settings(max_examples=60, deadline=None)
def test_longer_is_more_saturated(angle: float, short: float) -> None:
    pale = _one(short * np.sin(angle), short * np.cos(angle), 1.0)
    full = _one(0.99 * np.sin(angle), 0.99 * np.cos(angle), 1.0)
    assert min(full) <= min(pale)


@pytest.mark.parametrize(
    ("dy", "dx", "expected"),
    [
        # worked out by hand from the paper's arcs: hue k of 55 at (atan2(-dy, -dx) / pi + 1) / 2 * 54
        (0, 1, [255, 0, 0]),  # k = 0: where red turns to yellow
        (1, 0, [255, 229, 0]),  # k = 13.5 of the 15 from red to yellow
        (0, -1, [0, 209, 255]),  # k = 27: 2 of the 11 from cyan to blue
        (-1, 0, [88, 0, 255]),  # k = 40.5: 4.5 of the 13 from blue to magenta
    ],
)
def test_the_four_directions(dy: float, dx: float, expected: list[int]) -> None:
    assert np.abs(np.array(_one(dy, dx, 1.0)) - expected).max() <= 1


def test_still_is_white_too_long_is_darker_and_unknown_is_black() -> None:
    field = np.zeros((2, 1, 4), np.float32)
    field[1] = [0, 2.0, 1e10, np.nan]
    still, longer, far, missing = motion_to_rgb(field, longest=1.0)[0].tolist()
    assert still == [255, 255, 255]
    assert longer == [191, 0, 0]
    assert far == missing == [0, 0, 0]


def test_longest_defaults_to_the_longest_known_vector_and_the_field_is_left_alone() -> None:
    field = np.random.default_rng(0).normal(0, 3, (2, 9, 9)).astype(np.float32)
    field[:, 0, 0] = np.inf
    kept = field.copy()
    longest = float(np.hypot(*field[:, 1:]).max())
    longest = max(longest, float(np.hypot(*field[:, 0, 1:]).max()))
    np.testing.assert_array_equal(motion_to_rgb(field), motion_to_rgb(field, longest=longest))
    np.testing.assert_array_equal(field, kept)


def test_wheel_shows_the_colour_of_each_direction_and_is_clear_outside() -> None:
    wheel = motion_wheel(101)
    assert wheel[0, 0, 3] == 0
    assert wheel[50, 50].tolist() == [255, 255, 255, 255]
    right, left = wheel[50, 98, :3].astype(int), wheel[50, 2, :3].astype(int)
    assert right[0] > 240
    assert right[1] < 30
    assert left[0] < 30
    assert left[2] > 240


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ArrayError, match=r"\(3, 4\): give \(2, y, x\)"):
        motion_to_rgb(np.zeros((3, 4)))


def test_ramps_grow_lighter_meet_white_in_the_middle_and_mark_the_unknown() -> None:
    assert (np.diff(ramp()[0].astype(float) @ [0.2126, 0.7152, 0.0722]) >= -1).all()
    middle = signed_ramp(257)[0, 128]
    assert middle.min() >= 240
    values = np.array([[np.nan, 0.0, 5.0, 9.0]], np.float32)
    shown = amount_to_rgb(values, largest=5.0)
    assert shown[0, 0].tolist() == [128, 128, 128]
    assert shown[0, 2].tolist() == shown[0, 3].tolist() == ramp()[0, -1].tolist()
    assert signed_to_rgb(-values, largest=5.0)[0, 2].tolist() == signed_ramp()[0, 0].tolist()
