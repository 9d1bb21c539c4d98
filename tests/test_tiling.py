import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import PlanError
from deblur.tiling import Box, blocks, boxes, round_up, windows

extents = st.integers(1, 500)


@given(extents, extents, st.integers(1, 130))
def test_boxes_own_every_pixel_once(height: int, width: int, size: int) -> None:
    found = list(boxes(height, width, size))
    assert sum(box.size for box in found) == height * width
    assert len(set(found)) == len(found)
    assert all(0 <= b.y0 < b.y1 <= height and 0 <= b.x0 < b.x1 <= width for b in found)


@given(extents, extents, st.sampled_from([32, 64]), st.integers(0, 40), st.integers(1, 3))
def test_windows_do_not_depend_on_the_unit(
    height: int, width: int, size: int, halo: int, factor: int
) -> None:
    whole = set(windows(Box(0, height, 0, width), height, width, size=size, halo=halo))
    parts = [
        window
        for unit in boxes(height, width, size * factor)
        for window in windows(unit, height, width, size=size, halo=halo)
    ]
    assert set(parts) == whole
    assert len(parts) == len(whole)


@given(extents, extents, st.integers(0, 60))
def test_reads_stay_inside_the_frame_and_hold_the_core(height: int, width: int, halo: int) -> None:
    for window in windows(Box(0, height, 0, width), height, width, size=64, halo=halo):
        rows, columns = window.inner
        assert (rows.stop - rows.start, columns.stop - columns.start) == window.core.shape
        assert window.read.y1 <= height
        assert window.read.x1 <= width
        assert rows.start == min(halo, window.core.y0)


def test_a_region_of_broken_windows_is_refused() -> None:
    with pytest.raises(PlanError, match="whole windows of 64"):
        windows(Box(0, 100, 0, 100), 200, 200, size=64, halo=8)


@given(st.integers(1, 1000), st.integers(1, 50))
def test_blocks_cover_a_sequence_once(frames: int, size: int) -> None:
    assert [t for a, b in blocks(frames, size) for t in range(a, b)] == list(range(frames))


@given(st.floats(0, 1e6), st.integers(1, 512))
def test_round_up_is_the_least_multiple(value: float, multiple: int) -> None:
    found = round_up(value, multiple)
    assert found % multiple == 0
    assert found - multiple < value <= found
