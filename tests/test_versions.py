"""Runs are versions: compared, chosen, taken back, let go; readers always see one whole run."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import JobConfig, load_job, with_settings
from deblur.damage import find_damage
from deblur.errors import StoreError
from deblur.explain import explain
from deblur.integrity import repair
from deblur.judge import frame_records, summarise
from deblur.outcome import Outcome
from deblur.store import (
    Archive,
    SequenceStore,
    find_run,
    find_sequence,
    history,
    note_pruned,
    publish_run,
    retracted,
    state_of,
    verify_run,
)
from deblur.store.durable import write_json
from deblur.store.owner import Owner
from deblur.versions import DAY, Policy, compare, most_changed, promote, prunable, prune, retract, rollback
from tests.small import COUNT, Command, write_frames, write_job


def reprocess(job: JobConfig, **settings: object) -> Outcome:
    changed = with_settings(job, {key.replace("__", "."): value for key, value in settings.items()})
    outcomes = work.plan(changed, work.published(changed), action="reprocess")
    computed = work.verify(changed, work.compute(changed, outcomes))
    (outcome,) = work.publish(changed, computed, action="reprocess")
    return outcome


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with two runs, the second a reprocessing that is published. Not to be changed."""
    folder = tmp_path_factory.mktemp("twice")
    write_frames(folder / "frames")
    job = load_job(write_job(folder))
    (first,) = work.run(job)
    assert first.published
    assert reprocess(job, restore__iterations=16).published
    return folder


@pytest.fixture
def folder(twice: Path, tmp_path: Path) -> Path:
    for name in ("frames", "archive"):
        shutil.copytree(twice / name, tmp_path / name)
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def sequence(folder: Path) -> SequenceStore:
    return find_sequence(str(folder / "archive" / "frames"))


def names(sequence: SequenceStore) -> tuple[str, str]:
    """(the first run, the second)."""
    now = str(sequence.current())
    (other,) = set(sequence.runs()) - {now}
    return other, now


def test_a_run_has_three_names(folder: Path, sequence: SequenceStore, deblur: Command) -> None:
    first, second = names(sequence)
    place = folder / "archive"
    assert find_run(f"{place}/frames")[1].id == second
    assert find_run(f"{place}/frames@{first}")[1].id == first
    assert find_run(str(sequence.run_path(first)))[1].id == first
    said = deblur("diff", place / "frames", f"{place}/frames@nothing")
    assert said.code == 1
    assert len(said.faults) == 1
    nowhere = deblur("diff", folder / "frames", place / "frames")
    assert (nowhere.code, len(nowhere.faults)) == (1, 1)
    assert "is no archive" in nowhere.err


def test_a_difference_is_that_of_the_arrays(sequence: SequenceStore) -> None:
    first, second = map(sequence.run, names(sequence))
    found = compare(sequence, first, second)
    a, b = (run.read("0", 0, COUNT).astype(float) for run in (first, second))
    for t, frame in enumerate(found.frames):
        gap = np.abs(a[t] - b[t])
        assert frame.changed == np.mean(gap > 0)
        assert frame.largest == gap.max()
        assert frame.rms == pytest.approx(np.sqrt((gap**2).mean()) / 255)
        assert frame.weight[0] == pytest.approx(first.read("quality/weight", t, t + 1).mean() / 255, abs=1e-4)
        kept = first.read("quality/reason", t, t + 1)
        assert frame.quality[0] == np.mean(kept <= 1)
    assert set(found.parameters) <= {"restore.iterations", "restore_halo"}
    assert found.parameters["restore.iterations"] == (None, 16)
    same = compare(sequence, first, first)
    assert same.parameters == {}
    assert all((frame.changed, frame.largest, frame.rms) == (0, 0, 0) for frame in same.frames)
    t, box, left, right = most_changed(found, first, second, side=32)
    assert found.frames[t].rms == max(frame.rms for frame in found.frames)
    assert np.array_equal(left, a[t][:, *box.slices])
    assert np.array_equal(right, b[t][:, *box.slices])


def test_diff_as_a_command(folder: Path, sequence: SequenceStore, deblur: Command, tmp_path: Path) -> None:
    first, second = names(sequence)
    place, picture = f"{folder}/archive/frames", tmp_path / "diff.png"
    said = deblur("diff", f"{place}@{first}", place, "--picture", picture)
    assert said.code == 0
    assert "restore.iterations: None → 16" in said.out
    assert "0003" in said.out
    from PIL import Image

    with Image.open(picture) as drawn:
        assert drawn.width > 3 * 90
    told = json.loads(deblur("diff", f"{place}@{first}", place, "--json").out)
    assert told["runs"] == [first, second]
    assert len(told["frames"]) == COUNT


def test_promote_retract_rollback(folder: Path, sequence: SequenceStore, deblur: Command) -> None:
    first, second = names(sequence)
    place = f"{folder}/archive/frames"
    assert json.loads(deblur("promote", f"{place}@{first}", "--reason", "nicer", "--json").out) == {
        "sequence": "frames", "published": first, "before": second,
    }  # fmt: skip
    assert [state_of(sequence, sequence.run(run)) for run in (first, second)] == ["published", "superseded"]
    wrong = deblur("retract", f"{place}@{second}", "--reason", "x")
    assert (wrong.code, wrong.faults) == (
        1, [f"deblur: run {second} is not the published one of frames: nothing to retract"],
    )  # fmt: skip
    assert deblur("retract", place, "--reason", "").code == 1
    assert deblur("retract", place).code == 2
    assert deblur("retract", place, "--reason", "ghosts").code == 0
    assert sequence.current() is None
    assert retracted(sequence) == {first: "ghosts"}
    assert deblur("rollback", place).code == 1  # nothing is published
    assert deblur("promote", f"{place}@{second}").code == 0
    assert deblur("promote", f"{place}@{first}").code == 0
    assert deblur("rollback", place, "--reason", "worse").out == (
        f"frames: {second} is published, before: {first}\n"
    )
    assert [entry["action"] for entry in history(sequence)] == [
        "publish", "reprocess", "promote", "retract", "promote", "promote", "rollback",
    ]  # fmt: skip
    again = deblur("rollback", place)
    assert (again.code, len(again.faults)) == (1, 1)  # the earlier one was taken back


def test_a_nightly_job_does_not_undo_a_decision(folder: Path, sequence: SequenceStore) -> None:
    """The job file still asks for the first run; the second was a reprocessing."""
    first, second = names(sequence)
    job = load_job(folder / "job.toml")
    (outcome,) = work.run(job)
    assert (outcome.published, outcome.computed, outcome.faults()) == (False, 0, [])
    assert f"{first} gave way to {second} (reprocess)" in outcome.kept
    assert sequence.current() == second
    rollback(sequence)
    (outcome,) = work.run(job)
    assert (outcome.published, sequence.current()) == (True, first)
    retract(sequence, sequence.run(first), reason="ghosts")
    (outcome,) = work.run(job)
    assert "was retracted (ghosts)" in outcome.kept
    assert "left as it is" in outcome.line()
    assert sequence.current() is None
    assert reprocess(job, restore__iterations=16).kept  # taken back by the rollback
    (outcome,) = work.run(with_settings(job, {"restore.iterations": 17}))
    assert outcome.published  # new: nobody has decided about it


def test_the_gate_lets_a_run_wait_for_a_person(folder: Path, sequence: SequenceStore) -> None:
    second = sequence.current()
    strict = with_settings(load_job(folder / "job.toml"), {"restore.iterations": 18, "publish.quality": 1.0})
    (outcome,) = work.run(strict)
    assert (outcome.published, outcome.faults()) == (False, [])
    assert "is below publish.quality = 1.0" in outcome.waiting
    assert outcome.plan is not None
    waiting = sequence.run(outcome.plan.run)
    assert sequence.current() == second
    assert state_of(sequence, waiting) == "held"
    before = {path: path.stat().st_mtime_ns for path in waiting.path.rglob("*")}
    (again,) = work.run(strict)
    assert (again.computed, again.waiting) == (0, outcome.waiting)
    assert {path: path.stat().st_mtime_ns for path in waiting.path.rglob("*")} == before
    assert list(prunable(Archive.open(folder / "archive"), Policy(0, 0), now=9e9)) != []
    assert waiting.id not in {
        p.run for p in prunable(Archive.open(folder / "archive"), Policy(0, 0), now=9e9)
    }
    promote(sequence, waiting, reason="looked at it")
    assert sequence.current() == waiting.id
    assert waiting.sealed
    (by_hand,) = work.run(with_settings(strict, {"restore.iterations": 19, "publish.by": "person"}))
    assert by_hand.waiting == "publish.by = 'person'"


def test_a_damaged_run_is_not_promoted(folder: Path, sequence: SequenceStore) -> None:
    first, second = names(sequence)
    shard = sequence.run(first).path / "0/c/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match="is damaged"):
        promote(sequence, sequence.run(first))
    with pytest.raises(StoreError, match="is damaged"):
        rollback(sequence)
    assert sequence.current() == second


def test_readers_see_one_whole_run_at_every_instant(sequence: SequenceStore) -> None:
    first, second = names(sequence)
    expected = {run: sequence.run(run).read("0", 0, 1).tobytes() for run in (first, second)}
    seen: set[str] = set()
    done = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not done.is_set():
            run = str(SequenceStore(sequence.path).current())
            seen.add(run)
            if sequence.run(run).read("0", 0, 1).tobytes() != expected.get(run):
                wrong.append(run)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for run in (first, second) * 5:
            promote(sequence, sequence.run(run))
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert seen <= {first, second}


def test_prune_keeps_the_published_run_its_source_and_the_evidence(
    folder: Path, sequence: SequenceStore, deblur: Command
) -> None:
    first, second = names(sequence)
    place = folder / "archive"
    assert (
        json.loads(deblur("prune", place, "--older-than", "0", "--json").out) == []
    )  # one stays to go back to
    assert json.loads(deblur("prune", place, "--keep", "0", "--json").out) == []  # in use until today
    dry = deblur("prune", place, "--keep", "0", "--older-than", "0", "--dry-run")
    assert f"frames {first}: superseded" in dry.out
    assert sequence.runs() == tuple(sorted((first, second)))
    partials = sequence.run_path(first).with_name(f".{sequence.run_path(first).name}.gone")
    partials.mkdir()  # a prune that was killed
    (told,) = json.loads(deblur("prune", place, "--keep", "0", "--older-than", "0", "--json").out)
    assert (told["run"], told["state"]) == (first, "superseded")
    assert told["size"] > 1000
    assert sequence.runs() == (second,)
    assert not partials.exists()
    assert (sequence.path / "pruned" / first / "ro-crate-metadata.json").is_file()
    assert list((sequence.path / "pruned" / first / "provenance" / "units").iterdir())
    assert verify_run(sequence.run(second)) == ()
    assert sequence.current() == second
    assert history(sequence)[-1]["action"] == "prune"
    assert prune(Archive.open(place), Policy(0, 0.0)) == []
    assert list(find_damage(Archive.open(place))) == []  # nobody misses the run
    assert deblur("rollback", place / "frames").code == 1


def test_a_damaged_ledger_of_a_former_run_is_left_as_it_is(sequence: SequenceStore, folder: Path) -> None:
    """A job that comes to that run again neither computes in it nor notes in it that it couldn't; repair mends it."""
    first, second = names(sequence)
    units = sequence.run(first).units_folder
    (ledger,) = units.glob("*.jsonl")
    ledger.write_bytes(ledger.read_bytes().replace(b'"shards"', b'"shards:', 1))
    harmed = ledger.read_bytes()
    outcome = reprocess(load_job(folder / "job.toml"))
    assert "verify --repair" in str(outcome.error)
    assert [path.read_bytes() for path in units.iterdir()] == [harmed]
    assert sequence.current() == second
    archive = Archive.open(folder / "archive")
    assert repair(archive, find_damage(archive)) == []
    assert list(find_damage(archive)) == []


def test_a_damaged_record_that_is_still_json_is_named(sequence: SequenceStore) -> None:
    run = sequence.run(names(sequence)[0])
    (ledger,) = run.units_folder.glob("*.jsonl")
    whole = ledger.read_bytes()
    ledger.write_bytes(whole.replace(b'"reasons"', b'"seasons"', 1))
    looks = [summarise, frame_records, lambda run: explain(sequence, run, frame=0, at=(2, 2))]
    for look in looks:
        with pytest.raises(StoreError, match=f"a record of run {run.id} is damaged"):
            look(run)
    ledger.write_bytes(whole.replace(b'"frame":0', b'"frame":8'))
    with pytest.raises(StoreError, match=f"a record of run {run.id} is damaged"):
        explain(sequence, run, frame=0, at=(2, 2))


def test_prune_where_nothing_was_ever_published(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    (computed,) = work.compute(job, work.plan(job, work.ingest(job)))
    assert computed.sound
    archive = Archive.open(job.archive)
    assert prune(archive, Policy(older_than=0.0)) == []  # it waits for that
    assert len(archive.sequence("frames").runs()) == 1


def test_prune_sweeps_where_no_run_may_go(sequence: SequenceStore, folder: Path) -> None:
    """But not under the hands of somebody at work."""
    run = sequence.run(names(sequence)[0]).path
    left = [place / ".half.partial" for place in (sequence.path / "evidence", run / "provenance", run)]
    left += [
        sequence.survey_path / ".half.partial",
        sequence.path / f".{sequence.source.path.name}.f0.staging",
    ]
    for path in left[:-1]:
        path.write_bytes(b"half a line")
    left[-1].mkdir()
    write_json(left[-1] / "owner.json", asdict(replace(Owner.here(), started="long ago")))
    archive = Archive.open(folder / "archive")
    with sequence.lease().held():
        assert prune(archive, Policy()) == []
        assert all(path.exists() for path in left)
    assert prune(archive, Policy()) == []
    assert not any(path.exists() for path in left)


def test_units_are_carried_from_a_run_that_was_pruned_and_came_back(
    sequence: SequenceStore, folder: Path
) -> None:
    """It has its former name, but a ledger of its own, which a process that works for long must not mistake."""
    job = load_job(folder / "job.toml")
    first, _ = names(sequence)
    promote(sequence, sequence.run(first))
    assert reprocess(job, restore__iterations=24).published  # carried from it
    prune(Archive.open(folder / "archive"), Policy(0, 0.0))
    assert first not in sequence.runs()
    assert reprocess(job).published
    assert sequence.current() == first
    again = reprocess(job, restore__iterations=32)
    assert (again.published, again.faults()) == (True, [])


def test_pruning_another_run_is_no_use_of_this_one(sequence: SequenceStore, folder: Path) -> None:
    """A run went out of use when it was replaced, not when another one was removed long before."""
    first, second = names(sequence)
    promote(sequence, sequence.run(first))
    with sequence.lease().held() as lease:
        token = lease.token or 0
        note_pruned(sequence, "run-of-old", token, clock=lambda: 3e9)
        publish_run(sequence, sequence.run(second), token, action="promote", clock=lambda: 5e9)
    gone = prunable(Archive.open(folder / "archive"), Policy(0, DAY), now=5e9 + 1)
    assert list(gone) == []
