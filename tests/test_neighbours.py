"""Second looks: a neighbour that agrees lends its data, one that doesn't is left out."""

from __future__ import annotations

import numpy as np

from deblur.deconv.model import AlongPath
from deblur.deconv.variational import Variational
from deblur.neighbours import SHARE, Neighbour, look, neighbour, trust_in, turning_at
from deblur.paths import blur
from deblur.window import RestoreSettings, restore_window

SHAPE = (96, 128)
NOISE = 0.02


def along(dx: float) -> np.ndarray:
    field = np.zeros((2, *SHAPE), np.float32)
    field[1] = dx
    return field


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((SHAPE[0], SHAPE[1] + 32), 0.5, np.float32)
    for _ in range(150):
        y, x = rng.integers(0, image.shape)
        image[y : y + rng.integers(3, 24), x : x + rng.integers(3, 24)] = rng.uniform(0.1, 0.9)
    return image


def seen(image: np.ndarray, shift: int, length: float, seed: int) -> np.ndarray:
    view = np.ascontiguousarray(image[:, 16 + shift : 16 + shift + SHAPE[1]])
    noise = np.random.default_rng(seed).normal(0, NOISE, SHAPE)
    return (blur(view, along(length)) + noise).astype(np.float32)


def test_a_second_look_lowers_the_error() -> None:
    sharp = scene(1)
    here, there = seen(sharp, 0, 8, 2)[None], seen(sharp, -10, 8, 3)[None]
    beside = Neighbour(there, along(10), along(-10), 0.8)
    truth, inner = sharp[:, 16:-16], (slice(12, -12), slice(24, -24))
    alone = Variational().solve(here[0], AlongPath(along(8)), noise=NOISE, trust=None)[0]
    both = restore_window(here, (beside,), noise=NOISE, settings=RestoreSettings()).image[0]
    errors = [np.mean((image - truth)[inner] ** 2) for image in (alone, both)]
    assert errors[1] < 0.9 * errors[0]


def test_looks_that_agree_count_and_others_do_not() -> None:
    here, sure = seen(scene(1), 0, 8, 2)[None], np.ones(SHAPE, np.float32)
    model = AlongPath(along(8))
    for other, least, most in ((scene(1), 0.5, 1.0), (scene(5), 0.0, 0.1)):
        beside = Neighbour(seen(other, -10, 8, 3)[None], along(10), along(-10), 0.8)
        trust = look(here, model, beside, sure, noise=NOISE).trust
        assert least <= np.median(trust[10:-10, 20:-20]) / SHARE <= most
        assert trust[:, -10:].max() == 0  # these came from outside the neighbour


def test_a_neighbour_takes_its_side_of_the_shake() -> None:
    frame, still = np.zeros((1, 4, 4), np.float32), np.zeros((2, 4, 4), np.float32)
    mine = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    following = neighbour(frame, still, still, 0.5, mine, mine + 10)
    previous = neighbour(frame, still, still, -0.5, mine, mine + 10)
    assert (following.lack, following.its_lack, following.its_bend) == ((1, 2), (13, 14), (15, 16))
    assert (previous.lack, previous.its_lack, previous.its_bend) == ((3, 4), (11, 12), (15, 16))


def turning(speeds: list[float], *, of_all: float = 0.0) -> np.ndarray | None:
    """What turns in the left third of the last frame, when things there moved at these speeds, and all by `of_all` more."""
    fields = np.stack([along(0) for _ in speeds])
    for k, speed in enumerate(speeds):
        fields[k, 1, :, : SHAPE[1] // 3] = -speed
        fields[k, 1] -= of_all * k
    linked = np.array([True] * len(speeds) + [False])
    return turning_at(len(speeds), linked, lambda _, pair: fields[pair], reduction=1)


def test_only_a_turn_at_an_end_puts_a_path_in_doubt() -> None:
    assert turning([5]) is None  # nothing before to compare with
    between = np.array([True, True, False])
    assert turning_at(1, between, lambda *_: along(5), reduction=1) is None
    inner = slice(12, SHAPE[1] // 3 - 12)
    for speeds, changed in (([5, 5], 0), ([5, 1], 4), ([5, -5], 10)):
        for of_all in (0, 3):  # the view as a whole may change its speed: the survey knows about that
            assert np.allclose(turning(speeds, of_all=of_all)[:, inner], changed, atol=1e-4)


def test_doubt_grows_with_the_turn_and_spares_what_moves_on() -> None:
    motion, back = along(10), along(-10)
    sure = trust_in(motion, back, 0.8, None)
    trusts = [trust_in(motion, back, 0.8, np.full(SHAPE, turned, np.float32)) for turned in (0, 3, 8, 20)]
    assert np.array_equal(trusts[0], sure)
    assert np.array_equal(trusts[1], sure)
    assert (trusts[2] < 0.2 * np.maximum(sure, 1e-6)).mean() > 0.8
    assert (trusts[3] <= trusts[2]).all()
