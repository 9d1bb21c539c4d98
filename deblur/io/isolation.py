"""Foreign files decoded in a process of their own: one that crashes its decoder, runs on without end or takes too much
memory is one named fault.

The process is given few variables of the environment, so no credentials. It answers in JSON and pixels, and nothing of
that is run or unpickled here. Where it ended, the next request begins another.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.decoder import Process, begin, leave
from deblur.errors import ConfigError, DeblurError, ReadError, StoreError
from deblur.header import header_from
from deblur.io.pictures import Picture
from deblur.io.reader import Reader, ReadOptions, check_count, check_dtype, check_index, check_size
from deblur.types import FrameInfo, SequenceHeader

Open = Callable[[str, ReadOptions], tuple[Reader, ...]]
FRAMES = 6  # times a frame that decoding may take: the file's bytes, what they decode to, copies of that
ERRORS: dict[str, type[DeblurError]] = {"ConfigError": ConfigError, "StoreError": StoreError}


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
        self._process: Process | None = None
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
        self._process = self._process or begin()
        request = {"verb": verb, "told": told, "seconds": self._allowed.seconds}
        request["memory"] = memory + self._allowed.memory
        answer = self._guarded(what, lambda process: process.ask(request))
        if "fault" in answer:
            raise self._fault(what, **answer["fault"])
        return answer["answer"]

    def _guarded(self, what: str, act: Callable[[Process], Any]) -> Any:
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
                leave(self._process)
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


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize
