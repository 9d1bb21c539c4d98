"""Who may reach what: schedulers, certificates, code in files, folders that code is loaded from, archives of others."""

from __future__ import annotations

import ast
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblur import clusters
from deblur.clusters import connect
from deblur.config import Cluster, parse_job
from deblur.damage import find_damage
from deblur.encryption import make_certificates, refuse_open, refuse_shared_kernels
from deblur.errors import ConfigError, StoreError
from deblur.evidence import SUMS
from deblur.integrity import repair
from deblur.io import READERS, isolation
from deblur.store import Archive, find_run, sha256_file
from deblur.store.arrays import ShardedArray, create_array
from deblur.store.durable import digest_of, write_json
from deblur.store.shards import Grid
from tests.small import command

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


def test_batch_clusters_have_certificates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(clusters, "_needed", lambda *_: told.update)
    clusters._jobqueue(Cluster(kind="slurm", workers=2), 2**30, {})()
    assert told["security"] is True
    assert told["scheduler_options"]["dashboard_address"].startswith("127.0.0.1:")


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
def test_local_processes_listen_on_loopback_only_and_let_nobody_else_of_this_machine_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr(clusters, "PATIENCE", 2.0)
    others = {key: str(path) for key, path in make_certificates(tmp_path / "others").items()}
    with connect(Cluster(kind="local", workers=1), memory=2**30) as client:
        assert client is not None
        assert client.submit(sum, [1, 2]).result() == 3
        address = client.scheduler.address
        assert address.startswith("tls://")
        for told in ({"address": address.replace("tls", "tcp")}, {"address": address, **others}):
            with (
                pytest.raises(ConfigError, match="no scheduler answers there"),
                connect(Cluster(kind="address", **told), memory=2**30),
            ):
                pass
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
    folder.chmod(0o755)
    (folder / "of_a_module").mkdir(mode=0o755)
    (folder / "of_a_module" / "kernel.nbc").touch(mode=0o644)
    refuse_shared_kernels(str(folder))
    for inside in (folder / "of_a_module", folder / "of_a_module" / "kernel.nbc"):  # as by a umask of 002
        before = stat.S_IMODE(inside.stat().st_mode)
        inside.chmod(before | 0o020)
        with pytest.raises(ConfigError, match="chmod 700"):
            refuse_shared_kernels(str(folder))
        folder.chmod(0o700)
        refuse_shared_kernels(str(folder))  # nobody gets there
        folder.chmod(0o755)
        inside.chmod(before)
    folder.chmod(0o777)
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


def test_foreign_files_are_decoded_apart_unless_asked_otherwise() -> None:
    here = {name for name, opener in READERS.items() if opener.open.__module__ != isolation.__name__}
    assert here == {"images", "npy"}  # pictures go there one by one; of an array nothing is decoded
    assert parse_job({"archive": "a", "sources": [{"path": "b"}]}).decode.apart is not None


@pytest.mark.parametrize("key", ["archive", "source"])
@pytest.mark.parametrize(
    "address", ["http://h/a", "zip::s3://b/a", "reference://b", "s3://b/../a", "s3://me:CANARY@b/a"]
)
def test_addresses_of_a_job_are_of_known_kinds(key: str, address: str) -> None:
    told = {"archive": "a", "source": "b"} | {key: address}
    with pytest.raises(ConfigError, match=r"address|deblur knows no") as caught:
        parse_job({"archive": told["archive"], "sources": [{"path": told["source"]}]})
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("way", ["name", "link"])
def test_an_archive_of_somebody_else_is_mended_nowhere_else(place: Path, tmp_path: Path, way: str) -> None:
    """Its lists tell which copy comes into which place; none leads out of it, by name or by a link."""
    (tmp_path / "home").mkdir()
    mine = tmp_path / "home" / "settings.json"
    mine.write_text("mine")
    sequence, run = find_run(f"{place}/frames")
    if way == "name":
        kept, key, theirs = "source", "../../../../home/settings.json", place / "home" / "settings.json"
        assert (sequence.source.path / key).resolve() == mine
        (sequence.path / "evidence" / kept / "frames.jsonl").unlink()  # something to be mended
    else:
        kept, key = run.id, "notes/settings.json"
        (run.path / "notes").symlink_to(mine.parent)
        theirs = sequence.path / "evidence" / kept / key
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    listed = sequence.path / "evidence" / kept / SUMS
    sums = json.loads(listed.read_text())["sums"] | {key: sha256_file(theirs)}
    write_json(listed, {"sums": sums, "sha256": digest_of(sums)})

    archive = Archive.open(place)
    left = repair(archive, list(find_damage(archive)))
    assert any("leads out of" in str(one) for one in left)
    assert mine.read_text() == "mine"


def test_codecs_that_we_never_write_are_not_read_from_an_archive_either(tmp_path: Path) -> None:
    grid = Grid((2, 1, 8, 8), (1, 1, 8, 8), (2, 1, 8, 8))
    create_array(tmp_path, "0", grid, "uint8", names=("t", "c", "y", "x"), attributes={})
    ShardedArray(tmp_path, "0").write(((0, 2), (0, 1), (0, 8), (0, 8)), np.ones((2, 1, 8, 8), np.uint8))
    file = tmp_path / "0" / "zarr.json"
    told = json.loads(file.read_text())
    inner = told["codecs"][0]["configuration"]["codecs"]
    assert [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
    inner[1] = {"name": "gzip", "configuration": {"level": 1}}
    file.write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"codec 'gzip': deblur did not write it"):
        ShardedArray(tmp_path, "0").read(((0, 2), (0, 1), (0, 8), (0, 8)))


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
