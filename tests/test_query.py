"""Conditions in people's words: understood, or refused by name; never SQL."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import ConfigError
from deblur.query import Condition, parse_where

COLUMNS = {"camera": str, "time": float, "quality": float, "surveyed": bool}
ROWS = [
    ("north", datetime(2026, 1, 2, tzinfo=UTC).timestamp(), 0.5, 1, '{"site": "A", "lens": 35}'),
    ("north", datetime(2025, 6, 1, tzinfo=UTC).timestamp(), 0.9, 0, "{}"),
    ("south's", datetime(2026, 3, 1, tzinfo=UTC).timestamp(), 0.4, 1, '{"site": "B"}'),
]


def parse(text: str) -> Condition:
    return parse_where(text, columns=COLUMNS, times=("time",))


def found(text: str) -> list[int]:
    condition = parse(text)
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE t (camera, time, quality, surveyed, metadata)")
        base.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", ROWS)
        rows = base.execute(f"SELECT rowid - 1 FROM t WHERE {condition.sql}", condition.values).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 1, 2]),
        ("camera = 'north' and time >= 2026-01-01 and quality < 0.6", [0]),
        ("camera = 'south''s'", [2]),
        ('camera = "south\'s"', [2]),
        ("camera != 'north' or quality > .8", [1, 2]),
        ("quality < 0.6 and (camera = 'north' or time > 2026-02-01T12:00Z)", [0, 2]),
        ("not quality < 0.6", [1]),
        ("NOT (camera in ('north', 'west') AND surveyed = false)", [0, 2]),
        ("camera like 'sou%'", [2]),
        ("meta.site = 'A'", [0]),
        ("meta.lens >= 35", [0]),
        ("time < 2026-01-02T02:00+03:00", [1]),
        ("time > 1.7e9 and surveyed = true", [0, 2]),
    ],
)
def test_it_finds_what_was_meant(text: str, expected: list[int]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cammera = 'x'", "no column 'cammera' .did you mean 'camera'..: use one of camera, quality"),
        ("camera == north", "'north' can't stand there: expected a value"),
        ("camera = 7", "camera is text: write '7'"),
        ("quality = 'good'", "quality is a number"),
        ("time > 'yesterday'", "'yesterday' is no date"),
        ("time > 2026-13-01", "is no date"),
        ("quality <", "it ends too soon: expected a value"),
        ("quality < 1 quality", "expected 'and', 'or' or the end"),
        ("(quality < 1", r"expected '\)'"),
        ("quality < 1; DROP TABLE sequences", "can't read '; DROP TABLE sequenc'"),
        ('meta.a"b = 1', "can't read|no column"),
        ("(" * 500 + "quality < 1" + ")" * 500, "within each other"),
        ("not " * 400 + "quality < 1", "within each other"),
        ("quality < 1 and " * 500 + "quality < 1", "too many"),
    ],
)
def test_what_it_does_not_understand_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(text)


@given(st.text(max_size=60))
def test_whatever_is_written_is_a_value_or_refused(text: str) -> None:
    """A text in quotes comes out as a parameter, whole; anything else raises ConfigError or is valid SQL."""
    quoted = "'" + text.replace("'", "''") + "'"
    assert parse(f"camera = {quoted}") == Condition("camera = ?", (text,))
    try:
        condition = parse(text)
    except ConfigError:
        return
    assert condition.sql.count("?") == len(condition.values)


@given(st.text("camer ='\"()<>andornti0.2-6-", max_size=40))
def test_what_is_accepted_is_valid_sql(text: str) -> None:
    try:
        parse(text)
    except ConfigError:
        return
    found(text)
