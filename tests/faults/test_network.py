"""A scheduler and two workers on hosts of their own, TLS between them: what becomes of a run when the network doesn't hold.

The hosts are network namespaces. A host is cut off by taking its link down at the far side: it is not told, nor is anybody.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deblur.clusters import SETTINGS, WORKER_ENVIRONMENT, _as_environment
from deblur.encryption import make_certificates
from deblur.upkeep import verify_archive
from tests.faults.hosts import Host, hosts, missing
from tests.faults.world import outputs, prepare, records

REASON = missing() if {"slow", "seeds"} & set(re.findall(r"\w+", " ".join(sys.argv))) else ""
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]
ROOT = str(Path(__file__).parents[2])
PORT = 8786
UNITS = 2 * 2 * 3 * 3  # stages × rows × columns × blocks of frames
SOON = {"distributed.scheduler.worker-ttl": "10s"}  # half of what is usual, which nights wait for
CLIENT = """
import sys
from pathlib import Path
from deblur import job
from deblur.config import load_job
from deblur.outcome import raise_for_failures
(outcome,) = job.run(load_job(Path(sys.argv[1])))
raise_for_failures([outcome])
print("published", outcome.published, outcome.computed)
"""


@dataclass
class Site:
    """Three hosts: scheduler and client on the first, a worker on each of the others."""

    folder: Path
    hosts: list[Host]
    calm: dict[str, str]
    settings: dict[str, Any]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def tls(self) -> dict[str, str]:
        return {f"tls_{part}": str(self.folder / f"{part}.pem") for part in ("ca", "cert", "key")}

    def start(self, name: str, host: int, *command: str) -> None:
        environment = _as_environment(self.settings) | WORKER_ENVIRONMENT
        self.running[name] = self.hosts[host].start(
            *(sys.executable, "-m", *command),
            log=self.folder / f"{name}.log",
            PYTHONPATH=os.pathsep.join([ROOT, *filter(None, sys.path)]),
            DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION="True",
            **environment,
        )

    def scheduler(self) -> None:
        ports = ("--host", f"tls://{self.hosts[0].address}", "--port", str(PORT), "--dashboard-address", ":0")
        self.start("scheduler", 0, "distributed.cli.dask_scheduler", *ports, *self._keys())

    def worker(self, host: int) -> None:
        size = (
            "--nthreads",
            "1",
            "--memory-limit",
            "2GiB",
            "--dashboard-address",
            ":0",
            "--death-timeout",
            "60",
        )
        self.start(
            *(f"worker{host}", host, "distributed.cli.dask_worker", self.address),
            *("--host", f"tls://{self.hosts[host].address}", *size, *self._keys()),
        )

    def _keys(self) -> list[str]:
        told = self.tls()
        return [
            *("--tls-ca-file", told["tls_ca"]),
            *("--tls-cert", told["tls_cert"]),
            *("--tls-key", told["tls_key"]),
        ]

    @property
    def address(self) -> str:
        return f"tls://{self.hosts[0].address}:{PORT}"

    def client(self, job: Path) -> subprocess.Popen[bytes]:
        self.running["client"] = self.hosts[0].start(
            *(sys.executable, "-c", CLIENT, str(job)), log=self.folder / "client.log", PYTHONPATH=ROOT
        )
        return self.running["client"]

    def job(self, name: str) -> Path:
        path = prepare(self.folder, name, "serial")
        keys = "\n".join(
            f'{key} = "{value}"' for key, value in (self.tls() | {"address": self.address}).items()
        )
        told = path.read_text().replace('kind = "serial"\nworkers = 2', f'kind = "address"\n{keys}')
        path.write_text(told)
        return path

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self, *names: str) -> None:
        for name in names or tuple(self.running):
            process = self.running.pop(name)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, calm: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    make_certificates(folder)
    usual = request.config.getoption("seeds", None)
    with hosts(3) as found:
        site = Site(folder, found, calm, SETTINGS if usual else SETTINGS | SOON)
        try:
            site.scheduler()
            site.worker(1)
            site.worker(2)
            yield site
        finally:
            site.stop()


def until(ready: Callable[[], object], site: Site, *, seconds: float = 60) -> float:
    """Wait for other processes, which tell of their progress in files only; returns how long it took."""
    began = time.monotonic()
    while not ready():
        logs = "\n".join(f"{name}: {site.log(name)[-1500:]}" for name in site.running)
        assert time.monotonic() - began < seconds, logs
        time.sleep(0.05)
    return time.monotonic() - began


def ended_well(site: Site, name: str, client: subprocess.Popen[bytes]) -> None:
    until(lambda: client.poll() is not None, site, seconds=90)
    assert client.returncode == 0, site.log("client")
    assert outputs(site.folder / name) == site.calm


def seen(site: Site, name: str) -> list[dict[str, Any]]:
    """The records of a run so far."""
    segments = (site.folder / name).glob("sequences/*/runs/*/provenance/units/*.jsonl")
    return [json.loads(line) for path in segments for line in path.read_text().splitlines()]


def in_the_middle(site: Site, name: str) -> int:
    """Wait until both workers have done something and much is left; returns how many units are recorded."""

    def ready() -> bool:
        told = seen(site, name)
        return len({record.get("pid") for record in told}) == 2 and len(told) >= 6

    until(ready, site, seconds=120)
    done = records(site.folder / name)
    assert done < UNITS
    return done


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def members(site: Site) -> set[str]:
    """The hosts whose workers the scheduler has at the moment."""
    ask = (
        "import sys; from distributed import Client; from distributed.security import Security as S\n"
        "ca, cert, key, at = sys.argv[1:]\n"
        "s = S(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)\n"
        "with Client(at, security=s, timeout=20) as c: print(*c.scheduler_info(n_workers=-1)['workers'])"
    )
    host = site.hosts[0].name
    command = ["ip", "netns", "exec", host, sys.executable, "-c", ask, *site.tls().values(), site.address]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {host.address for host in site.hosts if f"//{host.address}:" in told}


def both_there(site: Site) -> float:
    """Wait for both workers; one that left is started again, as a service manager would."""

    def ready() -> bool:
        for number in (1, 2):
            if site.running[f"worker{number}"].poll() is not None:
                site.stop(f"worker{number}")
                site.worker(number)
        return members(site) == {host.address for host in site.hosts[1:]}

    return until(ready, site)


def test_a_host_that_is_cut_off_is_given_up_and_comes_back(site: Site) -> None:
    client = site.client(site.job("cut"))
    before = in_the_middle(site, "cut")
    site.hosts[2].cut()
    cut = time.monotonic()
    ended_well(site, "cut", client)
    seconds = time.monotonic() - cut
    site.hosts[2].heal()
    back = both_there(site)
    print(
        f"\ncut off after {before} of {UNITS} units, all done {seconds:.0f} s later; back {back:.0f} s after healing"
    )
    assert verify_archive(site.folder / "cut") == []  # whatever the one that was cut off wrote late


@pytest.mark.one_of("a worker hangs and comes back")
def test_a_worker_that_is_stopped_and_goes_on_does_no_harm(site: Site) -> None:
    both_there(site)
    client = site.client(site.job("stopped"))
    in_the_middle(site, "stopped")
    told, nanny = seen(site, "stopped"), site.running["worker2"].pid
    worker = next(pid for pid in {int(record["pid"]) for record in told} if parent(pid) == nanny)
    os.kill(worker, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        ended_well(site, "stopped", client)
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)
    print(f"\nstopped after {len(told)} of {UNITS} units, all done {time.monotonic() - stopped:.0f} s later")
    both_there(site)
    assert verify_archive(site.folder / "stopped") == []


@pytest.mark.one_of("the scheduler is killed")
def test_a_killed_scheduler_is_one_line_and_the_same_command_goes_on(site: Site) -> None:
    both_there(site)
    job = site.job("orphaned")
    client = site.client(job)
    before = in_the_middle(site, "orphaned")
    site.stop("scheduler")
    until(lambda: client.poll() is not None, site)
    assert client.returncode != 0
    assert (
        site.log("client")
        .splitlines()[-1]
        .endswith("the Dask scheduler went away: run again, finished units are kept")
    )

    site.scheduler()
    both_there(site)
    again = site.client(job)
    ended_well(site, "orphaned", again)
    done = [record for record in seen(site, "orphaned") if record["stage"] != "pyramid"]
    assert len(done) == len({record["key"] for record in done}) == UNITS  # none was done twice
    assert before <= UNITS
