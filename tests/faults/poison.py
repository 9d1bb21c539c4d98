"""Work that kills whoever does it; in a module of its own, because workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from deblur.unit import Task, run_unit


def is_poison(task: Task) -> bool:
    return (task.unit.stage, task.unit.t0, task.unit.box.x0) == ("restore", 2, 64)


def work(task: Task) -> dict[str, Any]:
    """A unit like any other, but for one."""
    if is_poison(task):
        with Path(task.archive, "killed").open("a") as file:
            file.write(f"{os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_unit(task)
