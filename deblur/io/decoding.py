"""The process that decodes foreign files; `isolation.py` begins it. Requests come as lines of JSON, answers go as such,
with pixels behind them as they lie in memory."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import DeblurError, may_pass
from deblur.header import header_as_json
from deblur.io import READERS, images, video
from deblur.io.colour import BT709, to_rgb
from deblur.io.reader import Reader, ReadOptions
from deblur.types import ReadLimits

Answer = tuple[Any, NDArray[Any] | None]


class Server:
    """What is open, and a method for each verb."""

    def __init__(self) -> None:
        self._readers: Sequence[Reader] = ()

    def open(self, name: str, path: str, limits: dict[str, Any]) -> Answer:
        for reader in self._readers:
            reader.close()
        self._readers = READERS[name].open(path, ReadOptions(ReadLimits(**limits)))
        return [header_as_json(reader.header) for reader in self._readers], None

    def frames(self, number: int) -> Answer:
        infos = self._readers[number].frames
        return [(info.name, info.time, info.exposure_time) for info in infos], None

    def read(self, number: int, index: int) -> Answer:
        return _described(self._readers[number].read(index))

    def header(self, file: str, limits: dict[str, Any]) -> Answer:
        return asdict(images.header_of(Path(file), ReadLimits(**limits))), None

    def pixels(self, file: str) -> Answer:
        return _described(images.pixels_of(Path(file)))


def _described(image: NDArray[Any]) -> Answer:
    return {"shape": image.shape, "dtype": image.dtype.name}, image


def _fault(error: Exception) -> dict[str, Any]:
    if isinstance(error, DeblurError):
        return {"kind": type(error).__name__, "text": str(error), "passing": may_pass(error)}
    if isinstance(error, OSError) and error.errno:
        return {"kind": "OSError", "text": error.strerror or "", "errno": error.errno}
    said = " ".join(f"decoding failed ({type(error).__name__}: {error})".split())
    return {"kind": type(error).__name__, "text": f"{said}: convert it with another program or leave it out"}


def serve(source: str) -> None:
    """Answer until nobody asks any more; probably for `source` first."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    if video.matches(source):
        _load_kernel()
    server, base = Server(), _memory()
    for line in sys.stdin.buffer:
        request, image = json.loads(line), None
        if request["verb"] == "open" and request["told"][0] == "video" and "numba" not in sys.modules:
            _load_kernel()
            base = _memory()
        _limit(base + request["memory"], request["seconds"])
        try:
            told, image = getattr(server, request["verb"])(*request["told"])
            answer = {"answer": told}
        except Exception as error:  # decoders raise whatever they like: told as the file's fault
            answer = {"fault": _fault(error)}
        try:
            answers.write(json.dumps(answer).encode() + b"\n")
            if image is not None:
                answers.write(np.ascontiguousarray(image).data)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # who asked was killed: there is nobody to be told


def _load_kernel() -> None:
    """What video's colours are converted by: its memory is not the file's."""
    import av  # noqa: F401

    grey = np.full((2, 2), 128, np.uint8)
    to_rgb(grey, grey, grey, BT709)


def _memory() -> int:
    """Bytes of address space that this process has before it decodes anything."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _limit(memory: int, seconds: float) -> None:
    """Of this request. Only Linux holds processes to their memory."""
    if os.name != "posix":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {
        resource.RLIMIT_CPU: math.ceil(used.ru_utime + used.ru_stime + seconds),
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        wanted[resource.RLIMIT_AS] = memory
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    serve(sys.argv[1])
