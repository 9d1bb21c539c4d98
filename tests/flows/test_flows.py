"""The flows: what they do is `deblur.job`'s work; here, that Prefect carries it and reports its failures."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.errors import DeblurError
from deblur.outcome import Outcome
from deblur.store import Archive
from tests.small import COUNT, write_frames, write_job

ROOT = Path(__file__).parents[2]
STAGES = ("ingest", "plan", "compute", "verify", "publish")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows and tasks as plain functions: what they compute, without a server."""
    from flows import archive, reprocess

    for name in STAGES:
        monkeypatch.setattr(archive, name, getattr(archive, name).fn)
    for name in STAGES[1:]:
        monkeypatch.setattr(reprocess, name, getattr(archive, name))


def test_archive_then_nothing_then_reprocess(plain: None, tmp_path: Path) -> None:
    from flows.archive import archive
    from flows.attended import _listener
    from flows.reprocess import reprocess

    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    seen: list[tuple[str, int, int]] = []
    token = _listener.set(lambda *told: seen.append(told))
    try:
        (first,) = archive.fn(job)
    finally:
        _listener.reset(token)
    assert first.published
    assert first.plan is not None
    assert first.computed == first.plan.cost.units
    assert {stage for stage, done, total in seen if done == total} == {
        f"{stage} frames" for stage in ("ingest", "survey", "motion", "restore")
    }
    assert ("motion frames", 0, 4) in seen  # a bar is there before its first unit is done
    (second,) = archive.fn(job)
    assert (second.computed, second.published) == (0, True)

    changed = job.model_copy(update={"restore": job.restore.model_copy(update={"iterations": 2})})
    (third,) = reprocess.fn(changed, ("frames",))
    assert third.published
    assert third.parent == first.plan.run
    assert third.carried == third.computed == first.plan.cost.units // 2


def test_nightly_names_the_first_fault_after_publishing_the_rest(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import archive as module

    monkeypatch.setattr(module, "archive", module.archive.fn)
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    job.write_text(job.read_text() + '[[sources]]\npath = "nowhere"\n')
    with pytest.raises(DeblurError, match=r"1 left undone, the first: .*nowhere does not exist"):
        module.nightly.fn(str(job))
    assert Archive.open(tmp_path / "archive").sequence("frames").current()


def test_what_prefect_stores_of_a_run_is_plain(tmp_path: Path) -> None:
    """No pixels, no callables: parameters are a configuration and ids, and results are not kept."""
    from flows.archive import archive, compute, ingest, nightly, plan, publish, verify
    from flows.reprocess import on_demand, reprocess

    job = load_job(write_job(tmp_path))
    assert archive.serialize_parameters({"config": job})["config"]["archive"] == str(tmp_path / "archive")
    for flow in (archive, reprocess, nightly, on_demand):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "progress" not in flow.parameters.properties
        assert not flow.persist_result
    assert [task.name for task in (ingest, plan, compute, verify, publish)] == list(STAGES)
    assert not any(task.persist_result for task in (ingest, plan, compute, verify, publish))


def test_importing_the_flows_changes_nothing_that_the_user_has_set(tmp_path: Path) -> None:
    """The active profile names the server, its settings hold; without one an embedded server may start."""
    (tmp_path / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
        'PREFECT_LOGGING_LEVEL = "ERROR"\n'
    )
    program = (
        "import flows.archive, flows.reprocess\nfrom prefect.settings import get_current_settings as s\n"
        "print(s().api.url, s().logging.level, s().server.ephemeral.enabled, s().server.analytics_enabled)"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}

    def settings(home: Path) -> tuple[str, str]:
        run = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home)},
        )
        return run.stdout.strip(), run.stderr

    assert settings(tmp_path) == ("http://127.0.0.1:9/api ERROR True False", "")
    assert settings(tmp_path / "fresh") == ("None INFO True False", "")


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """Prefect's own test server, once for all."""
    from flows import settings

    settings.prepare()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.mark.slow
def test_the_archive_flow_end_to_end(server: None, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    from flows.archive import archive
    from flows.reprocess import reprocess

    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    state: Any = archive(job, return_state=True)
    assert state.is_completed()
    (first,) = state.result()
    assert isinstance(first, Outcome)
    assert first.published
    (second,) = archive(job)
    assert (second.computed, second.published) == (0, True)
    changed = job.model_copy(update={"restore": job.restore.model_copy(update={"iterations": 2})})
    (third,) = reprocess(changed)
    assert (third.published, third.computed, third.carried) == (True, 4, 4)
    assert work.published(job)[0].frames == COUNT
    ours = [w for w in recwarn if "serial" in str(w.message).lower() or "deblur" in str(w.filename)]
    assert [str(w.message) for w in ours] == []


@pytest.mark.slow
def test_nightly_fails_where_a_source_did_and_publishes_the_rest(server: None, tmp_path: Path) -> None:
    from flows.archive import nightly

    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    good: Any = nightly(str(job), return_state=True)
    assert good.is_completed()
    job.write_text(job.read_text() + '[[sources]]\npath = "nowhere"\n')
    (tmp_path / "frames" / "0000.png").touch()  # changed: a new sequence
    state: Any = nightly(str(job), return_state=True)
    assert state.is_failed()
    assert "nowhere does not exist" in state.message
    archive = Archive.open(tmp_path / "archive")
    assert archive.sequences() == ("frames", "frames-2")
    assert archive.sequence("frames-2").current()


@pytest.mark.slow
def test_on_demand_takes_settings_as_dotted_keys(server: None, tmp_path: Path) -> None:
    from flows.archive import nightly
    from flows.reprocess import on_demand

    write_frames(tmp_path / "frames")
    job = str(write_job(tmp_path))
    nightly(job)
    text = on_demand(job, {"restore.iterations": 2}, ["frames"])
    assert "4 units computed, 4 carried over" in text
    state: Any = on_demand(job, {"restore.nonsense": 2}, return_state=True)
    assert state.is_failed()
    assert "restore.nonsense: no such setting" in state.message
