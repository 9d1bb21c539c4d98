"""Shells complete commands and options, as `deblur --install-completion` has them do; and bars say how fast they go."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from deblur.terminal import _Rate
from tests.small import Command

ROOT = str(Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("shell", "word", "told"),
    [
        ("zsh", "_TYPER_COMPLETE_ARGS", {}),
        ("fish", "_TYPER_COMPLETE_ARGS", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
        ("bash", "COMP_WORDS", {"COMP_CWORD": "2"}),
    ],
)
def test_options_are_completed(
    deblur: Command, monkeypatch: pytest.MonkeyPatch, shell: str, word: str, told: dict[str, str]
) -> None:
    asked = {"_DEBLUR_COMPLETE": f"complete_{shell}", word: "deblur restore --exposure", **told}
    for key, value in asked.items():
        monkeypatch.setenv(key, value)
    said = deblur()
    assert "--exposure-fraction" in said.out
    assert "--exposure-time" in said.out
    assert "--readout" not in said.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(
    deblur: Command, monkeypatch: pytest.MonkeyPatch, shell: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("_DEBLUR_COMPLETE", f"source_{shell}")
    script = tmp_path / "script"
    script.write_text(deblur().out)
    assert "_DEBLUR_COMPLETE=complete_" in script.read_text()
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on this machine")
    run = subprocess.run([program, "-n", str(script)], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes_a_command_for_real(
    deblur: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("_DEBLUR_COMPLETE", "source_bash")
    (tmp_path / "script").write_text(deblur().out)
    monkeypatch.delenv("_DEBLUR_COMPLETE")
    (tmp_path / "deblur").write_text(f'#!/bin/sh\nexec {sys.executable} -m deblur.cli "$@"\n')
    (tmp_path / "deblur").chmod(0o755)
    asked = "source ./script; COMP_WORDS=(deblur prov) COMP_CWORD=1; _deblur_completion ./deblur; echo ${COMPREPLY[@]}"
    told = os.environ | {"PYTHONPATH": ROOT}
    run = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env=told, cwd=tmp_path)
    assert run.stdout.split() == ["provenance"], run.stderr


@pytest.mark.parametrize(("seconds", "shown"), [(0.25, "4.0/s"), (4.0, "15.0/min")])
def test_a_bar_says_how_fast_it_goes(seconds: float, shown: str) -> None:
    now = [0.0]
    bars = Progress(_Rate(), console=Console(file=io.StringIO()), get_time=lambda: now[0])
    bars.add_task("restore", total=10)
    (task,) = bars.tasks
    assert _Rate().render(task).plain == ""
    for _ in range(3):
        now[0] += seconds
        bars.advance(task.id)
    assert _Rate().render(task).plain == shown
