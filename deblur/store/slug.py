"""Folder names for sequences: readable, safe on every file system and in every URL, one for one name."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST = 80
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DEVICES = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE
)  # Windows keeps these names


def slug(name: str) -> str:
    """The id of the sequence called `name`.

    A name that is safe as it is stays; any other becomes its readable part, `~`, and twelve digits of its
    sha256, so that two names never share an id.

    >>> slug("GOPR0372_07_00"), slug("tank 3/z012")
    ('GOPR0372_07_00', 'tank-3-z012~c27efc720c93')
    """
    if (
        len(name) <= LONGEST
        and _PLAIN.fullmatch(name)
        and not name.endswith(".")
        and not _DEVICES.fullmatch(name)
    ):
        return name
    return suffixed(name)


def suffixed(name: str) -> str:
    """The id with the digest of `name`, whether it needs one or not (two names that differ by case only)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-.")[: LONGEST - 16].rstrip("-.") or "sequence"
    if _DEVICES.fullmatch(readable):
        readable = f"_{readable}"
    # surrogates stand for the bytes of a file name that is not UTF-8
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{readable}~{digest}"
