"""A night's work without an orchestrator: what it finds, leaves, remembers, and when it stops."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deblur import crew as workers
from deblur import night
from deblur.catalog import Catalog, cache_folder
from deblur.config import Cluster, JobConfig, load_job, parse_job, with_settings
from deblur.crew import Crew
from deblur.errors import ConfigError, ReadError
from deblur.store import Archive, find_sequence
from deblur.versions import retract
from tests.small import JOB, write_frames

LONG_AGO, NOW = 1.6e9, 1.7e9


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    """A watched place with two sequences, the second newer."""
    text = JOB.format(path="x", fraction=0.75, kind="serial", extra="", source='pattern = "*"\nquiet = 60\n')
    (tmp_path / "job.toml").write_text(text.replace("[[sources]]", "[[watch]]").replace('"x"', '"north"'))
    for age, name in enumerate(("old", "new")):
        write_frames(tmp_path / "north" / name)
        touch(tmp_path / "north" / name, LONG_AGO + age)
    return load_job(tmp_path / "job.toml")


def touch(folder: Path, at: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (at, at))


def whole_night(job: JobConfig, **told: Any) -> list[Any]:
    found = night.find(job, now=NOW)
    return [o for batch in night.batches(found.todo) for o in night.work_on(job, batch, **told)]


def test_newest_first_then_nothing(job: JobConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = night.find(job, now=NOW)
    assert [Path(a.source.path).name for a in found.todo] == ["new", "old"]
    outcomes = whole_night(job)
    assert [(o.sequence.id, o.published) for o in outcomes] == [("north-new", True), ("north-old", True)]
    catalog = Catalog(Archive.open(job.archive))
    assert catalog.ids(where="state = 'published'") == ("north-new", "north-old")

    def fail(*_: Any) -> None:
        raise AssertionError("a night with nothing new opens no source")

    with monkeypatch.context() as patch:
        patch.setattr("deblur.ingest.open_source", fail)
        found = night.find(job, now=NOW)
        assert (found.todo, found.unchanged, found.written) == ((), 2, ())
    assert len(night.find(with_settings(job, {"restore.iterations": 3}), now=NOW).todo) == 2
    store = find_sequence(f"{job.archive}/north-old")
    retract(store, store.run(str(store.current())), reason="x")
    (again,) = whole_night(job)  # looked at, and left as the person wants it
    assert "retracted" in again.kept
    assert night.find(job, now=NOW).todo == ()
    for path in cache_folder().glob("*.settled.json"):
        path.write_text("{")
    assert len(night.find(job, now=NOW).todo) == 2


def test_what_is_still_written_waits_for_the_next_night(job: JobConfig, tmp_path: Path) -> None:
    touch(tmp_path / "north" / "new", NOW - 10)
    (tmp_path / "north" / ".hidden").mkdir()
    found = night.find(job, now=NOW)
    assert [Path(a.source.path).name for a in found.todo] == ["old"]
    assert [Path(path).name for path in found.written] == ["new"]
    assert len(night.find(job, now=NOW + 60).todo) == 2


def test_a_broken_sequence_does_not_stop_the_others_and_is_tried_again(
    job: JobConfig, tmp_path: Path
) -> None:
    for path in (tmp_path / "north" / "new").iterdir():
        path.write_bytes(b"nonsense")
    touch(tmp_path / "north" / "new", LONG_AGO + 9)
    broken, good = whole_night(job)
    assert (broken.published, good.published) == (False, True)
    assert len(broken.faults()) == 1
    assert [Path(a.source.path).name for a in night.find(job, now=NOW).todo] == ["new"]


def test_places_with_sequences_of_one_name_do_not_mix(job: JobConfig, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "north", tmp_path / "south")
    south = job.watch[0].model_copy(update={"path": str(tmp_path / "south"), "camera": "s1"})
    both = job.model_copy(update={"watch": (*job.watch, south)})
    assert {a.source.id for a in night.find(both, now=NOW).todo} == {
        "north-new", "north-old", "s1-new", "s1-old",
    }  # fmt: skip
    gone = job.watch[0].model_copy(update={"path": str(tmp_path / "west")})
    with pytest.raises(ReadError, match="which is watched, is no folder"):
        night.find(job.model_copy(update={"watch": (gone,)}))


def test_it_stops_in_time_and_goes_on(job: JobConfig) -> None:
    asked = 0

    def over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    first, second = whole_night(job, stop=over)
    assert "stopped in time with 1 motion units left" in first.stopped
    assert (first.published, first.computed, first.faults()) == (False, 3, [])
    assert second.stopped
    assert second.computed == 0
    assert len(night.find(job, now=NOW).todo) == 2
    first, second = whole_night(job)
    assert (first.computed, second.computed) == (5, 8)
    assert first.published
    assert second.published


def test_deadlines_and_batches() -> None:
    noon = datetime(2026, 5, 1, 12, 0)
    assert night.deadline("12:30", now=noon) == datetime(2026, 5, 1, 12, 30).timestamp()
    assert night.deadline("12:00", now=noon) == datetime(2026, 5, 2, 12, 0).timestamp()
    assert night.deadline("") is None
    for wrong in ("25:00", "six", "6"):
        with pytest.raises(ConfigError, match="no time of day"):
            night.deadline(wrong)
    for count in (0, 1, 199, 200, 201, 1000, 12345):
        made = night.batches(range(count))  # type: ignore[arg-type]
        assert len(made) <= 200
        assert [x for batch in made for x in batch] == list(range(count))


def test_nights_are_recorded_and_dead_ones_found(tmp_path: Path) -> None:
    Archive.create(tmp_path)
    with night.recorded(tmp_path, flow_run="f") as record:
        record.told["published"] = 3
        assert night.dead_nights(tmp_path) == []  # this one lives
    with pytest.raises(KeyError), night.recorded(tmp_path):
        raise KeyError("x")
    states = [json.loads(path.read_text())["state"] for path in (tmp_path / "nights").iterdir()]
    assert sorted(states) == ["done", "failed"]
    path = tmp_path / "nights" / "20200101T000000-dead.json"
    told = json.loads(next((tmp_path / "nights").iterdir()).read_text()) | {"id": path.stem, "ended": None}
    told["owner"]["started"] = "1"  # a process of this number, but an earlier one
    path.write_text(json.dumps(told | {"state": "running"}))
    (dead,) = night.dead_nights(tmp_path)
    assert dead.state == "crashed"
    assert night.dead_nights(tmp_path) == []


def test_a_crew_is_started_anew_where_units_grow_too_large_for_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []

    @contextmanager
    def connected(cluster: Cluster, *, memory: int, need: int) -> Iterator[None]:
        begun.append(need)
        yield None

    monkeypatch.setattr(workers, "connect", connected)
    monkeypatch.setattr(workers, "fitting_workers", lambda need: 8 // need)
    job = parse_job({"archive": "a", "sources": [{"path": "x"}]})
    with Crew(job) as crew:
        for need in (2, 1, 2, 4, 3):
            with crew.share(need):
                pass
    assert begun == [2, 4]
    with Crew(with_settings(job, {"cluster.workers": 2})) as crew:
        for need in (2, 4):
            with crew.share(need):
                pass
    assert begun == [2, 4, 2]
