"""Workers that several pieces of work share: they are started once, when something is worth it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from deblur.clusters import connect, dashboard, fitting_workers, refuse_small_workers, too_small
from deblur.config import JobConfig
from deblur.ingest import Progress, say, silent

if TYPE_CHECKING:
    from distributed import Client

Connection = Callable[[int], "AbstractContextManager[Client | None]"]  # given the bytes that a unit takes


class Crew:
    """The workers of a night or a run: started when first needed, shared by all that is done in it."""

    def __init__(self, job: JobConfig, progress: Progress = silent) -> None:
        self._job, self._stack, self._progress = job, ExitStack(), progress
        self._begun, self._client, self._need = False, None, 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def share(self, need: int) -> AbstractContextManager[Client | None]:
        """The client, for some work whose units take up to `need` bytes.

        Raises PlanError for workers too small for that.
        """
        cluster, roomy = self._job.cluster, True
        if self._begun and cluster.kind == "local" and not cluster.workers:
            roomy = fitting_workers(need) >= fitting_workers(self._need)  # for as many as were started
        if not roomy:
            self._stack.close()
            self._begun, self._need = False, 0
        if not self._begun:
            self._client = self._stack.enter_context(
                connect(cluster, memory=self._job.limits.memory, need=need)
            )
            self._begun = True
            if self._client is not None:
                say(self._progress, dashboard(self._client), *too_small(self._client, need, but=set()))
        elif self._client is not None:
            refuse_small_workers(self._client, need)
        self._need = max(self._need, need)
        return nullcontext(self._client)
