"""Run units: in this process, or on a Dask cluster. Both run the very same function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from deblur.errors import DeblurError
from deblur.unit import Task, run_unit

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("deblur.execute")
ATTEMPTS = 3  # how often a unit is tried before it is quarantined
IN_FLIGHT = 2  # tasks a worker thread: one running, one ready

GONE = "the Dask scheduler went away: run again, finished units are kept"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that was given up, and why. The others went on."""

    task: Task
    error: str

    def __str__(self) -> str:
        u = self.task.unit
        return f"{self.task.sequence} {u.stage} frames {u.t0}–{u.t1 - 1} box {u.box}: {self.error}"


def run_tasks(
    tasks: Iterable[Task],
    *,
    client: Client | None = None,
    done: Callable[[Task, Record], None],
    work: Callable[[Task], Record] = run_unit,
) -> list[Failure]:
    """Run every task, calling `done` in this thread with each record as it comes in.

    `client` None runs them here, one after the other. A task that fails `ATTEMPTS` times, or kills its workers, is
    quarantined: it comes back as a Failure, the rest is computed. Interrupts pass through; what `done` was told stays.
    """
    if client is None:
        return [failure for task in tasks if (failure := _serial(task, done, work))]
    return list(_distributed(iter(tasks), client, done, work))


def _serial(
    task: Task, done: Callable[[Task, Record], None], work: Callable[[Task], Record]
) -> Failure | None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            record = work(task)
        except Exception as error:  # a unit may fail in any way; it is named and the others go on
            if not _worth_another_try(error, attempt):
                return Failure(task, _line(error))
            log.warning("attempt %d of %s failed: %s", attempt, task.unit.key[:12], error)
        else:
            done(task, record | {"attempt": attempt})
            return None
    return None


def _distributed(
    tasks: Iterator[Task],
    client: Client,
    done: Callable[[Task, Record], None],
    work: Callable[[Task], Record],
) -> Iterator[Failure]:
    """A bounded number of futures in flight; then those alone that were on a worker when it died.

    Dask blames every task that a dying worker had been given, so the innocent get a second hearing, one at a time.
    """
    threads = sum(client.nthreads().values()) or 1
    suspects: list[Failure] = []
    for failure in _stream(tasks, client, IN_FLIGHT * threads, done, work):
        if failure.error.startswith("KilledWorker"):
            log.warning("%s is tried again alone", failure)
            suspects.append(failure)
        else:
            yield failure
    yield from _stream((suspect.task for suspect in suspects), client, 1, done, work)


def _stream(
    tasks: Iterator[Task],
    client: Client,
    in_flight: int,
    done: Callable[[Task, Record], None],
    work: Callable[[Task], Record],
) -> Iterator[Failure]:
    """Keep `in_flight` futures going, each released as soon as its record is in; failed ones are tried again."""
    from distributed import CancelledError, as_completed
    from distributed.client import ClosedClientError

    def submit(task: Task, attempt: int) -> Any:
        try:
            # pure=False: Dask must not guess from the arguments whether work was done; the ledger knows
            future = client.submit(work, task, pure=False)
        except ClosedClientError:
            raise DeblurError(GONE) from None
        waiting[future] = task, attempt
        return future

    waiting: dict[Any, tuple[Task, int]] = {}
    arriving = as_completed([submit(task, 1) for task in islice(tasks, in_flight)])
    try:
        for future in arriving:
            task, attempt = waiting.pop(future)
            try:
                record = future.result()  # waits where a result was lost with its worker: it is made again
            except CancelledError:
                raise DeblurError(GONE) from None
            except Exception as error:  # a unit may fail in any way; it is named and the others go on
                if _worth_another_try(error, attempt):
                    log.warning("attempt %d of %s failed: %s", attempt, task.unit.key[:12], error)
                    arriving.add(submit(task, attempt + 1))
                    continue
                yield Failure(task, _line(error))
            else:
                done(task, record | {"attempt": attempt})
            future.release()
            for following in islice(tasks, 1):
                arriving.add(submit(following, 1))
    finally:
        if client.status == "running":
            client.cancel(list(waiting))


def _worth_another_try(error: Exception, attempt: int) -> bool:
    """Not what deblur itself says is wrong, nor what has killed several workers already."""
    known = isinstance(error, DeblurError) or type(error).__name__ == "KilledWorker"
    return attempt < ATTEMPTS and not known


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
