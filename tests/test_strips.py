"""Strips are only a way to read: no bit depends on them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur import strips
from deblur.motion.pyramid import reduce
from deblur.strips import of_array, reduced
from deblur.tiling import Box


@given(st.data())
def test_strips_give_the_bits_of_the_whole_frame(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 40))
    factor, rows = 2 ** data.draw(st.integers(0, 4)), data.draw(st.sampled_from([1, 3, 8, 16]))
    frame = np.random.default_rng(height).random((2, height, width), np.float32)
    h, w = -(-height // factor), -(-width // factor)
    y0, x0 = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    box = Box(y0, data.draw(st.integers(y0 + 1, h)), x0, data.draw(st.integers(x0 + 1, w)))
    seen: list[Box] = []

    def read(part: Box) -> np.ndarray:
        seen.append(part)
        return of_array(frame)(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "ROWS", rows)
        patch.setattr(strips, "VALUES", 1)
        found = reduced(read, height, width, factor=factor, planes=lambda codes: codes, box=box)
    whole = np.stack([reduce(plane, factor) for plane in frame])
    assert np.array_equal(found, whole[:, *box.slices])
    assert max(part.shape[0] for part in seen) <= max(factor, -(-rows // factor) * factor)
    assert all(a.y1 == b.y0 for a, b in pairwise(seen))  # no row is read twice
