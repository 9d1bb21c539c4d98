"""Vectors in compiled code do what the plain loop does."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from deblur.lanes import load, plus, store, times, zeros


@njit
def _sixteen(source, at, weight, target):  # type: ignore[no-untyped-def]
    none = zeros(16)
    store(target, 1, plus(load(none, target, 1), times(load(none, source, at), weight)))


@njit
def _eight(source, at, weight, target):  # type: ignore[no-untyped-def]
    none = zeros(8)
    store(target, 1, plus(load(none, target, 1), times(load(none, source, at), weight)))


@pytest.mark.parametrize(("count", "add"), [(8, _eight), (16, _sixteen)])
def test_lanes_give_the_bits_of_the_loop_and_touch_nothing_else(count: int, add: object) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.random((2, 40), np.float32)
    expected = target.copy()
    weight = np.float32(0.3)
    expected[1 : 1 + count] += weight * source[5 : 5 + count]
    add(source, 5, weight, target)  # type: ignore[operator]
    np.testing.assert_array_equal(target, expected)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(TypingError, match="contiguous float32"):
        _eight(np.zeros(40), 5, np.float32(1), np.zeros(40, np.float32))
