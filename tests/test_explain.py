"""The story of a pixel is that of the stores."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from deblur import job as work
from deblur import unit
from deblur.config import load_job, with_settings
from deblur.errors import StoreError
from deblur.explain import explain, story_picture
from deblur.paths import psf_of
from deblur.provenance import survey_of
from deblur.report.compose import compose_report
from deblur.store import RunStore, SequenceStore, find_run
from deblur.types import Reason
from tests.small import HEIGHT, WIDTH, Command, publish_small

T, Y, X = 1, 40, 70


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of its own, since a unit is computed again in it."""
    return publish_small(tmp_path_factory.mktemp("explained")) / "archive" / "frames"


def test_every_value_is_that_of_the_stores(place: Path) -> None:
    sequence, run = find_run(str(place))
    told = explain(sequence, run, frame=T, at=(Y, X)).groups
    frame = sequence.source.frames[T]
    assert told["pixel"]["restored"] == run.read("0", T, T + 1)[0, :, Y, X].tolist()
    assert told["pixel"]["source"] == sequence.source.read(T, T + 1)[0, :, Y, X].tolist()
    assert told["pixel"]["weight"] == pytest.approx(
        run.read("quality/weight", T, T + 1)[0, Y, X] / 255, abs=1e-3
    )
    kind = Reason(int(run.read("quality/reason", T, T + 1)[0, Y, X]))
    assert told["pixel"]["reason"].startswith(kind.name.lower()[:5])
    assert told["source"]["sha256 of the file"] == frame.file
    assert told["source"]["sha256 of the pixels"] == frame.pixels
    assert list(told["source"]["shard"].items()) == [
        ("0/c/0/0/0/1", sequence.source.shard_digests(0, 1)["0/c/0/0/0/1"])
    ]
    assert list(told["neighbours"]) == ["frame 2", "frame 0"]
    forward = run.read("motion/forward", T, T + 1)[0, :, Y, X] / 64
    assert told["neighbours"]["frame 2"]["motion to it, px down and right"] == [
        round(float(v), 3) for v in forward
    ]
    assert told["path"]["exposure fraction"] == 0.75
    assert told["path"]["known from"] == "given"
    assert told["path"]["over the exposure, px down and right"][1] == pytest.approx(
        -6, abs=0.7
    )  # 8 px a frame, 0.75 of it
    ledger = run.ledger().finished()
    for stage in ("motion", "restore"):
        record = ledger[told["units"][stage]["key"]]
        assert record["stage"] == stage
        assert told["units"][stage]["host"] == record["host"]
    assert told["run"]["state"] == "published"
    (published,) = told["run"]["history"]
    action, moment = published.split()
    assert (action, datetime.fromisoformat(moment).year >= 2026) == ("publish", True)
    assert told["run"]["packages"]["numpy"] == np.__version__


def test_the_path_is_the_one_that_the_unit_restored_with(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call as in the pipeline, watched there."""
    from deblur import window as maths
    from deblur.deconv.model import AlongPath
    from deblur.plan import Unit
    from deblur.tiling import Box

    sequence, run = find_run(str(place))
    seen: list[np.ndarray] = []

    class Watched(AlongPath):
        def __init__(self, path: np.ndarray) -> None:
            seen.append(path)
            super().__init__(path)

    monkeypatch.setattr(maths, "AlongPath", Watched)
    record = next(
        r for r in run.ledger().finished().values()
        if r["stage"] == "restore" and r["frames"][0] == 0 and r["box"]["x0"] == 64
    )  # fmt: skip
    task = unit.Task(
        str(place.parent), "frames", run.id, Unit("restore", 0, 2, Box(**record["box"]), record["key"])
    )
    aside = sequence.create_run("aside", run.spec)
    aside.copy_shards(run, {k: v for k, v in run.ledger().shards().items() if k.startswith("motion/")})
    unit.run_unit(unit.Task(task.archive, task.sequence, "aside", task.unit))
    story = explain(sequence, run, frame=T, at=(Y, X))
    halo = run.parameters["restore_halo"]
    window = Box(**record["box"]).grown(halo, HEIGHT, WIDTH)
    field = seen[1]  # frame 1, the one window of this unit
    expected = field[:2, Y - window.y0, X - window.x0]
    assert story.path == pytest.approx(tuple(float(v) for v in expected), abs=1e-5)


def survey_otherwise(folder: Path, run: RunStore) -> SequenceStore:
    """Compute another run, with a survey of its own."""
    (outcome,) = work.run(with_settings(load_job(folder / "job.toml"), {"motion.method": "accurate"}))
    assert outcome.published
    sequence, _ = find_run(str(folder / "archive" / "frames"))
    assert sequence.survey_digest() != survey_of(run)
    return sequence


def test_an_earlier_run_tells_of_its_own_survey(tmp_path: Path) -> None:
    sequence, run = find_run(str(publish_small(tmp_path) / "archive" / "frames"))
    before = {t: explain(sequence, run, frame=t, at=(Y, X)) for t in (0, T)}
    report = compose_report(sequence, run.id)
    sequence = survey_otherwise(tmp_path, run)
    after = {t: explain(sequence, run, frame=t, at=(Y, X)) for t in (0, T)}
    assert after[T].groups | {"run": None} == before[T].groups | {"run": None}
    assert after[0].path == pytest.approx(before[0].path)
    confidence = after[0].groups["neighbours"]["frame 1"]["confidence"]
    assert confidence.endswith("or less: the survey that told whether motion turned here was replaced")
    again = compose_report(sequence, run.id)
    assert (again.frames, again.names) == (report.frames, report.names)


def test_a_run_that_kept_nothing_of_its_survey_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As runs of earlier versions."""
    monkeypatch.setattr(unit, "_surveyed", lambda context, t: {})
    sequence, run = find_run(str(publish_small(tmp_path) / "archive" / "frames"))
    before = explain(sequence, run, frame=T, at=(Y, X))
    assert before.groups["restoration"]["noise of the frame"] > 0
    sequence = survey_otherwise(tmp_path, run)
    with pytest.raises(StoreError, match=f"the survey that run {run.id} was computed with is gone"):
        explain(sequence, run, frame=T, at=(Y, X))
    assert len(compose_report(sequence, run.id).frames) == 4


def test_the_command_tells_and_draws(place: Path, deblur: Command, tmp_path: Path) -> None:
    picture = tmp_path / "pixel.png"
    said = deblur("explain", place, "--frame", T, "--at", f"{Y},{X}", "--picture", picture)
    assert said.code == 0
    for words in ("0001.png", "exposure fraction: 0.75", "known from: given", "confidence", "host", "numpy"):
        assert words in said.out
    told = json.loads(deblur("explain", place, "--frame", T, "--at", f"{Y},{X}", "--json").out)
    assert told["pixel"]["at"] == f"{Y},{X}"
    from PIL import Image

    sequence, run = find_run(str(place))
    story = explain(sequence, run, frame=T, at=(Y, X))
    drawn = story_picture(sequence, run, story, side=64)
    assert len(psf_of(story.path)) > 3
    with Image.open(io.BytesIO(drawn)) as image, Image.open(picture) as other:
        assert image.width > 4 * 64
        assert other.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--frame", "99", "--at", "1,1"], 2, "is not in frames: it has 4 frames of 64×96"),
        (["--frame", "1", "--at", "1;1"], 2, "write row and column"),
        (["--frame", "1", "--at", "1,96"], 2, "is not in frames"),
        (["--at", "1,1"], 2, "--frame"),
    ],
)
def test_a_wrong_place_is_one_line(
    place: Path, deblur: Command, arguments: list[str], code: int, words: str
) -> None:
    said = deblur("explain", place, *arguments)
    assert said.code == code
    assert words in said.err
