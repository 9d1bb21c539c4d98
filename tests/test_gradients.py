"""Sobel against OpenCV and plain NumPy; the temporal difference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArrayError
from deblur.gradients import SIZES, gaussian_gradient, scharr, sobel, temporal_difference

KERNELS = {  # smoothing, derivative: as printed in OpenCV's getDerivKernels
    3: ([1, 2, 1], [-1, 0, 1]),
    5: ([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1]),
    7: ([1, 6, 15, 20, 15, 6, 1], [-1, -4, -5, 0, 5, 4, 1]),
}


def plain_sobel(image: np.ndarray, size: int) -> np.ndarray:
    """Two correlations in float64 with the image mirrored about its outermost pixels."""
    radius = size // 2
    height, width = image.shape
    padded = np.pad(image.astype(float), radius, mode="reflect")
    out = np.zeros((2, height, width))
    smooth, slope = KERNELS[size]
    for i in range(size):
        for j in range(size):
            part = padded[i : i + height, j : j + width]
            out[0] += slope[i] * smooth[j] * part
            out[1] += smooth[i] * slope[j] * part
    return out


def picture(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return (
        (values * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind in "ui" else values.astype(dtype)
    )


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 40),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    size=st.sampled_from(SIZES),
    seed=st.integers(0, 2**16),
)
def test_equals_plain_numpy(height: int, width: int, dtype: str, size: int, seed: int) -> None:
    image = picture((height, width), dtype, seed)
    expected = plain_sobel(image, size)
    scale = float(image.max()) * 4 ** (size - 2) + 1e-6
    np.testing.assert_allclose(sobel(image, size=size), expected, atol=2e-6 * scale)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_equals_opencv_with_its_borders(size: int, dtype: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra 'test')")
    image = picture((37, 53), dtype, 1)
    theirs = np.stack(
        [cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=size), cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=size)]
    )
    scale = float(image.max()) * 4 ** (size - 2)
    np.testing.assert_allclose(sobel(image, size=size), theirs, atol=1e-6 * scale)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(37, 53), (2, 3), (1, 9)])
def test_scharr_equals_opencv(dtype: str, shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra 'test')")
    image = picture(shape, dtype, 1)
    theirs = np.stack([cv2.Scharr(image, cv2.CV_32F, 0, 1), cv2.Scharr(image, cv2.CV_32F, 1, 0)])
    np.testing.assert_allclose(scharr(image), theirs, atol=2e-5 * float(image.max()))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.7])
def test_gaussian_gradient_equals_two_convolutions(sigma: float) -> None:
    image = picture((3, 40, 33), "uint16", 3)
    at = np.arange(-np.ceil(4 * sigma), np.ceil(4 * sigma) + 1)
    bell = np.exp(-0.5 * (at / sigma) ** 2)
    smooth, slope = bell / bell.sum(), at * bell / (at * at * bell).sum()
    padded = np.pad(image.astype(float), ((0, 0), *[(at.size // 2,) * 2] * 2), mode="reflect")
    view = np.lib.stride_tricks.sliding_window_view(padded, (at.size, at.size), axis=(1, 2))
    expected = np.stack(
        [np.einsum("cyxij,i,j->cyx", view, a, b) for a, b in ((slope, smooth), (smooth, slope))], axis=1
    )
    np.testing.assert_allclose(gaussian_gradient(image, sigma=sigma), expected, atol=0.2)
    for wrong in (0, -1, np.nan, 1e9):
        with pytest.raises(ArrayError):
            gaussian_gradient(image, sigma=wrong)


@pytest.mark.parametrize(("size", "gain"), [(3, 8), (5, 128), (7, 2048)])
def test_gain_of_a_unit_slope(size: int, gain: int) -> None:
    y, x = np.mgrid[:16, :16].astype(np.float32)
    dy, dx = sobel(2 * y + 3 * x, size=size)[:, 5:-5, 5:-5]
    assert np.all(dy == 2 * gain)
    assert np.all(dx == 3 * gain)


def test_channels_strides_and_byte_order_do_not_matter() -> None:
    image = picture((3, 12, 18), "uint16", 2)
    whole = sobel(image)
    assert whole.shape == (3, 2, 12, 18)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole[1], sobel(image[1]))
    np.testing.assert_array_equal(sobel(image.astype(">u2")), whole)
    np.testing.assert_array_equal(sobel(image[0, ::2, ::-1]), sobel(image[0, ::2, ::-1].copy()))
    np.testing.assert_array_equal(image, picture((3, 12, 18), "uint16", 2))


@pytest.mark.parametrize(
    ("image", "size"),
    [(np.zeros((4, 4)), 4), (np.zeros(4), 3), (np.zeros((0, 4)), 3), (np.zeros((4, 4), complex), 3)],
)
def test_refuses_in_one_line(image: np.ndarray, size: int) -> None:
    with pytest.raises(ArrayError) as caught:
        sobel(image, size=size)
    assert "\n" not in str(caught.value)


def test_temporal_difference_is_central_and_does_not_wrap() -> None:
    before, after = np.array([[200, 0]], np.uint8), np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(temporal_difference(before, after), np.array([[-100, 127.5]], np.float32))
    with pytest.raises(ArrayError):
        temporal_difference(before, after[:, :1])
