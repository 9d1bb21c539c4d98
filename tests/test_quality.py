"""The gate: what is right passes, what is wrong keeps its source."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.paths import blur
from deblur.quality import Gate, agreement, confidence, gate, held
from deblur.types import Reason


def flow(dy: float, dx: float, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    field = np.empty((2, *shape), np.float32)
    field[0], field[1] = dy, dx
    return field


@given(st.floats(-9, 9), st.floats(-9, 9))
@settings(max_examples=30, deadline=None)
def test_motion_that_returns_is_trusted_inside(dy: float, dx: float) -> None:
    sure = confidence(flow(dy, dx), flow(-dy, -dx))
    assert sure[10:-10, 10:-10].min() > 0.999
    assert sure.min() >= 0
    assert sure.max() <= 1


def test_motion_that_contradicts_or_leaves_is_not() -> None:
    assert confidence(flow(0, 5), flow(0, 0)).max() < 0.1
    assert confidence(flow(0, 5), flow(0, -5))[:, -5:].max() == 0


def case(length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    sharp = np.kron(np.random.default_rng(3).uniform(0.2, 0.8, (10, 15)), np.ones((4, 4)))[None].astype(
        np.float32
    )
    path = flow(0, length)
    return blur(sharp, path), sharp, path, np.ones(sharp.shape[1:], np.float32)


def decide(
    seen: np.ndarray, sharp: np.ndarray, path: np.ndarray, sure: np.ndarray, **more: object
) -> tuple[np.ndarray, ...]:
    image, beyond = held(seen, sharp, noise=0.002, rules=Gate())
    invalid = more.get("invalid")
    again = blur(image, path)
    return gate(seen, image, again, path, sure, beyond, noise=0.002, invalid=invalid, rules=Gate())  # type: ignore[arg-type]


@given(st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_correction_is_trusted_less_the_less_of_the_frame_it_explains(share: float) -> None:
    seen, sharp, path, _ = case(9)
    again, other = blur(sharp, path), blur((1 - share) * sharp + share * seen, path)
    near, far = (agreement(seen, again, planes, noise=0.002, rules=Gate()) for planes in (again, other))
    assert near.min() > 0.95
    assert (far <= near + 1e-6).all()
    assert share < 0.5 or far[10:-10, 10:-10].mean() < 0.2
    # where physics leaves as much unexplained, it doesn't know better
    wrong = agreement(seen, other, other, noise=0.002, rules=Gate())
    assert wrong.min() > 0.95


def test_overshoot_is_held_near_the_local_range() -> None:
    rng = np.random.default_rng(5)
    seen = (0.2 + 0.6 * rng.random((2, 40, 50))).astype(np.float32)
    wild = seen + rng.normal(0, 2, seen.shape).astype(np.float32)
    image, beyond = held(seen, wild, noise=0.002, rules=Gate())
    assert image.min() > 0.1
    assert image.max() < 1.03
    assert beyond.max() > 1
    same, none = held(seen, seen, noise=0.002, rules=Gate())
    assert np.allclose(same, seen, atol=1e-6)
    assert none.max() < 1e-5


def test_the_truth_passes() -> None:
    weight, reason = decide(*case(4))
    assert weight.mean() > 0.95
    assert (reason == Reason.RESTORED).mean() > 0.95


def test_each_reason_is_given() -> None:
    seen, sharp, path, sure = case(4)
    still = decide(seen, sharp, flow(0, 0.2), sure)
    unsure = decide(seen, sharp, path, np.zeros_like(sure))
    residual = decide(seen, seen[..., ::-1].copy(), path, sure)
    spike = seen.copy()
    spike[0, 20, 30] = 5
    over = decide(
        np.full_like(seen, 0.5), np.where(spike == 5, np.float32(0.9), np.float32(0.5)), flow(0, 30), sure
    )
    clipped = seen.copy()
    clipped[0, 8:12, 8:12] = 1
    saturated = decide(clipped, sharp, path, sure)
    invalid = np.zeros(sure.shape, bool)
    invalid[3, 4] = True
    broken = decide(seen, sharp, path, sure, invalid=invalid)
    for (weight, reason), at, name in (
        (still, np.s_[:], Reason.STILL),
        (unsure, np.s_[:], Reason.UNCERTAIN),
        (over, np.s_[20, 30], Reason.OVERSHOOT),
        (saturated, np.s_[8:12, 8:12], Reason.SATURATED),
        (broken, np.s_[3, 4], Reason.INVALID),
    ):
        assert np.all(reason[at] == name), name
        assert np.all(weight[at] < 0.5), name
    assert np.mean(residual[1] == Reason.RESIDUAL) > 0.5
    assert np.all(broken[0][invalid] == 0)
