"""Ids of sequences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.store.slug import LONGEST, slug, suffixed

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~-]*")
names = st.text(st.characters(codec="utf-8"), max_size=120) | st.sampled_from(
    ["con.png", "..", "a/b", "a-b", "Ä.tif"]
)


@given(names)
def test_an_id_is_safe_everywhere(name: str) -> None:
    found = slug(name)
    assert SAFE.fullmatch(found)
    assert len(found) <= LONGEST
    assert not found.endswith(".")
    assert found.split(".")[0].lower() not in {"con", "nul", "aux", "prn"}


@given(st.lists(names, unique=True, max_size=20))
def test_two_names_never_share_an_id(found: list[str]) -> None:
    assert len({slug(name) for name in found}) == len(found)
    assert len({suffixed(name) for name in found}) == len(found)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", fullmatch=True))
def test_a_plain_name_stays(name: str) -> None:
    assert (
        slug(name) == name
        or name.lower() in {"con", "prn", "aux", "nul"}
        or name[:3].lower() in {"com", "lpt"}
    )


@given(names)
def test_no_name_can_take_the_id_of_another(name: str) -> None:
    assert slug(suffixed(name)) != suffixed(
        name
    )  # "~" never stays, so an id with a digest is nobody's plain name


@pytest.mark.parametrize(
    ("name", "readable"),
    [("tank 3/z012", "tank-3-z012~"), ("Größe", "Groe~"), ("日本", "sequence~"), ("con.png", "_con.png~")],
)
def test_the_rest_stays_readable(name: str, readable: str) -> None:
    assert slug(name).startswith(readable)


def test_a_file_name_that_is_not_utf8_has_an_id() -> None:
    assert SAFE.fullmatch(slug("clip\udcff"))
