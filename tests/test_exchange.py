"""Evidence that others can read: their own tools say so."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur import job as work
from deblur.config import load_job, with_settings
from deblur.redact import without_secrets
from deblur.store import find_run
from tests.small import Command, write_frames, write_job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a run and its reprocessing."""
    folder = tmp_path_factory.mktemp("exchange")
    write_frames(folder / "frames")
    job = load_job(write_job(folder))
    work.run(job)
    changed = with_settings(job, {"restore.iterations": 16})
    plans = work.plan(changed, work.published(changed), action="reprocess")
    (outcome,) = work.publish(changed, work.verify(changed, work.compute(changed, plans)), action="reprocess")
    assert outcome.published
    return folder


def test_roc_validator_has_nothing_to_say(folder: Path) -> None:
    """A validator that we did not write, with the requirements of RO-Crate 1.1 and Process Run Crate 0.5."""
    program = shutil.which("rocrate-validator")
    if program is None:
        pytest.skip(
            "rocrate-validator is not on PATH: pip install roc-validator in an environment of its own"
        )
    run = find_run(f"{folder}/archive/frames")[1]
    context = files("rocrate") / "data" / "ro-crate.jsonld"
    done = subprocess.run(
        [Path(program).resolve().parent / "python", Path(__file__).parent / "crate_validator.py", run.path, str(context)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["issues"] == []
    assert told["passed"] > 30
    crate = run.path / "ro-crate-metadata.json"
    broken = folder / "broken"
    broken.mkdir()
    text = crate.read_text().replace('"conformsTo"', '"conforms"').replace('"instrument"', '"tool"')
    (broken / crate.name).write_text(text)
    again = subprocess.run(
        [*done.args[:2], broken, str(context)], capture_output=True, text=True, timeout=120
    )
    assert not again.stdout.strip() or json.loads(again.stdout.splitlines()[-1])["issues"] != []


def test_prov_says_what_the_crate_says(folder: Path, deblur: Command, tmp_path: Path) -> None:
    sequence, run = find_run(f"{folder}/archive/frames")
    told = json.loads(deblur("provenance", f"{folder}/archive/frames", "--format", "prov").out)
    assert told["entity"]["deblur:source"]["deblur:sha256"] == sequence.source.digest
    assert told["entity"]["deblur:run"]["deblur:sha256"] == run.digest()
    assert told["activity"]["deblur:restoration"]["deblur:restore.iterations"] == 16
    named = {*told["entity"], *told["activity"], *told["agent"]}
    for kind in ("used", "wasGeneratedBy", "wasAssociatedWith", "wasDerivedFrom", "hadMember"):
        for relation in told[kind].values():
            ends = {v for k, v in relation.items() if k != "prov:type"}
            assert ends <= named, kind
    (revision,) = (r for r in told["wasDerivedFrom"].values() if "prov:type" in r)
    assert revision["prov:usedEntity"] == "deblur:parent"
    out = tmp_path / "crate.json"
    assert deblur("provenance", f"{folder}/archive/frames", out).code == 0
    assert json.loads(out.read_text()) == json.loads((run.path / "ro-crate-metadata.json").read_text())


def test_a_bag_is_checked_by_sha256sum(folder: Path, deblur: Command, tmp_path: Path) -> None:
    run = find_run(f"{folder}/archive/frames")[1]
    bag = tmp_path / "bag"
    said = deblur("provenance", f"{folder}/archive/frames", bag, "--format", "bagit")
    assert said.code == 0
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        subprocess.run(["sha256sum", "--check", "--quiet", "--strict", manifest], cwd=bag, check=True)
    listed = {line.split("  ", 1)[1] for line in (bag / "manifest-sha256.txt").read_text().splitlines()}
    there = {p.relative_to(bag).as_posix() for p in (bag / "data").rglob("*") if p.is_file()}
    assert listed == there
    assert len(there) == len([p for p in run.path.rglob("*") if p.is_file()])
    size = sum((bag / name).stat().st_size for name in there)
    assert f"Payload-Oxum: {size}.{len(there)}\n" in (bag / "bag-info.txt").read_text()
    assert (bag / "bagit.txt").read_text().startswith("BagIt-Version: 1.0\n")
    again = deblur("provenance", f"{folder}/archive/frames", bag, "--format", "bagit")
    assert (again.code, len(again.faults)) == (2, 1)
    assert deblur("provenance", f"{folder}/archive/frames", "--format", "bagit").code == 2


def test_parameters_say_where_they_came_from(folder: Path) -> None:
    run = find_run(f"{folder}/archive/frames")[1]
    told = json.loads((run.path / "provenance" / "parameters.json").read_text())["origins"]
    assert told["exposure.fraction"] == "given"
    assert told["restore.iterations"] == "given"
    assert told["restore.method"] == told["motion_method"] == told["light.white"] == "default"
    assert told["window"] == "given"
    assert told["motion_halo"] == told["restore_halo"] == "estimated"
    assert told["motion_version"] == "code"
    assert set(told) >= {"light.transfer", "exposure.interval", "outputs"}


CANARIES = {
    "path": "s3://user:CANARY@host/bucket/a.tif?X-Amz-Signature=CANARY#CANARY",
    "webhook_token": "CANARY",
    "deep": [
        {"password": "CANARY"},
        "curl --token CANARY https://h/x?key=CANARY",
        "AWS_SECRET_ACCESS_KEY=CANARY",
    ],
}


def test_secrets_are_left_out() -> None:
    told = without_secrets(CANARIES)
    assert "CANARY" not in json.dumps(told)
    assert told["path"] == "s3://host/bucket/a.tif"
    kept = {"path": "/data/a b/c@d/frame?.png", "restore": {"iterations": 3}, "pattern": "*/*.mp4"}
    assert without_secrets(kept) == kept


@given(st.text("ab@:/?#= .", max_size=30))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = without_secrets(text)
    assert without_secrets(once) == once


def test_no_record_holds_a_secret(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    job = write_job(
        tmp_path, source='metadata = { api_key = "CANARY", see = "https://u:CANARY@h/?t=CANARY" }'
    )
    job.write_text(job.read_text() + '[hooks]\nwebhook = "https://hooks.example.org/CANARY"\n')
    (outcome,) = work.run(load_job(job))
    assert outcome.published
    for path in (tmp_path / "archive").rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes(), path
