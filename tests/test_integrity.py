"""Damage is found, and repaired with the same bits by computing nothing but what is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import deblur.execute
from deblur import integrity
from deblur import job as work
from deblur.config import load_job
from deblur.damage import find_damage
from deblur.store import Archive, Sample, find_run, verify_run
from deblur.store.ledger import Ledger
from deblur.unit import Task, run_unit
from tests.small import Command, tree, write_job


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The units that are computed."""
    seen: list[Task] = []

    def watched(task: Task) -> dict[str, Any]:
        seen.append(task)
        return run_unit(task)

    real = deblur.execute.run_tasks
    monkeypatch.setattr(
        integrity, "run_tasks", lambda tasks, client, done, need: real(tasks, done=done, work=watched)
    )
    return seen


def bytes_of(place: Path) -> dict[str, str]:
    return {name: digest for name, digest in tree(place).items() if "lease" not in name}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "motion": (["motion/forward/c/1/0/0/1"], {("motion", 2)}),
    "pixels": (["0/c/0/0/0/0", "quality/weight/c/0/0/0"], {("restore", 0)}),
    "both": (["motion/backward/c/0/0/0/1", "0/c/1/0/0/1"], {("motion", 0), ("restore", 2)}),
    "pyramid": (["1/c/0/0/0/0"], {("restore", 0)}),
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("how", ["flip", "delete"])
def test_a_repair_computes_what_is_damaged_and_ends_bit_identical(
    place: Path, deblur: Command, computed: list[Task], kind: str, how: str
) -> None:
    shards, units = DAMAGES[kind]
    before = bytes_of(place)
    run = find_run(f"{place}/frames")[1]
    for shard in shards:
        flip(run.path / shard) if how == "flip" else (run.path / shard).unlink()
    said = deblur("verify", place)
    assert (said.code, len(said.faults)) == (1, len(shards))
    assert bytes_of(place) != before
    mended = deblur("verify", place, "--repair")
    assert (mended.code, mended.faults) == (0, [])
    assert f"{len(shards)} repaired" in mended.out
    assert {(task.unit.stage, task.unit.t0) for task in computed} == units
    assert len(computed) == len(units)
    assert bytes_of(place) == before
    assert deblur("verify", place).code == 0


def test_the_level_that_no_unit_writes_is_repaired(place: Path, computed: list[Task]) -> None:
    run = find_run(f"{place}/frames")[1]
    assert run.spec.levels > run.spec.unit_levels
    before = bytes_of(place)
    flip(run.path / f"{run.spec.levels - 1}/c/0/0/0/0")
    archive = Archive.open(place)
    damages = list(find_damage(archive))
    assert len(damages) == 1
    assert integrity.repair(archive, damages) == []
    assert bytes_of(place) == before
    assert computed == []


def test_a_damaged_source_comes_back_from_its_originals(place: Path, deblur: Command) -> None:
    before = bytes_of(place)
    source = place / "sequences" / "frames" / "source.ome.zarr"
    flip(source / "0/c/0/0/0/1")
    (source / "0/c/1/0/0/0").unlink()
    mended = deblur("verify", place, "--repair", "--json")
    assert (mended.code, json.loads(mended.out)) == (0, [])
    assert bytes_of(place) == before


def test_what_can_not_be_repaired_says_why(place: Path, tmp_path: Path, deblur: Command) -> None:
    source = place / "sequences" / "frames" / "source.ome.zarr"
    shutil.rmtree(place / "sequences" / "frames" / "evidence" / "source")
    group = json.loads((source / "zarr.json").read_text())
    told = group["attributes"]["deblur"]["header"]["metadata"]["deblur"]["source"]
    told["path"] = str(tmp_path / "gone")
    flip(source / "0/c/0/0/0/0")
    run = find_run(f"{place}/frames")[1]
    flip(run.path / "0/c/0/0/0/0")  # reads the frame that is damaged
    (source / "zarr.json").write_text(json.dumps(group))
    said = deblur("verify", place, "--repair")
    assert said.code == 1
    assert "source.ome.zarr is damaged: restore it from a copy" in said.faults[0]
    assert "not repaired: a unit can't be computed again" in said.faults[1]


def test_a_run_of_other_numerics_is_not_repaired(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_run(f"{place}/frames")[1]
    flip(run.path / "0/c/0/0/0/0")
    archive = Archive.open(place)
    damages = list(find_damage(archive))
    monkeypatch.setattr("deblur.window.NUMERICS_VERSION", 99)
    (left,) = integrity.repair(archive, damages)
    assert "earlier version of the numerics: reprocess" in str(left)
    monkeypatch.undo()
    real = integrity._computed

    def otherwise(*arguments: Any) -> dict[str, str]:
        return dict.fromkeys(real(*arguments), "0" * 64)

    monkeypatch.setattr(integrity, "_computed", otherwise)
    (left,) = integrity.repair(archive, damages)
    assert "it came out otherwise" in str(left)
    assert len(verify_run(run)) == 1  # left as it was found


def test_originals_that_changed_are_told(
    finished: Path, place: Path, tmp_path: Path, deblur: Command
) -> None:
    assert deblur("verify", place, "--originals").code == 0
    other = shutil.copytree(finished, tmp_path / "other")
    shutil.rmtree(other / "archive")
    work.run(load_job(write_job(other)))
    flip(other / "frames" / "0002.png")
    (other / "frames" / "0001.png").unlink()  # gone: nobody promised to keep it
    said = deblur("verify", other / "archive", "--originals", "--repair")
    assert said.code == 1
    assert len(said.faults) == 1
    assert "0002.png is not what was ingested" in said.faults[0]


def test_a_run_beside_another_source_is_told(place: Path) -> None:
    run = find_run(f"{place}/frames")[1]
    crate = run.path / "ro-crate-metadata.json"
    crate.write_text(
        crate.read_text().replace(Archive.open(place).sequence("frames").source.digest, "0" * 64)
    )
    said = [str(damage) for damage in find_damage(Archive.open(place))]
    assert "is not what was written" in said[0]
    assert "made from another source" in said[1]


def _chosen(sample: Sample, keys: list[str]) -> frozenset[str]:
    return frozenset(filter(sample.of(keys), keys))


def test_samples_read_some_and_in_the_end_all(place: Path, deblur: Command) -> None:
    keys = [f"0/c/{k}/0/0/0" for k in range(400)]
    few = _chosen(Sample(0.05, 1), keys)
    assert 5 < len(few) < 40
    assert few == _chosen(Sample(0.05, 1), keys[::-1])
    assert few != _chosen(Sample(0.05, 2), keys)
    assert len(frozenset().union(*(_chosen(Sample(0.05, seed), keys) for seed in range(200)))) == 400
    assert len(_chosen(Sample(0.0001, 3), keys)) == 1
    run = find_run(f"{place}/frames")[1]
    (run.path / "0/c/0/0/0/0").unlink()  # seen without reading
    assert deblur("verify", place, "--sample", "1%", "--seed", "1").code == 1
    for wrong in ("0", "lots", "120%"):
        assert deblur("verify", place, "--sample", wrong).code == 2


def test_metadata_that_others_could_not_read_is_found(place: Path) -> None:
    pytest.importorskip("ome_zarr_models")
    run = find_run(f"{place}/frames")[1]
    group = json.loads((run.path / "zarr.json").read_text())
    group["attributes"]["ome"]["multiscales"][0]["axes"][0]["type"] = "weather"
    group["attributes"]["ome"]["multiscales"][0]["axes"].pop()
    (run.path / "zarr.json").write_text(json.dumps(group))
    assert any("not valid OME-Zarr" in str(damage) for damage in find_damage(Archive.open(place)))


def test_what_was_left_by_a_repair_that_was_killed_is_no_run(place: Path) -> None:
    sequence = Archive.open(place).sequence("frames")
    run = find_run(f"{place}/frames")[1]
    sequence.create_run("_repair-x", run.spec)
    assert sequence.runs() == (run.id,)
    assert isinstance(run.ledger(), Ledger)
