"""Rolling shutter: motion per interval, and a frame brought to one time."""

from pathlib import Path

import numpy as np
import pytest

from deblur.errors import ArrayError
from deblur.motion import estimate_motion_pair
from deblur.motion.rolling import motion_per_interval, to_global_shutter
from tests.motion.scenes import texture

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "rolling_shutter"
HEIGHT, WIDTH, READOUT = 96, 128, 0.9


def rolled(time: float, velocity: tuple[float, float]) -> np.ndarray:
    """The moving texture, row y seen at `time + READOUT (y / HEIGHT)`."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    when = time + READOUT * y / HEIGHT
    return texture(y - velocity[0] * when, x - velocity[1] * when, 3)


@pytest.mark.parametrize("velocity", [(6.0, 2.0), (-5.0, 7.0), (0.0, -9.0)])
def test_motion_between_rolling_frames_becomes_that_of_the_scene(velocity: tuple[float, float]) -> None:
    motion = estimate_motion_pair(rolled(0, velocity), rolled(1, velocity), readout=READOUT)
    inner = (slice(14, -14), slice(14, -14))
    for field, sign in ((motion.forward, 1), (motion.backward, -1)):
        error = np.hypot(field[0] - sign * velocity[0], field[1] - sign * velocity[1])[inner]
        assert np.median(error) < 0.05


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_frame_is_brought_to_one_time(at: float) -> None:
    velocity = (6.0, -7.0)
    field = np.zeros((2, HEIGHT, WIDTH), np.float32) + np.float32(velocity)[:, None, None]
    found = to_global_shutter(rolled(0, velocity), field, readout=READOUT, rows=HEIGHT, at=at)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    when = READOUT * at * (HEIGHT - 1) / HEIGHT
    truth = texture(y - velocity[0] * when, x - velocity[1] * when, 3)
    assert np.abs(found - truth)[10:-10, 10:-10].max() < 0.01


def test_windows_and_channels_are_brought_like_the_frame() -> None:
    frame = np.stack([rolled(0, (4, 3)), rolled(1, (4, 3))])
    field = np.zeros((2, HEIGHT, WIDTH), np.float32) + np.float32([4, 3])[:, None, None]
    whole = to_global_shutter(frame, field, readout=READOUT, rows=HEIGHT)
    part = to_global_shutter(frame[:, 32:80], field[:, 32:80], readout=READOUT, rows=HEIGHT, row0=32)
    np.testing.assert_allclose(part[:, 8:-8], whole[:, 40:72], atol=1e-6)
    np.testing.assert_array_equal(whole[0], to_global_shutter(frame[0], field, readout=READOUT, rows=HEIGHT))


def test_a_global_shutter_changes_nothing() -> None:
    field = np.random.default_rng(0).normal(0, 5, (2, 12, 16)).astype(np.float32)
    np.testing.assert_array_equal(motion_per_interval(field, readout=0, rows=12), field)
    frame = np.random.default_rng(1).random((12, 16), np.float32)
    np.testing.assert_array_equal(to_global_shutter(frame, field, readout=0, rows=12), frame)


def test_wrong_settings_are_one_line() -> None:
    field = np.zeros((2, 4, 4), np.float32)
    for call in (
        lambda: motion_per_interval(field, readout=1.5, rows=4),
        lambda: motion_per_interval(field, readout=np.nan, rows=4),
        lambda: motion_per_interval(field[0], readout=0.5, rows=4),
        lambda: motion_per_interval(field, readout=0.5, rows=0),
        lambda: motion_per_interval(field, readout=0.5, rows=4, step=2),
        lambda: to_global_shutter(field[0, :2], field, readout=0.5, rows=4),
    ):
        with pytest.raises(ArrayError) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_real_frames_gain_three_decibels() -> None:
    if not DATA.is_dir():
        pytest.skip("the real frames (shared/data/rolling_shutter beside the repository) are not here")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    gains = []
    for folder in sorted(DATA.glob("*/*")):
        before, frame, truth = (
            np.asarray(image.open(folder / f"{name}.png").convert("L"), np.float32) / np.float32(255)
            for name in ("rs_0", "rs_1", "gs_1")
        )
        velocity = -estimate_motion_pair(before, frame, readout=1.0).backward
        moved = to_global_shutter(frame, velocity, readout=1.0, rows=len(frame))
        power = [np.mean((v - truth)[16:-16, 16:-16] ** 2) for v in (frame, moved)]
        gains.append(10 * np.log10(power[0] / power[1]))
    assert min(gains) > 0
    assert np.mean(gains) > 3
