"""NumPy arrays: shapes, byte orders, refusals."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deblur.errors import ReadError
from deblur.io import open_source


@given(
    hnp.arrays(
        st.sampled_from(["<u2", ">u2", "|u1", "<f4", ">f4", ">f8"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 200),
    ),
    st.booleans(),
)
def test_every_plain_stack_comes_back(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, turn: bool
) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.asfortranarray(array) if turn else array)
    with open_source(str(path))[0] as reader:
        frames = np.stack([reader.read(index) for index in range(len(reader.frames))])
    assert np.array_equal(frames[:, 0], array)
    assert frames.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((4, 5)), "2 axes"),
        (np.zeros((4, 50, 60, 3), np.uint8), "channels last"),
        (np.zeros((0, 5, 5), np.uint8), "no frame"),
        (np.zeros((4, 0, 5), np.uint8), "no pixels"),
        (np.zeros((4, 5, 5), np.int64), "int64"),
        (np.zeros((4, 5, 5), np.complex64), "complex64"),
        (np.array([{"a": 1}], object), "plain array"),
    ],
)
def test_refused_by_name(tmp_path: Path, array: np.ndarray, match: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ReadError, match=match) as caught:
        open_source(str(tmp_path / "a.npy"))
    assert "\n" not in str(caught.value)


@given(st.integers(1, 300))
def test_cut_off_anywhere(tmp_path_factory: pytest.TempPathFactory, missing: int) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 5, 5), np.uint16))
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    path.write_bytes(buffer.getvalue()[:-missing])
    with pytest.raises(ReadError):
        open_source(str(path))
