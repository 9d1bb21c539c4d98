"""The processes around the work die: the client, the scheduler, the flow, Prefect's server, or all of them. The next start
goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deblur import job as work
from deblur.config import Cluster, load_job
from deblur.upkeep import verify_archive
from tests.faults.world import UNITS, World, contents, finish, outputs, prepare, records, sequence
from tests.flows.servers import ROOT, Server, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and sessions are POSIX"),
]
SHARES = (0.1, 0.5, 0.9)


def recorded(job: work.JobConfig) -> int:
    """Units in the ledger of the only run."""
    store = sequence(job)
    return sum(len(store.run(run).ledger().index()) for run in store.runs())


def begin(*command: str, log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, *command], stdout=out, stderr=out, env=env, cwd=ROOT, start_new_session=True
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A scheduler and a worker, processes of their own; the address is in the file `scheduler`."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False"}
    address, log = tmp_path / "scheduler", tmp_path / "cluster.log"
    told = ("--scheduler-file", str(address))
    serve = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    work_ = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60")
    processes = [begin("-m", "distributed.cli.dask_scheduler", *told, *serve, log=log, env=env)]
    processes += [begin("-m", "distributed.cli.dask_worker", *told, *work_, log=log, env=env)]
    try:
        wait_until(address.exists, 60, log)
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.one_of("the scheduler is killed")
@pytest.mark.parametrize("share", SHARES)
def test_the_scheduler_is_killed(
    world: World, tmp_path: Path, cluster: list[subprocess.Popen[bytes]], share: float
) -> None:
    address = json.loads((tmp_path / "scheduler").read_text())["address"]
    job = world.copy(tmp_path, cluster=Cluster(kind="address", address=address))
    killed: list[int] = []
    enough = max(1, round(share * UNITS))

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith(("motion", "restore")) and recorded(job) >= enough and not killed:
            killed.append(recorded(job))
            os.kill(cluster[0].pid, signal.SIGKILL)

    (outcome,) = work.compute(job, work.plan(job, work.ingest(job)), progress=progress)
    assert killed
    assert not outcome.sound
    assert "the Dask scheduler went away: run again, finished units are kept" in str(outcome.error)
    survived = recorded(job)
    assert survived >= killed[0]
    assert finish(job.model_copy(update={"cluster": Cluster(kind="serial")})).computed == UNITS - survived
    assert contents(job) == world.equal


FLOW = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from deblur.config import JobConfig
from deblur.store import Ledger
job = JobConfig.model_validate_json(Path(sys.argv[1]).read_text())
victim, records, seen, append = int(sys.argv[2]), int(sys.argv[3]), [], Ledger.append
def counted(ledger, record):
    append(ledger, record)
    seen.append(record)
    if len(seen) == records:
        os.kill(victim or os.getpid(), signal.SIGKILL)
Ledger.append = counted
from flows.archive import archive
(outcome,) = archive(job)
sys.exit(0 if outcome.published else 1)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    extra = {"PREFECT_CLIENT_MAX_RETRIES": "1", "PREFECT_API_REQUEST_TIMEOUT": "5", "PYTHONPATH": str(ROOT)}
    made = Server(tmp_path_factory.mktemp("prefect"), extra=extra)
    made.start()
    yield made
    made.stop()


def flow(server: Server, job: work.JobConfig, *, victim: int = 0, records: int = 0) -> int:
    """The archive flow in a process, which kills itself or another one after so many records; how it ended."""
    told = Path(job.archive).parent / "job.json"
    told.write_text(job.model_dump_json())
    program = textwrap.dedent(FLOW.format(root=str(ROOT)))
    with server.log("flow").open("ab") as out:
        return subprocess.run(
            [sys.executable, "-c", program, str(told), str(victim), str(records)],
            env=server.env, stdout=out, stderr=out, timeout=240,
        ).returncode  # fmt: skip


@pytest.mark.one_of("the flow is killed")
@pytest.mark.parametrize("shares", [*((share,) for share in SHARES), SHARES], ids=str)
def test_the_flow_process_is_killed(
    world: World, server: Server, tmp_path: Path, shares: tuple[float, ...]
) -> None:
    job = world.copy(tmp_path)
    done = 0
    for share in shares:
        more = max(1, round(share * UNITS) - done)
        assert flow(server, job, records=more) == -signal.SIGKILL
        done += more
        assert recorded(job) == done
    assert flow(server, job) == 0
    store = sequence(job)
    assert len(list(store.run(str(store.current())).ledger().read_all())) == UNITS + 1  # nothing twice
    assert contents(job) == world.equal


def test_prefects_server_is_killed_in_the_middle(world: World, server: Server, tmp_path: Path) -> None:
    job = world.copy(tmp_path)
    process = server.processes[0]
    began = time.monotonic()
    code = flow(server, job, victim=process.pid, records=UNITS // 2)
    process.wait()
    assert not server.answers()
    assert code in (0, 1)  # it was not hung, and not killed
    assert time.monotonic() - began < 200
    assert recorded(job) >= UNITS // 2
    server.processes[0] = server.start()
    assert flow(server, job) == 0
    assert contents(job) == world.equal


CLIENT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from deblur import job
from deblur.config import JobConfig
if __name__ == "__main__":
    job.run(JobConfig.model_validate_json(Path(sys.argv[1]).read_text()))
"""


@pytest.mark.one_of("the client is killed")
def test_the_client_is_killed_and_its_workers_do_not_outlive_it(world: World, tmp_path: Path) -> None:
    job = world.copy(tmp_path, cluster=Cluster(kind="local", workers=1))
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "client.py").write_text(CLIENT.format(root=str(ROOT)))
    log = tmp_path / "log"
    process = begin(str(tmp_path / "client.py"), str(tmp_path / "job.json"), log=log, env=dict(os.environ))
    wait_until(lambda: recorded(job) >= 2 or process.poll() is not None, 120, log)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not session(process.pid), 30, log)
    survived = recorded(job)
    assert survived >= 2
    assert finish(job.model_copy(update={"cluster": Cluster(kind="serial")})).computed <= UNITS - survived
    assert contents(job) == world.equal


@pytest.mark.one_of("the client is killed")
def test_the_client_and_its_workers_are_killed_and_other_workers_go_on(
    calm: dict[str, str], tmp_path: Path
) -> None:
    job = load_job(prepare(tmp_path, "archive", "local"))
    (tmp_path / "job.json").write_text(job.model_dump_json())
    (tmp_path / "client.py").write_text(CLIENT.format(root=str(ROOT)))
    archive, log = tmp_path / "archive", tmp_path / "log"
    process = begin(str(tmp_path / "client.py"), str(tmp_path / "job.json"), log=log, env=dict(os.environ))
    wait_until(lambda: records(archive) >= 9 or process.poll() is not None, 240, log)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    survived = records(archive)
    outcome = finish(job)
    assert outcome.plan is not None
    assert outcome.computed <= outcome.plan.cost.units - survived + 1
    assert outputs(archive) == calm
    assert verify_archive(archive) == []
    assert sequence(job).current() == outcome.plan.run


def session(leader: int) -> list[str]:
    """The living processes of a session."""
    found = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in found.stdout.splitlines()]
    return [" ".join(row) for row in rows if int(row[0]) == leader and not row[1].startswith("Z")]
