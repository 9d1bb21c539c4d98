"""What the tasks of one flow run share and Prefect must not store: the cluster, and the word to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from deblur.config import JobConfig
from deblur.night import Crew
from flows.attended import leaving, report

_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)
_stop: ContextVar[Callable[[], bool]] = ContextVar("stop", default=lambda: False)


@contextmanager
def shared(config: JobConfig, stop: Callable[[], bool]) -> Iterator[None]:
    """Tasks called in here share one cluster, and stop together."""
    with Crew(config, progress=report) as workers:
        tokens = _crew.set(workers), _stop.set(stop)
        try:
            with leaving():
                yield
        finally:
            _crew.reset(tokens[0])
            _stop.reset(tokens[1])


def crew() -> Crew | None:
    """The cluster of this flow run."""
    return _crew.get()


def in_time() -> Callable[[], bool]:
    """Asked before each unit: whether the time is over."""
    return _stop.get()
