"""A real browser for tests, where there is one: Chromium without a screen; and files for its pages."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tornado.netutil
import tornado.web
from tornado.httpserver import HTTPServer

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
