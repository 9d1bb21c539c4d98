"""The right to work on one sequence: one holder at a time, and a dead one is succeeded.

`lease.json` holds the owner, its fencing token and a counter that a living owner moves. Observers don't
compare wall clocks: a lease is dead when its counter stood still for 60 s on the observer's own monotonic
clock, or at once when its process is known to be gone.

A token is taken by creating its claim file, which only one process can (see `write_new`). Whoever has the highest claim
is the owner, whatever lease.json says; so a stale owner that wakes up late can disturb nothing but a heartbeat.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from deblur.errors import LeaseError, StoreError
from deblur.place import Place, place
from deblur.store.durable import canonical, settle_folders, write_json, write_new
from deblur.store.owner import Owner

STILL = 60.0  #: seconds without a heartbeat after which an owner is dead
BEAT = 10.0  #: seconds between heartbeats
GLANCE = 1.0  #: seconds between an observer's looks


class Lease:
    """The lease in a sequence's folder. Not picklable: a lease belongs to one process.

    `clock` (monotonic seconds) and `sleep` are there to be replaced in tests.
    """

    def __init__(
        self,
        folder: str | Place,
        *,
        owner: Owner | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = place(folder)
        self.path = self.folder / "lease.json"
        self.token: int | None = None  #: the fencing token, while held
        self._owner = owner or Owner.here()
        self._clock, self._sleep = clock, sleep
        self._counter = 0

    def acquire(self) -> int:
        """Take the lease and return its fencing token, which only ever grows.

        A free lease, or that of a process known to be gone, is taken at once. Otherwise this watches: it
        raises LeaseError as soon as the owner shows life, and takes over after 60 s of silence.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        seen, since = self._state(), self._clock()
        while True:
            text, highest = seen
            if self._vacant(text, highest) or self._clock() - since >= STILL:
                if self._claim(highest + 1):
                    return highest + 1
                seen, since = self._state(), self._clock()
                continue
            self._sleep(GLANCE)
            now = self._state()
            if now != seen:
                if not self._vacant(*now):
                    raise LeaseError(
                        f"sequence {self.folder.name} is being worked on by {_owner_of(now[0])}: wait"
                    )
                seen, since = now, self._clock()

    def renew(self) -> None:
        """Show life. Raises LeaseError where somebody took over."""
        token = self._require_held()
        self._counter += 1
        self._write(token, self._owner)
        self._require_held()

    def release(self) -> None:
        """Give the lease back; harmless where it was lost or never held."""
        if self.token is not None and self.token == highest_claim(self.folder):
            self._write(self.token, None)
        self.token = None

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Acquire, keep showing life from a thread, release at the end.

        The thread stops when the lease is lost; `renew` then raises in whoever asks next.
        """
        self.acquire()
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(done,), name="deblur-lease", daemon=True)
        beat.start()
        try:
            yield self
        finally:
            done.set()
            beat.join()
            self.release()

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(BEAT):
            try:
                self.renew()
            except LeaseError:
                return
            except (StoreError, OSError):
                continue  # a full disk, say: the next beat may get through, and publishing checks the token

    def _require_held(self) -> int:
        if self.token is None:
            raise LeaseError(f"the lease on {self.folder.name} is not held: acquire it first")
        check_token(self.folder, self.token)
        return self.token

    def _claim(self, token: int) -> bool:
        """Try to become owner number `token`."""
        if not write_new(_claim_path(self.folder, token), canonical(asdict(self._owner)).encode()):
            return False
        if highest_claim(self.folder) != token:  # ours was an old number, freed by a later owner
            _claim_path(self.folder, token).unlink(missing_ok=True)
            return False
        settle_folders([self.folder])
        self.token, self._counter = token, 0
        self._write(token, self._owner)
        for path in self.folder.glob(".lease-*"):
            if path.name < _claim_path(self.folder, token).name:
                path.unlink(missing_ok=True)
        self._sweep()
        return True

    def _sweep(self) -> None:
        """Remove what owners and claimants that were killed in the middle of a write left in the folder.

        A claimant that is at it just now finds that its claim failed, as it would have.
        """
        for path in self.folder.glob(".*.partial"):
            path.unlink(missing_ok=True)

    def _write(self, token: int, owner: Owner | None) -> None:
        fields = {"token": token, "counter": self._counter, "owner": None if owner is None else asdict(owner)}
        write_json(self.path, fields)

    def _state(self) -> tuple[str, int]:
        """What an observer watches: it changes with every heartbeat and every claim."""
        return _text(self.path), highest_claim(self.folder)

    def _vacant(self, text: str, highest: int) -> bool:
        """True where nobody can be working: never held, given back, or its process is certainly gone."""
        if highest == 0 and not text:
            return True
        fields = _fields(text)
        if fields.get("token") != highest:  # the claimant has not shown up in lease.json yet
            return _gone(_fields(_text(_claim_path(self.folder, highest))))
        owner = fields.get("owner", ...)
        return owner is None or _gone(owner)


def highest_claim(folder: Place) -> int:
    """The token of the present or last owner; 0 where there never was one."""
    return max((int(path.name.rpartition("-")[2]) for path in folder.glob(".lease-*")), default=0)


def check_token(folder: Place, token: int) -> None:
    """Raise LeaseError unless `token` is the newest one given out for the sequence in `folder`."""
    newest = highest_claim(folder)
    if token != newest:
        raise LeaseError(
            f"the lease on {folder.name} was lost (token {token}, now {newest}): "
            "run again, finished units are kept"
        )


def _claim_path(folder: Place, token: int) -> Place:
    return folder / f".lease-{token:012d}"


def _text(path: Place) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _gone(owner: Any) -> bool:
    """Whether a process is certainly gone; never so of what is no owner at all."""
    try:
        return Owner(**owner).is_gone()
    except TypeError:
        return False


def _owner_of(text: str) -> str:
    try:
        return str(Owner(**_fields(text)["owner"]))
    except (KeyError, TypeError):
        return "another process"


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
