"""Bytes that flip, files that are cut or gone: found every time, by reading or by `verify`, whatever the file."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deblur.damage import Damage, find_damage
from deblur.errors import StoreError
from deblur.store import Archive
from tests.faults.world import NAME, World, finish, harm

pytestmark = pytest.mark.slow
FLIPS = 1000
TOGETHER = 40  # shards that are damaged at once
LEASE = "lease"  # who works on it: what comes after a crash does not depend on it


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published archive."""
    job = world.copy(tmp_path_factory.mktemp("damage"))
    finish(job)
    return Path(job.archive)


def files(archive: Path) -> tuple[list[Path], list[Path]]:
    """(shards, everything else that the archive can not do without)."""
    found = sorted(p for p in archive.rglob("*") if p.is_file() and not p.name.startswith((".", LEASE)))
    shards = [p for p in found if "/c/" in p.as_posix() and "/survey/" not in p.as_posix()]
    return shards, [p for p in found if p not in shards]


def damage(archive: Path) -> list[Damage] | StoreError:
    try:
        return list(find_damage(Archive.open(archive)))
    except StoreError as error:
        return error


@pytest.mark.seeds(1)
def test_no_damage_is_silent(place: Path, tmp_path: Path, seed: int) -> None:
    archive = shutil.copytree(place, tmp_path / "archive")
    assert damage(archive) == []
    choose = np.random.default_rng(seed)
    shards, others = files(archive)
    done: Counter[str] = Counter()
    silent: list[str] = []
    while sum(done.values()) < FLIPS - 2 * len(others):
        batch = [shards[i] for i in choose.choice(len(shards), min(TOGETHER, len(shards)), replace=False)]
        before = {path: path.read_bytes() for path in batch}
        kinds = {path: harm(path, choose) for path in batch}
        found = damage(archive)
        assert not isinstance(found, StoreError)
        named = {told.problem.shard for told in found}
        silent += [f"{kinds[p]} {p}" for p in batch if not any(k and p.as_posix().endswith(k) for k in named)]
        done.update(kinds.values())
        restore(before)
    for path in [*others, *others]:
        before = {path: path.read_bytes()}
        kind = harm(path, choose)
        done[kind] += 1
        if damage(archive) == [] and not _harmless(path, before[path], archive):
            silent.append(f"{kind} {path.relative_to(archive)} {_where(before[path], path)}")
        restore(before)
    assert sum(done.values()) >= FLIPS - 5
    assert min(done["flip"], done["cut"], done["gone"]) > 100
    assert silent == []
    assert damage(archive) == []


def _harmless(path: Path, before: bytes, archive: Path) -> bool:
    """The same value in another spelling (1e-5, 1E-5), or what of the survey nobody reads: all reads as it did."""
    if not path.exists():
        return False
    if "/survey/" in path.as_posix():
        found = _survey(archive)
        now = path.read_bytes()
        path.write_bytes(before)
        told = _survey(archive)
        path.write_bytes(now)
        return repr(found) == repr(told)
    try:
        return path.suffix == ".json" and bool(json.loads(path.read_bytes()) == json.loads(before))
    except ValueError:
        return False


def _survey(archive: Path) -> list[object]:
    store = Archive.open(archive).sequence(NAME)
    count = store.source.shape[0]
    names = sorted(path.parent.name for path in store.survey_path.glob("*/zarr.json"))
    return [store.survey_attrs(), *(store.survey_part(name, 0, count).tolist() for name in names)]


def _where(before: bytes, path: Path) -> str:
    if not path.exists():
        return ""
    now = path.read_bytes()
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), len(now))
    return repr(before[max(0, at - 30) : at + 30])


def restore(files: dict[Path, bytes]) -> None:
    for path, data in files.items():
        path.write_bytes(data)
