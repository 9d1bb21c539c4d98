"""Films are what the camera's path makes of the scene, and what is said about them is true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from deblur.errors import ArrayError, ConfigError
from deblur.light import Light, decode, encode
from deblur.scene import Camera, moving_view

SRGB = Light(0.0, 255.0, "srgb")
STILL = Camera(pan=(0, 0), sway=0, rotation=0, zoom=0, scale=1)


def _smooth_scene(shape: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4), mode="wrap")
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def test_a_still_camera_gives_the_scene_itself() -> None:
    scene = _smooth_scene((40, 50))
    film = moving_view(scene, shape=(40, 50), count=1, camera=STILL, noise=0)
    expected = np.rint(encode(scene, SRGB)).astype(np.uint8)
    assert np.abs(film.truth[0].astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(film.frames, film.truth)
    assert not film.motion.any()
    assert not film.path.any()


def test_a_whole_pixel_pan_is_a_box_blur_in_linear_light() -> None:
    """A plain NumPy reference: 32 shifted copies of the scene, averaged as light."""
    scene = _smooth_scene((30, 120))
    camera = Camera(pan=(0, 8), sway=0, rotation=0, zoom=0, scale=1)
    film = moving_view(
        scene, shape=(30, 60), count=1, camera=camera, exposure_fraction=1, subframes=32, noise=0
    )
    total = np.zeros((3, 30, 60))
    for k in range(32):
        at = 29.5 + 0.5 + 8 * ((k + 0.5) / 32 - 0.5)  # the view's left edge in the scene
        whole, part = int(np.floor(at)), at - np.floor(at)
        total += (1 - part) * scene[:, :, whole : whole + 60] + part * scene[:, :, whole + 1 : whole + 61]
    expected = np.rint(encode((total / 32).astype(np.float32), SRGB))
    assert np.abs(film.frames[0] - expected).max() <= 1


def test_the_motion_carries_one_truth_to_the_next() -> None:
    film = moving_view(_smooth_scene((240, 320)), shape=(80, 110), count=3, noise=0)
    grid = np.mgrid[:80, :110]
    for t in (0, 1):
        inside = (slice(None), slice(25, -25), slice(25, -25))
        for channel in range(3):
            moved = ndimage.map_coordinates(
                film.truth[t + 1, channel].astype(float), grid + film.motion[t], order=3
            )
            difference = np.abs(moved - film.truth[t, channel])[inside[1:]]
            assert np.percentile(difference, 99) < 1.5
    assert 10 < np.hypot(*film.motion[0]).max() < 25


def test_the_path_is_the_motion_times_the_exposure_fraction_on_a_straight_pan() -> None:
    camera = Camera(pan=(3, -7), sway=0, rotation=0, zoom=0)
    film = moving_view(
        _smooth_scene((100, 100)), shape=(20, 30), count=2, camera=camera, exposure_fraction=0.25
    )
    np.testing.assert_allclose(film.path, 0.25 * film.motion, atol=1e-4)
    np.testing.assert_allclose(film.motion[0], np.broadcast_to([[[-3.0]], [[7.0]]], (2, 20, 30)), atol=1e-4)


def test_truth_is_the_middle_of_the_exposure() -> None:
    """On a straight pan blur is symmetric, so blurred and true frames have the same centre of light."""
    scene = np.full((3, 60, 160), 0.05, np.float32)
    scene[:, 25:35, 78:82] = 0.9
    camera = Camera(pan=(0, 10), sway=0, rotation=0, zoom=0, scale=1)
    film = moving_view(scene, shape=(40, 100), count=3, camera=camera, noise=0)
    x = np.arange(100)
    for frame, truth in zip(film.frames, film.truth, strict=True):
        centres = [
            (w * x).sum() / w.sum() for w in (decode(f, SRGB)[0].sum(axis=0) - 2.0 for f in (frame, truth))
        ]
        assert abs(centres[0] - centres[1]) < 0.1


def test_noise_has_the_asked_strength_and_the_seed_decides_it() -> None:
    scene = np.full((3, 80, 80), 0.2, np.float32)
    one, same, other = (
        moving_view(scene, shape=(64, 64), count=1, noise=0.02, seed=s).frames for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert one.astype(float).std() == pytest.approx(0.02 * 255, rel=0.05)


def test_wrong_input_is_one_clear_line() -> None:
    scene = np.zeros((3, 64, 64), np.float32)
    with pytest.raises(ArrayError, match=r"scene has shape \(64, 64\)"):
        moving_view(scene[0])
    for fraction in (0.0, -1.0, 1.5, np.nan):
        with pytest.raises(ConfigError, match="exposure_fraction"):
            moving_view(scene, exposure_fraction=fraction)
    with pytest.raises(ConfigError, match="subframes is 8"):
        moving_view(scene, subframes=8)
