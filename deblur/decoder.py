"""The process that decodes foreign files, and the pipes to it. What is asked of it is said in `deblur.io.isolation`.

Nothing heavy is imported here: a command begins the process first, and imports the rest meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import finalize

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 1 << 28  # bytes of an answer: a million frames have a hundred each
KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "XDG_CACHE_HOME",
)
KEPT_FAMILIES = ("LC_", "PYTHON", "NUMBA_")
# One heap that keeps what is freed: given back and taken anew each time, frames cost a quarter of their decoding in page
# faults. What is kept is no more than the peak.
HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_idle: list[Process] = []  # at most one: a job of many short clips needs no process for each
_idle_lock = Lock()


class Process:
    """`deblur.io.decoding`, and the pipes to it. Raises EOFError when it ended, ValueError when it talks nonsense.

    `source`: what it will probably be asked for first.
    """

    def __init__(self, source: str = "") -> None:
        self.home = _home()
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "deblur.io.decoding", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            process_group=0 if os.name == "posix" else None,  # Ctrl-C is for those who know what to do
        )
        if sys.platform == "linux":
            import fcntl

            assert self._child.stdout is not None
            with suppress(OSError):  # a user may have only so much of it
                fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)  # fewer waits on one another
        self._at_exit = finalize(self, _stop, self._child, 0.0)

    def is_ready(self) -> bool:
        """Whether it may be asked: a process that was forked or went elsewhere begins one of its own."""
        return self.home == _home() and self._child.poll() is None

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            raise EOFError from None
        line = self._child.stdout.readline(LONGEST)
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if not isinstance(answer, dict) or not {"answer", "fault"} & set(answer):
            raise ValueError
        return answer

    def receive(self, image: NDArray[Any]) -> NDArray[Any]:
        assert self._child.stdout is not None
        if self._child.stdout.readinto(image.reshape(-1).view("u1")) < image.nbytes:  # type: ignore[attr-defined]
            raise EOFError
        return image

    def stop(self, patience: float = 1.0) -> int:
        """End it; how it ended, as subprocess tells it."""
        self._at_exit.detach()
        return _stop(self._child, patience)


def _stop(child: subprocess.Popen[bytes], patience: float = 1.0) -> int:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(OSError):
        child.stdin.close()  # it leaves when nobody can ask any more
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
    finally:
        child.stdout.close()


def begin() -> Process:
    """One that waits, or a new one."""
    with _idle_lock:
        process = _idle.pop() if _idle else None
    return process if process is not None and process.is_ready() else Process()


def begin_ahead(source: str) -> None:
    """Begin the process that will be asked for `source`: it gets ready while the caller does."""
    if os.path.exists(source) and not source.endswith(".npy"):
        leave(Process(source))


def leave(process: Process) -> None:
    """Keep it for the next source, or end it."""
    with _idle_lock:
        if not _idle and process.is_ready():
            _idle.append(process)
            return
    process.stop()


def _home() -> tuple[int, str]:
    return os.getpid(), os.getcwd()


def _environment() -> dict[str, str]:
    told = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_FAMILIES)}
    told |= HEAP | dict.fromkeys(ONE_THREAD, "1")
    return told | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
