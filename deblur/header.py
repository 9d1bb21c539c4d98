"""A sequence's header as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deblur.types import SequenceHeader


def header_as_json(header: SequenceHeader) -> dict[str, Any]:
    """A header as JSON; `header_from` is its inverse."""
    fields = asdict(header)
    return json.loads(json.dumps(fields | {"metadata": dict(header.metadata)}, default=str))  # type: ignore[no-any-return]


def header_from(fields: Mapping[str, Any]) -> SequenceHeader:
    """A header from its JSON."""
    tuples = {name: tuple(fields[name]) for name in ("shape", "channels")}
    size = fields.get("pixel_size")
    return SequenceHeader(**{**fields, **tuples, "pixel_size": tuple(size) if size else None})
