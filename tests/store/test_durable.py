"""Files that survive a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import StoreError
from deblur.store import durable

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_canonical_json_means_the_value(value: object) -> None:
    assert json.loads(durable.canonical(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    assert durable.digest_of(value) == durable.digest_of(dict(reversed(value.items())))


@given(st.lists(st.tuples(st.text(), st.integers() | st.none())), st.text())
def test_a_digest_of_values_that_are_not_held_together(
    values: list[tuple[str, int | None]], name: str
) -> None:
    assert durable.digest_of_all(iter(values)) == durable.digest_of(values)
    assert durable.digest_of_all(iter(values), after=name) == durable.digest_of([name, values])


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, {"a": b"bytes"}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(StoreError, match="JSON"):
        durable.canonical(value)


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), sync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (events.append("rename"), replace(path, to))[1])
    durable.write_atomic(tmp_path / "a.json", b"{}")
    assert events == ["sync", "rename", "sync"]  # the file, its name, the folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.write_atomic(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        durable.write_atomic(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("text", ["", "{", "[1]", '"a"'])
def test_damaged_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match=r"the thing at .*a\.json"):
        durable.read_json(tmp_path / "a.json", what="thing")


def test_a_copy_is_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    durable.copy_file(tmp_path / "a", tmp_path / "deep" / "b", durable.sha256_file(tmp_path / "a"))
    assert (tmp_path / "deep" / "b").read_bytes() == b"data"
    with pytest.raises(StoreError, match="not what was written"):
        durable.copy_file(tmp_path / "a", tmp_path / "c", "0" * 64)
    assert not (tmp_path / "c").exists()
