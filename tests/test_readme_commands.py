"""Every command line in the README and in deploy/ is one that its program's own parser takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.test_deploy_files import DEPLOY, ROOT, SCRIPTS, SERVICES, UNITS, night_script


def shell_commands(text: str) -> Iterator[list[str]]:
    """The calls of ours, Prefect's and Dask's in a piece of shell."""
    text = re.sub(r"\$\{\w+:-(\w+)\}|\$\{?\w+\}?", lambda found: found[1] or "1", text.replace("\\\n", " "))
    for line in text.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.commenters, words.whitespace_split = "#", True
        for is_call, part in groupby(words, lambda word: not re.fullmatch(r"[;&|()<>]+", word)):
            call = [word for word in part if word != "exec"] if is_call else []
            if call and Path(call[0]).name in ("deblur", "prefect", "dask"):
                yield [Path(call[0]).name, *call[1:]]


def calls_in(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    elif path.suffix == ".service":
        text = "\n".join(re.findall(r"^ExecStart=((?:.*\\\n)*.*)", text, re.MULTILINE))
    elif path.name == "compose.yaml":
        commands = [service["command"] for service in SERVICES.values() if "command" in service]
        text = "\n".join(told[-1] if told[0] == "sh" else shlex.join(told) for told in commands)
    elif path.name == "night.yaml":
        text = night_script()
    elif path.name == "Dockerfile":
        text = "\n".join(re.findall(r"^RUN ((?:.*\\\n)*.*)", text, re.MULTILINE))
    elif path.suffix != ".sbatch":
        return []
    return list(shell_commands(text))


CALLS = {
    str(path.relative_to(ROOT)): calls
    for path in [ROOT / "README.md", *sorted(DEPLOY.rglob("*"))]
    if path.is_file() and (calls := calls_in(path))
}


def parse_deblur(words: list[str]) -> None:
    import typer

    from deblur.cli import app

    group: Any = typer.main.get_command(app)
    name, *rest = words
    group.get_command(None, name).make_context(name, rest)


def parse_dask(words: list[str]) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    name, *rest = (re.sub(r"[\w/]+\.pem", __file__, word) for word in words)  # must be there
    {"scheduler": dask_scheduler, "worker": dask_worker}[name].main.make_context(name, rest)


def parse_prefect(words: list[str]) -> None:
    from prefect.cli._app import _app  # its parser, without what it does

    _, told, _ = _app.meta.parse_args(words, exit_on_error=False, print_error=False)
    _app.parse_args(told.args, exit_on_error=False, print_error=False)


PARSERS = {"deblur": parse_deblur, "dask": parse_dask, "prefect": parse_prefect}


@pytest.mark.parametrize("file", CALLS)
def test_every_command_is_one_that_its_parser_takes(file: str) -> None:
    for program, *words in CALLS[file]:
        PARSERS[program](words)


def test_commands_are_found_wherever_there_should_be_some() -> None:
    wanted = {f"deploy/slurm/{name}" for name in SCRIPTS} | {
        "README.md",
        "deploy/compose.yaml",
        "deploy/Dockerfile",
    }
    wanted |= {f"deploy/systemd/{name}" for name in UNITS if name.endswith(".service")}
    assert set(CALLS) >= wanted | {
        "deploy/kubernetes/night.yaml",
        "deploy/nightly.md",
        "deploy/operations.md",
    }
    assert sum(map(len, CALLS.values())) > 40


@pytest.mark.parametrize(
    "wrong", ["deblur plan --nonsense", "prefect worker nonsense", "dask worker tls://x:1 --nonsense"]
)
def test_the_parsers_refuse_what_is_wrong(wrong: str) -> None:
    program, *words = wrong.split()
    with pytest.raises(Exception, match="nonsense"):
        PARSERS[program](words)


def test_every_setting_of_prefect_is_one_that_it_knows() -> None:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_valid_setting_names

    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(r"PREFECT_[A-Z_]{5,}", text)}
    assert len(named) > 10
    # PREFECT_AUTH is a word of compose's .env
    assert named - {"PREFECT_AUTH"} <= _get_valid_setting_names(Settings)
