"""What the embedded Prefect server needs to start reliably, quietly and offline. Imported before Prefect."""

import os

DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 s is too short for a first start
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "deblur",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # a killed run must not stay 'Running' for ever
}


def prepare() -> None:
    """Set what the caller's environment leaves open."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
