"""A Prefect server of one's own, a worker, and what tests ask of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "prefect.yaml"
PREFECT = [sys.executable, "-m", "prefect"]


def wait_until(ready: Callable[[], Any], seconds: float, log: Path) -> Any:
    """Poll other processes; what `ready` gave."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.3)
    return found


@dataclass
class Server:
    """A server on a free port of 127.0.0.1 with a home of its own; it may be killed and started again."""

    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        self.env = kept | {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # by default a slot that a dead run holds is forgotten with the server, and held for ever
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "DEBLUR_JOB": str(self.home / "job.toml"),
            **self.extra,
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        told = ("--host", "127.0.0.1", "--port", str(self.port), "--no-ui")
        process = self.begin("server", "server", "start", *told)
        wait_until(lambda: process.poll() is None and self.answers(), 180, self.log("server"))
        return process

    def begin(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A `prefect` command that goes on; its output is in `log(name)`."""
        with self.log(name).open("ab") as out:
            process = subprocess.Popen(
                [*PREFECT, *arguments], stdout=out, stderr=subprocess.STDOUT,
                env=self.env, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.env['PREFECT_API_URL']}/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def prefect(self, *arguments: str, timeout: float = 180) -> str:
        run = subprocess.run(
            [*PREFECT, *arguments], capture_output=True, text=True, cwd=ROOT, env=self.env, timeout=timeout
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    def api(self, path: str, told: Any = None, *, method: str = "POST") -> Any:
        """Ask the server; raises HTTPError for what it refuses. While its database is busy it says 503: ask again."""
        request = urllib.request.Request(
            f"{self.env['PREFECT_API_URL']}{path}",
            data=None if told is None else json.dumps(told).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        for patience in reversed(range(20)):
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code != 503 or not patience:
                    raise
            time.sleep(0.5)
        return None

    def runs(self, state: str) -> list[dict[str, Any]]:
        """Flow runs in a state."""
        return list(self.api("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": [state]}}}}))

    def state(self, run: str) -> str:
        return str(self.api(f"/flow_runs/{run}", method="GET")["state"]["type"])

    def deploy(self) -> None:
        self.prefect("work-pool", "create", "deblur", "--type", "process")
        self.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(FILE))

    def order(self, name: str, **parameters: Any) -> str:
        """Ask for a run of a deployment; its id."""
        deployment = self.api(f"/deployments/name/{name}", method="GET")["id"]
        told = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{deployment}/create_flow_run", told)["id"])

    def five_minutes_later(self) -> None:
        """Make the leases on deployments' places run out, which they do five minutes after their holder's last word."""
        folder = self.home / "concurrency_leases"
        past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        for path in folder.glob("*.json"):
            told = json.loads(path.read_text())
            told = told | {"expiration": past} if "expiration" in told else dict.fromkeys(told, past)
            path.write_text(json.dumps(told))

    def stop(self) -> None:
        """End what was begun here."""
        for process in reversed(self.processes):
            if process.poll() is not None:
                continue
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
