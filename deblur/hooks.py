"""Tell somebody that a night failed: a command, a webhook, a mail. None of them can make it fail any further."""

from __future__ import annotations

import json
import logging
import smtplib
import subprocess
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from deblur.config import Hooks

log = logging.getLogger("deblur.hooks")
PATIENCE = 30.0  # seconds for each


def tell(hooks: Hooks, report: Mapping[str, Any]) -> list[str]:
    """Tell everybody; returns a line for each hook that did not work, without its address."""
    failed = []
    for name, hook, told in (
        ("command", _command, hooks.command),
        ("webhook", _webhook, hooks.webhook),
        ("mail", _mail, hooks.mail),
    ):
        if not told:
            continue
        try:
            hook(hooks, report)
        except (OSError, ValueError, subprocess.SubprocessError, smtplib.SMTPException) as error:
            failed.append(f"hooks.{name} did not work: {type(error).__name__}")
            log.warning("%s", failed[-1])
    return failed


def _command(hooks: Hooks, report: Mapping[str, Any]) -> None:
    subprocess.run(
        list(hooks.command),
        input=json.dumps(report),
        text=True,
        timeout=PATIENCE,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _webhook(hooks: Hooks, report: Mapping[str, Any]) -> None:
    if not hooks.webhook.startswith(("https://", "http://")):
        raise ValueError("not an http(s) address")
    body = json.dumps(report).encode()
    request = urllib.request.Request(
        hooks.webhook, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE):
        pass


def _mail(hooks: Hooks, report: Mapping[str, Any]) -> None:
    host, _, port = hooks.smtp.partition(":")
    message = EmailMessage()
    message["Subject"] = f"deblur: {report.get('state', 'failed')}: {report.get('archive', '')}"
    message["From"] = message["To"] = hooks.mail
    message.set_content("\n".join([*report.get("faults", ()), "", json.dumps(report, indent=1)]))
    with smtplib.SMTP(host, int(port or 25), timeout=PATIENCE) as server:
        server.send_message(message)
