"""A real Slurm on this machine: munged, slurmctld and two slurmd, and jobs through dask-jobqueue."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.clusters import connect
from deblur.config import Cluster, load_job, with_settings
from deblur.execute import run_tasks
from tests.conftest import pan
from tests.faults.world import outputs, prepare
from tests.test_execute import fine, tasks

MISSING = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"needs Slurm and munge (apt install slurm-wlm munge): no {MISSING}"
    ),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="Slurm's daemons need root"),
]
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MinJobAge=300
NodeName=n1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=night Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm of two nodes, both this machine."""
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install '.[slurm]'")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "state").mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], folder=folder, ports=free_ports(3)))
    own = [
        f"--{what}={folder}/munge.{what.split('-')[0]}"
        for what in ("key-file", "socket", "pid-file", "log-file", "seed-file")
    ]
    commands = [
        ["munged", "--foreground", "--force", *own],
        ["slurmctld", "-D", "-f", str(conf)],
        *(["slurmd", "-D", "-N", node, "-f", str(conf)] for node in ("n1", "n2")),
    ]
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}-{len(running)}.out").open("wb")
            running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
            if command[0] == "munged":
                wait(lambda: (folder / "munge.socket").exists(), folder)
        wait(lambda: said("sinfo", "-h", "-t", "idle", "-o", "%D") == "2", folder)
        yield folder
        subprocess.run(["scancel", "--partition=night"], check=True)
        wait(lambda: said("squeue", "-h") == "", folder)  # a step outlives its slurmd
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:  # slurmd waits for its jobs
                process.kill()
                process.wait()
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def wait(ready: object, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not ready():  # type: ignore[operator]
        logs = "\n".join(path.read_text()[-500:] for path in [*folder.glob("*.log"), *folder.glob("*.out")])
        assert time.monotonic() < deadline, f"Slurm never got ready\n{logs}"
        time.sleep(0.1)  # waiting for daemons, which tell nobody when they are ready


def profile(folder: Path) -> dict[str, object]:
    return {
        "cluster.kind": "slurm",
        "cluster.workers": 2,
        "cluster.queue": "night",
        "cluster.walltime": "00:30:00",
        "cluster.interface": "lo",
        "cluster.shared": str(folder),
        "cluster.prologue": [f"export PYTHONPATH={':'.join(p for p in sys.path if p)}"],
        "limits.memory": "2 GiB",
    }


def test_a_job_on_slurm_has_the_same_bits(
    slurm: Path, calm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (batch,) = work.run(with_settings(load_job(prepare(tmp_path, "batch", "local")), profile(slurm)))
    assert batch.published, batch.faults()
    assert outputs(tmp_path / "batch") == calm


def test_a_cancelled_worker_is_replaced(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = {key.split(".")[1]: value for key, value in profile(slurm).items() if key.startswith("cluster.")}
    seen: list[int] = []

    def done(task: object, record: object) -> None:
        seen.append(1)
        if len(seen) == 5:
            subprocess.run(["scancel", said("squeue", "-h", "-o", "%i").splitlines()[0]], check=True)

    with connect(Cluster.model_validate(told), memory=2**31) as client:
        assert run_tasks(tasks(40), client=client, done=done, work=fine) == []
    assert len(seen) == 40


def submitted(script: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """A script of deploy/slurm, as large as these nodes are; its job's id."""
    small = ("--parsable", "--cpus-per-task=1", "--mem=1500", "--time=00:10:00", "--output=%x-%A-%a.log")
    path = str(Path(__file__).parents[2] / "deploy" / "slurm" / script)
    return said("sbatch", *small, *options, path, *arguments)


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `deblur` that jobs find; they get the environment of who submits them."""
    (folder / "deblur").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "deblur").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_an_array_of_clips(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, f'exec {sys.executable} -m deblur.cli "$@" -e 0.75', monkeypatch)
    monkeypatch.setenv("PYTHONPATH", ":".join(part for part in sys.path if part))
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        np.save(f"{name}.npy", pan(3, 64, 80)[0])
    Path("clips.txt").write_text("one.npy\ntwo.npy\n")
    job = submitted("clips.sbatch", "clips.txt", "sharp", options=["--array=1-2"])
    wait(lambda: said("squeue", "-h", "-j", job) == "", slurm)
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert sorted(path.name for path in Path("sharp").iterdir()) == ["one.npy", "two.npy"], logs
    assert "restored in" in logs


def test_a_night_that_is_told_to_stop(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "trap 'exit 130' TERM; touch began; while :; do sleep 0.1; done", monkeypatch)
    monkeypatch.chdir(tmp_path)
    job = submitted("night.sbatch", "job.toml")
    wait(lambda: (tmp_path / "began").exists(), slurm)
    subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)
    wait(lambda: "JobState=COMPLETED" in said("scontrol", "show", "job", job), slurm)
