"""Who may reach what: schedulers, certificates, code in files, folders that code is loaded from, secrets."""

from __future__ import annotations

import ast
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deblur import clusters
from deblur import job as work
from deblur.clusters import connect
from deblur.config import Cluster, load_job
from deblur.encryption import make_certificates, refuse_open, refuse_shared_kernels
from deblur.errors import ConfigError
from tests.small import command, write_frames, write_job

ROOT = Path(__file__).parents[1]
TLS = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "address", "address": "tcp://10.0.0.1:8786"},
        {"kind": "address", "address": "tcp://scheduler:8786"},
        {"kind": "address", "address": "tcp://0.0.0.0:8786"},
        {"kind": "address", "address": "tcp://127.0.0.1.example.org:8786"},
        {"kind": "address", "address": "ws://127.0.0.1:8786"},
        {"kind": "address", "address": "10.0.0.1:8786"},
        {"kind": "address", "address": "tcp://10.0.0.1:8786", **TLS},
        {"kind": "ssh", "hosts": ["a", "b"]},
    ],
)
def test_a_scheduler_that_others_may_reach_is_refused_with_the_remedy(told: dict[str, Any]) -> None:
    with (
        pytest.raises(ConfigError, match="deblur certificates FOLDER"),
        connect(Cluster(**told), memory=2**30),
    ):
        pass


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "address", "address": "tcp://127.0.0.1:8786"},
        {"kind": "address", "address": "tcp://localhost:8786"},
        {"kind": "address", "address": "tcp://[::1]:8786"},
        {"kind": "address", "address": "tls://10.0.0.1:8786", **TLS},
        {"kind": "ssh", "hosts": ["a", "b"], **TLS},
        {"kind": "slurm", "workers": 2},
        {"kind": "local"},
    ],
)
def test_loopback_and_encrypted_ones_are_not(told: dict[str, Any]) -> None:
    refuse_open(Cluster(**told))


def test_certificates_are_for_their_owner_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deblur = command(capsys)
    folder = tmp_path / "keys"
    said = deblur("certificates", folder, "--host", "a.example.org", "--host", "10.0.0.1", "--days", "7")
    assert said.code == 0
    assert f'tls_key = "{folder / "key.pem"}"' in said.out.splitlines()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    before = {file: file.read_bytes() for file in folder.iterdir()}
    again = deblur("certificates", folder)
    assert (again.code, len(again.faults)) == (2, 1)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    from cryptography import x509

    ca, cert = (x509.load_pem_x509_certificate(before[folder / name]) for name in ("ca.pem", "cert.pem"))
    cert.verify_directly_issued_by(ca)
    named = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named.get_values_for_type(x509.DNSName) == ["a.example.org"]
    assert [str(each) for each in named.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert (cert.not_valid_after_utc - cert.not_valid_before_utc).days == 7
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a scheduler with a worker behind our own certificates, and those."""
    from distributed import LocalCluster

    keys = {key: str(path) for key, path in make_certificates(tmp_path / "ours").items()}
    security = clusters._security(Cluster(kind="address", address="tls://a:1", **keys))
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tls",
        host="127.0.0.1",
        security=security,
        dashboard_address=None,
    ) as started:
        yield started.scheduler_address, keys


@pytest.mark.slow
def test_only_who_has_a_certificate_gets_in(
    encrypted: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, keys = encrypted
    assert address.startswith("tls://")
    with connect(Cluster(kind="address", address=address, **keys), memory=2**30) as client:
        assert client is not None
        assert client.submit(sum, [1, 2]).result() == 3
    monkeypatch.setattr(clusters, "PATIENCE", 2.0)
    others = {key: str(path) for key, path in make_certificates(tmp_path / "others").items()}
    for told in ({"address": address, **others}, {"address": address.replace("tls", "tcp")}):
        with (
            pytest.raises(ConfigError, match="no scheduler answers there"),
            connect(Cluster(kind="address", **told), memory=2**30),
        ):
            pass


@pytest.mark.slow
def test_local_processes_listen_on_loopback_only() -> None:
    import psutil

    with connect(Cluster(kind="local", workers=1), memory=2**30) as client:
        assert client is not None
        mine = psutil.Process()
        found = [c.laddr.ip for p in (mine, *mine.children(recursive=True)) for c in p.net_connections("inet")
                 if c.status == psutil.CONN_LISTEN]  # fmt: skip
    assert len(found) >= 3  # scheduler, dashboard, worker
    assert set(found) <= {"127.0.0.1", "::1"}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_kernels_that_others_may_write_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kernels"
    refuse_shared_kernels(None)
    refuse_shared_kernels(str(folder))  # Numba will make it
    folder.mkdir(mode=0o755)
    refuse_shared_kernels(str(folder))
    for mode in (0o775, 0o757, 0o1777):
        folder.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 700"):
            refuse_shared_kernels(str(folder))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    said = command(capsys)("init", tmp_path / "job.toml")
    assert (said.code, len(said.faults)) == (2, 1)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, 4321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="may be written by others"):
        refuse_shared_kernels(str(folder))


FORBIDDEN = {"eval", "exec", "compile", "__import__"}
LOADERS = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "yaml", "joblib"}
BY_NAME = {  # where modules are imported by a name, and that name is in the source, never in a file or an argument
    "deblur/__init__.py", "deblur/bucket.py", "deblur/clusters.py", "deblur/io/stack.py",
    "deblur/store/arrays.py", "deblur/types.py",
}  # fmt: skip


def unsafe(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module).split(".")[0]]
        yield from (f"{path}:{node.lineno} imports {name}" for name in names if name in LOADERS)
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called in FORBIDDEN:
            yield f"{path}:{node.lineno} calls {called}"
        if called == "import_module" and path.relative_to(ROOT).as_posix() not in BY_NAME:
            yield f"{path}:{node.lineno} imports by name"
        loads = isinstance(node.func, ast.Attribute) and node.func.attr == "load"
        if loads and isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "numpy"):
            told = {key.arg: getattr(key.value, "value", None) for key in node.keywords}
            if told.get("allow_pickle") is not False:
                yield f"{path}:{node.lineno} lets NumPy unpickle"


def test_nothing_read_is_run() -> None:
    files = [file for package in ("deblur", "flows") for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 150
    assert [fault for file in files for fault in unsafe(file)] == []


def test_the_search_for_what_runs_code_finds_it(tmp_path: Path) -> None:
    file = ROOT / "tests" / "test_security.py"
    assert list(unsafe(file)) == []
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle\nfrom yaml import load\neval('1')\nnp.load(f)\nnp.load(f, allow_pickle=True)\n"
    )
    assert len(list(unsafe(bad))) == 5


def test_results_are_json_and_kept_nowhere() -> None:
    from flows import settings

    assert settings.DEFAULTS["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    flows = [ast.parse(file.read_text()) for file in (ROOT / "flows").glob("*.py")]
    made = [
        {key.arg: getattr(key.value, "value", None) for key in decorator.keywords}
        for tree in flows
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "flow"
    ]
    assert len(made) >= 4
    assert all(told.get("persist_result") is False for told in made)


SECRETS = (
    'metadata = { site = "A", api_key = "CANARY", see = "https://u:CANARY@h/?t=CANARY" }\n'
    '[hooks]\nwebhook = "https://hooks.example.org/CANARY"\ncommand = ["notify", "--token=CANARY"]\n'
)


@pytest.mark.slow
def test_secrets_are_told_to_nobody(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In configuration and environment they are; in archive, catalog, report, log, answers and errors they are not."""
    for name in ("AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "GOOGLE_API_KEY", "NOTIFY_TOKEN"):
        monkeypatch.setenv(name, "CANARY")
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "cache"))
    deblur = command(capsys)
    write_frames(tmp_path / "frames")
    job = write_job(tmp_path, source=SECRETS)
    with caplog.at_level(logging.DEBUG):
        (outcome,) = work.run(load_job(job))
        assert outcome.published
        said = [
            deblur("status", tmp_path / "archive"),
            deblur("list", tmp_path / "archive", "--json"),
            deblur("explain", tmp_path / "archive" / "frames", "--frame", "1", "--at", "9,9"),
            deblur("provenance", tmp_path / "archive" / "frames", "--format", "prov"),
            deblur("restore", tmp_path / "frames", tmp_path / "out", "--report", tmp_path / "report.html",
                   "-e", "0.75", "--workers", "1", "--set", "tiling.window=64", "--set", "tiling.chunk=32"),
        ]  # fmt: skip
        assert [each.code for each in said] == [0] * len(said)
        job.write_text(
            job.read_text().replace('path = "frames"', 'path = "s3://me:CANARY@bucket/a?sig=CANARY"')
        )
        said += [
            deblur("plan", job),
            deblur("restore", "s3://me:CANARY@bucket/a?sig=CANARY", tmp_path / "other"),
        ]
        assert [each.code for each in said[-2:]] == [2, 2]
    assert not any("CANARY" in each.out + each.err for each in said)
    assert "CANARY" not in caplog.text
    looked_at = [path for path in tmp_path.rglob("*") if path.is_file() and path != job]
    assert {path.suffix for path in looked_at} >= {".html", ".sqlite", ".json", ".jsonl"}
    assert [path for path in looked_at if b"CANARY" in path.read_bytes()] == []


def test_a_traceback_names_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import traceback

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    job = write_job(tmp_path)
    job.write_text(job.read_text().replace('path = "frames"', 'path = "s3://me:CANARY@bucket/a"'))
    with pytest.raises(ConfigError) as caught:
        load_job(job)
    error: BaseException | None = caught.value
    assert "CANARY" not in "".join(traceback.format_exception(error))
