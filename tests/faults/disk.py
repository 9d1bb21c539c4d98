"""Between this process and the files below a folder: every step that changes them is numbered, and a fault may happen.

Steps are what the operating system would see (create, write, fsync, rename, …), so a fault hits Zarr's own writes as
well as deblur's. Only what goes through Python's `open` and `os` is seen; `test_power.py` checks that this is all.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch


@dataclass
class Step:
    """One change that is about to be made. `kind`: open, write, fsync, rename, link, unlink, mkdir or rmdir."""

    number: int
    kind: str
    path: Path
    file: Any = None
    data: Any = None

    def tear(self) -> None:
        """Do half of it, where it can be halved."""
        if self.kind == "write":
            whole = self.data if isinstance(self.data, str) else memoryview(self.data).cast("B")
            self.file.write(whole[: len(whole) // 2])
            self.file.flush()


Fault = Callable[[Step], None]


def calm(step: Step) -> None:
    """No fault."""


def die_at(number: int) -> Fault:
    """The process is killed in the middle of a step."""

    def fault(step: Step) -> None:
        if step.number == number:
            step.tear()
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def hang_at(number: int) -> Fault:
    """The process is stopped in the middle of a step, until somebody lets it go on."""

    def fault(step: Step) -> None:
        if step.number == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    return fault


class Failing:
    """Steps fail with an error number: those that `chosen` picks, the first `times` of them."""

    def __init__(self, code: int, chosen: Callable[[Step], bool], *, times: float = float("inf")) -> None:
        self.code, self.chosen, self.times = code, chosen, times
        self.happened: list[Step] = []

    def __call__(self, step: Step) -> None:
        if len(self.happened) < self.times and self.chosen(step):
            self.happened.append(step)
            step.tear()
            raise OSError(self.code, os.strerror(self.code), str(step.path))


GROWING = ("open", "write", "mkdir", "link", "fsync")  # what a full disk refuses


@dataclass(frozen=True)
class Trouble:
    """What befalls whoever does something, at the n-th change that it makes to the disk."""

    kind: str
    at: int

    @property
    def fault(self) -> Fault:
        if self.kind == "killed":
            return die_at(self.at)
        if self.kind == "full":
            return Failing(errno.ENOSPC, lambda step: step.number >= self.at and step.kind in GROWING)
        return Failing(errno.EIO, lambda step: step.number >= self.at, times=1)


class Disk:
    """The files below `root` as this process sees them, while `watched`."""

    def __init__(self, root: Path, fault: Fault = calm) -> None:
        self.root, self.fault = str(root.resolve()), fault
        self.steps = 0
        self._lock = threading.RLock()

    def happened(self, step: Step) -> None:
        """Called after a step; for those that keep a record."""

    @contextmanager
    def watched(self) -> Iterator[Disk]:
        with ExitStack() as stack:
            opened = self._opening(builtins.open)
            for module in (builtins, io):
                stack.enter_context(patch.object(module, "open", opened))
            for name in ("unlink", "remove", "mkdir", "rmdir"):
                kind = "unlink" if name == "remove" else name
                stack.enter_context(patch.object(os, name, self._single(kind, getattr(os, name))))
            for name in ("rename", "replace", "link"):
                kind = "link" if name == "link" else "rename"
                stack.enter_context(patch.object(os, name, self._double(kind, getattr(os, name))))
            stack.enter_context(patch.object(os, "fsync", self._syncing(os.fsync)))
            yield self

    def below(self, path: Any, dir_fd: int | None = None) -> Path | None:
        """The path as the root's descendant, None for what lies elsewhere."""
        if isinstance(path, int):
            return None
        folder = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        full = os.path.normpath(os.path.join(folder, os.fspath(path)))
        return Path(full) if full == self.root or full.startswith(self.root + os.sep) else None

    def step(self, kind: str, path: Path, do: Callable[[], Any], **about: Any) -> Any:
        with self._lock:
            step = Step(self.steps, kind, path, **about)
            self.steps += 1
            self.fault(step)
            result = do()
            self.happened(step)
            return result

    def _opening(self, real: Any) -> Any:
        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            path = self.below(file) if set(mode) & set("wax+") else None
            if path is None:
                return real(file, mode, *rest, **options)
            made = self.step("open", path, lambda: real(file, mode, *rest, **options), data=path.exists())
            return Written(self, made, path)

        return opened

    def _single(self, kind: str, real: Any) -> Any:
        def changed(path: Any, *rest: Any, dir_fd: int | None = None, **options: Any) -> Any:
            found = self.below(path, dir_fd)
            told = options | ({} if dir_fd is None else {"dir_fd": dir_fd})
            if found is None:
                return real(path, *rest, **told)
            return self.step(kind, found, lambda: real(path, *rest, **told))

        return changed

    def _double(self, kind: str, real: Any) -> Any:
        def changed(source: Any, target: Any, **options: Any) -> Any:
            found = self.below(target)
            if found is None:
                return real(source, target, **options)
            return self.step(kind, found, lambda: real(source, target, **options), data=self.below(source))

        return changed

    def _syncing(self, real: Any) -> Any:
        def synced(handle: Any) -> None:
            number = handle if isinstance(handle, int) else handle.fileno()
            found = self.below(os.readlink(f"/proc/self/fd/{number}"))
            if found is None:
                return real(handle)
            return self.step("fsync", found, lambda: real(handle), file=number)

        return synced


class Written:
    """A file opened for writing whose writes are steps."""

    def __init__(self, disk: Disk, file: Any, path: Path) -> None:
        self._disk, self._file, self._path = disk, file, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, data: Any) -> Any:
        return self._disk.step(
            "write", self._path, lambda: self._file.write(data), file=self._file, data=data
        )

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            self._disk.happened(Step(-1, "close", self._path, self._file))
            self._file.close()
