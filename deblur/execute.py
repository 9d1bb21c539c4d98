"""Run units: in this process, or on a Dask cluster. Both run the very same function."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice, takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from deblur.clusters import GONE, patience_now, places_of, too_small
from deblur.errors import DeblurError, may_pass
from deblur.unit import Task, run_unit

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("deblur.execute")
ATTEMPTS = 3  # how often a unit is tried before it is quarantined
AHEAD = 5.0  # seconds of work that are submitted ahead: what was submitted is still done when a run is asked to stop
FEWEST, MOST = 3, 64  # tasks in flight for each that can run at once: so many of long ones, and of tiny ones
TOGETHER = 0.03  # seconds between requests for results: those of tiny tasks are fetched many at a time
RECOUNT = 5.0  # seconds after which the workers are counted anew: some leave, others join
LONELY = 30.0  # seconds without any worker after which that is said, and said again after twice as long

_deserted: WeakSet[Client] = (
    WeakSet()
)  # clients whose workers did not come back in time: nobody waits for them again

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
    need: int = 0,
    priority: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> list[Failure]:
    """Run every task, calling `done` in this thread with each record as it comes in.

    `client` None runs them here, one after the other. `need`: bytes that a task takes; a worker begins no more of them
    than its memory limit holds. `priority`: of jobs that share a scheduler the one with the higher goes ahead. `stop`:
    asked before each task; once it says so no more are begun.
    A task that fails `ATTEMPTS` times, or kills its workers, is quarantined: it comes back as a Failure, the rest is
    computed. Interrupts pass through; what `done` was told stays. Raises DeblurError when the scheduler goes away, or
    when no worker has been there for as long as the cluster's `patience`.
    """
    tasks = takewhile(lambda _: not stop(), tasks)
    if client is None:
        return [failure for task in tasks if (failure := _serial(task, done, work))]
    return list(_distributed(tasks, _Submitter(client, work, need, priority), done, stop))


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
    submitter: _Submitter,
    done: Callable[[Task, Record], None],
    stop: Callable[[], bool],
) -> Iterator[Failure]:
    """A bounded number of futures in flight; then those alone that were on a worker when it died.

    Dask blames every task that a dying worker had been given, so the innocent get a second hearing, one at a time.
    """
    suspects: list[Failure] = []
    room = Room(submitter.client, submitter.need)

    def in_vain() -> bool:
        return room.lonely() and stop()

    def timed(task: Task, record: Record) -> None:
        room.took(float(record.get("seconds", 0)))
        done(task, record)

    for failure in _stream(tasks, submitter, room, timed, in_vain):
        if failure.error.startswith("KilledWorker"):
            log.warning("%s is tried again alone", failure)
            suspects.append(failure)
        else:
            yield failure
    yield from _stream((suspect.task for suspect in suspects), submitter, lambda: 1, done, in_vain)


class Room:
    """How many tasks may be in flight now: so many for each that can run at once on the workers of the moment."""

    def __init__(self, client: Client, need: int = 0) -> None:
        self._client, self._need, self._places, self._asked = client, need, 0, -math.inf
        self._small: set[str] = set()
        self._seconds: float | None = None
        self._lonely_since, self._said = 0.0, LONELY  # when the last worker was lost, if now there is none

    def __call__(self) -> int:
        self._count()
        return max(1, self._places) * self._each()

    def lonely(self) -> bool:
        """Whether no worker is there that could run a task. Raises DeblurError after the cluster's patience."""
        self._count()
        return not self._places

    def _count(self) -> None:
        if (now := time.monotonic()) - self._asked <= RECOUNT:
            return
        places = sum(places_of(self._client, self._need).values())
        small = too_small(self._client, self._need, but=self._small)
        for line in small:
            log.warning("%s", line)
        if places:
            _deserted.discard(self._client)
        elif self._places or self._asked == -math.inf:
            self._lonely_since, self._said = now, LONELY
        self._places, self._asked = places, now
        if not places:
            self._wait(now - self._lonely_since)

    def _wait(self, seconds: float) -> None:
        patience = patience_now()
        if seconds >= patience or self._client in _deserted:
            _deserted.add(self._client)
            raise DeblurError(
                "no Dask worker that a unit fits into has been there for longer than cluster.patience: see why they ended "
                "or did not start, and run again, finished units are kept"
            )
        if seconds >= self._said:
            self._said *= 2
            left = "" if patience == math.inf else f", for {patience - seconds:.0f} s more (cluster.patience)"
            log.warning("no Dask worker has been there for %.0f s: waiting for one%s", seconds, left)

    def took(self, seconds: float) -> None:
        """Learn how long tasks take: tiny ones are submitted and fetched many at a time, which is cheaper."""
        before = seconds if self._seconds is None else self._seconds
        self._seconds = 0.9 * before + 0.1 * seconds

    def _each(self) -> int:
        if self._seconds is None:
            return FEWEST
        return min(MOST, max(FEWEST, math.ceil(AHEAD / max(self._seconds, AHEAD / MOST))))


@dataclass(frozen=True, slots=True)
class _Submitter:
    """How tasks get to the scheduler: all of them in one task group, because Dask remembers every group."""

    client: Client
    work: Callable[[Task], Record]
    need: int
    priority: int
    group: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: Iterator[int] = field(default_factory=count)

    def __call__(self, tasks: list[Task]) -> list[Any]:
        """A future a task; one message for all of them, which costs the scheduler a fraction of one each."""
        from distributed.client import ClosedClientError

        from deblur.capacity import MEMORY

        try:
            # pure=False: Dask must not guess from the arguments whether work was done; the ledger knows
            futures: list[Any] = self.client.map(
                self.work,
                tasks,
                key=[(f"{self.work.__name__}-{self.group}", next(self.number)) for _ in tasks],
                pure=False,
                priority=self.priority,
                resources={MEMORY: self.need} if self.need else None,
            )
        except ClosedClientError:
            raise DeblurError(GONE) from None
        return futures


def _stream(
    tasks: Iterator[Task],
    submitter: _Submitter,
    room: Callable[[], int],
    done: Callable[[Task, Record], None],
    in_vain: Callable[[], bool],
) -> Iterator[Failure]:
    """Keep as many futures going as there is room, each released as soon as its record is in.

    Failed ones are tried again. `in_vain`: asked while none comes in, whether to wait no longer.
    """
    from distributed import as_completed

    client = submitter.client
    waiting: dict[Any, tuple[Any, Task, int]] = {}
    arriving = as_completed([])

    def submit(batch: list[tuple[Task, int]]) -> None:
        futures = submitter([task for task, _ in batch]) if batch else []
        for future, (task, attempt) in zip(futures, batch, strict=True):
            waiting[future.key] = future, task, attempt
        arriving.update(futures)

    def fill() -> None:
        submit([(task, 1) for task in islice(tasks, max(0, room() - len(waiting)))])

    try:
        fill()
        for batch in _batches(arriving, in_vain):
            again: list[tuple[Task, int]] = []
            for future, result in zip(batch, _results(client, batch), strict=True):
                _, task, attempt = waiting.pop(future.key)
                if not isinstance(result, Exception):
                    done(task, result | {"attempt": attempt})
                elif _worth_another_try(result, attempt):
                    log.warning("attempt %d of %s failed: %s", attempt, task.unit.key[:12], result)
                    again.append((task, attempt + 1))
                else:
                    yield Failure(task, _line(result))
                future.release()
            del batch, future  # the last names of futures that Dask may forget
            submit(again)
            fill()
    finally:
        if client.status == "running":
            client.cancel([future for future, *_ in waiting.values()])


def _batches(arriving: Any, in_vain: Callable[[], bool]) -> Iterator[list[Any]]:
    """Finished futures as they come, no more often than every `TOGETHER` seconds."""
    while not arriving.is_empty():
        time.sleep(TOGETHER)
        if batch := arriving.next_batch(block=False):
            yield batch
        elif in_vain():
            return


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
