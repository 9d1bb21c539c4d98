"""Seven nights on an archive that grows: late, changed, corrupt files and a crash; in the end every segment is what an
undisturbed run over the same frames gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur import night
from deblur.catalog import Catalog
from deblur.config import load_job
from deblur.damage import find_damage
from deblur.store import Archive
from tests.small import JOB, write_frames, write_job

ROOT = Path(__file__).parents[2]
START = 1.6e9
DAY = 86400.0


class Field:
    """A watched place, and what the cameras put there, an hour before each night."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nights = folder, 0
        write_frames(folder / "all", count=8)
        text = JOB.format(path="watched", fraction=0.75, kind="serial", extra="", source="quiet = 600\n")
        (folder / "job.toml").write_text(text.replace("[[sources]]", "[[watch]]"))
        (folder / "watched").mkdir()

    @property
    def now(self) -> float:
        return START + self.nights * DAY

    def arrive(self, clip: str, *numbers: int, name: str = "{:04d}.png") -> None:
        place = self.folder / "watched" / clip
        place.mkdir(exist_ok=True)
        for number in numbers:
            target = place / name.format(number)
            shutil.copy(self.folder / "all" / f"{number:04d}.png", target)
            os.utime(target, (self.now - 3600, self.now - 3600))

    def night(self) -> dict[str, Any]:
        """A night's work in this process; what was published, and the faults."""
        job = load_job(self.folder / "job.toml")
        found = night.find(job, now=self.now)
        outcomes = [o for part in night.batches(found.todo) for o in night.work_on(job, part)]
        self.nights += 1
        return {
            "computed": {o.sequence.id for o in outcomes if o.computed},
            "faults": [text for o in outcomes for text in o.faults()],
            "written": [Path(path).name for path in found.written],
            "units": sum(o.computed for o in outcomes),
        }

    def crash(self, units: int) -> None:
        """A night that is killed after so many units."""
        program = f"""
            import os, signal
            import deblur.execute as execute
            from deblur import night
            from deblur.config import load_job
            from pathlib import Path
            real, seen = execute.run_unit, []
            def dying(task):
                if len(seen) == {units}:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen.append(task)
                return real(task)
            import deblur.job as work
            run = work.run_tasks
            work.run_tasks = lambda tasks, **told: run(tasks, **told, work=dying)
            job = load_job(Path({str(self.folder / "job.toml")!r}))
            for part in night.batches(night.find(job, now={self.now}).todo):
                night.work_on(job, part)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == -9, done.stderr
        self.nights += 1

    def shards(self) -> dict[str, dict[str, str]]:
        """{sequence: its published shards}."""
        archive = Archive.open(self.folder / "archive")
        found = {}
        for name in archive.sequences():
            store = archive.sequence(name)
            found[name] = store.run(str(store.current())).ledger().shards()
        return found


def undisturbed(folder: Path, names: list[str], originals: dict[str, Path]) -> dict[str, str]:
    (folder / "frames").mkdir(parents=True)
    for name in names:
        shutil.copy(originals[name], folder / "frames" / name)
    (outcome,) = work.run(load_job(write_job(folder)))
    assert outcome.published
    store = Archive.open(folder / "archive").sequence("frames")
    return store.run(str(store.current())).ledger().shards()


@pytest.mark.slow
def test_seven_nights(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.arrive("a", 0, 1, 2)
    field.arrive("b", 0, 1, 2, 3)
    first = field.night()
    assert (first["computed"], first["faults"]) == ({"watched-a", "watched-b"}, [])
    published = {"watched-a": field.shards()["watched-a"]}

    field.arrive("a", 3, 4)  # it grows
    field.arrive("c", 0, 1, 3, 4)  # without frame 2, which will be late
    second = field.night()
    assert second["computed"] == {"watched-a.s2", "watched-c"}

    broken = tmp_path / "watched" / "d"  # corrupt: too many of its frames
    field.arrive("d", 0, 1, 2)
    for path in broken.iterdir():
        path.write_bytes(path.read_bytes()[:100])
        os.utime(path, (field.now - 3600, field.now - 3600))
    third = field.night()
    assert third["computed"] == set()
    assert len(third["faults"]) == 1
    assert "limits.broken" in third["faults"][0]

    field.arrive("c", 2)  # late
    field.arrive("d", 0, 1, 2)  # sent again, sound
    field.arrive("e", 0, 1, 2, 3, 4, 5)
    field.crash(units=3)  # the fourth night

    fifth = field.night()  # goes on with it
    assert fifth["computed"] >= {"watched-c.s2", "watched-d"}
    assert fifth["faults"] == []

    field.arrive("b", 5, name="0001.png")  # a frame that was published is another one now
    field.arrive("f", 0, 1)
    newest = tmp_path / "watched" / "f" / "0001.png"
    os.utime(newest, (field.now - 5, field.now - 5))  # still being written
    sixth = field.night()
    assert (sixth["computed"], sixth["written"]) == ({"watched-b-2"}, ["f"])

    seventh = field.night()
    assert seventh["computed"] == {"watched-f"}
    idle = field.night()
    assert (idle["units"], idle["faults"]) == (0, [])

    archive = Archive.open(tmp_path / "archive")
    assert list(find_damage(archive)) == []
    assert field.shards()["watched-a"] == published["watched-a"]
    assert archive.sequences() == (
        "watched-a", "watched-a.s2", "watched-b", "watched-b-2", "watched-c", "watched-c.s2", "watched-d",
        "watched-e", "watched-f",
    )  # fmt: skip
    for name, shards in field.shards().items():
        store = archive.sequence(name)
        clip = Path(json.loads(json.dumps(store.source.header.metadata))["deblur"]["source"]["path"])
        originals = {path.name: path for path in clip.iterdir()}
        if name == "watched-b":  # as it was before the change
            originals["0001.png"] = tmp_path / "all" / "0001.png"
        names = [frame.name for frame in store.source.frames]
        assert undisturbed(tmp_path / "undisturbed" / name, names, originals) == shards, name
    index = Catalog(archive)
    before = index.sequences(), index.runs()
    index.rebuild()
    assert (index.sequences(), index.runs()) == before
