"""The scene is a picture: in range, detailed, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from deblur.errors import ArrayError
from deblur.scene import make_scene
from deblur.scene.letters import STROKES, lettering
from deblur.scene.objects import TITLES


def test_the_same_seed_gives_the_same_picture_and_another_one_another() -> None:
    one, same, other = (make_scene(seed, (200, 260)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 0.01


@pytest.mark.parametrize("shape", [(64, 64), (97, 301), (450, 80)])
def test_light_stays_below_saturation_and_above_nothing(shape: tuple[int, int]) -> None:
    scene = make_scene(0, shape)
    assert scene.shape == (3, *shape)
    assert scene.dtype == np.float32
    assert np.isfinite(scene).all()
    assert scene.min() > 0
    assert scene.max() <= 0.96
    assert scene.flags.c_contiguous


def test_it_is_a_picture_worth_restoring() -> None:
    """Texture and contrast over most of the picture, so that motion can be measured nearly everywhere."""
    luma = make_scene(0, (600, 800)).mean(axis=0) ** (1 / 2.2)
    tiles = luma[:576, :].reshape(24, 24, 25, 32).transpose(0, 2, 1, 3).reshape(600, -1)
    assert luma.std() > 0.15
    assert (tiles.std(axis=1) > 0.01).mean() > 0.97


def test_too_small_is_refused() -> None:
    with pytest.raises(ArrayError, match="too small"):
        make_scene(0, (20, 200))


def test_letters_have_the_height_asked_for_and_differ() -> None:
    rows = np.flatnonzero(lettering("H", height=40).max(axis=1) > 0.5)
    assert abs(len(rows) - 40 * 1.13) < 3
    drawn = {letter: lettering(letter, height=24) for letter in STROKES}
    for letter, picture in drawn.items():
        assert 0 < picture.mean() < 1, letter
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert len({(p.shape, p.tobytes()) for p in drawn.values()}) == len(STROKES)


def test_every_title_can_be_lettered() -> None:
    assert {letter for pair in TITLES for text in pair for letter in text} <= {*STROKES, " "}
    assert lettering("É ", height=10).max() == 0
