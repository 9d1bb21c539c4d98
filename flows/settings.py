"""What the embedded Prefect server needs to start reliably, quietly and offline. Imported before Prefect.

Only what is left open is set: the caller's environment goes first. A server is named by PREFECT_API_URL,
in the environment or in the active Prefect profile; without one an embedded server is started.
"""

import os

DEFAULTS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",  # otherwise up to the user's profile, and most have it off
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 s is too short for a first start
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "deblur",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # ours also log outside of flows
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # nothing is ever unpickled from a store of results
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # a killed run must not stay 'Running' for ever
}


def prepare() -> None:
    """Set what the caller's environment leaves open."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def hush() -> None:
    """Keep Prefect's log off the terminal; its server gets it, and the outcome tells errors once."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
