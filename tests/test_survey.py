import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deblur.errors import ArrayError
from deblur.light import Light
from deblur.survey import dequantise, quantise, reduction_for, refine, survey, window_levels
from tests.conftest import pan, texture

LIGHT = Light(0, 255, "linear")


def test_a_pan_is_measured_and_linked() -> None:
    frames, _ = pan(3, 96, 160, step=8, fraction=0.25)
    found = survey(frames, light=LIGHT, motion_method="accurate")
    assert found.linked.tolist() == [True, True, False]
    inner = found.forward[0][:, 16:-16, 24:-24]
    assert np.allclose(np.median(inner, axis=(1, 2)), [0, -8], atol=0.2)
    assert np.allclose(np.median(found.backward[1][:, 16:-16, 24:-24], axis=(1, 2)), [0, 8], atol=0.2)
    assert not found.forward[2].any()
    assert not found.backward[0].any()
    assert 7.5 < found.longest < 40


def test_a_cut_and_a_gap_in_time_are_not_linked() -> None:
    first = np.rint(texture(96, 160, seed=1) * 255).astype(np.uint8)[None]
    other = np.rint(texture(96, 160, seed=77) * 255).astype(np.uint8)[None]
    cut = survey([first, first, other, other], light=LIGHT, motion_method="accurate")
    assert cut.linked.tolist() == [True, False, True, False]
    gap = survey([first, first, first], light=LIGHT, motion_method="accurate", gaps=[False, True])
    assert gap.linked.tolist() == [True, False, False]
    assert gap.longest == 0


def test_noise_is_measured_in_linear_light() -> None:
    rng = np.random.default_rng(3)
    clean = texture(256, 256)[None]
    frames = [np.clip(np.rint((clean + rng.normal(0, 0.02, clean.shape)) * 255), 0, 255).astype(np.uint8)] * 2
    found = survey(frames, light=LIGHT, motion_method="accurate")
    assert found.noise[0] == pytest.approx(0.02, rel=0.25)


def test_what_a_codec_rounded_is_noise_that_depends_on_the_light() -> None:
    bright, dark = (np.full((1, 64, 64), code, np.uint8) for code in (200, 100))
    linear = survey([bright, dark], light=LIGHT, motion_method="fast", rounding=0.01)
    assert linear.noise == pytest.approx([0.01, 0.01], rel=1e-3)
    encoded = survey([bright, dark], light=Light(0, 255, "srgb"), motion_method="fast", rounding=0.01)
    assert encoded.noise[0] > 2 * encoded.noise[1] > 0.01
    assert not encoded.noise_curve.any()
    fine = survey([bright, dark], light=LIGHT, motion_method="fast", rounding=0.004)
    assert not fine.noise.any()


def test_unlike_frames_and_none_are_refused() -> None:
    with pytest.raises(ArrayError, match="frame 1 is"):
        survey(
            [np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 65), np.uint8)],
            light=LIGHT,
            motion_method="accurate",
        )
    with pytest.raises(ArrayError, match="no frames"):
        survey([], light=LIGHT, motion_method="accurate")


@given(st.integers(1, 20000), st.integers(1, 20000))
def test_the_reduction_is_the_least_power_of_two_that_fits(height: int, width: int) -> None:
    factor = reduction_for(height, width)
    assert factor & (factor - 1) == 0
    assert max(height, width) <= 512 * factor
    assert factor == 1 or max(height, width) > 512 * (factor // 2)
    assert 1 <= window_levels(factor) <= 4


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(-511, 511, width=32)))
def test_stored_motion_is_exact_to_half_a_quantum_and_then_stays(field: np.ndarray) -> None:
    seen = dequantise(quantise(field))
    assert np.abs(seen - field).max() <= 0.5 / 64
    assert np.array_equal(dequantise(quantise(seen)), seen)


def test_motion_beyond_what_can_be_stored_is_held_there() -> None:
    assert dequantise(quantise(np.full((2, 1, 1), 1e6, np.float32))).max() == pytest.approx(512, abs=0.1)


def test_a_window_starts_from_the_survey() -> None:
    """A displacement larger than the window's own pyramid could find comes in with the coarse field."""
    frames, _ = pan(2, 128, 320, step=40, fraction=0.1)
    coarse = np.zeros((2, 32, 80), np.float32)
    coarse[1] = -39
    a, b = (np.ascontiguousarray(f[0], np.float32) / 255 for f in frames)
    found = refine(a, b, coarse, reduction=4, y0=0, x0=0, method="accurate")
    assert np.allclose(np.median(found[:, 16:-16, 64:-64], axis=(1, 2)), [0, -40], atol=0.2)


def test_noise_is_told_as_a_line_over_the_light() -> None:
    light = np.tile(np.linspace(0.1, 0.9, 160, dtype=np.float32), (120, 1))
    rng = np.random.default_rng(3)
    view = (light + np.sqrt(4e-4 * light + 1e-5) * rng.standard_normal(light.shape)).astype(np.float32)
    found = survey([view[None], view[None]], light=Light(0, 1, "linear"), motion_method="accurate")
    assert found.noise_curve.shape == (2, 2)
    gain, floor = found.noise_curve[0]
    assert abs(np.sqrt(gain * 0.5 + floor) / np.sqrt(2.1e-4) - 1) < 0.15
    assert abs(found.noise[0] / np.sqrt(gain * view.mean() + floor) - 1) < 0.15
