"""deploy/prefect.yaml against a real server, a real process pool and a real worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deblur.store import Archive
from tests.small import write_frames, write_job

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "prefect.yaml"
PREFECT = [sys.executable, "-m", "prefect"]


def told() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load(FILE.read_text()))


def test_every_deployment_names_a_flow_and_parameters_that_it_has() -> None:
    import importlib

    deployments = told()["deployments"]
    assert [one["name"] for one in deployments] == ["nightly", "reprocess"]
    for one in deployments:
        file, name = one["entrypoint"].split(":")
        assert (ROOT / file).is_file()
        flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert set(one["parameters"]) <= set(flow.parameters.properties)
        assert set(flow.parameters.required) <= set(one["parameters"])
        assert one["work_pool"]["name"] == "deblur"
        assert one["concurrency_limit"]["limit"] == 1  # two at once would wait for each other's lease


def test_the_file_wants_the_prefect_that_the_package_wants() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [
        name.removeprefix("prefect") for name in project["dependencies"] if name.startswith("prefect")
    ]
    assert told()["prefect-version"].split(",")[1] == wanted.split(",")[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A server on a free port of 127.0.0.1 with a home of its own; what a client of it needs."""
    home = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    env = kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DEBLUR_JOB": str(home / "job.toml"),
    }
    write_frames(home / "frames")
    write_job(home)
    log = (home / "server.log").open("w")
    server = subprocess.Popen(
        [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
        stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(
            lambda: server.poll() is None and answers(f"{env['PREFECT_API_URL']}/health"),
            180,
            home / "server.log",
        )
        yield env
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until(ready: Any, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.5)  # waiting for another process


def prefect(env: Mapping[str, str], *arguments: str, timeout: float = 180) -> str:
    run = subprocess.run(
        [*PREFECT, *arguments], capture_output=True, text=True, cwd=ROOT, env=dict(env), timeout=timeout
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def runs(env: Mapping[str, str], state: str) -> list[dict[str, Any]]:
    """The server's flow runs in a state, by its API."""
    wanted = {"flow_runs": {"state": {"type": {"any_": [state]}}}, "limit": 50}
    request = urllib.request.Request(
        f"{env['PREFECT_API_URL']}/flow_runs/filter",
        data=json.dumps(wanted).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return list(json.load(reply))


@pytest.mark.slow
def test_deploy_all_then_the_nightly_runs_and_is_scheduled(environment: Mapping[str, str]) -> None:
    env, home = environment, Path(environment["PREFECT_HOME"])
    prefect(env, "work-pool", "create", "deblur", "--type", "process")
    prefect(env, "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE))
    prefect(env, "deployment", "run", "deblur-nightly/nightly")
    log = prefect(env, "worker", "start", "--pool", "deblur", "--run-once", "--limit", "1", timeout=300)
    done = runs(env, "COMPLETED")
    nightly = [run for run in done if run["deployment_id"]]
    assert [run["parameters"] for run in nightly] == [{"job_file": str(home / "job.toml"), "until": ""}], log
    assert Archive.open(home / "archive").sequence("frames").current()
    assert "unserializable" not in log
    assert "Warning" not in log
    # the schedule: without runs in the future the nights pass and nothing happens
    wait_until(lambda: len(runs(env, "SCHEDULED")) >= 3, 60, home / "server.log")
    assert "Traceback" not in (home / "server.log").read_text()
