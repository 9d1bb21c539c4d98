"""One still: a shake is undone, a sharp or hopeless one comes back bit for bit, in every shape and dtype."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import convolve

from deblur.sequence import restore
from deblur.still import extent, restore_still
from deblur.types import Reason
from tests.small import Command
from tests.test_blind import scene


@pytest.fixture(scope="module")
def shaken() -> tuple[np.ndarray, np.ndarray]:
    psf = np.zeros((15, 15), np.float32)
    for k in range(13):
        psf[1 + k, 7 + round(3 * np.sin(k / 3))] = 1
    sharp = scene(160)
    noise = np.random.default_rng(2).normal(0, 0.002, sharp.shape)
    return sharp, np.asarray(convolve(sharp, psf / psf.sum(), mode="nearest") + noise, np.float32)


def error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean square, at the whole-pixel shift where it is least: where a shake is centred is a convention."""
    cut = np.s_[24:-24, 24:-24]
    shifts = [np.roll(image, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    return min(float(np.mean((v - truth)[cut] ** 2)) for v in shifts)


def test_a_shaken_still_gains_and_says_how(shaken: tuple[np.ndarray, np.ndarray]) -> None:
    sharp, seen = shaken
    codes = np.rint(np.clip(seen, 0, 1) * 65535).astype(np.uint16)[None]
    kept = codes.copy()
    found = restore(codes)
    assert found.frames.shape == codes.shape
    assert found.frames.dtype == np.uint16
    assert found.weight.mean() > 0.7
    assert error(found.frames[0] / 65535, sharp) < 0.5 * error(seen, sharp)
    assert math.isnan(found.exposure_fraction)
    assert found.psf is not None
    assert 10 < extent(found.psf) < 20
    assert not found.motion.any()
    np.testing.assert_array_equal(codes, kept)
    np.testing.assert_array_equal(found.frames[found.weight == 0], codes[found.weight == 0])


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_sharp_still_comes_back_bit_for_bit(noise: float) -> None:
    sharp = scene(160)[None, None] + np.random.default_rng(1).normal(0, noise, (1, 3, 160, 160))
    codes = np.rint(np.clip(sharp, 0, 1) * 255).astype(np.uint8)
    found = restore(codes)
    np.testing.assert_array_equal(found.frames, codes)
    assert not found.weight.any()
    assert np.all(found.reason != Reason.RESTORED)


def test_what_cannot_be_told_is_left_alone() -> None:
    for frame in (
        np.zeros((1, 4, 4)),
        np.full((1, 90, 90), 1.0),
        np.random.default_rng(0).random((1, 90, 90)),
    ):
        found = restore(frame.astype(np.float32))
        np.testing.assert_array_equal(found.frames, frame.astype(np.float32))
        assert not found.weight.any()


def test_halves_that_contradict_each_other_are_not_believed() -> None:
    one = convolve(scene(130), np.ones((1, 11), np.float32) / 11)
    other = convolve(scene(130).T, np.ones((11, 1), np.float32) / 11)
    turned = restore_still(np.hstack([one, other]).astype(np.float32)[None])
    assert turned.weight.max() < 0.1


def test_extent_of_a_line_is_its_length() -> None:
    psf = np.zeros((31, 31), np.float32)
    psf[15, 8:20] = 1 / 12
    assert abs(extent(psf) - 12) < 0.2


def test_the_command_takes_a_still_its_own_way(
    deblur: Command, shaken: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    import imagecodecs

    codes = np.rint(np.clip(shaken[1], 0, 1) * 255).astype(np.uint8)
    (tmp_path / "photo.png").write_bytes(imagecodecs.png_encode(codes))
    said = deblur("restore", tmp_path / "photo.png", tmp_path / "out.png", "--transfer", "linear")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 1
    assert "taken as a still, camera shake" in said.out
    restored = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
    assert error(restored / 255, shaken[0]) < 0.6 * error(shaken[1], shaken[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "photo.png"]
    for output, fault in (("out.png", "exists already"), ("out.mp4", "use a folder, .png")):
        again = deblur("restore", tmp_path / "photo.png", tmp_path / output)
        assert again.code == 2
        assert len(again.faults) == 1
        assert fault in again.faults[0]
