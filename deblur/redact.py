"""Records are read by many: what they hold must open no doors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#@]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?#'\"]*)[?#][^\s'\"]*")
_WORDS = (
    r"(?:token|password|passwd|secret|api[_-]?key|access[_-]?key|credential|authorization|auth[_-]?string)"
)
_SCHEME = r"(?:['\"]?(?:basic|bearer|digest|token)\s+)?"  # of HTTP: the secret is behind it
_NAMED = re.compile(rf"(?i)([\w-]*{_WORDS}[\w-]*['\"]?\s*(?:=|:\s|\s)\s*)({_SCHEME}\S+)")
_HOOK = re.compile(r"(?s)((?:--set=)?hooks[\w.]*\s*=).*")
_KEY = re.compile(rf"(?i){_WORDS}")


def without_secrets(value: Any) -> Any:
    """A JSON-able value in which URLs have lost users, passwords, queries and fragments (that is where tokens are), and
    whatever a name calls a secret is hidden.

    >>> without_secrets({"path": "s3://me:pw@host/a?X-Signature=1", "token": "abc", "note": "--password=x y"})
    {'path': 's3://host/a', 'token': '***', 'note': '--password=*** y'}
    """
    if isinstance(value, str):
        return _NAMED.sub(rf"\1{HIDDEN}", _QUERY.sub(r"\1", _USER.sub(r"\1", value)))
    if isinstance(value, Mapping):
        return {
            key: HIDDEN
            if _KEY.search(str(key)) and inner and not isinstance(inner, int | float)
            else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return value


def command_without_secrets(arguments: Sequence[str]) -> str:
    """A command as it was called, without secrets and without what hooks are told: an address may be a secret by itself.

    >>> command_without_secrets(["deblur", "run", "--set", "hooks.webhook=https://h/abc"])
    'deblur run --set hooks.webhook=***'
    """
    hidden = (_HOOK.fullmatch(argument) for argument in arguments)
    parts = [
        f"{found[1]}{HIDDEN}" if found else argument
        for found, argument in zip(hidden, arguments, strict=True)
    ]
    return str(without_secrets(" ".join(parts)))
