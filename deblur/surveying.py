"""A block of the survey as a work unit: what run_unit is to restoration.

Like `deblur.unit` it runs in whatever process, takes a descriptor of a few hundred bytes, reads what it needs from the
stores, writes whole shards, and returns a small record.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.light import Light
from deblur.shutter import share_of
from deblur.store import Archive, SourceStore
from deblur.store.survey import Draft
from deblur.strips import Read
from deblur.survey import View, noise_of_frame, pair_of, view_of
from deblur.unit import Task, forget_peak, peak_memory, require_class

# A row a frame; the last six are about it and the next one. The fields are known by their digests.
FACTS = np.dtype(
    [
        ("noise", "<f4"),
        ("noise_curve", "<f4", (2,)),
        ("linked", "?"),
        ("longest", "<f4"),
        ("move", "<f4", (2,)),
        ("change", "<f4", (2,)),
        ("forward", "u1", (32,)),
        ("backward", "u1", (32,)),
    ]
)


@dataclass(frozen=True, slots=True)
class _Work:
    """What every block of a survey shares."""

    source: SourceStore
    draft: Draft
    light: Light
    method: str
    fraction: float | None

    def read(self, t: int) -> Read:
        """How to read frame `t`."""
        return lambda box: self.source.read(t, t + 1, box)[0]

    def view(self, t: int) -> View:
        height, width = self.source.shape[2:]
        return view_of(self.read(t), height, width, light=self.light, lit=self.fraction is not None)


def survey_unit(task: Task) -> dict[str, Any]:
    """Survey one block of frames, with the pairs that its frames and the next ones make; safe to repeat."""
    began, cpu = time.time(), time.process_time()
    forget_peak()
    work = _work(task.archive, task.sequence, task.run)
    t0, t1 = task.unit.t0, task.unit.t1
    count, _, height, width = work.source.shape
    rounding = work.source.header.metadata.get("rounding", 0.0)
    apart = work.draft.read("apart", t0, t1)
    facts = np.zeros(t1 - t0, FACTS)
    before = work.view(t0)
    fields = {
        name: np.zeros((t1 - t0, 2, *before.seen.shape), np.float32) for name in ("forward", "backward")
    }
    for row, t in zip(facts, range(t0, t1), strict=True):
        row["noise"], row["noise_curve"] = noise_of_frame(
            work.read(t), height, width, light=work.light, rounding=rounding
        )
        row["change"] = np.nan
        if t + 1 < count:
            after = work.view(t + 1)
            found = pair_of(
                before, after, motion_method=work.method, fraction=work.fraction, apart=bool(apart[t - t0])
            )
            row["linked"], row["longest"] = found.linked, found.longest
            row["move"], row["change"] = found.move, found.change
            fields["forward"][t - t0], fields["backward"][t - t0] = found.forward, found.backward
            before = after
        for name, field in fields.items():
            row[name] = list(hashlib.sha256(field[t - t0].data).digest())
    for name, field in fields.items():
        work.draft.write(name, t0, field)
    work.draft.write("facts", t0, as_bytes(facts))  # last: where these rows are, the others are too
    return {
        "key": task.unit.key,
        "stage": task.unit.stage,
        "frames": [t0, t1],
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "seconds": round(time.time() - began, 4),
        "cpu_seconds": round(time.process_time() - cpu, 4),
        "peak_bytes": peak_memory(),
    }


def share_unit(task: Task) -> dict[str, Any]:
    """By which share of its motion one frame was blurred, from the survey of it and its neighbours."""
    forget_peak()
    work = _work(task.archive, task.sequence, task.run)
    t, (height, width) = task.unit.t0, work.source.shape[2:]
    before, after = (
        (work.draft.read("forward", at, at + 1)[0], work.draft.read("backward", at, at + 1)[0])
        for at in (t - 1, t)
    )
    told = share_of(work.read(t), height, width, light=work.light, before=before, after=after)
    return {
        "key": task.unit.key,
        "stage": task.unit.stage,
        "frame": t,
        "share": told,
        "peak_bytes": peak_memory(),
    }


def as_bytes(facts: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of FACTS as they are stored: (t, bytes)."""
    return facts.view(np.uint8).reshape(len(facts), FACTS.itemsize)


def facts_of(draft: Draft, t0: int, t1: int) -> NDArray[Any]:
    """Rows of FACTS that blocks have written."""
    return np.ascontiguousarray(draft.read("facts", t0, t1)).view(FACTS)[:, 0]


@lru_cache(maxsize=4)
def _work(archive: str, sequence: str, draft: str) -> _Work:
    store = Archive.open(archive).sequence(sequence)
    opened = store.opened_draft(draft)
    told = opened.told
    require_class(told["numerics"], f"the survey of {sequence}")
    return _Work(store.source, opened, Light(**told["light"]), told["method"], told["fraction"])
