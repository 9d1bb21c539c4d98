"""Foreign files in a process of their own: the same frames, and whatever goes wrong there is one named fault here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import decoder
from deblur import job as work
from deblur.config import parse_job
from deblur.errors import ReadError, StoreError, may_pass
from deblur.io import open_source
from deblur.types import Isolation
from tests.io.test_contract import (
    COUNT,
    SAMPLES,
    Sample,
    label,
    opened,
    truth,
    write_ffv1,
    write_ome,
    write_pngs,
    write_single_tiffs,
    write_zarr,
)

APART = Isolation()
CODECS = """\
import ctypes, os, time
import numpy as np

def png_decode(data):
    doing = data.rpartition(b"IEND")[2][4:]
    if doing == b"crash":
        ctypes.string_at(0)
    if doing == b"endless":
        while True:
            pass
    held = []
    while doing == b"memory":
        held.append(np.ones(1 << 24, np.uint8))
    if doing == b"environment":
        raise ValueError(repr(dict(os.environ)))
    if doing == b"noise":
        os.write(1, b"what libraries print")
    return np.full((20, 34), 5, np.uint8)
"""


@pytest.mark.parametrize("write", [write_pngs, write_single_tiffs, write_ome, write_ffv1, write_zarr])
def test_everything_is_as_in_this_process(write: Callable[[Path, NDArray[Any]], str], tmp_path: Path) -> None:
    source = write(tmp_path, truth("uint16", 1))
    (there,) = open_source(source, isolation=APART)
    with opened(source) as here, there:
        assert there.header == here.header
        assert list(there.frames) == list(here.frames)
        for index in (0, 5, 1, 6):
            frame = there.read(index)
            assert np.array_equal(frame, here.read(index))
            assert frame.dtype == here.read(index).dtype
            assert frame.flags.writeable
            assert there.file(index) == here.file(index)
            assert there.digest(index) == here.digest(index)
        assert list(there.source_files()) == list(here.source_files())
        with pytest.raises(IndexError):
            there.read(COUNT)
    with pytest.raises(ReadError, match="closed"):
        there.read(0) if write is not write_pngs and write is not write_single_tiffs else open_source(
            "closed"
        )


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.dtype == "uint16" and s.reader != "npy"], ids=label
)
def test_a_broken_frame_is_told_in_the_same_words(sample: Sample, tmp_path: Path) -> None:
    source = sample.made(tmp_path)
    broken = sample.spoil(tmp_path)
    if broken < 0:
        assert words(open_source, source) == words(partial(open_source, isolation=APART), source)
        return
    (there,) = open_source(source, isolation=APART)
    with opened(source) as here, there:
        assert words(here.read, broken) == words(there.read, broken)
        assert np.array_equal(there.read(0), here.read(0))


def words(act: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(ReadError) as caught:
        act(*arguments)
    return str(caught.value)


@pytest.fixture
def poor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder of pictures, and a decoder beside it that does to each what stands behind its end."""
    (tmp_path / "codecs").mkdir()
    (tmp_path / "codecs" / "imagecodecs.py").write_text(CODECS)
    monkeypatch.syspath_prepend(str(tmp_path / "codecs"))
    monkeypatch.setattr(decoder, "_idle", [])  # a process with the real one may wait there

    def write(*doings: str) -> Path:
        (tmp_path / "in").mkdir()
        for number, doing in enumerate(doings):
            data = imagecodecs.png_encode(np.zeros((20, 34), np.uint8))
            (tmp_path / "in" / f"f{number:02d}.png").write_bytes(bytes(data) + doing.encode())
        return tmp_path / "in"

    return write


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory")
@pytest.mark.parametrize(
    ("doing", "said"),
    [
        ("crash", "its decoder crashed (SIGSEGV)"),
        ("endless", "took more than 1 s of CPU time (decode.seconds)"),
        ("memory", "takes more memory than decode.memory allows"),
    ],
)
def test_what_goes_wrong_is_the_fault_of_one_frame(poor: Callable[..., Path], doing: str, said: str) -> None:
    folder = poor("", doing, "noise")
    (reader,) = open_source(str(folder), isolation=Isolation(memory=1 << 28, seconds=1))
    with reader:
        for index in (0, 1, 2):
            if index != 1:
                assert (reader.read(index) == 5).all()
                continue
            with pytest.raises(ReadError) as caught:
                reader.read(1)
            assert str(caught.value).startswith(f"{folder / 'f01.png'}: ")
            assert said in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_job_quarantines_the_frame_that_crashed(poor: Callable[..., Path], tmp_path: Path) -> None:
    folder = poor(*[""] * 5, "crash", *[""] * 6)
    told = {"archive": str(tmp_path / "archive"), "sources": [{"path": str(folder)}]}
    (found,) = work.ingest(parse_job(told))
    (line,) = found.broken
    assert "f05.png" in line
    assert "SIGSEGV" in line
    assert found.frames == 11


def test_the_process_gets_no_credentials(poor: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "DATABASE_URL"):
        monkeypatch.setenv(name, "CANARY")
    (reader,) = open_source(str(poor("", "environment")), isolation=APART)
    with reader, pytest.raises(ReadError, match="PATH") as caught:
        reader.read(1)
    assert "CANARY" not in str(caught.value)


def test_one_process_for_many_sources_and_none_for_a_forked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Any] = []
    monkeypatch.setattr(decoder, "_idle", waiting)
    source = write_pngs(tmp_path, truth("uint8", 1))
    for _ in range(2):
        open_source(source, isolation=APART)[0].close()
    (process,) = waiting
    assert decoder.begin() is process
    process.home = (os.getpid() + 1, os.getcwd())
    waiting.append(process)
    other = decoder.begin()
    assert other is not process
    assert (other.stop(30), process.stop(30)) == (0, 0)


def test_a_process_killed_from_outside_is_nobodys_fault(tmp_path: Path) -> None:
    source = write_pngs(tmp_path, truth("uint8", 1))
    (reader,) = open_source(source, isolation=APART)
    with reader:
        first = reader.read(0)
        reader._decoder._process._child.kill()  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match="killed from outside") as caught:
            reader.read(0)
        assert may_pass(caught.value)
        assert np.array_equal(reader.read(0), first)


ORPHAN = """
import os, signal, sys
from deblur.io import isolation, open_source
from deblur.types import Isolation
(reader,) = open_source(sys.argv[1], isolation=Isolation())
print(reader._decoder._process._child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for another's child by Linux's pidfd")
def test_the_process_does_not_outlive_a_killed_job(tmp_path: Path) -> None:
    import select

    source = write_pngs(tmp_path, truth("uint8", 1))
    command = [sys.executable, "-c", ORPHAN, source]
    path = os.pathsep.join(filter(None, sys.path))
    killed = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    try:
        handle = os.pidfd_open(child)
    except ProcessLookupError:  # it was faster
        return
    finally:
        assert killed.wait() == -signal.SIGKILL
    assert select.select([handle], [], [], 30)[0], "it still runs"
    os.close(handle)
