"""The survey beside its source, from its draft to the finished one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import StoreError
from deblur.store import SequenceStore
from deblur.store import survey as module
from deblur.store.durable import read_json, write_json
from deblur.store.owner import Owner
from deblur.tiling import blocks

ROWS = 4


def arrays(count: int, side: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        "forward": rng.random((count, 2, side, side)).astype(np.float32),
        "noise": rng.random(count).astype(np.float32),
        "linked": rng.random(count) < 0.5,
    }


def begun(store: SequenceStore, values: dict[str, np.ndarray], key: str = "k") -> module.Draft:
    layout = {name: (value.shape, value.dtype.name, ROWS) for name, value in values.items()}
    return store.draft_survey(key, {"fraction": 0.5}, layout)


def finished(store: SequenceStore, values: dict[str, np.ndarray], key: str = "k", **attrs: int) -> None:
    draft = begun(store, values, key)
    for name, value in values.items():
        for t0, t1 in blocks(len(value), ROWS):
            draft.write(name, t0, value[t0:t1])
    draft.finish(store.survey_path, attrs, f"digest of {key}")


@settings(max_examples=10)
@given(st.integers(1, 11), st.sampled_from([3, 50]), st.data())
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, count: int, side: int, data: st.DataObject
) -> None:
    store = SequenceStore(tmp_path_factory.mktemp("sequence"))
    values = arrays(count, side)
    finished(store, values, longest=7)
    assert store.survey_attrs() == {"longest": 7}
    assert store.survey_digest() == "digest of k"
    t0 = data.draw(st.integers(0, count - 1))
    t1 = data.draw(st.integers(t0 + 1, count))
    for name, value in values.items():
        found = store.survey_part(name, t0, t1)
        np.testing.assert_array_equal(found, value[t0:t1])
        assert found.dtype == value.dtype
    with pytest.raises(StoreError, match=f"has {count} rows"):
        store.survey_part("noise", 0, count + 1)


def test_a_later_survey_replaces_it(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    assert not store.has_survey()
    with pytest.raises(StoreError, match="no survey"):
        store.survey_attrs()
    finished(store, arrays(3), "first")
    later = arrays(6)
    finished(store, later, "second")
    np.testing.assert_array_equal(store.survey_part("noise", 0, 6), later["noise"])
    assert store.survey_digest() == "digest of second"
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]
    assert not (store.survey_path / module.ABOUT).exists()


def test_a_draft_that_was_left_is_gone_on_with(tmp_path: Path) -> None:
    store, values = SequenceStore(tmp_path), arrays(10)
    begun(store, values).write("noise", 4, values["noise"][4:8])
    again = begun(store, values)
    assert [again.has("noise", t0, t1) for t0, t1 in blocks(10, ROWS)] == [False, True, False]
    np.testing.assert_array_equal(again.read("noise", 4, 8), values["noise"][4:8])
    with pytest.raises(StoreError, match="missing"):
        again.read("noise", 3, 8)
    assert again.told == {"fraction": 0.5}
    assert not store.has_survey()


def test_a_torn_shard_of_a_draft_does_not_count(tmp_path: Path) -> None:
    store, values = SequenceStore(tmp_path), arrays(4)
    draft = begun(store, values)
    (key,) = draft.write("noise", 0, values["noise"])
    whole = (draft.path / key).read_bytes()
    (draft.path / key).write_bytes(whole[:-3])
    assert not draft.has("noise", 0, 4)
    draft.write("noise", 0, values["noise"])
    assert (draft.path / key).read_bytes() == whole


def test_only_drafts_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    store, values = SequenceStore(tmp_path), arrays(4)
    alive, dead = begun(store, values, "alive"), begun(store, values, "dead")
    about = read_json(dead.path / module.ABOUT, what="draft")
    about["owner"]["started"] = "another process of that number"
    write_json(dead.path / module.ABOUT, about)
    assert Owner(**about["owner"]).is_gone()
    assert begun(store, values, "new").path.exists()
    assert alive.path.exists()
    assert not dead.path.exists()


def test_damage_is_found(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    finished(store, {"noise": np.arange(300, dtype=np.float32)})
    path = store.survey_path / "noise" / "c" / "0"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        store.survey_part("noise", 0, 4)
    path.unlink()  # Zarr would read zeros
    with pytest.raises(StoreError, match="missing"):
        store.survey_part("noise", 0, 4)


def test_an_unknown_array_and_an_older_format_are_named(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    finished(store, arrays(2))
    with pytest.raises(StoreError, match="no array 'shake'"):
        store.survey_part("shake", 0, 1)
    meta = read_json(store.survey_path / "zarr.json", what="survey")
    meta["attributes"]["deblur"]["format"] = 1
    write_json(store.survey_path / "zarr.json", meta)
    with pytest.raises(StoreError, match="made anew"):
        store.survey_attrs()
