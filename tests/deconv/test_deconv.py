"""What every registered deconvolver must do; then what only some of them can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.deconv import ALONG_PATHS, METHODS, deconvolve, solver
from deblur.deconv.hybrid import Hybrid
from deblur.deconv.model import AlongPath, Convolution
from deblur.errors import ArrayError, ConfigError, NumericsError
from deblur.paths import blur, psf_of

ALONE = [
    name for name, method in METHODS.items() if not isinstance(method, Hybrid)
]  # that one looks at neighbours


def scene(height: int = 72, width: int = 96, seed: int = 0) -> np.ndarray:
    """Overlapping rectangles of all sizes on a ramp: edges and flat parts."""
    rng = np.random.default_rng(seed)
    image = np.linspace(0.2, 0.6, width, dtype=np.float32) * np.ones((height, 1), np.float32)
    for _ in range(60):
        y, x = rng.integers(0, (height, width))
        image[y : y + rng.integers(3, 20), x : x + rng.integers(3, 20)] = rng.uniform(0.1, 0.9)
    return image


def psnr(a: np.ndarray, b: np.ndarray, cut: int = 8) -> float:
    return float(-10 * np.log10(np.mean((a - b)[..., cut:-cut, cut:-cut] ** 2)))


def turning(shape: tuple[int, int]) -> np.ndarray:
    path = np.empty((2, *shape), np.float32)
    path[0] = np.linspace(-3, 3, shape[1])
    path[1] = 7
    return path


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_known_psf_gains(name: str, noise: float) -> None:
    sharp = scene()
    psf = psf_of((2, 7))
    seen = Convolution(psf, (66, 88)).apply(sharp[: 66 + psf.shape[0] - 1, : 88 + psf.shape[1] - 1])
    r = psf.shape[0] // 2, psf.shape[1] // 2
    sharp = sharp[r[0] : r[0] + seen.shape[0], r[1] : r[1] + seen.shape[1]]
    seen = seen + np.random.default_rng(1).normal(0, noise, seen.shape).astype(np.float32)
    kept = seen.copy()
    found = deconvolve(seen, psf=psf, method=name, noise=noise)
    assert psnr(found, sharp) > psnr(seen, sharp) + (2.0 if noise == 0 else 0.7)
    np.testing.assert_array_equal(seen, kept)


@pytest.mark.parametrize("name", [name for name in ALONG_PATHS if name in ALONE])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_known_path_gains(name: str, noise: float) -> None:
    sharp = scene()
    path = turning(sharp.shape)
    seen = blur(sharp, path) + np.random.default_rng(1).normal(0, noise, sharp.shape).astype(np.float32)
    found = deconvolve(seen, path=path, method=name, noise=noise)
    assert psnr(found, sharp) > psnr(seen, sharp) + (2.0 if noise == 0 else 0.7)


@pytest.mark.parametrize("name", ALONE)
def test_without_blur_or_detail_nothing_happens(name: str) -> None:
    flat = np.full((20, 24), 0.4, np.float32)
    np.testing.assert_allclose(deconvolve(flat, psf=psf_of((0, 5)), method=name), flat, atol=2e-3)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_convolution_has_an_exact_adjoint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(3, 30, 2))
    psf = rng.random((3, 5)).astype(np.float32)
    model = Convolution(psf, (shape[0], shape[1]))
    seen = rng.random(shape, np.float32)
    sharp = rng.random(model.start(seen).shape, np.float32)
    left, right = np.vdot(model.apply(sharp), seen), np.vdot(sharp, model.adjoint(seen))
    assert abs(left - right) < 1e-4 * abs(left)


def test_convolution_is_one() -> None:
    spot = np.zeros((9, 11), np.float32)
    spot[4, 5] = 1
    psf = np.arange(15, dtype=np.float32).reshape(3, 5)
    np.testing.assert_allclose(Convolution(psf, (7, 7)).apply(spot)[2:5, 1:6], psf, atol=1e-5)


@pytest.mark.parametrize("name", ALONG_PATHS)
def test_distrusted_pixels_do_not_count(name: str) -> None:
    sharp = scene()
    path = turning(sharp.shape)
    seen = blur(sharp, path)
    trust = np.ones_like(seen)
    trust[30:34, 40:44] = 0
    broken = np.where(trust > 0, seen, np.float32(1))
    model = AlongPath(path)
    heard, _ = METHODS[name].solve(broken, model, noise=0.0, trust=None)  # type: ignore[union-attr]
    masked, record = METHODS[name].solve(broken, model, noise=0.0, trust=trust)  # type: ignore[union-attr]
    around = np.s_[24:40, 28:40]
    assert np.abs(masked - sharp)[around].mean() < np.abs(heard - sharp)[around].mean()
    assert record.count >= 1


@pytest.mark.parametrize("name", ALONG_PATHS)
def test_what_is_not_finite_stops_the_solver(name: str) -> None:
    seen = np.full((12, 12), np.nan, np.float32)
    model = AlongPath(np.ones((2, 12, 12), np.float32))
    with pytest.raises(NumericsError, match="finite"):
        solver(name).solve(seen, model, noise=0.0, trust=None)


def test_wrong_use_is_refused_in_one_line() -> None:
    image, psf = np.zeros((8, 8), np.float32), np.ones((3, 3), np.float32)
    for error, words, kwargs in (
        (ConfigError, "give either", {}),
        (ConfigError, "give either", {"psf": psf, "path": np.zeros((2, 8, 8))}),
        (ConfigError, "unknown", {"psf": psf, "method": "magic"}),
        (ConfigError, "one PSF", {"path": np.zeros((2, 8, 8)), "method": "wiener"}),
        (ArrayError, "odd", {"psf": np.ones((2, 2))}),
        (ArrayError, "psf", {"psf": -psf}),
        (ArrayError, "path", {"path": np.zeros((2, 3, 3))}),
    ):
        with pytest.raises(error, match=words) as caught:
            deconvolve(image, **kwargs)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(ArrayError, match="NaN"):
        deconvolve(np.full((8, 8), np.nan), psf=psf)
    assert solver("variational", iterations=3).iterations == 3
