"""A run restores with the weights that it was planned with, keeps them, and says what the network did."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur.config import RestoreOptions, load_job
from deblur.deconv.network import shipped
from deblur.errors import ConfigError, StoreError
from deblur.models import kept, network_of
from deblur.report.compose import write_report
from deblur.sequence import restore
from deblur.store import find_run
from deblur.store.run import LEARNED_STEPS
from deblur.window import RestoreSettings
from tests.conftest import pan
from tests.small import HEIGHT, WIDTH, Command, write_frames, write_job

pytest.importorskip("onnxruntime", reason="deblur[learned] is not installed")
T, Y, X = 1, 30, 60


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_frames(tmp_path / "frames")
    return write_job(tmp_path, extra='restore = { method = "hybrid" }', kind="serial")


def run_job(job: Path) -> None:
    (outcome,) = work.run(load_job(job))
    assert outcome.published, outcome.faults()


def test_a_run_keeps_its_weights_and_tells_what_they_did(job: Path, deblur: Command) -> None:
    run_job(job)
    archive = job.parent / "archive"
    network = shipped()
    assert (archive / "models" / f"{network.digest}.onnx").read_bytes() == network.data
    sequence, run = find_run(str(archive / "frames"))
    assert run.parameters["restore"]["network"] == network.identity
    learned = run.read("quality/learned", 0, 4)
    assert learned.dtype == np.int8
    assert learned.any()
    assert deblur("verify", archive).code == 0
    told = json.loads(deblur("explain", archive / "frames", "--frame", T, "--at", f"{Y},{X}", "--json").out)
    shares = told["network"]
    assert shares["of it by the network"] == pytest.approx(learned[T, Y, X] / LEARNED_STEPS, abs=1e-4)
    assert shares["of it by physics"] + shares["of it by the network"] == pytest.approx(
        shares["change, as square roots of light"], abs=2e-4
    )
    assert shares["weights"] == network.digest
    crate = (run.path / "ro-crate-metadata.json").read_text()
    assert network.digest in crate
    page = job.parent / "report.html"
    write_report(page, sequence, run.id)
    assert "Physics and network" in page.read_text()


def test_another_method_is_another_run(job: Path, deblur: Command) -> None:
    def planned() -> str:
        return str(json.loads(deblur("plan", job, "--json").out)[0]["run"])

    learned = planned()
    job.write_text(job.read_text().replace('"hybrid"', '"variational"'))
    assert planned() != learned


def test_weights_that_are_damaged_or_gone_stop_the_run_by_name(job: Path) -> None:
    archive = job.parent / "archive"
    run_job(job)
    network = shipped()
    settings = RestoreSettings(method="hybrid", network=network.identity)
    opened = kept(archive, settings)
    assert opened is not None
    assert opened.identity == network.identity
    other = replace(settings, network=network.identity.replace("onnxruntime-", "onnxruntime-0."))
    with pytest.raises(StoreError, match="give all workers the same packages"):
        kept(archive, other)
    path = archive / "models" / f"{network.digest}.onnx"
    path.write_bytes(network.data[:-1])
    with pytest.raises(StoreError, match="damaged"):
        kept(archive, settings)
    path.unlink()
    with pytest.raises(StoreError, match="put the weights of that run there"):
        kept(archive, settings)


def test_a_job_names_its_own_weights(tmp_path: Path) -> None:
    assert network_of(RestoreOptions()) is None
    mine = tmp_path / "mine.onnx"
    with pytest.raises(ConfigError, match="check the path"):
        network_of(RestoreOptions(method="hybrid", network=str(mine)))
    mine.write_bytes(shipped().data)
    found = network_of(RestoreOptions(method="hybrid", network=str(mine)))
    assert found is not None
    assert found.identity == shipped().identity


def test_an_archive_restores_as_the_library_does(job: Path) -> None:
    """The learned part too has the bits of `deblur.restore` where one window holds the frame."""
    job.write_text(re.sub(r"(window|unit|shard) = 64", r"\1 = 128", job.read_text()))
    run_job(job)
    _, run = find_run(str(job.parent / "archive" / "frames"))
    frames = pan(4, HEIGHT, WIDTH)[0]
    found = restore(frames, exposure_fraction=0.75, settings=RestoreSettings(method="hybrid"))
    np.testing.assert_array_equal(run.read("0", 0, 4).reshape(found.frames.shape), found.frames)


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_damaged_weights_are_found_and_put_back(job: Path, deblur: Command, harm: str) -> None:
    run_job(job)
    archive = job.parent / "archive"
    (weights,) = (archive / "models").iterdir()
    data = bytearray(weights.read_bytes())
    if harm == "gone":
        weights.unlink()
    else:
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    found = deblur("verify", archive)
    assert found.code == 1
    assert weights.name in found.out + found.err
    assert deblur("verify", archive, "--repair").code == 0
    assert weights.read_bytes() == shipped().data
    assert deblur("verify", archive).code == 0


def test_weights_of_ones_own_have_to_be_put_back_by_hand(job: Path, deblur: Command) -> None:
    run_job(job)
    archive = job.parent / "archive"
    other = archive / "models" / f"{'0' * 64}.onnx"
    other.write_bytes(b"mine, once")
    found = deblur("verify", archive, "--repair")
    assert found.code == 1
    assert "deblur train" in found.out + found.err
