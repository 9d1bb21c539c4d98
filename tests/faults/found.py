"""What the state machine found, or was found while it was written: steps of it that once went wrong."""

from __future__ import annotations

from typing import Any

from tests.faults.disk import Trouble

CALM: dict[str, Any] = {"trouble": None}
FOUND: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "a run that was damaged since came to be published again": [
        ("run", {"which": 0, **CALM}),
        ("reprocess", {"which": 1, **CALM}),
        ("corrupt", {"where": "shard", "number": 0}),
        ("corrupt", {"where": "shard", "number": 1}),
        ("reprocess", {"which": 0, **CALM}),
    ],
    "a survey that a damaged source made fail": [
        ("run", {"which": 0, **CALM}),
        ("corrupt", {"where": "source", "number": 26973}),
        ("reprocess", {"which": 2, **CALM}),
    ],
    "what a repair that was killed left in the source": [
        ("run", {"which": 0, **CALM}),
        ("corrupt", {"where": "source", "number": 924}),
        ("repair", {"trouble": Trouble("killed", 50)}),
        ("repair", CALM),
    ],
    "the run aside that a repair was laying out when it was killed": [
        ("run", {"which": 1, **CALM}),
        ("reprocess", {"which": 0, **CALM}),
        ("corrupt", {"where": "shard", "number": 0}),
        ("repair", {"trouble": Trouble("killed", 24)}),
    ],
    "what a removal that was killed left of a run that was published again": [
        ("run", {"which": 1, **CALM}),
        ("reprocess", {"which": 0, **CALM}),
        ("prune", {"keep": 0, "trouble": Trouble("killed", 32)}),
    ],
    "what a removal that was killed left where nothing was published or pruned since": [
        ("run", {"which": 1, **CALM}),
        ("retract", {"which": 1, **CALM}),
        ("run", {"which": 0, **CALM}),
        ("prune", {"keep": 0, "trouble": Trouble("killed", 100)}),
    ],
}
