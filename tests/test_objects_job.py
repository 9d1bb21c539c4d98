"""The whole job on an archive in an object store: the same bits as on a disk, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur import night
from deblur.config import load_job, with_settings
from deblur.damage import find_damage
from deblur.integrity import repair
from deblur.place import ObjectPlace, place
from deblur.store import Archive, RunStore, verify_run
from tests.small import Command, write_frames, write_job


def on(folder: Path, finished: Path, archive: str, *, kind: str = "serial") -> Path:
    """The same job with its archive elsewhere."""
    job = write_job(folder, path=str(finished / "frames"), kind=kind)
    job.write_text(job.read_text().replace('archive = "archive"', f'archive = "{archive}"'))
    return job


def published(archive: str | Path, sequence: str = "frames") -> RunStore:
    store = Archive.open(archive).sequence(sequence)
    return store.run(str(store.current()))


def assert_same(here: RunStore, there: RunStore) -> None:
    """Every shard's digest by the ledgers, the pixels, and the metadata."""
    assert there.ledger().shards() == here.ledger().shards()
    for name in here.spec.arrays():
        np.testing.assert_array_equal(
            here.read(name, 0, here.spec.shape[0]), there.read(name, 0, here.spec.shape[0])
        )
    assert (here.path / "zarr.json").read_bytes() == (there.path / "zarr.json").read_bytes()


def test_the_same_bits_and_then_nothing_to_do(finished: Path, tmp_path: Path, bucket: str) -> None:
    job = load_job(on(tmp_path, finished, f"{bucket}/archives/north"))
    (outcome,) = work.run(job)
    assert outcome.published
    there = published(job.archive)
    assert_same(published(finished / "archive"), there)
    assert verify_run(there) == ()
    (again,) = work.run(job)
    assert (again.computed, again.published) == (0, True)


@pytest.mark.slow
def test_the_life_of_an_archive(finished: Path, tmp_path: Path, bucket: str, deblur: Command) -> None:
    """A night, status, list, explain, export, damage, repair, another run, rollback, retract, promote, prune."""
    archive = f"{bucket}/archives/north"
    job = on(tmp_path, finished, archive)
    with night.recorded(place(archive)) as record:
        (arrival,) = night.find(load_job(job)).todo
        (outcome,) = night.work_on(load_job(job), [arrival])
    assert outcome.published
    assert night.find(load_job(job)).unchanged == 1
    there = published(archive)
    assert (Archive.open(archive).path / "nights" / f"{record.id}.json").is_file()
    assert night.dead_nights(place(archive)) == []

    assert there.id in deblur("status", archive).out
    assert "frames" in deblur("list", archive).out
    told = deblur("explain", f"{archive}/frames", "--frame", "1", "--at", "9,9", "--json")
    assert json.loads(told.out)["run"]["state"] == "published"
    assert deblur("export", archive, "frames", tmp_path / "out").code == 0
    assert deblur("provenance", f"{archive}/frames", tmp_path / "bag", "--format", "bagit").code == 0
    assert (tmp_path / "bag/data" / there.path.name / "0/c/0/0/0/0").is_file()

    shard = there.path / "0/c/0/0/0/0"
    source = Archive.open(archive).sequence("frames").source.path / "0/c/1/0/0/0"
    kept = shard.read_bytes(), source.read_bytes()
    shard.write_bytes(kept[0][:-1] + b"!")
    source.unlink()
    assert deblur("verify", archive).code == 1
    assert deblur("verify", archive, "--repair").code == 0
    assert (shard.read_bytes(), source.read_bytes()) == kept

    changed = with_settings(load_job(job), {"restore.iterations": 2, "publish.drop": 1.0})
    (second,) = work.run(changed)
    assert second.published
    assert second.computed
    assert second.carried  # motion, by its digests
    assert deblur("rollback", f"{archive}/frames").code == 0
    assert published(archive).id == there.id
    assert deblur("retract", f"{archive}/frames", "--reason", "a test").code == 0
    assert deblur("promote", f"{archive}/frames@{there.id}").code == 0
    assert published(archive).id == there.id
    newer = second.plan.run if second.plan else ""
    assert deblur("prune", archive, "--keep", "0", "--older-than", "0").code == 0
    sequence = Archive.open(archive).sequence("frames")
    assert sequence.runs() == (there.id,)
    assert [p.name for p in (sequence.path / "pruned").iterdir()] == [newer]
    assert list(find_damage(Archive.open(archive))) == []
    assert repair(Archive.open(archive), []) == []


def test_an_archive_that_cannot_be_is_one_line(
    tmp_path: Path, bucket: str, deblur: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "frames", count=2)
    absent = deblur("status", f"{bucket}-absent/archive")
    assert (absent.code, absent.faults) == (
        1,
        [
            f"deblur: {bucket}-absent/archive/archive.json: there is no bucket {bucket}-absent: "
            "create it, or correct the address"
        ],
    )
    secret = deblur("plan", on(tmp_path, tmp_path, "s3://me:secret@bucket/a"))
    assert (secret.code, len(secret.faults)) == (2, 1)
    assert "secret" not in secret.err
    (place(bucket) / "archive/holiday.jpg").write_bytes(b"")
    other = deblur("plan", on(tmp_path, tmp_path, f"{bucket}/archive"))
    assert (other.code, len(other.faults)) == (1, 1)
    assert "not empty and not an archive" in other.err
    monkeypatch.setitem(sys.modules, "obstore", None)
    without = deblur("status", f"{bucket}/archive")
    assert (without.code, "pip install 'deblur[objects]'" in without.err) == (2, True)


RUN = """
import sys
from pathlib import Path
from deblur import job
from deblur.config import load_job
job.run(load_job(Path(sys.argv[1])))
"""


def records(archive: ObjectPlace) -> int:
    return sum(one.read_bytes().count(b"\n") for one, _ in archive.walk() if "/provenance/units/" in one.key)


@pytest.mark.slow
def test_a_killed_run_with_workers_resumes_with_the_same_bits(
    finished: Path, tmp_path: Path, bucket: str
) -> None:
    archive = place(f"{bucket}/archive")
    assert isinstance(archive, ObjectPlace)
    job = on(tmp_path, finished, str(archive), kind="local")
    job.write_text(job.read_text().replace("frames = 2", "frames = 1"))
    process = subprocess.Popen([sys.executable, "-c", RUN, str(job)], start_new_session=True)
    deadline = time.monotonic() + 120
    while records(archive) < 3 and process.poll() is None:
        assert time.monotonic() < deadline, "the run never got going"
        time.sleep(0.05)  # waiting for another process, which tells of its progress in objects only
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    survived = records(archive)

    (resumed,) = work.run(load_job(job))
    assert resumed.published
    assert resumed.plan is not None
    assert resumed.computed <= resumed.plan.cost.units - survived + 1
    calm = tmp_path / "calm.toml"
    calm.write_text(job.read_text().replace(str(archive), "calm").replace('"local"', '"serial"'))
    (undisturbed,) = work.run(load_job(calm))
    assert undisturbed.published
    assert_same(published(tmp_path / "calm"), published(str(archive)))
    assert list(find_damage(Archive.open(archive))) == []
