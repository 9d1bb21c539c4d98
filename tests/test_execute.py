"""Both executors do the same: every task once, failures named, the rest done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deblur.clusters import connect
from deblur.config import Cluster
from deblur.errors import ConfigError, DeblurError, StoreError
from deblur.execute import ATTEMPTS, FEWEST, MOST, Room, run_tasks
from deblur.plan import Unit
from deblur.tiling import Box
from deblur.unit import Task

if TYPE_CHECKING:
    from distributed import Client, LocalCluster


def tasks(count: int) -> list[Task]:
    return [Task("a", "s", "r", Unit("motion", t, t + 1, Box(0, 1, 0, 1), f"key-{t}")) for t in range(count)]


def fine(task: Task) -> dict[str, Any]:
    return {"key": task.unit.key}


TRIED: list[int] = []  # of this module, because Dask pickles functions: a closure's list would be a copy


def flaky(task: Task) -> dict[str, Any]:
    TRIED.append(task.unit.t0)
    if len(TRIED) < ATTEMPTS:
        raise OSError("busy")
    return fine(task)


def damaged(task: Task) -> dict[str, Any]:
    TRIED.append(task.unit.t0)
    raise StoreError("shard gone")


def third_fails(task: Task) -> dict[str, Any]:
    if task.unit.t0 == 3:
        raise RuntimeError("out of cheese\nredo from start")
    return fine(task)


def third_kills(task: Task) -> dict[str, Any]:
    if task.unit.t0 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return fine(task)


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    """A Dask cluster inside this process: its scheduler is real, its workers are threads."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["serial", "dask"])
def client(request: pytest.FixtureRequest) -> Client | None:
    return None if request.param == "serial" else request.getfixturevalue("threads")


def test_every_task_is_done_once(client: Client | None) -> None:
    seen: list[str] = []
    assert (
        run_tasks(
            iter(tasks(25)), client=client, done=lambda task, record: seen.append(record["key"]), work=fine
        )
        == []
    )
    assert sorted(seen) == sorted(task.unit.key for task in tasks(25))


def test_a_failing_task_is_named_and_the_rest_is_done(client: Client | None) -> None:
    seen: list[int] = []
    failures = run_tasks(
        tasks(8), client=client, done=lambda task, record: seen.append(task.unit.t0), work=third_fails
    )
    assert [failure.task.unit.t0 for failure in failures] == [3]
    assert "RuntimeError: out of cheese" in str(failures[0])
    assert "\n" not in str(failures[0])
    assert sorted(seen) == [0, 1, 2, 4, 5, 6, 7]


def test_a_failure_is_tried_again_but_a_known_error_is_not(client: Client | None) -> None:
    records: list[dict[str, Any]] = []
    TRIED.clear()
    assert (
        run_tasks(tasks(1), client=client, done=lambda task, record: records.append(record), work=flaky) == []
    )
    assert len(TRIED) == records[0]["attempt"] == ATTEMPTS
    TRIED.clear()
    assert len(run_tasks(tasks(1), client=client, done=lambda task, record: None, work=damaged)) == 1
    assert len(TRIED) == 1


def long(task: Task) -> dict[str, Any]:
    return fine(task) | {"seconds": 60.0}


@pytest.mark.parametrize(("work", "most"), [(fine, MOST), (long, FEWEST)])
def test_few_are_in_flight(threads: Client, work: Callable[[Task], dict[str, Any]], most: int) -> None:
    drawn: list[int] = []
    finished: list[int] = []

    def stream() -> Iterator[Task]:
        for task in tasks(300):
            drawn.append(task.unit.t0)
            assert len(drawn) - len(finished) <= 2 * most
            yield task

    run_tasks(stream(), client=threads, done=lambda task, record: finished.append(task.unit.t0), work=work)
    assert len(finished) == 300


def test_an_unreachable_scheduler_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur.clusters.PATIENCE", 0.5)
    profile = Cluster(kind="address", address="tcp://127.0.0.1:1")
    with (
        pytest.raises(ConfigError, match=r"cluster\.address tcp://127\.0\.0\.1:1: no scheduler answers"),
        connect(profile, memory=2**30),
    ):
        pass


def test_a_scheduler_that_goes_away_is_one_clear_line() -> None:
    from distributed import Client, LocalCluster

    seen: list[int] = []
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
    with cluster, Client(cluster) as client:

        def close(task: Task, record: dict[str, Any]) -> None:
            seen.append(task.unit.t0)
            cluster.close()

        with pytest.raises(DeblurError, match="the Dask scheduler went away: run again"):
            run_tasks(tasks(50), client=client, done=close, work=fine)
    assert len(seen) < 50


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """A scheduler that has no worker."""
    from distributed import LocalCluster

    monkeypatch.setattr("deblur.execute.RECOUNT", 0.05)
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster


def test_a_cluster_without_workers_is_not_waited_for_without_end(empty: LocalCluster) -> None:
    import dask
    from distributed import Client

    with Client(empty) as client, dask.config.set({"deblur.patience": 0.3}):
        for _ in range(2):
            with pytest.raises(DeblurError, match=r"no Dask worker .* than cluster\.patience: .* run again"):
                run_tasks(tasks(5), client=client, done=lambda task, record: None, work=fine)
            dask.config.set({"deblur.patience": 1e6})  # who was given up once is not waited for again
        empty.scale(1)
        client.wait_for_workers(1)
        assert run_tasks(tasks(5), client=client, done=lambda task, record: None, work=fine) == []


def test_waiting_for_a_worker_is_said_and_ends_when_one_comes(
    empty: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from distributed import Client

    monkeypatch.setattr("deblur.execute.LONELY", 0.1)
    seen: list[int] = []
    with Client(empty) as client:
        lonely = Room.lonely

        def worker_comes(self: Room) -> bool:
            found = lonely(self)
            if "waiting for one" in caplog.text and not empty.workers:
                empty.scale(1)
            return found

        monkeypatch.setattr(Room, "lonely", worker_comes)
        run_tasks(tasks(5), client=client, done=lambda task, record: seen.append(task.unit.t0), work=fine)
    assert sorted(seen) == list(range(5))
    assert "no Dask worker has been there for 0 s: waiting for one" in caplog.text


def test_who_waits_for_a_worker_can_be_stopped(empty: LocalCluster) -> None:
    from distributed import Client

    answers = iter([False] * 8)
    with Client(empty) as client:
        assert (
            run_tasks(
                tasks(5),
                client=client,
                done=lambda task, record: None,
                work=fine,
                stop=lambda: next(answers, True),
            )
            == []
        )


def third_freezes_once(task: Task) -> dict[str, Any]:
    flag = Path(task.archive) / "frozen"
    if task.unit.t0 == 3 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return fine(task)


@pytest.mark.slow
def test_a_worker_that_falls_silent_is_given_up_and_its_units_run_elsewhere(tmp_path: Path) -> None:
    """What a host that is cut off looks like to the scheduler: connected, and saying nothing."""
    seen: list[int] = []
    with connect(Cluster(kind="local", workers=2), memory=2**30) as client:
        failures = run_tasks(
            [replace(task, archive=str(tmp_path)) for task in tasks(12)],
            client=client,
            done=lambda task, record: seen.append(task.unit.t0),
            work=third_freezes_once,
            need=2**29,
        )
    assert failures == []
    assert sorted(seen) == list(range(12))


@pytest.mark.slow
def test_a_task_that_kills_its_worker_is_quarantined() -> None:
    seen: list[int] = []
    with connect(Cluster(kind="local", workers=2), memory=2**30) as client:
        failures = run_tasks(
            tasks(8),
            client=client,
            done=lambda task, record: seen.append(task.unit.t0),
            work=third_kills,
            need=2**29,
        )
    assert [failure.task.unit.t0 for failure in failures] == [3]
    assert "KilledWorker" in str(failures[0])
    assert sorted(seen) == [0, 1, 2, 4, 5, 6, 7]
