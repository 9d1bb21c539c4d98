"""Foreign files decoded in a process of their own: one that crashes its decoder, runs on without end or takes too much
memory is one named fault.

The process is given few variables of the environment, so no credentials. It answers in JSON and pixels, and nothing of
that is run or unpickled here. Where it ended, the next request begins another.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ConfigError, DeblurError, ReadError, StoreError
from deblur.header import header_from
from deblur.io.pictures import Picture
from deblur.io.reader import Reader, ReadOptions, check_count, check_dtype, check_index, check_size
from deblur.types import FrameInfo, SequenceHeader

Open = Callable[[str, ReadOptions], tuple[Reader, ...]]
FRAMES = 6  # times a frame that decoding may take: the file's bytes, what they decode to, copies of that
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
ERRORS: dict[str, type[DeblurError]] = {"ConfigError": ConfigError, "StoreError": StoreError}

_idle: list[_Process] = []  # at most one: a job of many short clips needs no process for each
_idle_lock = Lock()


def apart(name: str, here: Open) -> Open:
    """The opener of the registry's reader `name`, in a process of its own where the options say so."""

    def opened(path: str, options: ReadOptions) -> tuple[Reader, ...]:
        return _Source(name, path, options).open() if options.isolation else here(path, options)

    return opened


class Decoder:
    """The process as readers see it, begun when it is first asked. Raises ReadErrors, as decoding in here would."""

    def __init__(self, options: ReadOptions) -> None:
        assert options.isolation is not None
        self._options, self._allowed = options, options.isolation
        self._process: _Process | None = None
        self._lock = Lock()

    @property
    def begun(self) -> bool:
        return self._process is not None

    def header(self, file: Path) -> Picture:
        """What the header of a picture file says."""
        told = self.ask(str(file), "header", str(file), asdict(self._options.limits))
        size = told["pixel_size"] and tuple(told["pixel_size"])
        return Picture(**{**told, "shape": tuple(told["shape"]), "pixel_size": size})

    def pixels(self, file: Path, picture: Picture) -> NDArray[Any]:
        """Its pixels, (c, y, x)."""
        return self.frame(str(file), _bytes(picture.shape, picture.dtype), "pixels", str(file))

    def frame(self, what: str, size: int, verb: str, *told: Any) -> NDArray[Any]:
        """The pixels that a request asks for; `size`: bytes that they should have."""
        with self._lock:
            answer = self._asked(what, verb, told, memory=FRAMES * size)
            image: NDArray[Any] = self._guarded(
                what, lambda process: process.receive(self._room(what, answer))
            )
            return image

    def _room(self, what: str, answer: Any) -> NDArray[Any]:
        """For the pixels that are announced."""
        shape, dtype = tuple(answer["shape"]), check_dtype(what, answer["dtype"])
        check_size(what, shape, dtype, limits=self._options.limits)
        return np.empty(shape, dtype)

    def ask(self, what: str, verb: str, *told: Any) -> Any:
        """The answer to a request that names `what`."""
        with self._lock:
            return self._asked(what, verb, told)

    def _asked(self, what: str, verb: str, told: Sequence[Any], *, memory: int = 0) -> Any:
        self._process = self._process or _begin()
        request = {"verb": verb, "told": told, "seconds": self._allowed.seconds}
        request["memory"] = memory + self._allowed.memory
        answer = self._guarded(what, lambda process: process.ask(request))
        if "fault" in answer:
            raise self._fault(what, **answer["fault"])
        return answer["answer"]

    def _guarded(self, what: str, act: Callable[[_Process], Any]) -> Any:
        """After any failure, Ctrl-C as well, the process is not asked again."""
        assert self._process is not None
        try:
            return act(self._process)
        except BaseException as error:
            end = self._process.stop(10.0 if isinstance(error, EOFError) else 0.0)
            self._process = None
            if isinstance(error, ValueError):
                raise ReadError(f"{what}: its decoder talks nonsense: leave it out") from None
            if not isinstance(error, EOFError):
                raise
            raise self._ended(what, end) from None

    def _ended(self, what: str, end: int) -> DeblurError:
        name = signal.Signals(-end).name if end < 0 else f"exit code {end}"
        if name in ("SIGKILL", "SIGTERM"):  # not the file's fault: no reason to go on without it
            error = StoreError(f"{what}: its decoder was killed from outside, or memory ran out: run again")
            error.passing = True
            return error
        reason = f"its decoder crashed ({name})"
        if name == "SIGXCPU":
            reason = f"decoding took more than {self._allowed.seconds:g} s of CPU time (decode.seconds)"
        return ReadError(f"{what}: {reason}: copy it again, convert it with another program, or leave it out")

    def _fault(self, what: str, *, kind: str, text: str, passing: bool = False, errno: int = 0) -> Exception:
        """What was raised there, to be raised here."""
        if kind == "OSError":
            return OSError(errno, text, what)
        if kind == "MemoryError":
            text = f"{what}: decoding takes more memory than decode.memory allows beside the frame: raise it if you trust it"
        error = ERRORS.get(kind, ReadError)(text)
        error.passing = passing
        return error

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                _leave(self._process)
            self._process = None


class _Source:
    """A file of sequences, opened in the process; its readers share it."""

    def __init__(self, name: str, path: str, options: ReadOptions) -> None:
        self._told = [name, path, asdict(options.limits)]
        self._path, self._options, self._decoder = path, options, Decoder(options)
        self._found: Any = None
        self._users = 0

    def open(self) -> tuple[Reader, ...]:
        try:
            self._found = self._decoder.ask(self._path, "open", *self._told)
            readers = tuple(ApartReader(self, n, header) for n, header in enumerate(self._found))
        except BaseException:
            self._decoder.close()
            raise
        self._users = len(readers)
        return readers

    def frames(self, number: int) -> Any:
        return self._decoder.ask(self._path, "frames", number)

    def read(self, number: int, index: int, header: SequenceHeader) -> NDArray[Any]:
        what = f"{self._path}#{index}"
        if not self._decoder.begun and self._decoder.ask(self._path, "open", *self._told) != self._found:
            raise ReadError(f"{self._path} changed while it was read: run again when nobody writes to it")
        image = self._decoder.frame(what, _bytes(header.shape, header.dtype), "read", number, index)
        if (image.shape, image.dtype.name) != (header.shape, header.dtype):
            raise ReadError(f"{what} is not as its header says: copy it again or leave it out")
        return image

    def check(self, header: SequenceHeader, count: int) -> None:
        check_size(
            self._path, header.shape, check_dtype(self._path, header.dtype), limits=self._options.limits
        )
        check_count(self._path, count, self._options.limits)

    def release(self) -> None:
        self._users -= 1
        if self._users <= 0:
            self._decoder.close()


class ApartReader(Reader):
    """A sequence that another process reads."""

    def __init__(self, source: _Source, number: int, told: Any) -> None:
        self.header = header_from(told)
        self.frames = tuple(FrameInfo(*frame) for frame in source.frames(number))
        source.check(self.header, len(self.frames))
        self._source: _Source | None = source
        self._number = number

    def read(self, index: int) -> NDArray[Any]:
        check_index(self.header, index, len(self.frames))
        if self._source is None:
            name = self.frames[index].name
            raise ReadError(f"{name} was asked for after its reader was closed: open it again")
        return self._source.read(self._number, index, self.header)

    def close(self) -> None:
        if self._source is not None:
            self._source.release()
        self._source = None


class _Process:
    """`deblur.io.decoding`, and the pipes to it. Raises EOFError when it ended, ValueError when it talks nonsense."""

    def __init__(self) -> None:
        self.home = _home()
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "deblur.io.decoding"],
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
        self._at_exit = finalize(self, _stop, self._child)

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
        if self._child.stdout.readinto(image.reshape(-1).view(np.uint8)) < image.nbytes:  # type: ignore[attr-defined]
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


def _begin() -> _Process:
    with _idle_lock:
        process = _idle.pop() if _idle else None
    return process if process is not None and process.is_ready() else _Process()


def _leave(process: _Process) -> None:
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


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize
