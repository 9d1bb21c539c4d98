"""What a disk may hold after the power went, by POSIX: what was synced, and any part of what was not.

A name counts as synced when its folder was, bytes when their file was. Until then each change of a folder may be there or
not, whatever the order (a rename is one change), and a file holds what was synced last, all of it, a part, or zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.disk import Disk, Step

Name = tuple[int, str]  # a folder's node and a name in it


@dataclass
class Log:
    """Every change in the order made. Events: ("name", folder, name, node or None), ("rename", old folder, old name,
    new folder, new name, node), ("data", node, bytes), ("sync", node), ("done", what)."""

    root: int = 0
    names: dict[Name, int] = field(default_factory=dict)
    data: dict[int, bytes | None] = field(default_factory=dict)  # None for a folder
    events: list[tuple[Any, ...]] = field(default_factory=list)


class Recorder(Disk):
    """Keeps a log of what is done below a folder, beginning with what is there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log = Log()
        self._nodes: dict[int, int] = {}  # by inode number, which may be used again
        self.log.root = self._adopt(root)
        for path in sorted(root.rglob("*")):
            self.log.names[self._folder(path), path.name] = self._adopt(path)

    def done(self, what: object) -> None:
        """The caller was told that something is safe from here on."""
        with self._lock:
            self.log.events.append(("done", what))

    def happened(self, step: Step) -> None:
        with self._lock:
            self._note(step)

    def _note(self, step: Step) -> None:
        path, events = step.path, self.log.events
        if step.kind in ("open", "mkdir", "link") and not (step.kind == "open" and step.data):
            events.append(
                ("name", self._folder(path), path.name, self._adopt(path, known=step.kind == "link"))
            )
        elif step.kind in ("unlink", "rmdir"):
            events.append(("name", self._folder(path), path.name, None))
        elif step.kind == "rename":
            old = step.data
            events.append(
                ("rename", self._folder(old), old.name, self._folder(path), path.name, self._node(path))
            )
        elif step.kind in ("close", "fsync"):
            node = self._node(path)
            if not path.is_dir():
                events.append(("data", node, path.read_bytes()))
            if step.kind == "fsync":
                events.append(("sync", node))

    def _adopt(self, path: Path, *, known: bool = False) -> int:
        inode = path.stat().st_ino
        if known and inode in self._nodes:
            return self._nodes[inode]
        node = self._nodes[inode] = len(self.log.data)
        self.log.data[node] = None if path.is_dir() else path.read_bytes()
        return node

    def _node(self, path: Path) -> int:
        return self._nodes[path.stat().st_ino]

    def _folder(self, path: Path) -> int:
        return self._node(path.parent)


def crash(log: Log, at: int, choose: np.random.Generator, keep: float) -> Callable[[Path], None]:
    """A state that the disk may be in when the power goes after `at` events; `keep`: the chance of each change that was
    not synced. Returns what writes that state into a new folder."""
    events = log.events[:at]
    synced: dict[int, int] = {}
    for number, event in enumerate(events):
        if event[0] == "sync":
            synced[event[1]] = number
    names, born = dict(log.names), {event[3] for event in log.events if event[0] == "name"}
    whole = {node: b"" if node in born and data is not None else data for node, data in log.data.items()}
    latest = dict(whole)
    for number, event in enumerate(events):
        if event[0] == "data":
            latest[event[1]] = event[2]
            if number < synced.get(event[1], -1):
                whole[event[1]] = event[2]
        elif event[0] == "name" and (number < synced.get(event[1], -1) or choose.random() < keep):
            names[event[1], event[2]] = event[3]
        elif event[0] == "rename":
            old, new = event[1:3], event[3:5]
            if number < max(synced.get(old[0], -1), synced.get(new[0], -1)) or choose.random() < keep:
                names.pop(old, None)
                names[new] = event[5]
    found = {node: _torn(whole[node], latest[node], choose, keep) for node in whole}
    return lambda folder: _write(folder, log.root, names, found)


def _torn(
    whole: bytes | None, latest: bytes | None, choose: np.random.Generator, keep: float
) -> bytes | None:
    if whole is None or latest is None or whole == latest or choose.random() < keep:
        return latest
    cut = int(choose.integers(len(whole) if latest.startswith(whole) else 0, len(latest) + 1))
    zeros = bytes(len(latest) - cut) if choose.random() < 0.3 else b""
    return latest[:cut] + zeros if choose.random() < 0.7 else whole


def _write(folder: Path, node: int, names: dict[Name, int], data: dict[int, bytes | None]) -> None:
    folder.mkdir()
    for (parent, name), child in names.items():
        if parent != node or child is None:
            continue
        told = data[child]
        if told is None:
            _write(folder / name, child, names, data)
        else:
            (folder / name).write_bytes(told)


def replayed(log: Log, folder: Path) -> None:
    """The state with nothing lost: what the disk holds when all went well, if the log is complete."""
    crash(log, len(log.events), np.random.default_rng(0), 2.0)(folder)


def same_trees(one: Path, other: Path) -> bool:
    """Whether two folders hold the same."""
    return _tree(one) == _tree(other)


def _tree(folder: Path) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for place, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(place, name), folder)] = None
        for name in files:
            path = Path(place) / name
            found[os.path.relpath(path, folder)] = path.read_bytes()
    return found
