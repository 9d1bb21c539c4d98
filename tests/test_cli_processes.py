"""The command line in processes of its own: what it imports, and Prefect's embedded server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deblur.config import parse_job
from deblur.single import first_look
from deblur.upkeep import verify_archive
from tests.small import Said, write_frames, write_job


def real(*arguments: object, folder: Path, timeout: float = 120, **environment: str) -> Said:
    """The command line in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "deblur.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment,
    )
    assert "Traceback" not in run.stderr, run.stderr
    return Said(run.returncode, run.stdout, run.stderr)


def test_help_answers_without_the_heavy_imports(tmp_path: Path) -> None:
    heavy = (
        "numba",
        "zarr",
        "dask",
        "distributed",
        "prefect",
        "scipy",
        "av",
        "tifffile",
        "pydantic",
        "numpy",
    )
    program = (
        "import sys\nfrom deblur.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as left:\n    code = left.code\n"
        f"print('loaded', [n for n in {heavy} if n in sys.modules], code)"
    )
    root = str(Path(__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert run.stdout.splitlines()[-1] == "loaded [] 0"
    for name in (
        "demo",
        "restore",
        "init",
        "run",
        "ingest",
        "plan",
        "status",
        "verify",
        "reprocess",
        "export",
        "list",
        "diff",
        "promote",
        "retract",
        "rollback",
        "prune",
        "explain",
        "provenance",
    ):
        assert name in run.stdout


@pytest.mark.slow
def test_run_and_reprocess_with_the_embedded_server(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    write_job(tmp_path)
    home = str(tmp_path / "prefect")
    first = real("run", "job.toml", folder=tmp_path, PREFECT_HOME=home)
    assert first.code == 0, first.err
    assert "published" in first.out
    assert "8 units computed" in first.out
    assert first.faults == []  # nothing but progress: no log, no warning of Prefect's
    second = real("run", "job.toml", "--json", folder=tmp_path, PREFECT_HOME=home)
    assert (second.code, second.err) == (0, "")
    (told,) = json.loads(second.out)
    assert (told["computed"], told["published"]) == (0, True)

    third = real(
        "reprocess",
        "job.toml",
        "--set",
        "restore.iterations=16",
        "--json",
        folder=tmp_path,
        PREFECT_HOME=home,
    )
    assert (third.code, third.err) == (0, "")
    (changed,) = json.loads(third.out)
    assert changed["run"] != told["run"]
    assert (changed["parent"], changed["computed"], changed["carried"]) == (told["run"], 4, 4)
    assert verify_archive(tmp_path / "archive") == []

    (tmp_path / "frames").rename(tmp_path / "moved")
    gone = real("run", "job.toml", folder=tmp_path, PREFECT_HOME=home)
    assert (gone.code, gone.faults) == (1, [f"deblur: {tmp_path / 'frames'} does not exist: check the path"])


@pytest.mark.slow
def test_run_without_its_prefect_server_is_one_line(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    write_job(tmp_path)
    said = real(
        "run",
        "job.toml",
        folder=tmp_path,
        PREFECT_HOME=str(tmp_path / "p"),
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )
    assert said.code == 2
    (fault,) = said.faults
    assert "PREFECT_API_URL" in fault
    assert not (tmp_path / "archive").exists()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    said = real("demo", "here", folder=tmp_path, timeout=400, PREFECT_HOME=str(tmp_path / "prefect"))
    assert said.code == 0, said.err
    assert said.faults == []
    gain = next(line for line in said.out.splitlines() if line.startswith("mean gain"))
    assert float(gain.split()[2]) > 1
    assert (tmp_path / "here" / "report.html").stat().st_size > 10_000
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("")
    other = real("demo", "mine", folder=tmp_path)
    assert (other.code, other.faults) == (
        2,
        ["deblur: mine is not empty and not a demo: name another folder"],
    )


@pytest.mark.slow
def test_warm_compiles_kernels_where_it_is_told(tmp_path: Path) -> None:
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "kernels"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deblur.cli", "warm"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "kernels compiled" in done.stdout
    assert list((tmp_path / "kernels").rglob("*.nbc"))


def test_a_short_clip_is_done_in_one_process_unless_workers_are_asked_for(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    for told, kind in ((None, "serial"), (2, "local")):
        job = parse_job(
            {"archive": "a", "sources": [{"path": str(tmp_path / "frames")}], "cluster": {"workers": told}}
        )
        still, cost, chosen = first_look(job, tmp_path / "out")
        assert (still, cost, chosen.cluster.kind) == (False, None, kind)
