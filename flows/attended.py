"""Flows that somebody watches: progress goes to the caller, Prefect's log to its server only.

A listener can't be a parameter of a flow: Prefect stores those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from deblur.clusters import deaf_to_interrupts
from deblur.errors import ConfigError
from deblur.ingest import Progress
from deblur.job import silent
from flows import settings

STARTING = "start Prefect"
_listener: ContextVar[Progress] = ContextVar("listener", default=silent)


def report(stage: str, done: int, total: int) -> None:
    """Tell whoever watches this flow, if anybody does."""
    _listener.get()(stage, done, total)


@contextmanager
def attended(listener: Progress) -> Iterator[None]:
    """Flows that are imported and called in here report to `listener`.

    Raises ConfigError when no Prefect server answers, or the embedded one doesn't start.
    """
    settings.prepare()
    settings.hush()
    listener(STARTING, 0, 1)
    _reach_server()
    listener(STARTING, 1, 1)
    from prefect.exceptions import TerminationSignal

    token = _listener.set(listener)
    try:
        yield
    except TerminationSignal:
        raise KeyboardInterrupt from None
    finally:
        _listener.reset(token)


def _reach_server() -> None:
    """Start the embedded server if there is no other: slow, and it must outlive Ctrl-C by a moment."""
    from httpx import HTTPStatusError
    from prefect.client.orchestration import get_client

    try:
        with deaf_to_interrupts(), get_client(sync_client=True) as client:
            failure = client.api_healthcheck()
            if failure is None:
                client.hello()  # health is told to anybody
    except HTTPStatusError as error:
        if error.response.status_code != 401:
            raise
        raise ConfigError(
            "the Prefect server lets nobody in without its authentication string: set PREFECT_API_AUTH_STRING here to "
            "what PREFECT_SERVER_API_AUTH_STRING is there"
        ) from None
    except RuntimeError as error:
        failure = error
    if failure is not None:
        reason = f"{failure}".strip().splitlines()[0]
        raise ConfigError(
            f"no Prefect server ({reason}): start the one that PREFECT_API_URL or your Prefect profile "
            "names, or name none to have one embedded"
        )
