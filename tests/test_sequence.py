"""restore_window and restore: gain on a known truth, no seams, no harm, one line for what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from deblur.deconv import ALONG_PATHS
from deblur.errors import ArrayError, ConfigError
from deblur.neighbours import Neighbour
from deblur.paths import blur
from deblur.sequence import restore
from deblur.smear import CELL
from deblur.tiling import round_up
from deblur.types import Reason
from deblur.window import RestoredWindow, RestoreSettings, restore_halo, restore_window

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "gopro240"


def scene(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    image = np.full((height, width), 0.5, np.float32)
    for _ in range(height * width // 60):
        y, x = rng.integers(0, (height, width))
        image[y : y + rng.integers(2, 24), x : x + rng.integers(2, 24)] = rng.uniform(0.1, 0.9)
    return image


def pan(
    count: int = 3, speed: float = 8, fraction: float = 0.75, size: tuple[int, int] = (96, 128)
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a camera that pans right by `speed` pixels a frame, and their truth."""
    wide = scene(size[0], size[1] + 64)
    path = np.zeros((2, *wide.shape), np.float32)
    path[1] = speed * fraction
    seen = blur(wide, path)
    starts = [8 + int(t * speed) for t in range(count)]
    return (np.stack([v[:, x : x + size[1]] for x in starts]) for v in (seen, wide))  # type: ignore[return-value]


def psnr(a: np.ndarray, b: np.ndarray, cut: int = 12) -> float:
    return float(-10 * np.log10(np.mean((a - b)[..., cut:-cut, cut:-cut] ** 2)))


def both_sides(frames: np.ndarray, speed: float = 8, fraction: float = 0.75) -> tuple[Neighbour, ...]:
    motion = np.zeros((2, *frames.shape[1:]), np.float32)
    motion[1] = -speed
    return (
        Neighbour(frames[2][None], motion, -motion, fraction),
        Neighbour(frames[0][None], -motion, motion, -fraction),
    )


@pytest.mark.parametrize("name", ALONG_PATHS)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_window_gains_with_every_method(name: str, noise: float) -> None:
    frames, truth = pan()
    frames = frames + np.random.default_rng(1).normal(0, noise, frames.shape).astype(np.float32)
    kept = frames.copy()
    found = restore_window(
        frames[1][None], both_sides(frames), noise=noise, settings=RestoreSettings(method=name)
    )
    merged = frames[1] * (1 - found.weight) + found.image[0] * found.weight
    assert psnr(merged, truth[1]) > psnr(frames[1], truth[1]) + (3 if noise == 0 else 0.8)
    np.testing.assert_array_equal(frames, kept)


def test_wrong_motion_does_no_harm() -> None:
    frames, truth = pan()
    one, other = both_sides(frames)
    wrong = np.random.default_rng(2).normal(0, 8, one.motion.shape).astype(np.float32)
    liars = (dataclasses.replace(one, motion=wrong), dataclasses.replace(other, motion=wrong[:, ::-1].copy()))
    found = restore_window(frames[1][None], liars, noise=0.0, settings=RestoreSettings())
    merged = frames[1] * (1 - found.weight) + found.image[0] * found.weight
    assert psnr(merged, truth[1]) > psnr(frames[1], truth[1]) - 0.1
    assert found.weight.mean() < 0.2


def test_without_neighbour_or_motion_the_source_stays() -> None:
    frames, _ = pan()
    alone = restore_window(frames[1][None], (), noise=0.0, settings=RestoreSettings())
    assert alone.weight.max() == 0
    assert np.all(alone.reason == Reason.NO_NEIGHBOUR)
    still = restore(np.repeat(frames[:1], 3, axis=0), exposure_fraction=0.5)
    np.testing.assert_array_equal(still.frames, np.repeat(frames[:1], 3, axis=0))
    assert np.all(still.reason == Reason.STILL)


@pytest.mark.parametrize("name", ALONG_PATHS)
def test_a_window_with_its_halo_agrees_with_the_whole(name: str) -> None:
    settings = RestoreSettings(method=name)
    frames, _ = pan(size=(480, 512), speed=12)
    neighbours = both_sides(frames, speed=12)
    halo = round_up(restore_halo(settings, 9) + 12, CELL)  # as `deblur.plan` does it
    y, x = slice(208, 268), slice(208, 288)
    outer = slice(y.start - halo, y.stop + halo), slice(x.start - halo, x.stop + halo)
    assert min(s.start for s in outer) > 0
    cut = tuple(
        Neighbour(n.frame[:, *outer], n.motion[:, *outer].copy(), n.back[:, *outer].copy(), n.scale)
        for n in neighbours
    )
    whole = restore_window(frames[1][None], neighbours, noise=0.002, settings=settings)
    part = restore_window(frames[1][None][:, *outer], cut, noise=0.002, settings=settings)
    inner = slice(halo, halo + 60), slice(halo, halo + 80)
    difference = np.abs(_merged(part, frames[1][outer])[inner] - _merged(whole, frames[1])[y, x])
    assert np.quantile(difference, 0.999) < 1 / 255
    assert difference.max() < 5 / 255


def _merged(found: RestoredWindow, source: np.ndarray) -> np.ndarray:
    return source * (1 - found.weight) + found.image[0] * found.weight


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_restore_keeps_shape_and_dtype_and_gains(dtype: str) -> None:
    frames, truth = pan(size=(80, 96))
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    given = np.rint(frames * top).astype(dtype) if top > 1 else frames.astype(dtype)
    found = restore(given, exposure_fraction=0.75, transfer="linear")
    assert found.frames.dtype == given.dtype
    assert found.frames.shape == given.shape
    assert found.weight.shape == found.reason.shape == given.shape
    assert found.motion.shape == (3, 2, *given.shape[1:])
    before, after = (psnr(v.astype(np.float64) / top, truth, 16) for v in (given, found.frames))
    assert after > before + 1.5
    np.testing.assert_array_equal(found.frames[found.weight == 0], given[found.weight == 0])


def test_an_exposure_that_is_not_given_is_estimated() -> None:
    frames, truth = pan(count=4, speed=12, fraction=0.75, size=(120, 200))
    found = restore(frames)
    assert abs(found.exposure_fraction - 0.75) < 3 * found.exposure_uncertainty
    assert 0 < found.exposure_uncertainty < 0.2
    given = restore(frames, exposure_fraction=found.exposure_fraction)
    assert given.exposure_uncertainty == 0
    gains = [psnr(r.frames, truth, 16) - psnr(frames, truth, 16) for r in (found, given)]
    assert gains[0] > 1.5
    assert gains[1] > gains[0]  # a path that is sure bears a weaker prior


def test_colour_is_restored_plane_by_plane() -> None:
    frames, _ = pan(count=2, size=(64, 80))
    colour = np.rint(np.stack([frames, frames * 0.5, 1 - frames], axis=1) * 255).astype(np.uint8)
    found = restore(colour, exposure_fraction=0.75)
    assert found.frames.shape == colour.shape
    assert found.weight.shape == (2, 64, 80)
    assert found.weight.mean() > 0.3


def test_what_is_wrong_is_said_in_one_line() -> None:
    frames, _ = pan(size=(32, 40))
    holed = frames.copy()
    holed[1, 3, 4] = np.nan
    for error, words, stack, kwargs in (
        (ArrayError, "three frames", frames[:2], {}),
        (ConfigError, "exposure_fraction", frames, {"exposure_fraction": 1.5}),
        (ConfigError, "exposure_fraction", frames, {"exposure_fraction": -0.1}),
        (ConfigError, "exposure_fraction", frames, {"exposure_fraction": float("nan")}),
        (ConfigError, "method", frames, {"exposure_fraction": 0.5, "method": "magic"}),
        (ConfigError, "method", frames, {"exposure_fraction": 0.5, "method": "wiener"}),
        (ConfigError, "motion method", frames, {"exposure_fraction": 0.5, "motion_method": "magic"}),
        (ConfigError, "transfer", frames, {"exposure_fraction": 0.5, "transfer": "magic"}),
        (ArrayError, "frame 1 holds NaN", holed, {"exposure_fraction": 0.5}),
        (ArrayError, "shape", frames[0], {"exposure_fraction": 0.5}),
    ):
        with pytest.raises(error, match=words) as caught:
            restore(stack, **kwargs)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_settings_are_plain_values() -> None:
    settings = RestoreSettings(iterations=7)
    assert RestoreSettings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
    assert restore_halo(settings, 40) > restore_halo(settings, 10) > 0


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="real frames (../shared/data/gopro240) are not here")
@pytest.mark.parametrize(("count", "period"), [(7, 8), (11, 12)])
def test_real_frames_gain_and_none_is_harmed(count: int, period: int) -> None:
    import imagecodecs

    names = sorted(DATA.glob("*.png"))
    crop = np.s_[
        120:600, 320:960
    ]  # far wider than the motion, 40 px a frame: else most of it comes from outside
    luma = np.float32([0.299, 0.587, 0.114])

    def load(i: int) -> np.ndarray:
        return np.asarray(imagecodecs.png_decode(names[i].read_bytes())[crop] @ luma / 255, np.float32)

    centres = [period + count // 2 + k * period for k in (-1, 0, 1)]
    seen = np.stack(
        [np.mean([load(c + k) for k in range(-(count // 2), count // 2 + 1)], axis=0) for c in centres]
    )
    seen = np.rint(seen * 255).astype(np.uint8)
    found = restore(seen, exposure_fraction=count / period, transfer="linear")
    gains = [
        psnr(after / 255, load(c), 16) - psnr(before / 255, load(c), 16)
        for before, after, c in zip(seen, found.frames, centres, strict=True)
    ]
    assert min(gains) > -0.1, gains
    assert np.mean(gains) > 0.5, gains
