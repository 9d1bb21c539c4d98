"""Whatever file of a run is damaged or gone, it comes back with the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from deblur import integrity
from deblur import job as work
from deblur.config import Cluster, load_job, with_settings
from deblur.damage import find_damage
from deblur.errors import StoreError
from deblur.evidence import keep_copy
from deblur.provenance import survey_of
from deblur.store import Archive, RunStore, SequenceStore, find_run
from deblur.store.durable import write_json
from deblur.store.owner import Owner
from tests.small import Command
from tests.test_integrity import bytes_of, flip


def opened(place: Path) -> tuple[Archive, SequenceStore, RunStore]:
    return Archive.open(place), *find_run(f"{place}/frames")


def kinds(run: RunStore) -> dict[str, Path]:
    """One file of every kind that a run has: {kind: its path}. Shards are of a kind by their array."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in run.path.rglob("*") if path.is_file()):
        key = path.relative_to(run.path).as_posix()
        array, shard, _ = key.partition("/c/")
        found[f"shard of {array}" if shard else "ledger" if key.endswith(".jsonl") else key] = path
    return found


def damage(path: Path, how: str) -> None:
    flip(path) if how == "flip" else path.unlink()


def repaired(archive: Archive) -> list[str]:
    found = list(find_damage(archive))
    assert found
    return [str(left) for left in integrity.repair(archive, found)]


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_damage_to_every_kind_of_file_at_once(place: Path, how: str) -> None:
    archive, _, run = opened(place)
    before, digest = bytes_of(place), run.digest()
    every = kinds(run)
    assert {"zarr.json", "motion/zarr.json", "0/zarr.json", "quality/weight/zarr.json", "ledger"} < set(every)
    assert {"ro-crate-metadata.json", "sealed.json", "shard of motion/forward", "shard of 0"} < set(every)
    for path in every.values():
        damage(path, how)
    assert repaired(archive) == []
    assert bytes_of(place) == before
    assert find_run(f"{place}/frames")[1].digest() == digest
    assert list(find_damage(archive)) == []


def test_each_record_alone_is_named_and_comes_back(place: Path) -> None:
    archive, sequence, run = opened(place)
    before = bytes_of(place)
    for kind, path in kinds(run).items():
        if kind.startswith("shard"):
            continue
        flip(path)
        found = list(find_damage(archive, sample=integrity.LITTLE))
        assert path.relative_to(run.path).as_posix() in {d.problem.shard for d in found}, kind
        assert integrity.repair(archive, found) == [], kind
        assert bytes_of(place) == before, kind
    for path in sorted((sequence.path / "evidence" / run.id).rglob("*.json*")):  # the copies themselves
        flip(path)
        assert repaired(archive) == [], path
        assert bytes_of(place) == before, path


def test_a_run_that_is_gone_is_computed_again(place: Path) -> None:
    archive, _, run = opened(place)
    before = bytes_of(place)
    shutil.rmtree(run.path)
    assert repaired(archive) == []
    assert bytes_of(place) == before


def test_without_a_copy_the_layout_comes_from_the_run_itself(place: Path) -> None:
    archive, sequence, run = opened(place)
    shutil.rmtree(sequence.path / "evidence")  # as runs of earlier versions are
    before = bytes_of(place)
    for name in ("motion/zarr.json", "0/zarr.json", "quality/weight/zarr.json"):
        (run.path / name).unlink()
    assert repaired(archive) == []
    assert bytes_of(place) == before
    (run.path / "sealed.json").write_text("{")
    (left,) = repaired(archive)
    assert "sealed.json" in left


def test_where_both_copies_are_damaged_it_says_so(place: Path) -> None:
    archive, sequence, run = opened(place)
    for folder in (run.path, sequence.path / "evidence" / run.id):
        flip(folder / "provenance" / "environment.json")
    assert any("environment.json of run" in left for left in repaired(archive))
    sums = sequence.path / "evidence" / run.id / "sums.json"
    sums.write_text(json.dumps(json.loads(sums.read_text()) | {"sha256": "0" * 64}))
    (run.path / "provenance" / "environment.json").write_text("{}")
    assert any("compare them by hand" in left for left in repaired(archive))


def test_a_repair_by_a_jobs_profile(
    finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch, deblur: Command
) -> None:
    _, _, run = opened(place)
    before, asked = bytes_of(place), list[int]()

    @contextmanager
    def connected(cluster: Cluster, *, memory: int, need: int) -> Iterator[None]:
        asked.append(need)
        yield None

    monkeypatch.setattr("deblur.crew.connect", connected)
    for path in (run.path / "zarr.json", run.path / "motion/forward/c/0/0/0/0", run.path / "0/c/1/0/0/0"):
        path.unlink()
    said = deblur("verify", place, "--repair", "--job", finished / "job.toml")
    assert (said.code, said.faults) == (0, [])
    assert len(asked) == 1  # started when needed, and once
    assert asked[0] > 2**20  # the units' own peak
    assert bytes_of(place) == before


@pytest.mark.slow
def test_a_repair_on_a_cluster_has_the_same_bits(place: Path) -> None:
    from deblur.config import parse_job
    from deblur.night import Crew

    archive, _, run = opened(place)
    before = bytes_of(place)
    for path in sorted(run.path.rglob("c/*/*")):
        shutil.rmtree(path)
    job = parse_job({"archive": str(place), "sources": [{"path": "x"}]})
    job = job.model_copy(update={"cluster": Cluster(kind="local", workers=2)})
    with Crew(job) as crew:
        assert integrity.repair(archive, list(find_damage(archive)), connection=crew.share) == []
    assert bytes_of(place) == before


RECORDS = (
    *("current.json", "current.copy.json", "survey/zarr.json", "survey/forward/c/0/0/0/0", "survey"),
    *(f"source.ome.zarr/{name}" for name in ("zarr.json", "0/zarr.json", "frames.jsonl", "shards.sha256")),
    *("evidence/source/frames.jsonl", "evidence/source/sums.json"),
)


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_what_no_run_holds_comes_back(place: Path, how: str) -> None:
    """Survey, publication with its history, what the source says of itself: each alone, and then all that can at once."""
    archive, sequence, run = opened(place)
    before = bytes_of(place)

    def hurt(name: str) -> None:
        path = sequence.path / name
        shutil.rmtree(path) if path.is_dir() else damage(path, how)

    for name in (*RECORDS, f"evidence/{run.id}/sums.json"):
        hurt(name)
        assert repaired(archive) == [], name
        assert bytes_of(place) == before, name
    for name in ("current.json", "survey", "source.ome.zarr/frames.jsonl", "source.ome.zarr/zarr.json"):
        hurt(name)
    for path in kinds(run).values():
        damage(path, how)
    assert repaired(archive) == []
    assert bytes_of(place) == before


def test_a_run_is_repaired_after_the_survey_was_made_otherwise(finished: Path, place: Path) -> None:
    """Its survey is made again meanwhile; the later run's is back afterwards."""
    archive, sequence, run = opened(place)
    first = bytes_of(run.path)
    job = load_job(finished / "job.toml").model_copy(update={"archive": str(place)})
    (outcome,) = work.run(with_settings(job, {"motion.method": "accurate"}))
    assert outcome.published
    assert sequence.survey_digest() != survey_of(run)
    before = bytes_of(place)
    for path in sorted(run.path.rglob("c/*/*")):
        shutil.rmtree(path)
    assert repaired(archive) == []
    assert bytes_of(run.path) == first
    assert bytes_of(place) == before


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_what_makes_a_folder_an_archive_comes_back(place: Path, deblur: Command, how: str) -> None:
    before = bytes_of(place)
    for name in ("archive.json", "archive.copy.json"):
        damage(place / name, how)
        (fault,) = deblur("verify", place).faults
        assert name in fault
        assert "1 repaired" in deblur("verify", place, "--repair").out
        assert bytes_of(place) == before
    damage(place / "archive.json", how)
    (fault,) = deblur("status", place).faults
    assert f"`deblur verify {place} --repair`" in fault
    with pytest.raises(StoreError, match="--repair"):
        Archive.create(place)
    damage(place / "archive.copy.json", how)
    assert deblur("verify", place, "--repair").code == 1


def test_a_publication_without_a_copy_says_so(place: Path) -> None:
    archive, sequence, _ = opened(place)
    (sequence.path / "current.copy.json").unlink()  # as earlier versions left it
    flip(sequence.path / "current.json")
    (left,) = repaired(archive)
    assert "current.json" in left


def test_a_run_that_waits_for_a_person_is_no_damage(place: Path) -> None:
    archive, sequence, run = opened(place)
    for name in ("current.json", "current.copy.json"):
        (sequence.path / name).unlink()
    (run.path / "sealed.json").unlink()
    shutil.rmtree(sequence.path / "evidence")
    keep_copy(sequence, run)
    assert list(find_damage(archive)) == []
    sequence.keep_publication()  # as an earlier version did
    assert list(find_damage(archive)) == []


def test_what_is_damaged_already_is_not_kept(place: Path) -> None:
    _, sequence, run = opened(place)
    shutil.rmtree(sequence.path / "evidence" / "source")
    flip(sequence.path / "source.ome.zarr" / "frames.jsonl")
    keep_copy(sequence, run)
    assert not (sequence.path / "evidence" / "source").exists()


@pytest.mark.parametrize("left", [".survey.x.repair", ".survey.x.draft"])
def test_who_died_as_he_replaced_the_survey_did_no_damage(finished: Path, place: Path, left: str) -> None:
    archive, sequence, run = opened(place)
    before = bytes_of(place)
    sequence.survey_path.rename(sequence.path / left)
    if left.endswith("draft"):
        owner = asdict(Owner.here()) | {"pid": 0, "started": "long ago"}
        write_json(sequence.path / left / "draft.json", {"told": {}, "arrays": [], "owner": owner})
    assert list(find_damage(archive)) == []
    shard = run.path / "0/c/0/0/0/0"
    flip(shard)
    assert repaired(archive) == []
    job = load_job(finished / "job.toml").model_copy(update={"archive": str(place)})
    (outcome,) = work.run(job)
    assert outcome.published
    with sequence.lease().held():
        sequence.sweep()
    assert bytes_of(place) == before
