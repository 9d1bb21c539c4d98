"""A real browser for tests, where there is one: Chromium without a screen; and files for its pages."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tornado.netutil
import tornado.web
from tornado.httpserver import HTTPServer
from tornado.websocket import websocket_connect

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NONE = "no Chromium on this machine"
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class _Files(tornado.web.StaticFileHandler):
    """Parts of files, too, and for pages from elsewhere."""

    def set_default_headers(self) -> None:
        for name in ("Origin", "Headers"):
            self.set_header(f"Access-Control-Allow-{name}", "*")

    def options(self, _: str) -> None:
        self.set_status(204)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder's files are to be had meanwhile."""
    (socket,) = tornado.netutil.bind_sockets(0, "127.0.0.1")
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        HTTPServer(tornado.web.Application([("/(.*)", _Files, {"path": str(folder)})])).add_socket(socket)

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
Press = Callable[[str], Awaitable[None]]
Ask = Callable[[str], Awaitable[Any]]


def visit(page: Path, profile: Path, walk: Callable[[Press, Ask], Awaitable[None]]) -> None:
    """Open a page on a phone's screen and do `walk`, which is given a keyboard and what answers JavaScript."""
    command = [
        str(BROWSER),
        *QUIET,
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
    ]
    browser = subprocess.Popen([*command, "about:blank"], stderr=subprocess.PIPE, text=True)
    try:
        assert browser.stderr is not None
        said = next(line for line in browser.stderr if "DevTools listening" in line)
        asyncio.run(_walk(re.findall(r"ws://([^/]+)/", said)[0], page.as_uri(), walk))
    finally:
        browser.terminate()
        browser.communicate()


async def _walk(host: str, page: str, walk: Callable[[Press, Ask], Awaitable[None]]) -> None:
    with urllib.request.urlopen(f"http://{host}/json") as tabs:
        (tab,) = (tab for tab in json.load(tabs) if tab["type"] == "page")
    socket = await websocket_connect(tab["webSocketDebuggerUrl"])

    async def call(method: str, **parameters: Any) -> Any:
        await socket.write_message(json.dumps({"id": 1, "method": method, "params": parameters}))
        while "result" not in (answer := json.loads(str(await socket.read_message()))):
            assert "error" not in answer, answer
        return answer["result"]

    async def press(key: str) -> None:
        named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for kind in ("rawKeyDown", *(["char"] if key == "Enter" else []), "keyUp"):
            await call(
                "Input.dispatchKeyEvent", type=kind, **named, **({"text": "\r"} if kind == "char" else {})
            )

    async def ask(script: str) -> Any:
        return (await call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True))[
            "result"
        ].get("value")

    await call("Emulation.setDeviceMetricsOverride", **PHONE)
    # Opened from here, not by the command line: a page named there may still be on its way while
    # the empty one before it answers, complete. This call returns when the new one has taken its place.
    await call("Page.navigate", url=page)
    loaded = (
        "new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))"
    )
    await ask(f"{loaded}.then(() => 0)")
    assert await ask("location.href") == page
    await walk(press, ask)
    socket.close()
