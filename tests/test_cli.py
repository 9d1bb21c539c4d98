"""Every command as people use it: what it prints, where, and the exit code it leaves with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import job as work
from deblur.config import load_job, parse_job
from deblur.io import open_source
from deblur.store import Archive
from tests.small import COUNT, HEIGHT, TILING, WIDTH, Command, write_frames, write_job


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """One's own copy of `finished`, moved: an archive doesn't mind."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def shots(path: Path) -> Any:
    (reader,) = open_source(str(path))
    with reader:
        return np.stack([reader.read(k) for k in range(len(reader.frames))])


@pytest.mark.parametrize(
    "arguments", [["plan"], ["nonsense"], ["plan", "job.toml", "--nonsense"], ["restore", "in"]]
)
def test_wrong_usage_is_2(deblur: Command, arguments: list[str]) -> None:
    said = deblur(*arguments)
    assert said.code == 2
    assert "Usage: deblur" in said.err


def test_init_writes_a_job_that_is_valid_and_never_overwrites(deblur: Command, tmp_path: Path) -> None:
    job = tmp_path / "mine.toml"
    said = deblur("init", job)
    assert said.code == 0
    assert str(job) in said.out
    assert load_job(job).sources[0].path == str(tmp_path / "frames")
    text = job.read_text()
    again = deblur("init", job)
    assert (again.code, again.faults) == (2, [f"deblur: {job} exists already: give another name"])
    assert job.read_text() == text
    nowhere = deblur("init", tmp_path / "no" / "job.toml")
    assert nowhere.code == 2
    assert len(nowhere.faults) == 1


def test_every_key_of_the_template_is_one_that_jobs_know() -> None:
    import tomllib

    from deblur.template import TEMPLATE

    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in TEMPLATE.splitlines()
    ]
    told = tomllib.loads("\n".join(lines))
    assert len(told["sources"][0]) > 5
    # fraction, rate and time at once contradict each other; the template offers them as alternatives
    told["sources"][0].pop("exposure_time")
    parse_job(told)


def test_ingest_then_plan_then_status(deblur: Command, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    said = deblur("ingest", job)
    assert (said.code, said.out) == (0, f"frames: {COUNT} frames\n")
    assert said.err == f"ingest frames: {COUNT}/{COUNT}\n"
    again = deblur("ingest", job, "--json")
    assert again.err == ""
    (told,) = json.loads(again.out)
    assert told == {
        "sequence": "frames", "source": str(tmp_path / "frames"), "frames": COUNT,
        "fresh": False, "broken": [], "error": None,
    }  # fmt: skip

    table = deblur("plan", job)
    assert table.code == 0
    assert f"{WIDTH}×{HEIGHT}" in table.out
    assert all(word in table.out for word in ("frames", "halo", "units", "memory", "time", "MiB"))
    assert "8 units of 1 sequence to compute: about " in table.out.splitlines()[-1]
    assert "are free" in table.out
    (planned,) = json.loads(deblur("plan", job, "--json").out)
    assert planned["missing"] == planned["cost"]["units"] == 2 * 2 * 2
    assert planned["faults"] == []
    assert planned["projected_seconds"] > 0
    assert planned["cost"]["read_amplification"] > 1
    assert Archive.open(tmp_path / "archive").sequence("frames").runs() == ()

    (row,) = json.loads(deblur("status", tmp_path / "archive", "--json").out)
    assert (row["sequence"], row["frames"], row["state"]) == ("frames", COUNT, "not computed")


def test_status_of_a_finished_run(deblur: Command, finished: Path) -> None:
    said = deblur("status", finished / "archive")
    assert said.code == 0
    assert "frames" in said.out
    assert "published" in said.out
    (row,) = json.loads(deblur("status", finished / "archive", "--json").out)
    assert (row["run"][:4], row["state"], row["broken"]) == ("run-", "published", 0)
    assert 0 < float(row["weight"]) <= 1


def test_plan_of_a_finished_job_has_nothing_left_to_do(deblur: Command, finished: Path) -> None:
    (planned,) = json.loads(deblur("plan", finished / "job.toml", "--json").out)
    assert (planned["missing"], planned["carried"], planned["projected_seconds"]) == (0, 0, 0.0)


def test_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from deblur.terminal import status_table

    row = {
        "sequence": "a-sequence-with-a-rather-long-name",
        "frames": 12000,
        "broken": 3,
        "run": "run-0123456789ab",
    }
    row |= {"state": "published", "units": 1200, "weight": "0.50"}
    for width in (60, 100, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich is concerned
        monkeypatch.setenv("TERM", "dumb")
        status_table([row])
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= width
        assert "…" not in out
        assert all(str(value) in out for value in row.values())
    monkeypatch.delenv("FORCE_COLOR")
    status_table([row])
    assert str(row["sequence"]) in capsys.readouterr().out


def test_verify_names_the_shard_with_a_flipped_byte(deblur: Command, copy: Path) -> None:
    said = deblur("verify", copy / "archive")
    assert (said.code, said.out) == (0, "1 sequence: every shard is there and as it was written\n")
    run = (
        Archive.open(copy / "archive")
        .sequence("frames")
        .run(str(Archive.open(copy / "archive").sequence("frames").current()))
    )
    shard = run.path / next(key for key in run.ledger().shards() if key.startswith("0/"))
    whole = bytearray(shard.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    shard.write_bytes(whole)
    said = deblur("verify", copy / "archive")
    assert said.code == 1
    assert said.out == ""
    (fault,) = said.faults
    assert str(shard.relative_to(run.path)) in fault
    assert run.id in fault
    as_json = deblur("verify", copy / "archive", "--json", "--sequence", "frames")
    assert as_json.code == 1
    assert [f"deblur: {text}" for text in json.loads(as_json.out)] == [fault]


def test_verify_notices_a_damaged_source(deblur: Command, copy: Path) -> None:
    source = Archive.open(copy / "archive").sequence("frames").source
    shard = next(path for path in source.path.glob("**/c/**/*") if path.is_file())
    shard.unlink()
    said = deblur("verify", copy / "archive")
    assert said.code == 1
    assert "frames source" in said.faults[0]


@pytest.mark.parametrize(
    "arguments", [["verify", "gone"], ["status", "gone"], ["export", "gone", "frames", "out"]]
)
def test_an_archive_that_is_not_there_is_one_line(deblur: Command, arguments: list[str]) -> None:
    said = deblur(*arguments)
    assert said.code == 1
    (fault,) = said.faults
    assert "gone" in fault


def test_unknown_sequences_and_runs_are_one_line(deblur: Command, finished: Path, tmp_path: Path) -> None:
    archive = finished / "archive"
    for said in (
        deblur("verify", archive, "--sequence", "nobody"),
        deblur("export", archive, "nobody", tmp_path / "out"),
        deblur("export", archive, "frames", tmp_path / "out", "--run", "run-nobody"),
        deblur("reprocess", finished / "job.toml", "--dry-run", "--sequence", "nobody"),
    ):
        assert said.code == 1
        (fault,) = said.faults
        assert "nobody" in fault
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out", "out.tif", "out.npy", "out.mkv"])
def test_export_gives_back_the_very_pixels(
    deblur: Command, finished: Path, tmp_path: Path, name: str
) -> None:
    store = Archive.open(finished / "archive").sequence("frames")
    expected = store.run(str(store.current())).read("0", 0, COUNT)
    said = deblur("export", finished / "archive", "frames", tmp_path / name)
    assert (said.code, said.out) == (0, f"{COUNT} frames written to {tmp_path / name}\n")
    found = shots(tmp_path / name)
    assert np.array_equal(
        found if found.shape == expected.shape else found[:, :1], expected
    )  # FFV1 may be RGB
    if name == "out":
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == [f"{k:04d}.png" for k in range(COUNT)]
    as_json = deblur("export", finished / "archive", "frames", tmp_path / f"again{name}", "--json")
    assert json.loads(as_json.out) == {"frames": COUNT, "output": str(tmp_path / f"again{name}")}
    again = deblur("export", finished / "archive", "frames", tmp_path / name)
    assert again.code == 2
    assert "exists already" in again.faults[0]


def test_export_of_a_kind_that_is_not_written(deblur: Command, finished: Path, tmp_path: Path) -> None:
    said = deblur("export", finished / "archive", "frames", tmp_path / "out.avi")
    assert said.code == 2
    assert ".avi" in said.faults[0]


SMALL = [part for key, value in TILING.items() for part in ("--set", f"tiling.{key}={value}")]


def test_restore_folder_to_folder(deblur: Command, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "sharp"
    said = deblur("restore", finished / "frames", out, "-e", "0.75", "--workers", "1", *SMALL)
    assert said.code == 0, said.err
    exposure, done = said.out.splitlines()
    assert exposure == "frames: exposure fraction 0.75, as given"
    assert done.startswith(f"{out}: {COUNT} frames in ")
    assert said.faults == []
    store = Archive.open(finished / "archive").sequence("frames")
    assert np.array_equal(
        shots(out), store.run(str(store.current())).read("0", 0, COUNT)
    )  # as `run` makes it
    assert [path.name for path in tmp_path.iterdir()] == ["sharp"]  # no hidden archive stays


def test_restore_npy_to_tiff_with_a_report(deblur: Command, tmp_path: Path) -> None:
    from tests.conftest import pan

    frames = pan(3, 64, 80)[0].astype(np.uint16) * 257
    np.save(tmp_path / "in.npy", frames)
    said = deblur(
        "restore", tmp_path / "in.npy", tmp_path / "out.tif", "--frame-rate", "25", "--exposure-time", "0.03",
        "--readout", "0.4", "--workers", "1", "--report", tmp_path / "look.html", "--json", *SMALL,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert said.err == ""
    (told,) = json.loads(said.out)
    assert told["published"] is True
    assert told["parameters"]["exposure"]["fraction"] == pytest.approx(0.75)
    assert told["parameters"]["readout"] == 0.4
    found = shots(tmp_path / "out.tif")
    assert (found.shape, found.dtype) == (frames.shape, frames.dtype)
    assert not np.array_equal(found, frames)
    page = (tmp_path / "look.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "look.html", "out.tif"]


def test_restore_to_zarr_is_the_run_itself(deblur: Command, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "deeper" / "sharp.zarr"
    said = deblur("restore", finished / "frames", out, "-e", "0.75", "--workers", "1", *SMALL)
    assert said.code == 0, said.err
    assert (out / "ro-crate-metadata.json").exists()
    assert shots(out).shape == (COUNT, 1, HEIGHT, WIDTH)


def test_no_strength_gives_back_the_source_and_some_gives_some(
    deblur: Command, finished: Path, tmp_path: Path
) -> None:
    whole = shots(finished / "frames").astype(int)
    changed = []
    for strength in ("0", "0.5", "1"):
        out = tmp_path / f"sharp{strength[-1]}.npy"
        asked = ["-e", "0.75", "--strength", strength, "--workers", "1", "--json", *SMALL]
        (told,) = json.loads(deblur("restore", finished / "frames", out, *asked).out)
        assert told["parameters"]["restore"].get("strength", 1.0) == float(strength)
        changed.append(np.abs(shots(out) - whole).mean())
    assert changed[0] == 0
    assert 0.4 < changed[1] / changed[2] < 0.6


def test_a_clip_that_does_not_tell_its_exposure_is_taken_as_a_short_one(
    deblur: Command, finished: Path, tmp_path: Path
) -> None:
    still = tmp_path / "still"
    still.mkdir()
    for n in range(4):
        shutil.copy(finished / "frames" / "0000.png", still / f"{n}.png")
    for more in (["--preview", "1"], []):
        said = deblur("restore", still, tmp_path / "out", "--workers", "1", *more)
        assert "exposure fraction 0.25, assumed: neither files nor frames tell it" in said.out


def test_preview_shows_frames_and_leaves_the_rest_undone(
    deblur: Command, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sharp"
    said = deblur("restore", finished / "frames", out, "-e", "0.75", "--preview", "2", "--workers", "1")
    assert (said.code, said.faults) == (0, [])
    assert "exposure fraction 0.75, as given" in said.out
    assert "without --preview" in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["sharp-preview.png"]
    told = json.loads(
        deblur("restore", finished / "frames", out, "-e", "0.75", "--preview", "2", "--json").out
    )
    assert [look["name"] for look in told["looks"]] == ["0001.png", "0003.png"]
    assert all(0 < look["weight"] <= 1 for look in told["looks"])


@pytest.mark.parametrize(
    ("output", "options", "fault"),
    [
        ("out", ["-e", "0.5", "--strength", "2"], "deblur: --strength: "),
        ("out", ["-e", "0.5", "--preview", "-1"], "--preview -1"),
        ("out", ["-e", "1.5"], "deblur: --exposure-fraction: "),
        ("out", ["-e", "-1"], "deblur: --exposure-fraction: "),
        ("out", ["--workers", "0"], "deblur: --workers: "),
        ("out", ["-e", "0.5", "--set", "restore.nonsense=1"], "restore.nonsense: no such setting"),
        ("out", ["-e", "0.5", "--set", "restore.iterations"], "write it as KEY=VALUE"),
        ("out", ["-e", "0.5", "--set", "restore.method=magic"], "restore.method"),
        ("out", ["-e", "0.5", "--set", "limits.memory=1 MiB"], "limits.memory is 1 MiB"),
        ("out", ["-e", "0.5", "--transfer", "log"], "transfer"),
        ("out.xyz", ["-e", "0.5"], "ends in .xyz"),
    ],
)
def test_a_restore_that_is_refused_leaves_nothing(
    deblur: Command, finished: Path, tmp_path: Path, output: str, options: list[str], fault: str
) -> None:
    said = deblur("restore", finished / "frames", tmp_path / output, "--workers", "1", *options)
    assert said.code == 2
    (line,) = said.faults
    assert fault in line
    assert list(tmp_path.iterdir()) == []


def test_reprocess_dry_run_tells_what_is_carried_over(deblur: Command, finished: Path) -> None:
    said = deblur("reprocess", finished / "job.toml", "--set", "restore.iterations=2", "--dry-run", "--json")
    assert said.code == 0, said.err
    (told,) = json.loads(said.out)
    assert told["missing"] == told["carried"] == told["cost"]["units"] // 2
    assert told["parent"] == Archive.open(finished / "archive").sequence("frames").current()
    assert len(Archive.open(finished / "archive").sequence("frames").runs()) == 1
    table = deblur("reprocess", finished / "job.toml", "--set", "restore.iterations=2", "--dry-run")
    assert f"{told['missing']} ({told['carried']} carried)" in table.out


def test_ctrl_c_is_130(deblur: Command, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "ingest", interrupted)
    said = deblur("ingest", finished / "job.toml")
    assert (said.code, said.faults) == (130, ["deblur: interrupted; run the same command again to go on"])


def test_a_full_disk_is_one_line(deblur: Command, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "archive/x")

    monkeypatch.setattr(work, "plan", full)
    said = deblur("plan", finished / "job.toml")
    assert (said.code, said.faults) == (
        1,
        ["deblur: archive/x: No space left on device: free some space; the same command then goes on"],
    )
