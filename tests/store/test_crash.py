"""kill -9 at any moment: what the ledger says is there, is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deblur.store import Ledger, RunStore, SourceStore, verify_run
from deblur.store.durable import sha256_file
from deblur.tiling import Box

from .stores import BLOCK, CHUNK, FRAMES, HEIGHT, SHARD, SPEC, WIDTH, fill, header, infos, pixels, write_unit

WRITER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from store.stores import *
run = RunStore(sys.argv[1])
print("ready", flush=True)
while True:
    fill(run, pixels(), writer="killed")
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    run = RunStore.create(tmp_path / "r.ome.zarr", SPEC)
    tests = Path(__file__).parents[1]
    code = WRITER.format(tests=str(tests), root=str(tests.parent))
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(float(rng.uniform(0.05, 0.8)))
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        for key, digest in run.ledger().shards().items():
            assert sha256_file(run.path / key) == digest, key
    run.sweep()
    fill(run, pixels(), writer="killed")
    assert verify_run(run) == ()
    assert not list(run.path.rglob("*.partial"))


def test_shards_are_synced_before_they_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunStore.create(tmp_path / "r.ome.zarr", SPEC)
    synced: set[int] = set()
    sync, append = os.fsync, Ledger.append

    def recording(ledger: Ledger, record: dict) -> None:
        for key in record["shards"]:
            assert (run.path / key).stat().st_ino in synced, (
                f"{key} is in the ledger before it is on the disk"
            )
            for folder in (run.path / key).parents:
                if folder == run.path / key.split("/c/")[0]:
                    break
                assert folder.stat().st_ino in synced, f"the name of {key} is not on the disk"
        append(ledger, record)

    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), sync(handle))[1])
    monkeypatch.setattr(Ledger, "append", recording)
    fill(run, pixels())
    assert verify_run(run) == ()


def test_a_unit_written_but_not_recorded_is_written_again(tmp_path: Path) -> None:
    run = RunStore.create(tmp_path / "r.ome.zarr", SPEC)
    first = write_unit(run, 0, BLOCK, Box(0, SHARD, 0, SHARD), pixels())  # and then it was killed
    assert run.ledger().finished() == {}
    assert write_unit(run, 0, BLOCK, Box(0, SHARD, 0, SHARD), pixels()) == first


def test_a_half_written_shard_under_its_final_name_is_replaced(tmp_path: Path) -> None:
    run = RunStore.create(tmp_path / "r.ome.zarr", SPEC)
    fill(run, pixels())
    for path in (run.path / "0/c/0/0/0/0", run.path / "quality/reason/c/1/0/0"):
        path.write_bytes(path.read_bytes()[:-9])
    fill(run, pixels(), writer="again")
    assert verify_run(run) == ()


@pytest.mark.parametrize("step", ["frames.jsonl", "quarantine.jsonl", "shards.sha256", "zarr.json"])
def test_an_ingest_that_dies_before_its_last_step_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "source.ome.zarr"
    writer = SourceStore.create(path, header(), infos(), chunk=CHUNK, shard_frames=FRAMES)
    writer.write(0, pixels())
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda p, to: sys.exit() if Path(to).name == step else replace(p, to)
    )
    with pytest.raises(SystemExit):
        writer.finish()
    assert not SourceStore(path).exists
    assert not path.exists()
    assert writer.grid.shape[2:] == (HEIGHT, WIDTH)
