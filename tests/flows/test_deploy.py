"""deploy/prefect.yaml against a real server, a real process pool and a real worker."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import time
import tomllib
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.io.export import export_frames
from deblur.store import Archive, verify_run
from deblur.store.owner import Owner
from deblur.types import SequenceHeader
from tests.conftest import pan
from tests.flows.servers import FILE, ROOT, Server, wait_until
from tests.small import write_frames, write_job


def told() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load(FILE.read_text()))


def test_every_deployment_names_a_flow_and_parameters_that_it_has() -> None:
    deployments = told()["deployments"]
    assert [one["name"] for one in deployments] == ["nightly", "reprocess", "verify"]
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with both deployments."""
    found = Server(tmp_path_factory.mktemp("server"))
    write_frames(found.home / "frames")
    write_job(found.home)
    try:
        found.start()
        found.deploy()
        yield found
    finally:
        found.stop()


@pytest.mark.slow
def test_the_nightly_runs_is_scheduled_and_shows_itself(server: Server) -> None:
    server.prefect("deployment", "run", "deblur-nightly/nightly")
    log = server.prefect("worker", "start", "--pool", "deblur", "--run-once", "--limit", "1", timeout=300)
    (nightly,) = [run for run in server.runs("COMPLETED") if run["deployment_id"]]
    assert nightly["parameters"] == {"job_file": str(server.home / "job.toml"), "until": ""}, log
    assert nightly["name"].startswith("night of ")
    assert {"deblur", "nightly"} <= set(nightly["tags"])
    assert Archive.open(server.home / "archive").sequence("frames").current()
    assert "unserializable" not in log
    assert "Warning" not in log
    # the schedule: without runs in the future the nights pass and nothing happens
    wait_until(lambda: len(server.runs("SCHEDULED")) >= 3, 60, server.log("server"))
    assert "Traceback" not in server.log("server").read_text()
    seen = {one["key"]: one for one in server.api("/artifacts/filter", {})}
    assert set(seen) >= {"deblur-progress", "deblur-sequences", "deblur-pictures", "deblur-report"}
    (row,) = json.loads(seen["deblur-sequences"]["data"])
    assert (row["sequence"], row["state"]) == ("frames", "published")
    assert seen["deblur-progress"]["data"] == 100
    assert seen["deblur-pictures"]["data"].count("data:image/jpeg;base64,") == 2
    assert list((server.home / "archive" / "reports").glob("frames-run-*.html"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("deblur-nightly/nightly", {"until": "six"}),
        ("deblur-nightly/nightly", {"job_file": 7}),
        ("deblur-nightly/nightly", {"job_file": ""}),
        ("deblur-reprocess-on-demand/reprocess", {"iterations": 0}),
        ("deblur-reprocess-on-demand/reprocess", {"method": "magic"}),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_starts(
    server: Server, name: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.order(name, **wrong)
    assert refused.value.code in (409, 422)


@pytest.mark.slow
def test_a_scheduled_run_fires(server: Server) -> None:
    deployment = server.api("/deployments/name/deblur-nightly/nightly", method="GET")["id"]
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": soon}}
    run = server.api(f"/deployments/{deployment}/create_flow_run", {"parameters": {}, "state": state})["id"]
    worker = server.begin("scheduled", "worker", "start", "--pool", "deblur")
    try:
        wait_until(lambda: server.state(run) == "COMPLETED", 120, server.log("scheduled"))
    finally:
        end(worker)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Long:
    """A job of some twenty seconds, and how far it is."""

    def __init__(self, home: Path) -> None:
        self.home = home
        frames = pan(24, 192, 256)[0]
        header = SequenceHeader("long", (1, 192, 256), "uint8", ("grey",))
        names = [f"{k:04d}" for k in range(len(frames))]
        export_frames(iter(frames), home / "frames", header=header, names=names)
        self.job = write_job(home, kind="local")
        self.folder = home / "archive" / "sequences" / "frames"

    def done(self) -> int:
        ledgers = self.folder.glob("runs/run-*/provenance/units/*.jsonl")
        return sum(len(path.read_text().splitlines()) for path in ledgers)

    def owner(self) -> Owner:
        return Owner(**json.loads((self.folder / "lease.json").read_text())["owner"])


def accepted(server: Server, long: Long) -> str:
    """A new run, or "" where another one holds the deployment's only place."""
    run = server.order("deblur-nightly/nightly", job_file=str(long.job))
    began = ("RUNNING", "COMPLETED", "CANCELLED", "FAILED", "CRASHED")
    wait_until(lambda: server.state(run) in began, 60, server.log("worker"))
    return "" if server.state(run) == "CANCELLED" else run


@pytest.mark.slow
def test_cancel_kill_and_resume(server: Server, tmp_path: Path) -> None:
    """Cancelled, killed, its server killed: in the end every digest is that of an undisturbed run."""
    long = Long(tmp_path)
    worker = server.begin("worker", "worker", "start", "--pool", "deblur")
    log = server.log("worker")
    try:
        run = server.order("deblur-nightly/nightly", job_file=str(long.job))
        wait_until(lambda: long.done() >= 5, 180, log)
        owner = long.owner()
        asked = time.monotonic()
        server.api(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        wait_until(owner.is_gone, 60, log)
        assert time.monotonic() - asked < 30
        wait_until(lambda: server.state(run) == "CANCELLED", 60, log)
        still = long.done()

        run = server.order("deblur-nightly/nightly", job_file=str(long.job))
        wait_until(lambda: long.done() >= still + 5, 180, log)
        os.kill(long.owner().pid, signal.SIGKILL)
        wait_until(lambda: server.state(run) in ("CRASHED", "FAILED"), 120, log)
        killed = long.done()

        run = server.order("deblur-nightly/nightly", job_file=str(long.job))
        wait_until(lambda: long.done() >= killed + 5, 180, log)
        owner = long.owner()
        end(worker)  # it and the flow's process, and then the server: nobody is left to say what happened
        if not owner.is_gone():
            os.kill(owner.pid, signal.SIGKILL)
        os.killpg(server.processes[0].pid, signal.SIGKILL)
        server.processes[0].wait()
        server.five_minutes_later()
        server.processes[0] = server.start()
        worker = server.begin("worker", "worker", "start", "--pool", "deblur")
        final = wait_until(lambda: accepted(server, long), 150, log)  # until the dead one's slot is free
        wait_until(lambda: server.state(final) == "COMPLETED", 300, log)
        # not "Running" for ever; a worker that finds it again may also have finished it
        assert server.state(run) in ("CRASHED", "CANCELLED", "FAILED", "COMPLETED")
    finally:
        end(worker)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(tmp_path / "frames", undisturbed / "frames")
    (outcome,) = work.run(load_job(write_job(undisturbed)))
    assert outcome.published
    runs = []
    for place in (tmp_path, undisturbed):
        sequence = Archive.open(place / "archive").sequence("frames")
        runs.append(sequence.run(str(sequence.current())))
    assert runs[0].ledger().shards() == runs[1].ledger().shards()
    assert verify_run(runs[0]) == ()
