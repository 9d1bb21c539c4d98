"""Slips of the finger are guessed, and what nobody foresaw is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur import job as work
from tests.small import Command, command, publish_small


@pytest.fixture
def deblur(capsys: pytest.CaptureFixture[str]) -> Command:
    return command(capsys)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_small(tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["restroe"], "Did you mean 'restore'"),
        (["plan", "job.toml", "--jsn"], "ptions: --json"),
        (["restore", "in", "out", "--transfer", "srbg"], "did you mean 'srgb'?"),
        (["restore", "in", "out", "--set", "restore.iteratons=3"], "did you mean 'restore.iterations'?"),
    ],
)
def test_slips_of_the_finger_are_guessed(deblur: Command, arguments: list[str], meant: str) -> None:
    said = deblur(*arguments)
    assert said.code == 2
    assert meant in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("key", "meant"), [("restore.method=variatonal", "'variational'"), ("motion.method=fats", "'fast'")]
)
def test_methods_and_paths_are_guessed_too(deblur: Command, finished: Path, key: str, meant: str) -> None:
    said = deblur("restore", finished / "frames", "out", "-e", "0.75", "--workers", "1", "--set", key)
    (fault,) = said.faults
    assert f"(did you mean {meant}?)" in fault
    (fault,) = deblur("restore", finished / "frmaes", "out").faults
    assert "(did you mean 'frames'?)" in fault


def test_what_nobody_foresaw_is_one_line_unless_debugging(
    deblur: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(work, "plan", broken)
    said = deblur("plan", finished / "job.toml")
    assert said.code == 1
    assert said.faults == [
        "deblur: ZeroDivisionError: a b (not foreseen, so please report it; the same command with --debug shows where)"
    ]
    with pytest.raises(ZeroDivisionError):
        deblur("plan", finished / "job.toml", "--debug")
