"""A small archive, what an undisturbed run makes of it, and processes to do harm to."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur import job as work
from deblur.config import JobConfig, load_job
from deblur.outcome import Outcome
from deblur.store import Archive, RunStore, SequenceStore
from deblur.store.durable import sha256_file
from tests.conftest import pan
from tests.small import write_job

NAME = "pan"
JOB = """
archive = "{archive}"
[[sources]]
path = "pan.npy"
exposure_fraction = 0.75
[tiling]
window = 64
chunk = 32
shard = 64
unit = 64
frames = 2
[cluster]
kind = "{kind}"
workers = 2
"""
FRAMES, HEIGHT, WIDTH = 4, 64, 96
UNITS = 2 * 2 * 2  # stages × blocks × boxes


@dataclass(frozen=True)
class World:
    """`fresh`: an archive with the sequence ingested and surveyed; `equal`: what a run must make of it."""

    job: JobConfig
    fresh: Path
    equal: dict[str, str]

    def copy(self, folder: Path, **settings: object) -> JobConfig:
        """The job on an archive of one's own, nothing computed yet."""
        shutil.copytree(self.fresh, folder / "archive")
        return self.job.model_copy(update={"archive": str(folder / "archive"), **settings})


def make_world(folder: Path) -> World:
    np.save(folder / "pan.npy", pan(FRAMES, HEIGHT, WIDTH)[0])
    job = load_job(write_job(folder, path="pan.npy"))
    work.plan(job, work.ingest(job))
    fresh = folder / "archive"
    shutil.copytree(fresh, folder / "calm")
    calm = job.model_copy(update={"archive": str(folder / "calm")})
    finish(calm)
    return World(job, fresh, contents(calm))


def sequence(job: JobConfig) -> SequenceStore:
    return Archive.open(job.archive).sequence(NAME)


def finish(job: JobConfig) -> Outcome:
    """Run the job to its end, which must be a good one."""
    (outcome,) = work.run(job)
    assert outcome.published, outcome.faults()
    return outcome


def contents(job: JobConfig) -> dict[str, str]:
    """What must be equal: the bytes of every array of the published run, its metadata, and its ledger's digests."""
    store = sequence(job)
    return contents_of(store.run(str(store.current())))


def contents_of(run: RunStore) -> dict[str, str]:
    """The same of any finished run."""
    found = {f"ledger {key}": digest for key, digest in run.ledger().shards().items()}
    for path in run.path.rglob("*"):
        name = path.relative_to(run.path).as_posix()
        if path.is_file() and ("/c/" in name or path.name == "zarr.json"):
            found[name] = sha256_file(path)
    return found | {"run": run.id, "digest": run.digest()}


def prepare(folder: Path, archive: str, kind: str) -> Path:
    """A job of 36 units, for those who watch it from outside: time to do harm in the middle."""
    if not (folder / "pan.npy").exists():
        np.save(folder / "pan.npy", pan(6, 96, 160)[0])
    path = folder / f"{archive}.toml"
    path.write_text(JOB.format(archive=archive, kind=kind))
    return path


def records(archive: Path) -> int:
    """How many units somebody has done so far."""
    return sum(
        path.read_bytes().count(b"\n") for path in archive.glob("sequences/*/runs/*/provenance/units/*.jsonl")
    )


def outputs(archive: Path) -> dict[str, str]:
    """Every shard's digest, as the ledger of the published run has it."""
    store = Archive.open(archive).sequence(NAME)
    return store.run(str(store.current())).ledger().shards()


def partials(job: JobConfig) -> list[Path]:
    """What half-done writes leave behind."""
    return list(Path(job.archive).rglob("*.partial"))


def harm(path: Path, choose: np.random.Generator) -> str:
    """Flip a bit, cut the end off, or remove the file."""
    whole = path.read_bytes()
    kind = str(choose.choice(["flip", "flip", "flip", "cut", "gone"]))
    if kind == "gone" or not whole:
        path.unlink()
        return "gone"
    if kind == "cut":
        os.truncate(path, int(choose.integers(len(whole))))
    else:
        bit = int(choose.integers(8 * len(whole)))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
    return kind


def child(act: Callable[[], object]) -> int:
    """Start a process that has everything loaded already, does `act` and ends; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a child: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for_stop(pid: int) -> None:
    """Until a child has stopped itself."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    assert os.WSTOPSIG(status) == signal.SIGSTOP
