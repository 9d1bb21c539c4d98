"""Every shard's digest of one run, in memory that the system may take back: 40 bytes a shard in a file without a name."""

from __future__ import annotations

import hashlib
import mmap
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from deblur.errors import StoreError
from deblur.store.durable import canonical
from deblur.store.shards import Grid, Index, index_of, key_of

ROW = np.dtype([("at", "f8"), ("digest", "V32")])


class ShardTable:
    """{shard: sha256} of a run as its ledger tells it, by place instead of by name.

    `unexpected`: keys of shards that no array of the run has, or whose digest is none. The latest record of a shard counts.
    """

    def __init__(self, grids: Mapping[str, Grid], records: Iterator[Mapping[str, Any]]) -> None:
        self._grids = dict(grids)
        self._first: dict[str, int] = {}
        size = 0
        for name, grid in self._grids.items():
            self._first[name] = size
            size += grid.size
        with tempfile.TemporaryFile() as file:
            file.truncate(max(1, size) * ROW.itemsize)
            self._rows = np.frombuffer(mmap.mmap(file.fileno(), 0), ROW)  # which keeps the file
        self.unexpected: list[str] = []
        for record in records:
            self._enter(record)

    def _enter(self, record: Mapping[str, Any]) -> None:
        at = float(record.get("at", 0)) + 1  # 0 marks a shard that is in no record
        for key, digest in record.get("shards", {}).items():
            place = self._place(key)
            if place is None or not re.fullmatch("[0-9a-f]{64}", digest):
                self.unexpected.append(key)
            elif at >= self._rows["at"][place]:
                try:
                    self._rows[place] = at, bytes.fromhex(digest)
                except (ValueError, TypeError):
                    raise StoreError(f"the ledger has {digest!r} for shard {key}: it is damaged") from None

    def _place(self, key: str) -> int | None:
        try:
            name, index = index_of(key)
        except StoreError:
            return None
        grid = self._grids.get(name)
        if grid is None or len(index) != len(grid.counts):
            return None
        if any(i >= count for i, count in zip(index, grid.counts, strict=True)):
            return None
        return self._first[name] + grid.ordinal(index)

    def digest(self, name: str, index: Index) -> str | None:
        """The sha256 of a shard as hexadecimal digits, None where no record has it."""
        row = self._rows[self._first[name] + self._grids[name].ordinal(index)]
        return bytes(row["digest"]).hex() if row["at"] else None

    def of(self, key: str) -> str | None:
        """The sha256 of the shard with this key; None where no record has it, or it is no shard of the run."""
        if self._place(key) is None:
            return None
        return self.digest(*index_of(key))

    def __len__(self) -> int:
        """How many shards are in a record."""
        return int(np.count_nonzero(self._rows["at"]))

    def root(self, group: str) -> str:
        """What `digest_of({"group": group, "shards": {key: sha256, …}})` gives, without such a mapping."""
        return self._hashed(f'{{"group":{canonical(group)},"shards":{{', self._grids, "}}")

    def root_of(self, name: str) -> str:
        """What `digest_of({key: sha256, …})` of one array's shards gives, without such a mapping."""
        return self._hashed("{", (name,), "}")

    def _hashed(self, head: str, names: Iterable[str], tail: str) -> str:
        total = hashlib.sha256(head.encode())
        comma = ""
        for key, digest in self._sorted(names):
            total.update(f"{comma}{canonical(key)}:{canonical(digest)}".encode())
            comma = ","
        total.update(tail.encode())
        return total.hexdigest()

    def count(self, name: str) -> int:
        """How many shards of an array are in a record."""
        first = self._first[name]
        return int(np.count_nonzero(self._rows["at"][first : first + self._grids[name].size]))

    def _sorted(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The recorded shards of these arrays in the order of their keys as text, which is not that of place."""
        for name in sorted(names, key=lambda name: f"{name}/"):
            counts = self._grids[name].counts
            for parts in product(*(sorted(map(str, range(count))) for count in counts)):
                index = tuple(map(int, parts))
                digest = self.digest(name, index)
                if digest is not None:
                    yield key_of(name, index), digest
