"""The ledger: what was appended is read back, whatever a crash did to the last line."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import StoreError
from deblur.store import Ledger

records = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.text(min_size=1, max_size=5),
            "shards": st.dictionaries(st.text(max_size=4), st.text(max_size=4)),
        }
    ),
    min_size=1,
    max_size=5,
)


def ledger(folder: Path, writer: str = "w") -> Ledger:
    return Ledger(folder, writer=writer, clock=itertools.count(1.0).__next__)


@given(records, st.integers(0, 10**6), records)
def test_a_torn_line_costs_its_own_record_only(
    tmp_path_factory: pytest.TempPathFactory, first: list[dict], cut: int, later: list[dict]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    book = ledger(folder)
    for record in first:
        book.append(record)
    path = folder / "w.jsonl"
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n") + (whole[:cut].endswith(b"}") and whole[cut : cut + 1] == b"\n")
    assert [r["key"] for r in book.read_all()] == [r["key"] for r in first[:kept]]
    for record in later:  # the same writer goes on after the crash
        book.append(record)
    assert [r["key"] for r in book.read_all()] == [r["key"] for r in first[:kept] + later]


def test_the_latest_record_of_a_unit_counts(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.append({"key": "a", "shards": {"0/c/0": "old"}})
    book.append({"key": "b", "shards": {"0/c/1": "b"}})
    book.append({"key": "a", "shards": {"0/c/0": "new"}})
    assert sorted(book.finished()) == ["a", "b"]
    assert book.shards() == {"0/c/0": "new", "0/c/1": "b"}


def test_a_unit_that_failed_later_is_not_done(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.append({"key": "a", "shards": {"0/c/0": "x"}})
    book.append({"key": "a", "status": "failed"})
    assert book.finished() == {}
    assert book.shards() == {}


def test_writers_have_segments_of_their_own(tmp_path: Path) -> None:
    ledger(tmp_path, "one").append({"key": "a"})
    ledger(tmp_path, "two").append({"key": "b"})
    Ledger(tmp_path).append({"key": "c"})
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    assert set(Ledger(tmp_path).finished()) == {"a", "b", "c"}
    assert Ledger(tmp_path).writer != Ledger(tmp_path).writer


def test_a_record_is_on_the_disk_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), sync(handle))[1])
    ledger(tmp_path).append({"key": "a"})
    assert synced == [(tmp_path / "w.jsonl").stat().st_ino, tmp_path.stat().st_ino]


@pytest.mark.parametrize("record", [{}, {"key": ""}, {"key": 3}])
def test_a_record_needs_a_key(tmp_path: Path, record: dict) -> None:
    with pytest.raises(StoreError, match="key"):
        ledger(tmp_path).append(record)


@pytest.mark.parametrize("writer", ["", "a/b", "../x", ".hidden"])
def test_a_writer_cannot_leave_the_folder(tmp_path: Path, writer: str) -> None:
    with pytest.raises(StoreError, match="segment"):
        Ledger(tmp_path, writer=writer)


def test_an_empty_folder_is_an_empty_ledger(tmp_path: Path) -> None:
    assert list(Ledger(tmp_path / "nothing").read_all()) == []


def test_an_index_finds_the_latest_record_of_what_is_done(tmp_path: Path) -> None:
    clock = iter(range(100))
    first, second = (Ledger(tmp_path, writer=name, clock=lambda: float(next(clock))) for name in ("b", "a"))
    for book, key, status in (
        (first, "x", "done"),
        (second, "y", "done"),
        (second, "x", "done"),
        (first, "y", "failed"),
    ):
        book.append({"key": key, "status": status, "by": book.writer})
    index = Ledger(tmp_path).index()
    assert ("x" in index, "y" in index, "z" in index, len(index)) == (True, False, False, 1)
    assert index.record("x")["by"] == "a"
    assert [record["by"] for record in Ledger(tmp_path).latest()] == ["a"]
    with pytest.raises(StoreError, match="not in the ledger"):
        index.record("y")
