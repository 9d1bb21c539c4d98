"""Pictures say what the arrays say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur.errors import ArrayError
from deblur.light import Light, resolve
from deblur.report import pictures
from deblur.tiling import Box
from deblur.types import Reason

SRGB = Light(0.0, 255.0, "srgb")


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_encoded_colour_frames_are_shown_as_they_are(seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 256, (3, 6, 7), np.uint8)
    np.testing.assert_array_equal(pictures.display(codes, SRGB), codes.transpose(1, 2, 0))


def test_linear_data_is_encoded_and_its_white_point_reached() -> None:
    codes = np.linspace(0, 3000, 4000).reshape(1, 40, 100).astype(np.uint16)
    light = resolve("uint16", largest=3000.0)
    white = pictures.white_point(codes, light)
    shown = pictures.display(codes, light, white=white)
    assert shown.shape == (40, 100, 3)
    assert (shown[..., 0] == shown[..., 2]).all()
    assert 240 < shown[-1, -1, 0] <= 255
    assert shown[20, 0, 0] > 170  # half the light is far above half the code


def test_frames_without_channels_with_two_and_with_nan_are_shown() -> None:
    light = Light(0.0, 1.0, "linear")
    frame = np.full((4, 5), 0.5, np.float32)
    frame[0, 0] = np.nan
    shown = pictures.display(frame, light)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert pictures.display(np.stack([frame, frame]), light).tolist() == shown.tolist()
    with pytest.raises(ArrayError, match="give"):
        pictures.display(np.zeros((1, 1, 2, 2)), light)


@given(height=st.integers(1, 60), width=st.integers(1, 60), longest=st.integers(4, 40))
@settings(max_examples=40, deadline=None)
def test_shrinking_keeps_a_flat_colour_and_the_limit(height: int, width: int, longest: int) -> None:
    flat = np.full((height, width, 3), 77, np.uint8)
    small = pictures.shrink(flat, longest=longest)
    assert max(small.shape[:2]) <= longest
    assert min(small.shape[:2]) >= 1
    assert (small == 77).all()


def test_a_thin_picture_keeps_at_least_a_row_when_shrunk() -> None:
    assert pictures.shrink(np.zeros((2, 500, 3), np.uint8), longest=50).shape == (1, 50, 3)


def test_the_busiest_box_finds_the_texture() -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    picture[60:90, 100:130] = np.random.default_rng(0).integers(0, 255, (30, 30, 3))
    box = pictures.busiest_box(picture, height=36, width=36)
    assert box.shape == (36, 36)
    assert box.y0 <= 61
    assert box.y1 >= 89
    assert box.x0 <= 101
    assert box.x1 >= 129
    assert pictures.crop(picture, box).shape == (36, 36, 3)
    assert pictures.busiest_box(picture[:8, :8], height=99, width=99) == Box(0, 8, 0, 8)


def test_every_reason_has_its_own_colour_and_words() -> None:
    assert set(pictures.REASON_COLOURS) == set(pictures.REASON_WORDS) == set(Reason)
    reasons = np.arange(len(Reason), dtype=np.uint8)[None]
    shown = pictures.reason_picture(reasons, np.full((1, len(Reason), 3), 128, np.uint8))
    assert len({tuple(pixel) for pixel in shown[0].tolist()}) == len(Reason)


def test_maps_have_the_frame_s_shape() -> None:
    field = np.random.default_rng(1).normal(0, 2, (2, 8, 9)).astype(np.float32)
    for picture in (
        pictures.gradient_picture(field),
        pictures.length_picture(field),
        pictures.motion_picture(field),
        pictures.difference_picture(field[0]),
        pictures.weight_picture(field[1]),
    ):
        assert picture.shape == (8, 9, 3)
        assert picture.dtype == np.uint8


def test_one_outlier_does_not_bleach_the_motion() -> None:
    field = np.zeros((2, 50, 50), np.float32)
    field[1] = 4.0
    field[1, 0, 0] = 4000.0
    assert pictures.motion_picture(field)[25, 25].tolist() == [255, 0, 0]


def test_a_contact_sheet_lays_rows_and_refuses_nothing_and_mixtures() -> None:
    page = pictures.contact_sheet([np.full((10, 20, 3), k, np.uint8) for k in range(5)], columns=3, gap=2)
    assert page.shape == (22, 64, 4)
    assert page[12, 22].tolist() == [4, 4, 4, 255]
    assert page[0, 20, 3] == 0
    for wrong in ([], [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]):
        with pytest.raises(ArrayError, match="contact sheet"):
            pictures.contact_sheet(wrong)


def test_png_is_lossless_and_data_uris_name_their_kind() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (5, 6, 4), np.uint8)
    file = pictures.to_png(picture)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), picture)
    assert pictures.data_uri(file).startswith("data:image/png;base64,")
    assert pictures.data_uri(pictures.to_jpeg(picture[..., :3])).startswith("data:image/jpeg;base64,")
