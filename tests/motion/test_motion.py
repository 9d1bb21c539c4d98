"""The contract that every registered motion method passes, and the public functions' manners."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError, ConfigError
from deblur.motion import METHODS, estimate_motion, estimate_motion_pair
from tests.motion.scenes import photograph, shifted_pair, visible

methods = pytest.mark.parametrize("method", sorted(METHODS))


@methods
@settings(max_examples=12, deadline=None)
@given(dy=st.floats(-6, 6), dx=st.floats(-6, 6), seed=st.integers(0, 99))
def test_small_motion_is_found_to_a_tenth_of_a_pixel(method: str, dy: float, dx: float, seed: int) -> None:
    reference, moving = shifted_pair(72, 88, dy, dx, seed)
    field = estimate_motion(reference, moving, method=method)
    error = np.hypot(field[0] - dy, field[1] - dx)[visible(72, 88, dy, dx)]
    assert np.median(error) < 0.1


@methods
@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["uint8", "uint16", "bool", "float64"]),
    push=st.sampled_from([None, 0.0, 1e4]),
)
def test_output_is_finite_whatever_comes(
    method: str, height: int, width: int, seed: int, kind: str, push: float | None
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 2, (2, height, width)) * (255 if kind == "uint8" else 1)).astype(kind)
    initial = None if push is None else np.full((2, height, width), push)
    field = estimate_motion(a, b, method=method, initial=initial)
    assert field.shape == (2, height, width)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()


@methods
@pytest.mark.parametrize(("dy", "dx"), [(0, 40), (-45, 30), (40, 40)])
def test_large_motion_is_found(method: str, dy: int, dx: int) -> None:
    scene = photograph(400, 440)
    reference = scene[60:300, 60:360]
    moving = scene[60 - dy : 300 - dy, 60 - dx : 360 - dx]
    field = estimate_motion(reference, moving, method=method)
    error = np.hypot(field[0] - dy, field[1] - dx)[visible(240, 300, dy, dx)]
    assert np.median(error) < 0.1
    assert np.mean(error) < 2


@methods
def test_identical_frames_do_not_move_and_nothing_is_changed(method: str) -> None:
    frame, other = shifted_pair(48, 64, 1, 2)
    kept = frame.copy(), other.copy()
    start = np.full((2, 48, 64), 3, np.float32)
    assert not estimate_motion(frame, frame.copy(), method=method, initial=start).any()
    first = estimate_motion(frame, other, method=method, initial=start)
    np.testing.assert_array_equal(first, estimate_motion(frame, other, method=method, initial=start))
    np.testing.assert_array_equal(frame, kept[0])
    np.testing.assert_array_equal(other, kept[1])
    assert (start == 3).all()


@methods
@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_a_change_of_exposure_is_not_motion(method: str, gain: float) -> None:
    reference, moving = shifted_pair(96, 128, 2.5, -4)
    field = estimate_motion(reference * np.float32(0.8), moving * np.float32(0.8 * gain), method=method)
    error = np.hypot(field[0] - 2.5, field[1] + 4)[visible(96, 128, 2.5, -4)]
    assert np.mean(error) < 0.1


@methods
def test_integers_are_taken_by_their_range(method: str) -> None:
    reference, moving = shifted_pair(64, 64, 1, 1)
    codes = [np.round(v * 65535).astype(np.uint16) for v in (reference, moving)]
    floats = [c.astype(np.float32) / np.float32(65535) for c in codes]
    np.testing.assert_array_equal(
        estimate_motion(codes[0], codes[1], method=method),
        estimate_motion(floats[0], floats[1], method=method),
    )


@methods
def test_an_initial_field_carries_where_few_levels_would_not(method: str) -> None:
    reference, moving = shifted_pair(80, 112, 30, -20)
    initial = np.stack([np.full((80, 112), 29.0), np.full((80, 112), -21.5)]).astype(np.float32)
    field = estimate_motion(reference, moving, method=method, initial=initial, levels=2)
    error = np.hypot(field[0] - 30, field[1] + 20)[visible(80, 112, 30, -20)]
    assert np.median(error) < 0.1


@methods
def test_a_method_states_its_version_and_reach(method: str) -> None:
    solver = METHODS[method]
    assert solver.NUMERICS_VERSION >= 1
    assert 0 < solver.reach_for(2) <= solver.reach == solver.reach_for(3) <= 128


FRAME = np.zeros((8, 8), np.float32)
NAN = np.full((8, 8), np.nan, np.float32)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: estimate_motion(FRAME, FRAME, method="nonsense"), ConfigError),
        (lambda: estimate_motion(FRAME, FRAME[:, :4]), ArrayError),
        (lambda: estimate_motion(FRAME[0], FRAME[0]), ArrayError),
        (lambda: estimate_motion(FRAME, NAN), ArrayError),
        (lambda: estimate_motion(FRAME, FRAME + np.float32(1e30)), ArrayError),
        (lambda: estimate_motion(FRAME.astype(complex), FRAME), ArrayError),
        (lambda: estimate_motion(FRAME, FRAME, initial=FRAME), ArrayError),
        (lambda: estimate_motion(FRAME, FRAME, initial=np.stack([NAN, NAN])), ArrayError),
        (lambda: estimate_motion(FRAME, FRAME, levels=0), ArrayError),
        (lambda: estimate_motion(FRAME, FRAME, reduced=3), ArrayError),
    ],
)
def test_wrong_input_gives_one_line(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_pair_agrees_both_ways_and_marks_what_leaves() -> None:
    a, b = shifted_pair(96, 120, 0, 12)
    motion = estimate_motion_pair(a, b)
    assert not motion.cut
    assert np.median(np.abs(motion.forward[1] - 12)) < 0.1
    assert np.median(np.abs(motion.backward[1] + 12)) < 0.1
    assert motion.confidence[8:-8, 8:100].mean() > 0.95
    assert motion.confidence.min() >= 0
    assert motion.confidence.max() <= 1
    assert motion.occluded[:, -8:].mean() > 0.9


def test_pair_names_a_cut() -> None:
    rng = np.random.default_rng(3)
    assert estimate_motion_pair(rng.random((64, 80)), rng.random((64, 80))).cut
    flat = np.full((40, 40), 0.5)
    assert not estimate_motion_pair(flat, flat).cut


def test_importing_compiles_nothing() -> None:
    code = (
        "import deblur.motion, deblur.gradients\n"
        "from deblur.motion import median, pyramid, relaxation, search, variational, warping\n"
        "kernels = [v for m in (deblur.gradients, median, pyramid, relaxation, search, variational, warping)"
        " for v in vars(m).values() if hasattr(v, 'signatures')]\n"
        "assert len(kernels) > 10 and not any(k.signatures for k in kernels)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
