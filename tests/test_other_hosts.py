"""A night on another host, whose processes can't be seen from here: alive while its heart beats, dead when it stands
still; the next night goes on with its work. A real process that says it runs elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deblur import job as work
from deblur import night
from deblur.config import load_job
from deblur.store import Archive
from tests.small import write_frames, write_job

ROOT = Path(__file__).parents[1]
ELSEWHERE = """
    import socket, sys
    socket.gethostname = lambda: "elsewhere"
    from pathlib import Path
    import deblur.execute
    import deblur.store.lease as lease
    from deblur import job as work
    from deblur import night
    from deblur.config import load_job
    night.BEAT = lease.BEAT = 0.05
    real, run, seen = deblur.execute.run_unit, work.run_tasks, []
    def slow(task):
        if len(seen) == 3:
            print("three units done", flush=True)
            sys.stdin.read()  # until it is killed
        seen.append(task)
        return real(task)
    work.run_tasks = lambda tasks, **told: run(tasks, **told, work=slow)
    job = load_job(Path(sys.argv[1]))
    with night.recorded(Path(job.archive), flow_run="there"):
        night.work_on(job, night.find(job).todo)
"""


def test_a_night_killed_on_another_host_is_found_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("calm", "shared"):
        write_frames(tmp_path / place / "frames")
        write_job(tmp_path / place)
    (calm,) = work.run(load_job(tmp_path / "calm" / "job.toml"))
    job = load_job(tmp_path / "shared" / "job.toml")
    Archive.create(job.archive)
    for module in ("deblur.night", "deblur.store.lease"):
        monkeypatch.setattr(f"{module}.GLANCE", 0.02)
    there = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ELSEWHERE), str(tmp_path / "shared" / "job.toml")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert there.stdout is not None
        assert there.stdout.readline() == "three units done\n"
        assert night.dead_nights(Path(job.archive)) == []  # its heart beats
        (busy,) = night.work_on(job, night.find(job).todo)
        assert "being worked on by process" in str(busy.error)
        assert "on elsewhere" in str(busy.error)
    finally:
        there.send_signal(signal.SIGKILL)
        there.communicate()
    for module in ("deblur.night", "deblur.store.lease"):
        monkeypatch.setattr(f"{module}.STILL", 0.2)
    (dead,) = night.dead_nights(Path(job.archive))
    assert (dead.flow_run, dead.owner["host"]) == ("there", "elsewhere")
    told = [json.loads(path.read_text()) for path in (Path(job.archive) / "nights").iterdir()]
    assert [(one["state"], one["ended"] is None) for one in told] == [("crashed", False)]
    (outcome,) = night.work_on(job, night.find(job).todo)
    assert outcome.published
    assert 0 < outcome.computed < calm.computed
    found = [Archive.open(tmp_path / place / "archive").sequence("frames") for place in ("calm", "shared")]
    digests = [store.run(str(store.current())).ledger().shards() for store in found]
    assert digests[0] == digests[1]
