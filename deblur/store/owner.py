"""Which process this is, and whether the one that wrote something is certainly gone."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from deblur.errors import StoreError
from deblur.place import Place, listed
from deblur.store.durable import read_json, remove_tree


@dataclass(frozen=True, slots=True)
class Owner:
    """One process. `started`, `boot` and `namespace` tell a process from a later one with the same number, on
    the same host; they are empty where the system doesn't say (then nobody is ever taken for gone)."""

    host: str
    pid: int
    started: str = ""
    boot: str = ""
    namespace: str = ""

    @classmethod
    def here(cls) -> Owner:
        """The calling process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), _boot(), _namespace())

    def is_gone(self) -> bool:
        """True only where it is certain: the same host since the same boot, and no such process any more."""
        if (self.host, self.boot, self.namespace) != (socket.gethostname(), _boot(), _namespace()):
            return False
        return bool(self.boot and self.namespace and self.started) and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def sweep_staging(path: Place) -> None:
    """Remove what ingests of `path` left behind."""
    for staging in staged_in_vain(path):
        remove_tree(staging)


def staged_in_vain(path: Place) -> list[Place]:
    """What ingests of `path` left behind whose process is known to be gone."""
    found = []
    for staging in listed(path.parent, f".{path.name}.*.staging"):
        try:
            owner = Owner(**read_json(staging / "owner.json", what="owner of a staged ingest"))
        except (StoreError, TypeError):
            continue  # just begun by somebody else, or not ours
        if owner.is_gone():
            found.append(staging)
    return found


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that is gone, a zombie, or unknown."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
