"""Memory as a Dask resource, so that Dask itself gives no worker more units than fit into it.

Every worker that a scheduler has or gets, however late, declares its memory limit; a unit asks for its share. Apart from
`clusters.py` because importing this imports Dask.
"""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin, WorkerPlugin
from distributed.system import MEMORY_LIMIT

MEMORY = "deblur-memory"  # bytes
LOOK = 5000  # milliseconds between looks for silent workers; Dask looks once in `worker-ttl`: it may take twice that


class Declared(SchedulerPlugin):  # type: ignore[misc]  # distributed is untyped here
    """What the scheduler knows of its workers: set before a new one is given anything."""

    name = "deblur-declared"
    idempotent = True  # several runs may share a scheduler

    async def start(self, scheduler: Any) -> None:
        """Called by the scheduler once: the workers that there are."""
        watch = scheduler.periodic_callbacks.get("worker-ttl")
        if watch is not None:
            watch.callback_time = min(watch.callback_time, LOOK)
        for worker in scheduler.workers:
            self.add_worker(scheduler, worker)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Called by the scheduler for each that joins."""
        scheduler.add_resources(worker, {MEMORY: scheduler.workers[worker].memory_limit or MEMORY_LIMIT})


class Kept(WorkerPlugin):  # type: ignore[misc]
    """The same on the worker, which begins a unit once its share is free."""

    name = "deblur-kept"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Called by the worker before it gets anything to do."""
        state = worker.state
        # not worker.set_resources: that has the scheduler forget what is in use
        state.total_resources[MEMORY] = worker.memory_manager.memory_limit or MEMORY_LIMIT
        state.available_resources.setdefault(MEMORY, state.total_resources[MEMORY])
