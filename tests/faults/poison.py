"""Work that kills whoever does it, or takes all memory; in a module of its own, because workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from deblur.unit import Task, run_unit


def is_poison(task: Task) -> bool:
    return (task.unit.stage, task.unit.t0, task.unit.box.x0) == ("restore", 2, 64)


def _note(task: Task) -> None:
    with Path(task.archive, "killed").open("a") as file:
        file.write(f"{os.getpid()}\n")


def work(task: Task) -> dict[str, Any]:
    """A unit like any other, but for one."""
    if is_poison(task):
        _note(task)
        os.kill(os.getpid(), signal.SIGKILL)
    return run_unit(task)


def devour(task: Task) -> dict[str, Any]:
    """The same, but that one takes more and more memory, up to 3 GiB."""
    if is_poison(task):
        _note(task)
        held = [np.ones(64 << 20, np.uint8) for _ in range(48)]
        raise AssertionError(f"nobody minded {len(held)} blocks")
    return run_unit(task)
