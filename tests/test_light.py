import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import ArrayError, ConfigError
from deblur.light import Light, decode, encode, luma, merge, resolve

LIGHTS = [Light(0, 255, "srgb"), Light(0, 255, "linear"), Light(0, 4095, "linear"), Light(0, 65535, "srgb")]


@pytest.mark.parametrize("light", LIGHTS)
def test_codes_survive_the_round_trip(light: Light) -> None:
    dtype = np.uint8 if light.white == 255 else np.uint16
    codes = np.arange(0, int(light.white) + 1, 1 if light.white == 255 else 17).astype(dtype)
    assert np.array_equal(np.rint(encode(decode(codes, light), light)), codes)


def test_srgb_is_the_standards_curve() -> None:
    light = Light(0, 255, "srgb")
    found = decode(np.array([0, 10, 128, 255], np.uint8), light)
    assert np.allclose(found, [0.0, 10 / 255 / 12.92, 0.2158605, 1.0], atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from(LIGHTS))
def test_weight_zero_keeps_the_source_bit_for_bit(seed: int, light: Light) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if light.white == 255 else np.uint16
    source = rng.integers(0, int(light.white) + 1, (3, 9, 11)).astype(dtype)
    restored = rng.random((3, 9, 11), np.float32) * 3 - 1
    weight = (rng.random((9, 11)) * (rng.random((9, 11)) < 0.5)).astype(np.float32)
    merged = merge(source, restored, weight, light)
    assert merged.dtype == source.dtype
    assert np.array_equal(merged[:, weight == 0], source[:, weight == 0])
    assert merged.max() <= light.white


def test_weight_one_gives_the_restored_light() -> None:
    light = Light(0, 255, "srgb")
    target = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    merged = merge(np.zeros_like(target), decode(target, light), np.ones((16, 16), np.float32), light)
    assert np.array_equal(merged, target)


@pytest.mark.parametrize(
    ("dtype", "largest", "bits", "white"),
    [
        ("uint8", 3.0, None, 255.0),
        ("uint16", 3000.0, None, 4095.0),
        ("uint16", 3000.0, 16, 65535.0),
        ("uint16", 65535.0, None, 65535.0),
        ("float32", 0.5, None, 1.0),
        ("float32", 1000.0, None, 1000.0),
    ],
)
def test_white_is_decided_once_from_what_is_known(
    dtype: str, largest: float, bits: int | None, white: float
) -> None:
    assert resolve(dtype, largest=largest, bits=bits).white == white


def test_auto_takes_only_8_bit_images_as_encoded() -> None:
    assert resolve("uint8", largest=1).transfer == "srgb"
    assert resolve("uint16", largest=1).transfer == "linear"
    assert resolve("uint8", transfer="linear", largest=1).transfer == "linear"


def test_what_is_not_understood_is_refused() -> None:
    with pytest.raises(ConfigError, match="'gamma'"):
        resolve("uint8", transfer="gamma", largest=1)
    with pytest.raises(ArrayError, match="complex"):
        resolve("complex64", largest=1)


def test_luma_weighs_colours_and_averages_other_channels() -> None:
    light = Light(0, 255, "srgb")
    green = np.zeros((3, 2, 2), np.uint8)
    green[1] = 255
    assert np.allclose(luma(green, light), 0.587, atol=1e-6)
    assert np.allclose(luma(np.full((2, 2, 2), 51, np.uint8), light), 0.2, atol=1e-6)
