"""The exposure fraction from frames alone: near the truth on a pan, one line where it can't be told."""

from __future__ import annotations

import numpy as np
import pytest

from deblur import shutter
from deblur.errors import ArrayError
from deblur.shutter import estimate_exposure_fraction
from tests.conftest import pan


def test_a_pan_tells_its_exposure() -> None:
    for fraction in (0.5, 0.9):
        frames, _ = pan(4, 160, 240, step=12, fraction=fraction)
        found = estimate_exposure_fraction(frames, transfer="linear")
        assert abs(found.value - fraction) < 0.2
        assert 0 < found.uncertainty < 0.3


def test_what_cannot_be_told_is_said_in_one_line() -> None:
    still = np.zeros((3, 40, 40), np.float32)
    holed = still.copy()
    holed[0, 0, 0] = np.nan
    for words, frames in (("moves enough", still), ("three frames", still[:2]), ("NaN", holed)):
        with pytest.raises(ArrayError, match=words) as caught:
            estimate_exposure_fraction(frames)
        assert "\n" not in str(caught.value)


def test_noise_does_not_choose_the_frames_that_tell() -> None:
    frames, _ = pan(5, 160, 240, step=12, fraction=0.75)
    noise = np.random.default_rng(2).normal(0, 5, frames.shape)
    noisy = np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)
    found = estimate_exposure_fraction(noisy, transfer="linear")
    assert abs(found.value - 0.75) < max(0.1, 2 * found.uncertainty)


def test_the_middle_of_a_large_frame_tells_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = pan(4, 240, 320, step=12, fraction=0.75)
    whole = estimate_exposure_fraction(frames, transfer="linear")
    monkeypatch.setattr(shutter, "LARGEST_SIDE", 160)
    middle = estimate_exposure_fraction(frames, transfer="linear")
    assert middle != whole
    assert abs(middle.value - 0.75) < 0.1
