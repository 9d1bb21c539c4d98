"""An archive in an object store: the same bits, the same records, and what object stores do otherwise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deblur.errors import LeaseError, StoreError
from deblur.place import ObjectPlace, place
from deblur.store import (
    Archive,
    Lease,
    Ledger,
    RunStore,
    SequenceStore,
    SourceStore,
    publish_run,
    verify_run,
    verify_source,
)
from deblur.store import ledger as ledger_module
from deblur.tiling import Box

from .stores import CHUNK, SPEC, fill, header, infos, ingest, pixels


def empty(address: str) -> ObjectPlace:
    """A prefix with nothing in it; its name has a part that a shard's key has too."""
    found = place(f"{address}/c/archive")
    assert isinstance(found, ObjectPlace)
    found.delete_tree()
    return found


@pytest.fixture
def memory() -> ObjectPlace:
    """In a store of this process."""
    pytest.importorskip("obstore", reason="deblur[objects] is not installed")
    return empty("memory://bucket")


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest) -> ObjectPlace:
    """In that, and on a server."""
    return (
        empty(request.getfixturevalue("bucket"))
        if request.param == "s3"
        else request.getfixturevalue("memory")
    )


def test_a_source_is_the_same_as_on_a_disk(folder: ObjectPlace, tmp_path: Path) -> None:
    archive = Archive.create(folder)
    assert Archive.create(folder).id == archive.id == Archive.open(str(folder)).id
    there, here = (
        ingest(archive.sequence("clip"), pixels()),
        ingest(Archive.create(tmp_path / "a").sequence("clip"), pixels()),
    )
    assert there.digest == here.digest
    assert (there.path / "zarr.json").read_bytes() == (here.path / "zarr.json").read_bytes()
    np.testing.assert_array_equal(there.read(0, 3), pixels())
    box = Box(3, 36, 20, 51)
    np.testing.assert_array_equal(there.read(1, 2, box), here.read(1, 2, box))
    assert verify_source(there) == ()
    assert archive.sequences() == ("clip",)
    with pytest.raises(StoreError, match="ingested already"):
        ingest(archive.sequence("clip"), pixels())


def test_a_run_is_the_same_as_on_a_disk(memory: ObjectPlace, tmp_path: Path) -> None:
    runs = [RunStore.create(top / "r.ome.zarr", SPEC) for top in (memory, tmp_path)]
    for run in runs:
        fill(run, pixels())
        assert verify_run(run) == ()
    there, here = runs
    assert there.ledger().shards() == here.ledger().shards()
    assert there.digest() == here.digest()
    for name in SPEC.arrays():
        np.testing.assert_array_equal(there.read(name, 0, 3), here.read(name, 0, 3))
    assert RunStore.create(there.path, SPEC).spec == SPEC  # resumed


def test_damage_is_found_when_read_and_by_verify(memory: ObjectPlace) -> None:
    run = RunStore.create(memory / "r.ome.zarr", SPEC)
    fill(run, pixels())
    run.read("0", 0, 3)
    gone, cut, changed = "0/c/0/0/0/0", "quality/weight/c/0/0/0", "motion/forward/c/0/0/0/0"
    (run.path / gone).unlink()
    data = (run.path / cut).read_bytes()
    (run.path / cut).write_bytes(data[:-9])
    data = bytearray((run.path / changed).read_bytes())
    data[7] ^= 1
    (run.path / changed).write_bytes(bytes(data))
    for name, told in (("0", "missing"), ("quality/weight", "checksum"), ("motion/forward", "damaged")):
        with pytest.raises(StoreError, match=told):
            run.read(name, 0, 1)
        with pytest.raises(StoreError, match=told):
            RunStore(run.path).read(name, 0, 3)
    found = {problem.shard: problem.kind for problem in verify_run(run)}
    assert found == {gone: "missing", cut: "changed", changed: "changed"}
    fill(run, pixels(), writer="again")
    assert verify_run(run) == ()


def test_a_source_is_not_there_before_its_last_object(memory: ObjectPlace) -> None:
    sequence = SequenceStore(memory / "clip")
    with SourceStore.create(sequence.source.path, header(), infos(), chunk=CHUNK) as writer:
        writer.write(0, pixels())
        assert not sequence.source.exists
        with pytest.raises(LeaseError):  # the other shows life, so this one leaves
            Lease(sequence.path, sleep=lambda _: writer._lease.renew()).acquire()
    assert not sequence.source.exists
    assert list(sequence.source.path.walk()) == []
    assert ingest(sequence, pixels()).exists


def test_what_a_killed_creation_left_is_no_run_and_goes(memory: ObjectPlace) -> None:
    run = RunStore.create(memory / "r.ome.zarr", SPEC)
    fill(run, pixels())
    (run.path / "zarr.json").unlink()  # so far a removal or a creation came
    assert not run.exists
    fresh = RunStore.create(run.path, SPEC)
    assert fresh.ledger().finished() == {}


def test_the_ledger_is_durable_after_every_record(
    folder: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "FULL", 300)
    book = Ledger(folder / "units", writer="w")
    for n in range(12):
        book.append({"key": f"unit {n}", "shards": {f"0/c/{n}": "00"}})
        assert sorted(Ledger(folder / "units").finished()) == sorted(f"unit {k}" for k in range(n + 1))
    again = Ledger(folder / "units", writer="w")
    again.append({"key": "unit 12"})
    sizes = [stat.st_size for _, stat in folder.walk()]
    assert len(sizes) > 3
    assert max(sizes) < 600
    index = again.index()
    assert len(index) == 13
    assert index.record("unit 7")["shards"] == {"0/c/7": "00"}


def test_of_two_who_want_the_lease_one_gets_it(folder: ObjectPlace) -> None:
    leases = [Lease(folder / "clip") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:  # all of them saw it free
        won = list(pool.map(lambda lease: lease._claim(1), leases))
    assert won.count(True) == 1
    holder = leases[won.index(True)]
    holder.renew()
    with pytest.raises(LeaseError, match="wait"):
        Lease(folder / "clip", sleep=lambda _: holder.renew()).acquire()


def test_a_publication_that_changed_meanwhile_is_not_overwritten(
    memory: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = SequenceStore(memory / "clip")
    ingest(sequence, pixels())
    first, second = (sequence.create_run(name, SPEC) for name in ("first", "second"))
    for run in (first, second):
        fill(run, pixels())
    with sequence.lease().held() as lease:
        token = lease.token or 0
        publish_run(sequence, first, token)
        seen = sequence.publication()
        publish_run(sequence, second, token)
        with monkeypatch.context() as slow:
            slow.setattr(SequenceStore, "publication", lambda _: seen)  # as somebody slow saw it
            with pytest.raises(LeaseError, match="somebody else meanwhile"):
                publish_run(sequence, second, token, action="promote")
    assert sequence.current() == "second"


def test_survey(folder: ObjectPlace) -> None:
    store = SequenceStore(folder / "clip")
    assert not store.has_survey()
    layout = {"noise": ((6,), "float32", 4)}
    values = np.arange(6, dtype=np.float32)
    for key, scale in (("first", 1), ("second", 2)):
        draft = store.draft_survey(key, {}, layout)
        draft.write("noise", 0, scale * values[:4])
        assert (draft.has("noise", 0, 4), draft.has("noise", 4, 6)) == (True, False)
        draft = store.draft_survey(key, {}, layout)  # another process goes on with it
        draft.write("noise", 4, scale * values[4:])
        draft.finish(store.survey_path, {"n": scale}, key)
        assert not draft.path.is_dir()
    np.testing.assert_array_equal(store.survey_part("noise", 2, 5), 2 * values[2:5])
    assert (store.survey_attrs(), store.survey_digest()) == ({"n": 2}, "second")
    store.check_survey()
    (store.survey_path / "noise/c/0").unlink()
    with pytest.raises(StoreError, match="missing"):
        store.check_survey()
