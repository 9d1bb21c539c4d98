"""Storage that has a hiccup is tried again; what is wrong for good is not."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.errors import DeblurError, StoreError, may_pass
from deblur.store import Archive
from tests.small import write_frames, write_job


class Hiccup:
    """`os.replace`, which fails a number of times for files whose name ends in some way."""

    def __init__(self, ending: str, times: int, code: int = errno.EIO) -> None:
        self.ending, self.left, self.code, self.failed = ending, times, code, 0
        self._real = os.replace

    def __call__(self, source: Any, target: Any, **told: Any) -> None:
        if str(target).endswith(self.ending) and self.left:
            self.left, self.failed = self.left - 1, self.failed + 1
            raise OSError(self.code, os.strerror(self.code))
        self._real(source, target, **told)


@pytest.fixture
def hiccup(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hiccup]:
    def make(*told: Any) -> Hiccup:
        made = Hiccup(*told)
        monkeypatch.setattr(os, "replace", made)
        return made

    return make


def caused(code: int) -> DeblurError:
    try:
        try:
            raise OSError(code, "x")
        except OSError:
            raise StoreError("can't write it") from None
    except StoreError as error:
        return error


def test_which_errors_may_pass() -> None:
    for code, passes in (
        (errno.EIO, True),
        (errno.ESTALE, True),
        (errno.ENOSPC, False),
        (errno.EACCES, False),
    ):
        error = caused(code)
        assert may_pass(error) is passes
        assert may_pass(pickle.loads(pickle.dumps(error))) is passes  # as a worker's error comes home
        assert str(pickle.loads(pickle.dumps(error))) == "can't write it"
    assert may_pass(TimeoutError())
    assert not may_pass(StoreError("no such thing"))
    assert not may_pass(None)


def test_a_unit_is_tried_again(tmp_path: Path, hiccup: Callable[..., Hiccup]) -> None:
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    planned = work.plan(job, work.ingest(job))
    storage = hiccup("motion/forward/c/0/0/0/0", 2)
    (outcome,) = work.compute(job, planned)
    assert storage.failed == 2
    assert outcome.failures == ()
    assert planned[0].plan is not None
    run = Archive.open(job.archive).sequence("frames").run(planned[0].plan.run)
    assert max(record["attempt"] for record in run.ledger().latest() if "attempt" in record) == 3
