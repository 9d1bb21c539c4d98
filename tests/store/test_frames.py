"""Frames in columns are the records that they were made of."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.store.frames import FrameRecord, FrameTable

NONE = "00" * 32
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
SECONDS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text() | st.binary(max_size=8).map(os.fsdecode)  # a file's name need not be UTF-8
RECORDS = st.builds(
    FrameRecord,
    st.integers(0, 2**40),
    NAMES,
    SECONDS,
    SECONDS,
    DIGESTS,
    st.none() | DIGESTS.filter(lambda d: set(d) != {"0"}),
)


@given(st.lists(RECORDS))
def test_what_goes_in_comes_out(records: list[FrameRecord]) -> None:
    table = FrameTable()
    for record in records:
        table.add(record)
    assert list(table.records) == records
    assert list(table.records[1:-1]) == records[1:-1]
    assert list(table.records[::-2]) == records[::-2]


@pytest.mark.parametrize("digest", ["", "00", "x" * 64])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    table = FrameTable()
    with pytest.raises(ValueError, match=r"sha256|hexadecimal"):
        table.add(FrameRecord(0, "a", None, None, digest))
    assert list(table.records) == []


def test_a_frame_takes_a_hundred_bytes_and_its_name() -> None:
    tracemalloc.start()
    table = FrameTable()
    for number in range(4096):
        table.add(FrameRecord(number, f"f{number}.png", 0.04 * number, None, "a5" * 32, "5a" * 32))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 140 * 4096  # lists grow by an eighth more than they need
