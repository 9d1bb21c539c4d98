"""The survey beside its source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deblur.errors import StoreError
from deblur.store import SequenceStore, durable
from deblur.store import survey as module

contents = hnp.arrays(st.sampled_from(["f4", "i2", "?", "u1"]), hnp.array_shapes(max_dims=4, max_side=5))


@settings(max_examples=12)
@given(st.dictionaries(st.sampled_from(["forward", "noise", "linked"]), contents), st.integers())
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], longest: int
) -> None:
    store = SequenceStore(tmp_path_factory.mktemp("sequence"))
    digest = store.write_survey(arrays, {"longest": longest})
    found, attrs = store.read_survey()
    assert attrs == store.survey_attrs() == {"longest": longest}
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(store.survey_part(name, 1, 3), values[1:3])
    assert store.survey_digest() == digest == module.survey_digest(arrays, {"longest": longest})


def test_a_later_survey_replaces_it(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    assert not store.has_survey()
    with pytest.raises(StoreError, match="no survey"):
        store.read_survey()
    store.write_survey({"a": np.zeros(3)}, {})
    store.write_survey({"b": np.ones(2)}, {})
    assert list(store.read_survey()[0]) == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SequenceStore(tmp_path)
    store.write_survey({"a": np.zeros(3)}, {})
    monkeypatch.setattr(durable, "settle_tree", lambda _: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        store.write_survey({"b": np.zeros(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]
    assert list(store.read_survey()[0]) == ["a"]


def test_damage_is_found(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    store.write_survey({"a": np.arange(300.0)}, {})
    path = store.survey_path / "a" / "c" / "0"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        store.read_survey()
    path.unlink()  # Zarr reads zeros
    with pytest.raises(StoreError, match="damaged"):
        store.read_survey()


@pytest.mark.parametrize("name", ["a/b", "", "../x"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="name an array"):
        SequenceStore(tmp_path).write_survey({name: np.zeros(1)}, {})


def test_an_unknown_array_is_named(tmp_path: Path) -> None:
    store = SequenceStore(tmp_path)
    store.write_survey({}, {})
    with pytest.raises(StoreError, match="no array 'noise'"):
        store.survey_part("noise", 0, 1)
