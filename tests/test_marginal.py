"""The likely PSF: nearer the truth than the start, sum 1, no specks, arguments kept."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve, gaussian_filter

from deblur.marginal import likely_psf, without_specks
from tests.test_blind import shaken


def test_a_psf_that_is_too_wide_becomes_narrower() -> None:
    _, seen, truth = shaken()
    seen = seen + np.random.default_rng(3).normal(0, 0.002, seen.shape).astype(np.float32)
    start = np.pad(gaussian_filter(truth, 0.8), 2).astype(np.float32)
    start /= start.sum()
    kept = seen.copy(), start.copy()
    found = likely_psf(seen, start, noise=0.002)
    assert abs(float(found.sum()) - 1) < 1e-5
    assert found.min() >= 0
    whole = np.pad(truth, 2)
    assert np.abs(found - whole).sum() < 0.75 * np.abs(start - whole).sum()
    np.testing.assert_array_equal(seen, kept[0])
    np.testing.assert_array_equal(start, kept[1])


def test_a_sharp_image_keeps_its_point() -> None:
    sharp, _, _ = shaken()
    point = np.zeros((9, 9), np.float32)
    point[4, 4] = 1
    assert likely_psf(sharp, point, noise=0.001)[4, 4] > 0.9


def test_specks_go_and_weak_parts_of_the_path_stay() -> None:
    psf = np.zeros((11, 11))
    psf[3, 2:8] = (1, 0.8, 0.3, 0.05, 0.04, 0.03)
    psf[9, 9] = 0.05
    found = without_specks(psf)
    assert found[9, 9] == 0
    assert np.all(found[3, 2:8] > 0)
    assert abs(float(found.sum()) - 1) < 1e-6
    assert without_specks(np.zeros((5, 5)))[2, 2] == 1


def test_the_border_of_the_image_is_not_taken_for_blur() -> None:
    """Light came in from outside: the same view cut smaller gives nearly the same PSF."""
    _, seen, truth = shaken()
    start = np.pad(convolve(truth, np.full((3, 3), 1 / 9)), 2).astype(np.float32)
    whole = likely_psf(seen, start / start.sum(), noise=0.001)
    part = likely_psf(np.ascontiguousarray(seen[20:-20, 20:-20]), start / start.sum(), noise=0.001)
    assert np.abs(whole - part).sum() < 0.35
