"""The flows: what they do is `deblur.job`'s work; here, that Prefect carries it and reports its failures."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deblur import job as work
from deblur.config import load_job
from deblur.deconv import METHODS
from deblur.errors import ConfigError, DeblurError
from deblur.outcome import Outcome
from deblur.store import Archive
from tests.faults.test_slurm import MISSING, profile, slurm  # noqa: F401 (a fixture)
from tests.small import COUNT, write_frames, write_job
from tests.test_retries import Hiccup

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows and tasks as plain functions: what they compute, without a server."""
    from flows import archive, reprocess

    monkeypatch.setattr(archive, "find", archive.find.fn)
    monkeypatch.setattr(archive, "batch", archive.batch.fn)
    monkeypatch.setattr(reprocess, "again", reprocess.again.fn)


def test_archive_then_nothing_then_reprocess(plain: None, tmp_path: Path) -> None:
    from flows.archive import archive_flow
    from flows.attended import _listener
    from flows.reprocess import reprocess_flow
    from flows.told import Told

    write_frames(tmp_path / "frames")
    job = load_job(write_job(tmp_path))
    seen: list[tuple[str, int, int]] = []
    token = _listener.set(lambda *told: seen.append(told))
    try:
        (first,) = archive_flow.fn(Told(job))
    finally:
        _listener.reset(token)
    assert first.published
    assert first.plan is not None
    assert first.computed == first.plan.cost.units
    assert {stage for stage, done, total in seen if done == total} == {
        f"{stage} frames" for stage in ("ingest", "survey", "motion", "restore")
    }
    assert ("motion frames", 0, 4) in seen  # a bar is there before its first unit is done
    (second,) = archive_flow.fn(Told(job))
    assert (second.computed, second.published) == (0, True)

    changed = job.model_copy(update={"restore": job.restore.model_copy(update={"iterations": 16})})
    (third,) = reprocess_flow.fn(Told(changed), ("frames",))
    assert third.published
    assert third.parent == first.plan.run
    assert third.carried == third.computed == first.plan.cost.units // 2


def test_nightly_names_the_first_fault_after_publishing_the_rest(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import archive as module

    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    job.write_text(job.read_text() + '[[sources]]\npath = "nowhere"\n')
    with pytest.raises(DeblurError, match=r"1 left undone, the first: .*nowhere does not exist"):
        module.nightly.fn(str(job))
    assert Archive.open(tmp_path / "archive").sequence("frames").current()


def test_what_prefect_stores_of_a_run_is_plain(tmp_path: Path) -> None:
    """No pixels, no callables: parameters are a configuration and ids, and results are not kept."""
    from flows.archive import archive_flow, batch, find, nightly
    from flows.reprocess import again, on_demand, reprocess_flow
    from flows.told import Told

    secrets = 'metadata = { api_key = "CANARY" }\n[hooks]\nwebhook = "https://hooks.example.org/CANARY"'
    job = load_job(write_job(tmp_path, source=secrets))
    shown = archive_flow.serialize_parameters({"told": Told(job)})["told"]
    assert shown["archive"] == str(tmp_path / "archive")
    assert "CANARY" not in str(shown)
    for flow in (archive_flow, reprocess_flow, nightly, on_demand):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "progress" not in flow.parameters.properties
        assert not flow.persist_result
    assert not any(task.persist_result for task in (find, batch, again))
    assert all(task.retries == 3 for task in (find, batch, again))


def test_the_forms_describe_and_limit_their_fields() -> None:
    from flows.archive import nightly
    from flows.reprocess import on_demand
    from flows.verify import verify

    for flow in (nightly, on_demand, verify):
        assert all(told.get("description") for told in flow.parameters.properties.values())
    form = on_demand.parameters.properties
    assert set(form["method"]["anyOf"][0]["enum"]) == set(METHODS)
    assert form["iterations"]["anyOf"][0]["maximum"] == 1000
    pattern = nightly.parameters.properties["until"]["pattern"]
    assert all(re.fullmatch(pattern, text) for text in ("", "06:00", "23:59"))
    assert not any(re.fullmatch(pattern, text) for text in ("6", "24:00", "06:60", "six"))


def test_one_batch_that_fails_in_any_way_does_not_stop_the_others(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import archive as module

    for name in ("a", "b"):
        write_frames(tmp_path / name)
    job = write_job(tmp_path, path="a")
    told = tmp_path / "told.json"
    program = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    text = job.read_text().replace("[tiling]", '[[sources]]\npath = "b"\nexposure_fraction = 0.75\n[tiling]')
    job.write_text(text + f"[hooks]\ncommand = {json.dumps([sys.executable, '-c', program])}\n")
    real = module.work.work_on

    def failing(config: Any, part: Any, **shared: Any) -> Any:
        if part[0].source.path.endswith("a"):
            raise OSError(5, "Input/output error")
        return real(config, part, **shared)

    monkeypatch.setattr(module.work, "work_on", failing)
    with pytest.raises(DeblurError, match="1 left undone, the first: OSError"):
        module.nightly.fn(str(job))
    assert Archive.open(tmp_path / "archive").sequence("b").current()
    report = json.loads(told.read_text())
    assert (report["state"], report["published"]) == ("failed", 1)
    assert "Input/output error" in report["faults"][0]
    monkeypatch.setattr(module.work, "work_on", real)
    assert module.nightly.fn(str(job)).startswith("1 unchanged, 1 published")
    assert module.nightly.fn(str(job)) == "2 unchanged"
    states = [json.loads(p.read_text())["state"] for p in sorted((tmp_path / "archive" / "nights").iterdir())]
    assert sorted(states) == ["done", "done", "failed"]
    late = module.nightly.fn(str(job), "00:00")
    assert late == "2 unchanged"


def test_nothing_is_begun_after_the_deadline(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import archive as module
    from flows.told import Told

    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    monkeypatch.setattr(module.work, "deadline", lambda until: 0.0)
    (outcome,) = module.archive_flow.fn(Told(load_job(job)), "06:00")
    assert outcome.line() == f"{tmp_path / 'frames'}: not begun in time"
    assert outcome.faults() == []
    assert module.nightly.fn(str(job), "06:00") == "1 stopped in time"
    assert not (tmp_path / "archive").exists()


def test_a_dead_night_is_told_by_the_next(plain: None, tmp_path: Path) -> None:
    from flows import archive as module

    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    module.nightly.fn(str(job))
    folder = tmp_path / "archive" / "nights"
    (path,) = folder.iterdir()
    dead = json.loads(path.read_text()) | {"id": "dead", "ended": None, "state": "running"}
    dead["owner"]["started"] = "1"
    (folder / "dead.json").write_text(json.dumps(dead))
    module.nightly.fn(str(job))
    assert json.loads((folder / "dead.json").read_text())["state"] == "crashed"


def test_verify_finds_tells_and_mends(plain: None, tmp_path: Path) -> None:
    from flows.archive import nightly
    from flows.verify import verify

    write_frames(tmp_path / "frames")
    job = write_job(tmp_path)
    nightly.fn(str(job))
    told = tmp_path / "told.json"
    program = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    job.write_text(job.read_text() + f"[hooks]\ncommand = {json.dumps([sys.executable, '-c', program])}\n")
    assert verify.fn(str(job), share=0.1) == "0 problems found, 0 mended"
    sequence = Archive.open(tmp_path / "archive").sequence("frames")
    (sequence.run(str(sequence.current())).path / "0/c/0/0/0/0").unlink()
    with pytest.raises(DeblurError, match="1 problems, the first: frames run-"):
        verify.fn(str(job), share=0.1)
    assert json.loads(told.read_text())["state"] == "damaged"
    assert verify.fn(str(job), share=0.1, mend=True) == "1 problems found, 1 mended"
    assert verify.fn(str(job), share=1.0) == "0 problems found, 0 mended"


def test_on_demand_lists_or_does(plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import reprocess as module
    from flows.archive import nightly
    from flows.reprocess import on_demand

    monkeypatch.setattr(module, "reprocess_flow", module.reprocess_flow.fn)
    write_frames(tmp_path / "frames")
    job = str(write_job(tmp_path))
    nightly.fn(job)
    told = on_demand.fn(job, where="quality > 0.1 and frames = 4", iterations=16, dry_run=True)
    assert told.startswith("frames: 4 units to compute, 4 carried over, ")
    assert len(Archive.open(tmp_path / "archive").sequence("frames").runs()) == 1
    assert "4 units computed, 4 carried over" in on_demand.fn(job, where="quality > 0.1", iterations=16)
    with pytest.raises(ConfigError, match="no sequence of"):
        on_demand.fn(job, where="quality > 1")
    nightly.fn(job)
    assert len(Archive.open(tmp_path / "archive").sequence("frames").runs()) == 2
    assert nightly.fn(job) == "1 unchanged"  # it has seen that a person decided


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
    from prefect.client.orchestration import get_client

    from flows.archive import archive, archive_flow
    from flows.reprocess import reprocess
    from flows.told import Told

    write_frames(tmp_path / "frames")
    secrets = (
        'metadata = { site = "A", api_key = "CANARY" }\n[hooks]\nwebhook = "https://hooks.example.org/CANARY"'
    )
    job = load_job(write_job(tmp_path, source=secrets))
    state: Any = archive_flow(Told(job), return_state=True)
    assert state.is_completed()
    (first,) = state.result()
    assert isinstance(first, Outcome)
    assert first.published
    (second,) = archive(job)
    assert (second.computed, second.published) == (0, True)
    changed = job.model_copy(update={"restore": job.restore.model_copy(update={"iterations": 16})})
    (third,) = reprocess(changed)
    assert (third.published, third.computed, third.carried) == (True, 4, 4)
    assert work.published(job)[0].frames == COUNT
    with get_client(sync_client=True) as client:
        shown = [str(run.parameters) for run in client.read_flow_runs()]
    assert any("'site': 'A'" in told for told in shown)
    assert not any("CANARY" in told for told in shown)
    ours = [w for w in recwarn if "serial" in str(w.message).lower() or "deblur" in str(w.filename)]
    assert [str(w.message) for w in ours] == []


@pytest.mark.slow
def test_storage_that_fails_twice_is_tried_again_later(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import archive as module

    assert module.batch.retries == module.find.retries == 3
    assert module.batch.retry_delay_seconds == [5, 10, 20]
    batch = module.batch.with_options(retry_delay_seconds=[0.01, 0.02, 0.04], retry_jitter_factor=None)
    monkeypatch.setattr(module, "batch", batch)
    for code, tries in ((errno.EIO, 3), (errno.ENOSPC, 1)):
        place = tmp_path / str(code)
        write_frames(place / "frames")
        storage = Hiccup("current.json", 2, code)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", storage)
            if tries > 1:
                (outcome,) = module.archive(load_job(write_job(place)))
                assert outcome.published
            else:
                with pytest.raises(DeblurError, match="can't write"):
                    module.archive(load_job(write_job(place)))
        assert storage.failed == min(2, tries)


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
    text = on_demand(job, {"restore.iterations": 16}, ["frames"])
    assert "4 units computed, 4 carried over" in text
    state: Any = on_demand(job, {"restore.nonsense": 2}, return_state=True)
    assert state.is_failed()
    assert "restore.nonsense: no such setting" in state.message


@pytest.mark.slow
@pytest.mark.skipif(
    bool(MISSING), reason=f"needs Slurm and munge (apt install slurm-wlm munge): no {MISSING}"
)
def test_a_night_from_a_submit_host(
    server: None,
    slurm: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deployed flow runs here, its units as jobs of Slurm; a second night starts none."""
    from flows.archive import nightly

    monkeypatch.chdir(tmp_path)
    for place in ("calm", "batch"):
        write_frames(tmp_path / place / "frames")
        write_job(tmp_path / place)
    work.run(load_job(tmp_path / "calm" / "job.toml"))
    told = {key: value for key, value in profile(slurm).items() if key.startswith("cluster.")}
    lines = "".join(f"{key.partition('.')[2]} = {json.dumps(value)}\n" for key, value in told.items())
    job = tmp_path / "batch" / "job.toml"
    text = job.read_text()
    job.write_text(text[: text.index("[cluster]")] + f"[cluster]\n{lines}[limits]\nmemory = '2 GiB'\n")
    assert nightly(str(job)) == "1 published, 8 units computed"
    assert nightly(str(job)) == "1 unchanged"
    calm, batch = (
        Archive.open(tmp_path / place / "archive").sequence("frames") for place in ("calm", "batch")
    )
    assert (
        batch.run(str(batch.current())).ledger().shards() == calm.run(str(calm.current())).ledger().shards()
    )
    hosts = {record["pid"] for record in batch.run(str(batch.current())).ledger().latest() if "pid" in record}
    assert os.getpid() not in hosts
