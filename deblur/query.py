"""The words of `--where`: conditions on the catalog's columns, to parameterised SQL.

    camera = 'north' and time >= 2026-01-01 and (quality < 0.6 or not state in ('published', 'held'))

Names are those of the catalog's columns, or `meta.KEY` for free metadata. Nothing that a person writes becomes part
of the SQL text but the names of known columns: values are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deblur.errors import ConfigError, meant

TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<date>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_.-]*)
      | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
LONGEST = 2000  # characters
DEEPEST = 30  # parentheses and `not`s within each other: Python's stack must not end first
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression with its parameters."""

    sql: str
    values: tuple[Any, ...] = ()


def parse_where(text: str, *, columns: Mapping[str, type], times: tuple[str, ...]) -> Condition:
    """Parse a condition; an empty text means all.

    `columns`: {name: str, float or bool}; `times`: those of them that hold seconds since 1970 and are compared with
    dates (UTC unless they say otherwise). Raises ConfigError, naming the place and what may stand there.

    >>> parse_where("camera = 'north' and time >= 2026-01-01", columns={"camera": str, "time": float}, times=("time",))
    Condition(sql='(camera = ? AND time >= ?)', values=('north', 1767225600.0))
    """
    if not text.strip():
        return Condition("1")
    if len(text) > LONGEST:
        raise ConfigError(f"--where: {len(text)} characters are too many: use at most {LONGEST}")
    parser = _Parser(text, columns, times)
    found = parser.either()
    if parser.kind:
        raise parser.wrong("'and', 'or' or the end")
    return found


class _Parser:
    """Recursive descent, a token ahead."""

    def __init__(self, text: str, columns: Mapping[str, type], times: tuple[str, ...]) -> None:
        self._text, self._columns, self._times = text, columns, times
        self._end, self._depth = 0, 0
        self.kind, self._token = "", ""
        self._next()

    def either(self) -> Condition:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return _joined(" OR ", parts)

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._accept("and"):
            parts.append(self._one())
        return _joined(" AND ", parts)

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ConfigError(f"--where: more than {DEEPEST} conditions within each other: simplify it")
        if self._accept("not"):
            inner = self._one()
            found = Condition(f"NOT ({inner.sql})", inner.values)
        elif self._accept("("):
            found = self.either()
            self._require(")")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Condition:
        name = self._token
        if self.kind != "word":
            raise self.wrong("a column's name")
        column, key = self._column(name)
        self._next()
        if self._accept("like"):
            return Condition(f"{column} LIKE ?", (*key, self._value(name)))
        if self._accept("in"):
            self._require("(")
            values = [self._value(name)]
            while self._accept(","):
                values.append(self._value(name))
            self._require(")")
            return Condition(f"{column} IN ({', '.join('?' * len(values))})", (*key, *values))
        sign = SIGNS.get(self._token)
        if sign is None:
            raise self.wrong("a comparison: =, !=, <, <=, >, >=, in (...), like")
        self._next()
        return Condition(f"{column} {sign} ?", (*key, self._value(name)))

    def _column(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The SQL of a name, and its own parameters."""
        if name in self._columns:
            return name, ()
        prefix, _, key = name.partition(".")
        if prefix == "meta" and KEY.fullmatch(key):
            return "json_extract(metadata, ?)", (f'$."{key}"',)
        known = ", ".join([*sorted(self._columns), "meta.KEY"])
        raise ConfigError(
            f"--where: there is no column {name!r}{meant(name, self._columns)}: use one of {known}"
        )

    def _value(self, name: str) -> Any:
        kind, token = self.kind, self._token
        if kind not in ("text", "number", "date") and token.lower() not in ("true", "false"):
            raise self.wrong("a value: 'text', a number, a date, true or false")
        self._next()
        plain = token[1:-1].replace(token[0] * 2, token[0]) if kind == "text" else token
        if name in self._times:
            return float(plain) if kind == "number" else _seconds(plain)
        wanted = self._columns.get(name)
        if wanted in (float, int) and kind != "number":
            raise ConfigError(f"--where: {name} is a number, not {token}")
        if wanted is str and kind == "number":
            raise ConfigError(f"--where: {name} is text: write '{token}'")
        if kind == "number":
            return float(plain)
        return plain.lower() == "true" if kind == "word" else plain

    def _accept(self, word: str) -> bool:
        if self.kind in ("word", "sign") and self._token.lower() == word:
            self._next()
            return True
        return False

    def _require(self, sign: str) -> None:
        if not self._accept(sign):
            raise self.wrong(repr(sign))

    def _next(self) -> None:
        start = self._end
        if not self._text[start:].strip():
            self.kind, self._token = "", "the end"
            return
        match = TOKEN.match(self._text, start)
        if match is None:
            raise ConfigError(f"--where: can't read {self._text[start:].strip()[:20]!r}: put text in quotes")
        self._end = match.end()
        self.kind = str(match.lastgroup)
        self._token = match.group(self.kind)

    def wrong(self, wanted: str) -> ConfigError:
        fault = f"{self._token!r} can't stand there" if self.kind else "it ends too soon"
        return ConfigError(f"--where: {fault}: expected {wanted}")


def _joined(word: str, parts: list[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    return Condition(f"({word.join(p.sql for p in parts)})", tuple(v for p in parts for v in p.values))


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--where: {text!r} is no date: write it as 2026-01-31 or 2026-01-31T05:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
