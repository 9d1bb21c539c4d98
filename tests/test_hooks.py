"""Hooks against real servers and processes: the report arrives, and one that fails or hangs does no harm."""

from __future__ import annotations

import base64
import email
import email.policy
import http.server
import json
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deblur import hooks
from deblur.config import Hooks
from deblur.hooks import tell

SECRET = base64.b64encode(b"\0keeper\0hush").decode()
REPORT = {"state": "failed", "archive": "a/b", "faults": ["frame 3 is gone", "x"]}


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """A server in a thread; its port."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield int(server.server_address[1])  # type: ignore[index]
        finally:
            server.shutdown()
            thread.join()


def web(got: list[Any], *, answer: int = 204) -> http.server.HTTPServer:
    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return http.server.HTTPServer(("127.0.0.1", 0), Listener)


def post_office(got: list[tuple[str, str, str]]) -> socketserver.TCPServer:
    """As much of SMTP (RFC 5321) as a client needs to deliver a mail: envelope and text are kept."""

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            sender = receiver = ""
            self.say("220 ready")
            while command := self.rfile.readline().decode().strip():
                verb, _, rest = command.partition(" ")
                if verb.upper() == "MAIL":
                    sender = rest
                elif verb.upper() == "RCPT":
                    receiver = rest
                elif verb.upper() == "DATA":
                    self.say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    got.append((sender, receiver, "".join(lines)))
                if verb.upper() == "EHLO":
                    self.say("250-here\r\n250 AUTH PLAIN")
                elif verb.upper() == "AUTH":
                    self.say("235 welcome" if rest == f"PLAIN {SECRET}" else "535 no")
                else:
                    self.say("221 bye" if verb.upper() == "QUIT" else "250 fine")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    return socketserver.TCPServer(("", 0), Session)


def test_all_three_get_the_report(tmp_path: Path) -> None:
    posted: list[Any] = []
    mails: list[tuple[str, str, str]] = []
    out = tmp_path / "told.json"
    program = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    with serving(web(posted)) as http_port, serving(post_office(mails)) as smtp_port:
        to = Hooks(
            command=(sys.executable, "-c", program),
            webhook=f"http://127.0.0.1:{http_port}/secret",
            mail="keeper@example.org",
            smtp=f"127.0.0.1:{smtp_port}",
        )
        assert tell(to, REPORT) == []
    assert json.loads(out.read_text()) == REPORT
    assert posted == [("/secret", REPORT)]
    ((sender, receiver, text),) = mails
    assert "keeper@example.org" in sender
    assert "keeper@example.org" in receiver
    mail = email.message_from_string(text, policy=email.policy.default)
    assert mail["Subject"] == "deblur: failed: a/b"
    assert mail["To"] == "keeper@example.org"
    body = mail.get_content()
    assert body.startswith("frame 3 is gone")
    assert json.loads(body[body.index("{") :]) == REPORT


def test_a_mail_server_that_wants_a_password_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mails: list[tuple[str, str, str]] = []
    monkeypatch.setenv("DEBLUR_SMTP_USER", "keeper")
    with serving(post_office(mails)) as port:
        to = Hooks(mail="keeper@example.org", smtp=f"127.0.0.1:{port}")
        monkeypatch.setenv("DEBLUR_SMTP_PASSWORD", "wrong")
        assert tell(to, REPORT) == ["hooks.mail did not work: SMTPAuthenticationError"]
        monkeypatch.setenv("DEBLUR_SMTP_PASSWORD", "hush")
        assert tell(to, REPORT) == []
    assert len(mails) == 1


def test_a_password_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not this machine's and offers no TLS gets neither the password nor the mail."""
    mails: list[tuple[str, str, str]] = []
    monkeypatch.setenv("DEBLUR_SMTP_USER", "keeper")
    monkeypatch.setenv("DEBLUR_SMTP_PASSWORD", "hush")
    with serving(post_office(mails)) as port:
        to = Hooks(mail="keeper@example.org", smtp=f"127.0.0.2:{port}")
        assert tell(to, REPORT) == ["hooks.mail did not work: ValueError"]
    assert mails == []


def test_what_does_not_work_is_told_without_addresses() -> None:
    posted: list[Any] = []
    with serving(web(posted, answer=500)) as port:
        refused = Hooks(
            command=(sys.executable, "-c", "import sys; sys.exit(3)"),
            webhook=f"http://127.0.0.1:{port}/secret",
        )
        said = tell(refused, REPORT)
    assert said == ["hooks.command did not work: CalledProcessError", "hooks.webhook did not work: HTTPError"]
    bad = Hooks(command=("/nowhere",), webhook="file:///etc/passwd", mail="a@example.org", smtp="127.0.0.1:1")
    said = tell(bad, REPORT)
    assert len(said) == 3
    assert not any("passwd" in line or "@" in line or "nowhere" in line for line in said)


def test_one_that_hangs_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "PATIENCE", 0.5)
    over = threading.Event()

    class Dripping(socketserver.BaseRequestHandler):
        """An answer that never ends, a byte at a time: no socket ever times out."""

        def handle(self) -> None:
            while not over.wait(0.05):
                try:
                    self.request.sendall(b"2")
                except OSError:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    pid = tmp_path / "pid"
    with serving(Server(("127.0.0.1", 0), Dripping)) as port:
        slow = Hooks(
            command=("sh", "-c", f"sleep 1000 & echo $! > {pid}; wait"),
            webhook=f"http://127.0.0.1:{port}/",
            mail="a@example.org",
            smtp=f"127.0.0.1:{port}",
        )
        said = tell(slow, REPORT)
        over.set()
    assert said[0] == "hooks.command did not work: TimeoutExpired"
    assert len(said) == 3
    assert all("did not work" in line for line in said)
    deadline = time.monotonic() + 10
    while _runs(int(pid.read_text())):
        assert time.monotonic() < deadline, "what the command started goes on"
        time.sleep(0.01)  # a signal was sent; the kernel takes its time


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
