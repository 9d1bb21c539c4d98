"""The network of the method "hybrid": bounded in size, reach and say; deterministic; one line for what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from deblur.deconv.hybrid import CELL, FIELDS, PLACES, REACH, Evidence, fields_of, images_of
from deblur.deconv.network import SHIPPED, Network, shipped
from deblur.errors import ConfigError
from deblur.neighbours import Neighbour
from deblur.sequence import restore
from deblur.types import Reason
from deblur.window import RestoreSettings, restore_window
from tests.conftest import pan
from tests.test_sequence import pan as drawing

pytest.importorskip("onnxruntime", reason="deblur[learned] is not installed")
HYBRID = RestoreSettings(method="hybrid")


def evidence(height: int = 64, width: int = 72, *, channels: int = 1, seed: int = 0) -> Evidence:
    rng = np.random.default_rng(seed)
    planes = rng.random((3, channels, height, width), np.float32)
    return Evidence(
        frame=planes[0],
        restored=planes[1],
        again=planes[2],
        along=rng.random((channels, 2, len(PLACES), height, width), np.float32).__getitem__,
        beside=rng.random((2, channels, height, width), np.float32),
        path=rng.normal(0, 8, (2, height, width)).astype(np.float32),
        trusts=rng.random((2, height, width), np.float32),
        weight=rng.random((height, width), np.float32),
        limit=np.ones((height, width), np.float32),
        noise=0.01,
    )


def altered(seen: Evidence, name: str, how: Callable[[np.ndarray], np.ndarray]) -> Evidence:
    """The same evidence but for one of its arrays."""
    if name == "along":
        return replace(seen, along=lambda channel: how(seen.along(channel)))
    return replace(seen, **{name: how(getattr(seen, name))})


def test_the_shipped_weights_keep_the_promised_size_and_say_what_they_are() -> None:
    network = shipped()
    assert len(files("deblur.deconv").joinpath(SHIPPED).read_bytes()) <= 3e6
    assert network.card["parameters"] <= 1.5e6
    assert network.card["pairs"] > 0
    assert not any("gopro" in name or name.startswith("0000") for name in network.card["pictures"])
    assert network.digest in network.identity


def test_what_is_far_has_no_say() -> None:
    """Beyond REACH nothing changes, or tiles would show seams."""
    side = 2 * REACH + 3 * CELL
    seen = evidence(side, side)
    planes, weight = shipped().refine(seen)
    middle = side // 2
    for name in ("frame", "restored", "again", "along", "beside", "path", "trusts", "weight"):

        def changed(array: np.ndarray) -> np.ndarray:
            other = array.copy()
            other[..., middle, middle] += 0.5
            return other

        other_planes, other_weight = shipped().refine(altered(seen, name, changed))
        moved = np.argwhere((other_planes[0] != planes[0]) | (other_weight != weight))
        assert len(moved), name
        assert np.abs(moved - middle).max() <= REACH, name


def test_a_part_on_the_grid_gets_the_bits_of_the_whole() -> None:
    seen = evidence(2 * REACH + 64, 2 * REACH + 64)
    planes, weight = shipped().refine(seen)
    first, last = 2 * CELL, 2 * REACH + 48
    cut = (..., slice(first, last), slice(first, last))
    part = seen
    for name in ("frame", "restored", "again", "along", "beside", "path", "trusts", "weight", "limit"):
        part = altered(part, name, lambda array: array[cut])
    inner = slice(REACH, last - first - REACH)
    other_planes, other_weight = shipped().refine(part)
    core = (..., slice(first + REACH, last - REACH), slice(first + REACH, last - REACH))
    np.testing.assert_allclose(other_planes[..., inner, inner], planes[core], atol=2e-6)
    np.testing.assert_allclose(other_weight[inner, inner], weight[core], atol=2e-5)


def test_the_same_again_is_the_same_to_the_bit() -> None:
    seen = evidence(50, 61, channels=3)
    first, second = shipped().refine(seen), shipped().refine(seen)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0].shape == seen.frame.shape
    assert first[1].shape == seen.weight.shape
    assert 0 <= first[1].min() <= first[1].max() <= 1


def test_a_path_and_its_opposite_are_the_same_blur() -> None:
    seen = evidence()
    np.testing.assert_array_equal(fields_of(seen), fields_of(replace(seen, path=-seen.path)))
    assert fields_of(seen).shape == (FIELDS, *seen.weight.shape)


def test_holes_do_not_spread() -> None:
    """What is not a number is seen as dark."""
    seen = evidence()
    seen.frame[0, 20, 20] = np.nan
    assert np.isfinite(images_of(seen, 0)).all()


def test_it_restores_better_than_physics_and_says_what_it_did() -> None:
    frames, truth = pan(5, 192, 256)
    physics = restore(frames, exposure_fraction=0.75)
    both = restore(frames, exposure_fraction=0.75, settings=HYBRID)

    def rms(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found[1:-1].astype(float) - truth[1:-1]) ** 2)))

    assert rms(both.frames) < rms(physics.frames) < rms(frames)


def test_a_drawing_that_is_unlike_what_it_learned_from_is_left_to_physics() -> None:
    """Hard edges: no photograph has them. The network would soften them, which contradicts the frame."""
    frames, truth = drawing(3)
    physics = restore(frames, exposure_fraction=0.75)
    both = restore(frames, exposure_fraction=0.75, settings=HYBRID)

    def error(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found[1] - truth[1])[12:-12, 12:-12] ** 2)))

    assert error(physics.frames) < error(frames) / 2
    assert error(both.frames) < 1.06 * error(physics.frames)  # half a decibel; without that check 1.26


def test_the_network_cannot_touch_what_did_not_move_or_was_clipped() -> None:
    rng = np.random.default_rng(4)
    frame = rng.random((1, 64, 64), np.float32) * np.float32(0.8)
    frame[0, 30:34, 30:34] = 1.0
    motion = np.zeros((2, 64, 64), np.float32)
    motion[1, :, :32] = 9
    beside = Neighbour(frame, motion, -motion, 0.9)
    found = restore_window(frame, (beside,), noise=0.0, settings=HYBRID)
    assert found.weight[:, 40:].max() == 0
    assert found.weight[30:34, 30:34].max() == 0
    assert np.all(found.reason[30:34, 30:34] == Reason.SATURATED)
    assert found.learned is not None
    assert found.learned.shape == (64, 64)
    assert np.abs(found.learned[:, 40:]).max() == 0


def test_without_the_runtime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'deblur\[learned\]'"):
        Network(b"")


def test_what_is_no_network_is_refused_in_a_line() -> None:
    with pytest.raises(ConfigError, match="give an ONNX file of `deblur train`") as caught:
        Network(b"no network", name="that file")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="CPU"):
        Network(b"", provider="Abacus")
