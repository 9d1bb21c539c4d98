"""Who gets which unit: as many as fit into a worker, late ones included; what is new goes first."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from deblur import execute
from deblur.clusters import connect
from deblur.config import Cluster
from deblur.execute import run_tasks
from deblur.unit import Task
from tests.test_execute import fine, tasks

if TYPE_CHECKING:
    from distributed import LocalCluster

MIB = 2**20
ORDER: list[str] = []  # of this module: Dask pickles functions, a closure's objects would be copies
RUNNING, MOST = threading.Semaphore(0), [0, 0]
LOCK, GATE, BEGUN = threading.Lock(), threading.Event(), threading.Event()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A scheduler without workers yet."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as started:
        yield started


def join(cluster: LocalCluster, *, memory: int, threads: int = 1) -> Any:
    """A worker joins; returns once it has."""
    from distributed import Worker

    async def begin() -> Any:
        return await Worker(
            cluster.scheduler_address, nthreads=threads, memory_limit=memory, dashboard_address=":0"
        )

    return cluster.sync(begin)


def leave(cluster: LocalCluster, *workers: Any) -> None:
    for worker in workers:
        cluster.sync(worker.close)


def profile(cluster: LocalCluster) -> Cluster:
    return Cluster(kind="address", address=cluster.scheduler_address)


def where(task: Task) -> dict[str, Any]:
    from distributed import get_worker

    return {"key": task.unit.key, "worker": get_worker().address}


def counted(task: Task) -> dict[str, Any]:
    with LOCK:
        MOST[0] += 1
        MOST[1] = max(MOST)
    time.sleep(0.01)  # long enough to meet others, if there were any
    with LOCK:
        MOST[0] -= 1
    return fine(task)


def test_a_worker_that_joins_late_and_is_too_small_gets_nothing(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execute, "RECOUNT", 0)
    large, others, seen = join(cluster, memory=1000 * MIB), [], []

    def done(task: Task, record: dict[str, Any]) -> None:
        seen.append(record["worker"])
        if not others:
            others.extend([join(cluster, memory=500 * MIB), join(cluster, memory=700 * MIB)])

    with connect(profile(cluster), memory=2**30, need=600 * MIB) as client, caplog.at_level(logging.WARNING):
        assert run_tasks(tasks(60), client=client, done=done, work=where, need=600 * MIB) == []
    small, fitting = others
    assert len(seen) == 60
    assert set(seen) <= {large.address, fitting.address}
    assert f"worker {small.address} has less than the 600 MiB that a unit takes: it gets none" in caplog.text
    assert fitting.address not in caplog.text
    leave(cluster, large, *others)


def test_units_wait_for_a_worker_that_they_fit_into(cluster: LocalCluster) -> None:
    def stream() -> Iterator[Task]:
        cluster.loop.add_callback(joining)
        yield from tasks(5)

    workers: list[Any] = []

    async def joining() -> None:
        from distributed import Worker

        workers.append(
            await Worker(
                cluster.scheduler_address, nthreads=1, memory_limit=700 * MIB, dashboard_address=":0"
            )
        )

    seen: list[str] = []
    with connect(profile(cluster), memory=2**30, need=600 * MIB) as client:
        run_tasks(
            stream(),
            client=client,
            done=lambda task, record: seen.append(record["worker"]),
            work=where,
            need=600 * MIB,
        )
    assert seen == 5 * [workers[0].address]
    leave(cluster, *workers)


@pytest.mark.parametrize(("need", "most"), [(900, 1), (400, 2)])
def test_no_more_units_run_at_once_than_fit(cluster: LocalCluster, need: int, most: int) -> None:
    MOST[:] = [0, 0]
    worker = join(cluster, memory=1000 * MIB, threads=4)
    with connect(profile(cluster), memory=2**30, need=need * MIB) as client:
        assert (
            run_tasks(tasks(20), client=client, done=lambda task, record: None, work=counted, need=need * MIB)
            == []
        )
    assert 1 <= MOST[1] <= most
    leave(cluster, worker)


def gated(task: Task) -> dict[str, Any]:
    BEGUN.set()
    assert GATE.wait(30)
    ORDER.append(task.sequence)
    return fine(task)


def test_what_is_new_goes_ahead_of_what_is_done_again_on_a_shared_scheduler(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "FEWEST", 8)  # all of both jobs at once
    for event in (GATE, BEGUN):
        event.clear()
    ORDER.clear()
    worker = join(cluster, memory=1000 * MIB)
    found: dict[str, list[str]] = {"backfill": [], "new": []}

    def run(name: str, priority: int, client: Any) -> None:
        own = [Task("a", name, "r", task.unit) for task in tasks(8)]
        run_tasks(
            own,
            client=client,
            work=gated,
            need=1,
            priority=priority,
            done=lambda task, record: found[name].append(record["key"]),
        )

    with connect(profile(cluster), memory=2**30) as one, connect(profile(cluster), memory=2**30) as two:
        jobs = [
            threading.Thread(target=run, args=(*job, c))
            for *job, c in (("backfill", 0, one), ("new", 1, two))
        ]
        jobs[0].start()
        assert BEGUN.wait(30)  # one of the backfill's runs: it is not interrupted
        jobs[1].start()
        deadline = time.monotonic() + 30
        while len(worker.state.tasks) < 16:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # until the worker has been told of all
        GATE.set()
        for job in jobs:
            job.join(30)
    assert ["backfill", *8 * ["new"], *7 * ["backfill"]] == ORDER
    assert {name: len(set(keys)) for name, keys in found.items()} == {"backfill": 8, "new": 8}
    leave(cluster, worker)


def test_scheduler_and_workers_tell_prometheus(cluster: LocalCluster) -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install '.[dashboard]'")
    from urllib.request import urlopen

    worker = join(cluster, memory=1000 * MIB)
    for port, name in (
        (cluster.scheduler.http_server.port, "dask_scheduler_workers"),
        (worker.http_server.port, "dask_worker_threads"),
    ):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert name in answer.read().decode()
    leave(cluster, worker)
