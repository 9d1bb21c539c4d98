"""The archive folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from deblur.errors import StoreError
from deblur.store import Archive

from .stores import SPEC, ingest, pixels, sequence_at


def test_it_keeps_its_id(tmp_path: Path) -> None:
    made = Archive.create(tmp_path / "a" / "b")
    assert Archive.create(tmp_path / "a" / "b").id == Archive.open(tmp_path / "a" / "b").id == made.id
    assert pickle.loads(pickle.dumps(made)).id == made.id
    assert made.sequences() == ()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(StoreError, match="not empty"):
        Archive.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    with pytest.raises(StoreError, match="no archive"):
        Archive.open(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    Archive.create(tmp_path)
    (tmp_path / "archive.json").write_text('{"format": 2, "id": "x"}')
    for refused in (Archive.open, Archive.create, lambda path: Archive.at(path).mend()):
        with pytest.raises(StoreError, match="update deblur"):
            refused(tmp_path)


def test_one_of_an_earlier_version_gets_a_second_copy_of_its_id(tmp_path: Path) -> None:
    known = Archive.create(tmp_path).id
    (tmp_path / "archive.copy.json").unlink()
    Archive.create(tmp_path)
    (tmp_path / "archive.json").unlink()
    archive = Archive.at(tmp_path)
    archive.mend()
    assert archive.id == known


def test_sequences_are_those_whose_ingest_finished(tmp_path: Path) -> None:
    sequence_at(tmp_path, name="clip 1")
    archive = Archive.open(tmp_path)
    archive.sequence("begun").path.mkdir()
    (found,) = archive.sequences()
    assert found == archive.id_of("clip 1")
    assert archive.sequence(found).name == "clip 1"


def test_names_that_differ_by_case_only_get_ids_that_do_not(tmp_path: Path) -> None:
    sequence_at(tmp_path, name="clip")
    archive = Archive.open(tmp_path)
    assert archive.id_of("clip") == "clip"
    other = archive.id_of("Clip")
    assert other.lower() != "clip"
    ingest(archive.sequence(other), pixels(1), name="Clip")
    assert archive.sequences() == tuple(sorted(["clip", other]))


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a~b"])
def test_ids_stay_in_the_archive(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="can't be the id"):
        Archive.create(tmp_path).sequence(name)


def test_runs_are_listed_and_named(tmp_path: Path) -> None:
    sequence = sequence_at(tmp_path)
    with pytest.raises(StoreError, match="it has: none"):
        sequence.run("first")
    sequence.create_run("second", SPEC)
    sequence.create_run("first", SPEC)
    assert sequence.runs() == ("first", "second")
    assert pickle.loads(pickle.dumps(sequence)).run("first").spec == SPEC
    with pytest.raises(StoreError, match="can't name a run"):
        sequence.run("../../x")
