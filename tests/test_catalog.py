"""The catalog: an index that can be thrown away."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deblur.catalog import Catalog, SequenceRow, cache_folder
from deblur.errors import ConfigError
from deblur.store import Archive, RunSpec, SourceStore, publish_run
from deblur.tables import write_table
from deblur.tiling import Box
from deblur.types import FrameInfo, SequenceHeader
from tests.small import command

SPEC = RunSpec((2, 1, 8, 8), "uint8", 2, 8, chunk=8, parameters={"window": 8})


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive.create(tmp_path / "archive")
    for name in ("night 1", "day"):
        add(archive, name)
    return archive


def add(archive: Archive, name: str) -> None:
    sequence = archive.sequence(archive.id_of(name))
    header = SequenceHeader(name, (1, 8, 8), "uint8", ("grey",))
    with SourceStore.create(
        sequence.source.path, header, [FrameInfo("a"), FrameInfo("b")], chunk=8, shard_size=8
    ) as w:
        w.write(0, np.zeros((2, 1, 8, 8), np.uint8))
        w.finish()


def run(archive: Archive, sequence_id: str) -> None:
    sequence = archive.sequence(sequence_id)
    found = sequence.create_run("first", SPEC)
    shards: dict[str, str] = {}
    for name, (grid, dtype, _) in SPEC.arrays().items():
        shards |= found.write(name, 0, Box(0, 8, 0, 8), np.zeros(grid.shape, dtype))
    found.ledger().append({"key": "all", "shards": shards})
    publish_run(sequence, found, sequence.lease().acquire())


def test_it_finds_sequences_and_runs(archive: Archive) -> None:
    run(archive, "day")
    catalog = Catalog(archive)
    day, night = catalog.sequences()
    assert (day.id, day.name, day.frames, day.height, day.dtype, day.current) == (
        "day",
        "day",
        2,
        8,
        "uint8",
        "first",
    )
    assert day.digest == archive.sequence("day").source.digest
    assert night.current == ""
    (found,) = catalog.runs()
    assert (found.sequence, found.id, found.published, found.state) == ("day", "first", True, "published")
    assert found.shards == found.expected > 0
    assert found.parameters == '{"window":8}'


def test_it_searches_names(archive: Archive) -> None:
    catalog = Catalog(archive)
    assert [row.name for row in catalog.sequences(containing="NIGHT")] == ["night 1"]
    assert catalog.sequences(containing="%") == ()
    assert catalog.runs(sequence="day") == ()


def test_rebuilding_gives_the_same(archive: Archive) -> None:
    run(archive, "day")
    catalog = Catalog(archive)
    before = catalog.sequences(), catalog.runs()
    shutil.rmtree(cache_folder())
    assert (Catalog(archive).sequences(), Catalog(archive).runs()) == before
    catalog.rebuild()
    assert (catalog.sequences(), catalog.runs()) == before


def test_an_update_is_as_good_as_a_rebuild(archive: Archive) -> None:
    catalog = Catalog(archive)
    catalog.rebuild()
    add(archive, "dusk")
    run(archive, "day")
    assert len(catalog.sequences()) == 2  # it says what it was told
    catalog.update("dusk")
    catalog.update("day")
    updated = catalog.sequences(), catalog.runs()
    catalog.rebuild()
    assert (catalog.sequences(), catalog.runs()) == updated


def test_a_moved_archive_keeps_its_index(archive: Archive, tmp_path: Path) -> None:
    before = Catalog(archive).sequences()
    moved = archive.path.rename(tmp_path / "elsewhere")
    assert Catalog(Archive.open(moved)).sequences() == before


@pytest.mark.parametrize("damage", [b"", b"not a database", b"SQLite format 3\x00" + bytes(100)])
def test_a_damaged_index_is_rebuilt(archive: Archive, damage: bytes) -> None:
    catalog = Catalog(archive)
    before = catalog.sequences()
    catalog.path.write_bytes(damage)
    assert catalog.sequences() == before


def test_a_damaged_sequence_does_not_hide_the_others(archive: Archive) -> None:
    (archive.sequence("day").source.path / "zarr.json").write_text("{")
    run_path = archive.sequence("day").run_path("broken")
    run_path.mkdir(parents=True)
    catalog = Catalog(archive)
    day, night = catalog.sequences()
    assert "damaged" in day.error
    assert day._replace(error="") == type(day)(id="day")
    assert night.error == ""
    (broken,) = catalog.runs()
    assert "no run" in broken.error


def test_where_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEBLUR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "deblur"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "deblur"


def test_it_finds_by_condition_and_pages(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    run(archive, "day")
    catalog = Catalog(archive)
    assert catalog.ids(where="state = 'published' and frames = 2") == ("day",)
    assert [row.id for row in catalog.sequences(where="state = 'new'")] == [archive.id_of("night 1")]
    assert [row.id for row in catalog.sequences(limit=1)] == ["day"]
    assert catalog.ids() == tuple(row.id for row in catalog.sequences())
    monkeypatch.setattr("deblur.catalog.PAGE", 1)
    assert tuple(catalog.each()) == catalog.sequences()
    assert tuple(catalog.each_run()) == catalog.runs()
    assert list(catalog.each_run(where="state = 'new'")) == []
    assert catalog.count(where="state = 'new'") == 1
    assert catalog.sequences(after="day", where="frames = 2 or frames > 3") == catalog.sequences()[1:]
    assert catalog.ids(where="state in ('new') or ended > 2020-01-01") == catalog.ids()


def test_camera_time_and_metadata_come_from_the_source(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "archive")
    told = {"source": {"path": "/x", "camera": "north", "metadata": {"lens": 35}}, "modified": 12.0}
    for name, first, created in (("a", 1.7e9, None), ("b", 0.04, "2026-01-01T00:00:00Z"), ("c", None, None)):
        sequence = archive.sequence(name)
        header = SequenceHeader(name, (1, 8, 8), "uint8", ("grey",), metadata={"created": created})
        infos = [FrameInfo("0", first), FrameInfo("1")]
        with SourceStore.create(sequence.source.path, header, infos, chunk=8, shard_size=8) as w:
            w.write(0, np.zeros((2, 1, 8, 8), np.uint8))
            w.finish(metadata={"deblur": told})
    rows = Catalog(archive).sequences(where="camera = 'north' and meta.lens = 35")
    assert [row.time for row in rows] == [1.7e9, 1767225600.0, 12.0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_says_what_the_rows_say(archive: Archive, tmp_path: Path, suffix: str) -> None:
    rows = Catalog(archive).sequences()
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    write_table(path, rows, SequenceRow._fields)
    if suffix == ".csv":
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert [one["id"] for one in found] == [row.id for row in rows]
        assert found[0]["digest"] == rows[0].digest
    else:
        found = (
            parquet.read_table(path).to_pylist()
            if suffix == ".parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )
        assert found == [row._asdict() for row in rows]
    with pytest.raises(ConfigError, match=r"\.csv, \.parquet, \.jsonl"):
        write_table(tmp_path / "table.xls", rows, SequenceRow._fields)


def test_list_as_a_command(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deblur = command(capsys)
    said = deblur("list", archive.path, "--where", "frames = 2", "--limit", "1")
    assert "day" in said.out
    assert "1 of 2; --limit shows more, --after day goes on" in said.out
    assert "day" not in deblur("list", archive.path, "--after", "day").out.replace("--after day", "")
    (told, _) = json.loads(deblur("list", archive.path, "--json").out)
    assert (told["id"], told["state"]) == ("day", "new")
    run(archive, "day")
    assert json.loads(deblur("list", archive.path, "--runs", "--json").out) == []  # the index is as it was
    (told,) = json.loads(deblur("list", archive.path, "--runs", "--refresh", "--json").out)
    assert (told["sequence"], told["id"], told["state"]) == ("day", "first", "published")
    assert deblur("list", archive.path, "--output", tmp_path / "t.csv").out.startswith("2 rows")
    wrong = deblur("list", archive.path, "--where", "sharpness > 2")
    assert (wrong.code, len(wrong.faults)) == (2, 1)
