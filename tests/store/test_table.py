"""A table of shards says what mappings of text would say, in 40 bytes a shard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deblur.store.durable import digest_of
from deblur.store.shards import Grid, key_of
from deblur.store.table import ShardTable

GRIDS = {
    "0": Grid((12, 1, 24, 4), (1, 1, 2, 2), (1, 1, 2, 2)),
    "10": Grid((3, 1, 2, 2), (1, 1, 2, 2), (1, 1, 2, 2)),
    "motion/forward": Grid((2, 2, 2, 22), (1, 2, 2, 2), (1, 2, 2, 2)),
}
KEYS = [key_of(name, index) for name, grid in GRIDS.items() for index in grid.indices()]


def records(digests: dict[str, str]) -> Iterator[dict[str, Any]]:
    for at, (key, digest) in enumerate(digests.items()):
        yield {"key": key, "at": at, "shards": {key: digest}}


@given(st.sets(st.sampled_from(KEYS)), st.integers(0, 2**32))
def test_the_root_is_that_of_the_mapping(keys: set[str], seed: int) -> None:
    digests = {key: digest_of([seed, key]) for key in keys}
    table = ShardTable(GRIDS, records(digests))
    assert table.root("ab") == digest_of({"group": "ab", "shards": digests})
    assert len(table) == len(keys)


def test_the_latest_record_counts_and_what_can_not_be_is_named() -> None:
    key = KEYS[5]
    told = [
        {"key": "late", "at": 9.0, "shards": {key: "22" * 32}},
        {"key": "early", "at": 3.0, "shards": {key: "11" * 32, "0/c/99/0/0/0": "33" * 32, "odd": "44" * 32}},
    ]
    table = ShardTable(GRIDS, iter(told))
    assert table.digest("0", (0, 0, 2, 1)) == "22" * 32
    assert table.digest("0", (1, 0, 0, 0)) is None
    assert table.unexpected == ["0/c/99/0/0/0", "odd"]
