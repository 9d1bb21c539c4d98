"""Run units: in this process, or on a Dask cluster. Both run the very same function."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from deblur.errors import DeblurError, may_pass
from deblur.unit import Task, run_unit

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("deblur.execute")
ATTEMPTS = 3  # how often a unit is tried before it is quarantined
IN_FLIGHT = 8  # tasks a worker thread: one running, one with the worker, the others ready at the scheduler
RECOUNT = 5.0  # seconds after which the workers are counted anew: some leave, others join

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
    suspects: list[Failure] = []
    for failure in _stream(tasks, client, Room(client), done, work):
        if failure.error.startswith("KilledWorker"):
            log.warning("%s is tried again alone", failure)
            suspects.append(failure)
        else:
            yield failure
    yield from _stream((suspect.task for suspect in suspects), client, lambda: 1, done, work)


class Room:
    """How many tasks may be in flight now: so many a worker thread, of the workers that there are at the moment."""

    def __init__(self, client: Client) -> None:
        self._client, self._room, self._asked = client, 0, -math.inf

    def __call__(self) -> int:
        if time.monotonic() - self._asked > RECOUNT:
            threads = sum(self._client.nthreads().values())
            self._room, self._asked = IN_FLIGHT * max(1, threads), time.monotonic()
        return self._room


def _stream(
    tasks: Iterator[Task],
    client: Client,
    room: Callable[[], int],
    done: Callable[[Task, Record], None],
    work: Callable[[Task], Record],
) -> Iterator[Failure]:
    """Keep as many futures going as there is room, each released as soon as its record is in.

    Failed ones are tried again.
    """
    from distributed import as_completed
    from distributed.client import ClosedClientError

    # One task group for all: Dask remembers every group, and holds back those of a large one until a thread is free.
    group, number = f"{work.__name__}-{uuid.uuid4().hex}", count()
    waiting: dict[Any, tuple[Any, Task, int]] = {}

    def submit(task: Task, attempt: int) -> None:
        try:
            # pure=False: Dask must not guess from the arguments whether work was done; the ledger knows
            future = client.submit(work, task, key=(group, next(number)), pure=False)
        except ClosedClientError:
            raise DeblurError(GONE) from None
        waiting[future.key] = future, task, attempt
        arriving.add(future)

    def fill() -> None:
        for task in islice(tasks, max(0, room() - len(waiting))):
            submit(task, 1)

    arriving = as_completed([])
    try:
        fill()
        for batch in arriving.batches():
            for future, result in zip(batch, _results(client, batch), strict=True):
                _, task, attempt = waiting.pop(future.key)
                if not isinstance(result, Exception):
                    done(task, result | {"attempt": attempt})
                elif _worth_another_try(result, attempt):
                    log.warning("attempt %d of %s failed: %s", attempt, task.unit.key[:12], result)
                    submit(task, attempt + 1)
                else:
                    yield Failure(task, _line(result))
                future.release()
            del batch, future  # the last names of futures that Dask may forget
            fill()
    finally:
        if client.status == "running":
            client.cancel([future for future, *_ in waiting.values()])


def _results(client: Client, batch: list[Any]) -> list[Record | Exception]:
    """Record or error of each future, in one request where all went well."""
    if all(future.status == "finished" for future in batch):
        try:
            return list(client.gather(batch))
        except Exception as error:  # a worker died with its results: they are asked for one by one
            log.info("results of %d units were lost with their worker (%s)", len(batch), _line(error))
    return [_result(future) for future in batch]


def _result(future: Any) -> Record | Exception:
    from distributed import CancelledError

    try:
        record: Record = future.result()  # waits where a result was lost with its worker: it is made again
    except CancelledError:
        raise DeblurError(GONE) from None
    except Exception as error:  # a unit may fail in any way; it is named and the others go on
        return error
    return record


def _worth_another_try(error: Exception, attempt: int) -> bool:
    """Not what deblur itself says is wrong (unless storage had a hiccup), nor what has killed several workers already."""
    known = (isinstance(error, DeblurError) and not may_pass(error)) or type(error).__name__ == "KilledWorker"
    return attempt < ATTEMPTS and not known


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
