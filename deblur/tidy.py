"""What keeps a Dask scheduler's memory flat. Apart from `clusters.py` because importing this imports Dask."""

from __future__ import annotations

from typing import Any

from dask.utils import key_split
from distributed import SchedulerPlugin

EVERY = 1000  # tasks


class Tidy(SchedulerPlugin):  # type: ignore[misc]  # distributed is untyped here
    """Makes the scheduler forget what it would otherwise keep of every submission, some 700 bytes for good.

    Its default span collects their metadata, and Dask caches how it split each of the last 100,000 keys.
    """

    name = "deblur-tidy"
    idempotent = True  # several runs may share a scheduler

    def __init__(self) -> None:
        self._seen = 0

    def update_graph(self, scheduler: Any, *, keys: Any, **_: Any) -> None:
        """Called by the scheduler at every submission."""
        self._seen += len(keys)
        if self._seen < EVERY:
            return
        self._seen = 0
        key_split.cache_clear()
        spans = scheduler.extensions.get("spans")
        for span in spans.spans.values() if spans else ():
            if span.metadata is not None:
                span.metadata["collections"].clear()
