"""What pydantic refuses, in words for people: which key, what is wrong with it, what it means, what may have been meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from deblur.errors import meant
from deblur.redact import without_secrets

NO = {  # instead of words for programmers
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "int_from_float": "is no whole number",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "string_pattern_mismatch": "is not written as it must be",
    "string_type": "is no text",
}


def fault_line(error: Any, model: type[BaseModel]) -> str:
    """One of the errors that `model` raised, as a piece of a line."""
    where = ".".join(map(str, error["loc"]))
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_instead(str(error['loc'][-1]), model)}; remove or correct it"
    if kind == "missing":
        return f"{where}: missing; add it"
    given = "" if isinstance(error["input"], dict) else without_secrets(repr(error["input"]))
    if kind in NO:
        return f"{where}: {given} {NO[kind]}{_meaning(model, error['loc'])}"
    told = ": ".join(filter(None, (where, error["msg"].removeprefix("Value error, "))))
    told = told.replace("Input should be", "must be")
    told += f" (got {given})" if given and given.strip("'") not in told else ""
    if kind == "value_error":  # of our own: it says what to do
        return told
    choices = str(error.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    slip = meant(str(error["input"]), choices) if kind == "literal_error" else ""
    return told + slip + _meaning(model, error["loc"])


def _meaning(model: type[BaseModel], where: tuple[str | int, ...]) -> str:
    """What the key there is for, as its model describes it."""
    found: Any = None
    inside: type[BaseModel] | None = model
    for part in where:
        if isinstance(part, int):
            continue
        found = inside.model_fields.get(part) if inside else None
        inside = next(_models(found.annotation), None) if found else None
    return f": {found.description}" if found and found.description else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation, as `Source` in `tuple[Source, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _instead(key: str, model: type[BaseModel]) -> str:
    """The sections that have such a key, else what may have been meant."""
    known = list(_keys(model, ""))
    homes = sorted({section or "the top of the file" for section, name in known if name == key})
    return f" there, it belongs to {' or '.join(homes)}" if homes else meant(key, {name for _, name in known})


def _keys(model: type[BaseModel], section: str) -> Iterator[tuple[str, str]]:
    """(section, key) of every key that a model and those inside it have."""
    for name, field in model.model_fields.items():
        yield section, name
        for inner in _models(field.annotation):
            yield from _keys(inner, name)
