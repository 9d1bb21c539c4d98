"""Tell somebody that a night failed: a command, a webhook, a mail. None of them can make it fail any further."""

from __future__ import annotations

import json
import logging
import os
import signal
import smtplib
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any

from deblur.config import Hooks

log = logging.getLogger("deblur.hooks")
PATIENCE = 30.0  # seconds for each

Report = Mapping[str, Any]


def tell(hooks: Hooks, report: Report) -> list[str]:
    """Tell everybody; returns a line for each hook that did not work, without its address.

    One that hangs is left behind after half a minute, however it hangs.
    """
    failed = []
    for name, hook, told in (
        ("command", _command, hooks.command),
        ("webhook", _webhook, hooks.webhook),
        ("mail", _mail, hooks.mail),
    ):
        if told and (reason := _attempt(name, lambda hook=hook: hook(hooks, report))):  # type: ignore[misc]
            failed.append(f"hooks.{name} did not work: {reason}")
            log.warning("%s", failed[-1])
    return failed


def _attempt(name: str, hook: Callable[[], None]) -> str:
    """Why a hook did not work, empty where it did. In a thread: a server that sends a byte now and then has no timeout."""
    reasons = [f"no answer within {PATIENCE:g} s"]

    def work() -> None:
        try:
            hook()
            reasons.append("")
        except Exception as error:  # a hook may fail in any way; it is named, and the night goes on
            reasons.append(type(error).__name__)

    thread = threading.Thread(target=work, name=f"deblur-hook-{name}", daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)  # each has a limit of its own, which says more
    return reasons[-1]


def _command(hooks: Hooks, report: Report) -> None:
    with subprocess.Popen(
        hooks.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            process.communicate(json.dumps(report), timeout=PATIENCE)
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "the command")


def _end(process: subprocess.Popen[str]) -> None:
    """A command and whatever it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _webhook(hooks: Hooks, report: Report) -> None:
    if not hooks.webhook.startswith(("https://", "http://")):
        raise ValueError("not an http(s) address")
    body = json.dumps(report).encode()
    request = urllib.request.Request(
        hooks.webhook, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE):
        pass


def _mail(hooks: Hooks, report: Report) -> None:
    host, _, port = hooks.smtp.partition(":")
    message = EmailMessage()
    message["Subject"] = f"deblur: {report.get('state', 'failed')}: {report.get('archive', '')}"
    message["From"] = message["To"] = hooks.mail
    message.set_content("\n".join([*report.get("faults", ()), "", json.dumps(report, indent=1)]))
    user, password = (os.environ.get(f"DEBLUR_SMTP_{part}", "") for part in ("USER", "PASSWORD"))
    connected = smtplib.SMTP_SSL if port == "465" else smtplib.SMTP
    with connected(host, int(port or 25), timeout=PATIENCE) as server:
        server.ehlo()
        here = host in (
            "localhost",
            "127.0.0.1",
            "::1",
        )  # where certificates are nobody's, and nobody listens
        if not here and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            server.ehlo()
        if user:
            if not here and not isinstance(server.sock, ssl.SSLSocket):
                raise ValueError("a password goes over TLS only")
            server.login(user, password)
        server.send_message(message)
