"""In a notebook: results show themselves, arrays keep their coordinates, plots draw what they say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import deblur
from deblur.errors import ArrayError
from deblur.labels import check_names, labelled
from tests.conftest import pan


@pytest.fixture(scope="module")
def frames() -> Any:
    return pan(3, 64, 80)[0]


@pytest.fixture(scope="module")
def result(frames: Any) -> deblur.Restoration:
    return deblur.restore(frames, exposure_fraction=0.75)


def test_a_result_shows_itself(result: deblur.Restoration) -> None:
    page = result._repr_html_()
    assert page.count("<img") == 3
    assert page.count("data:image/png;base64,") == 3
    for words in ("3 × 1 × 64 × 80, uint8", "0.75", "restored", "mean weight"):
        assert words in page
    assert "<script" not in page
    assert "http" not in re.sub("base64,[^']*", "", page)
    HTMLParser().feed(page)


def test_a_still_shows_itself_too() -> None:
    page = deblur.restore(np.full((1, 64, 64), 90, np.uint8))._repr_html_()
    assert "none: a still" in page


class _Named:
    """The few verbs of xarray.DataArray that are used, for machines without it."""

    def __init__(self, values: Any, dims: tuple[str, ...], coords: dict[str, Any]) -> None:
        self.values, self.dims, self.coords, self.ndim = values, dims, coords, values.ndim
        self.shape = values.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values

    def isel(self, which: dict[str, int], drop: bool) -> _Named:
        (name,) = which
        kept = tuple(d for d in self.dims if d != name)
        values = np.take(self.values, 0, axis=self.dims.index(name))
        return _Named(values, kept, {d: c for d, c in self.coords.items() if d != name})

    def copy(self, *, data: Any) -> _Named:
        assert data.shape == self.shape
        return _Named(data, self.dims, self.coords)


def test_axes_keep_their_names_and_coordinates(frames: Any, result: deblur.Restoration) -> None:
    named = _Named(frames, ("time", "band", "y", "x"), {"time": [0, 1, 2], "band": [5]})
    found = deblur.restore(named, exposure_fraction=0.75)  # type: ignore[arg-type]
    assert np.array_equal(found.frames.values, result.frames)
    assert found.frames.dims == named.dims
    assert found.weight.dims == ("time", "y", "x")
    assert found.weight.coords == {"time": [0, 1, 2]}
    assert np.array_equal(found.reason.values, result.reason)
    assert found._repr_html_() == result._repr_html_()


def test_xarray_itself(frames: Any, result: deblur.Restoration) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is an extra: pip install 'deblur[xarray]'")
    times = np.array(["2026-01-01", "2026-01-02", "2026-01-03"], "datetime64[ns]")
    named = xarray.DataArray(
        frames[:, 0],
        dims=("time", "y", "x"),
        coords={"time": times, "y": np.arange(64) * 0.5},
        attrs={"unit": "m"},
    )
    found = deblur.restore(named, exposure_fraction=0.75)
    assert np.array_equal(found.frames.values, result.frames[:, 0])
    assert found.frames.attrs == {"unit": "m"}
    for array in (found.frames, found.weight, found.reason):
        assert np.array_equal(array.time, times)
        assert np.array_equal(array.y, named.y)
    assert np.array_equal(deblur.restore(named.chunk(y=32), exposure_fraction=0.75).weight, found.weight)


def test_dask_arrays_are_computed(frames: Any, result: deblur.Restoration) -> None:
    import dask.array

    found = deblur.restore(dask.array.from_array(frames, chunks=1), exposure_fraction=0.75)  # type: ignore[arg-type]
    assert isinstance(found.frames, np.ndarray)
    assert np.array_equal(found.frames, result.frames)


def test_channels_that_come_last_are_refused_by_name() -> None:
    with pytest.raises(ArrayError, match=r"transpose them to \(time, band, y, x\)"):
        check_names(SimpleNamespace(dims=("time", "y", "x", "band"), coords={}))
    values = np.zeros(3)
    assert labelled(values, values) is values


def test_plots(result: deblur.Restoration) -> None:
    matplotlib = pytest.importorskip(
        "matplotlib", reason="matplotlib is an extra: pip install 'deblur[plot]'"
    )
    matplotlib.use("agg")
    from matplotlib import pyplot

    from deblur import plot

    figure, axes = pyplot.subplots(2, 2)
    plot.plot_motion(result.motion[1], ax=axes[0, 0])
    plot.plot_paths(0.75 * result.motion[1], result.frames[1, 0], every=16, ax=axes[0, 1])
    plot.plot_psf(np.eye(5), ax=axes[1, 0])
    bars = plot.plot_quality(result, ax=axes[1, 1])
    assert len(axes[0, 1].lines) == 4 * 5  # a line a place of the grid
    longest = max(np.ptp(line.get_xdata()) for line in axes[0, 1].lines)
    assert longest == pytest.approx(6, abs=1)  # 8 px a frame times 0.75
    heights = [
        sum(bar.get_height() for bar in bars.patches if round(bar.get_x() + 0.5) == t) for t in range(3)
    ]
    assert heights == pytest.approx([1, 1, 1])
    figure.canvas.draw()
    pyplot.close(figure)
    with pytest.raises(ArrayError, match=r"give \(2, y, x\)"):
        plot.plot_motion(result.motion)
