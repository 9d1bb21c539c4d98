"""Secrets of the job file and the environment: canaries are planted, and looked for in all that is written or said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.errors import ConfigError
from deblur.redact import command_without_secrets, without_secrets
from tests.small import command, write_frames, write_job

SECRETS = (
    'metadata = { site = "A", api_key = "CANARY", see = "https://u:CANARY@h/?t=CANARY" }\n'
    '[hooks]\nwebhook = "https://hooks.example.org/CANARY"\ncommand = ["notify", "--token=CANARY"]\n'
)


@pytest.mark.slow
def test_secrets_are_told_to_nobody(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In configuration and environment they are; in archive, catalog, report, log, answers and errors they are not."""
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "GOOGLE_API_KEY", "NOTIFY_TOKEN"):
        monkeypatch.setenv(name, "CANARY")
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "cache"))
    deblur = command(capsys)
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path, source=SECRETS)
    with caplog.at_level(logging.DEBUG):
        (outcome,) = work.run(load_job(job))
        assert outcome.published
        said = [
            deblur("status", tmp_path / "archive"),
            deblur("list", tmp_path / "archive", "--json"),
            deblur("explain", tmp_path / "archive" / "frames", "--frame", "1", "--at", "9,9"),
            deblur("provenance", tmp_path / "archive" / "frames", "--format", "prov"),
            deblur("restore", tmp_path / "frames", tmp_path / "out", "--report", tmp_path / "report.html",
                   "-e", "0.75", "--workers", "1", "--set", "tiling.window=64", "--set", "tiling.chunk=32"),
        ]  # fmt: skip
        assert [each.code for each in said] == [0] * len(said)
        job.write_text(
            job.read_text().replace('path = "frames"', 'path = "s3://me:CANARY@bucket/a?sig=CANARY"')
        )
        said += [
            deblur("plan", job),
            deblur("restore", "s3://me:CANARY@bucket/a?sig=CANARY", tmp_path / "other"),
        ]
        assert [each.code for each in said[-2:]] == [2, 2]
    assert not any("CANARY" in each.out + each.err for each in said)
    assert "CANARY" not in caplog.text
    looked_at = [path for path in tmp_path.rglob("*") if path.is_file() and path != job]
    assert {path.suffix for path in looked_at} >= {".html", ".sqlite", ".json", ".jsonl"}
    assert [path for path in looked_at if b"CANARY" in path.read_bytes()] == []


@pytest.mark.parametrize(
    "text",
    [
        "curl -H 'Authorization: Bearer CANARY' https://h/x",
        '{"Authorization": "Basic CANARY", "x": 1}',
        "s3://me:CANARY@host/a?sig=CANARY#CANARY",
        "DB_PASSWORD=CANARY --api-key CANARY --token=CANARY",
    ],
)
def test_what_is_written_down_loses_its_secrets(text: str) -> None:
    for told in (text, [text], {"note": {"text": text}}, {"secrets": {"text": "CANARY", "list": ["CANARY"]}}):
        assert "CANARY" not in str(without_secrets(told))


def test_what_hooks_are_told_is_in_no_record_of_a_command_and_in_no_error(tmp_path: Path) -> None:
    address = "https://hooks.example.org/CANARY"
    for told in (["--set", f"hooks.webhook={address}"], [f"--set=hooks.command = ['tell', '{address}']"]):
        shown = command_without_secrets(["deblur", "run", "job.toml", *told, "--workers", "2"])
        assert "CANARY" not in shown
        assert shown.endswith("=*** --workers 2")
    for wrong in (f'command = "tell {address}"', f'webhok = "{address}"', f'mail = ["{address}"]'):
        job = write_job(tmp_path)
        job.write_text(f"{job.read_text()}[hooks]\n{wrong}\n")
        with pytest.raises(ConfigError, match=r"hooks\.") as caught:
            load_job(job)
        assert "CANARY" not in str(caught.value)


def test_a_traceback_names_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import traceback

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    job = write_job(tmp_path)
    job.write_text(job.read_text().replace('path = "frames"', 'path = "s3://me:CANARY@bucket/a"'))
    with pytest.raises(ConfigError) as caught:
        load_job(job)
    error: BaseException | None = caught.value
    assert "CANARY" not in "".join(traceback.format_exception(error))
