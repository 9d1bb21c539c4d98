"""Profiles: what they refuse, what they tell Dask, and that a lost secret or package is one clear line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from deblur import clusters
from deblur.clusters import JOBQUEUES, SETTINGS, connect, kubernetes_spec, worker_environment
from deblur.config import OF_KIND, Cluster, parse_job
from deblur.errors import ConfigError, PlanError
from deblur.execute import run_tasks
from tests.test_execute import fine, tasks

SLURM: dict[str, Any] = {"kind": "slurm", "workers": 4}
TLS = {"tls_ca": "a.pem", "tls_cert": "c.pem", "tls_key": "k.pem"}
OF_A_KIND: dict[str, dict[str, Any]] = {
    "address": {"kind": "address", "address": "tls://a:1"},
    "ssh": {"kind": "ssh", "hosts": ["a", "b"], **TLS},
    "slurm": SLURM,
    "kubernetes": {"kind": "kubernetes", "workers": 4, "image": "registry/deblur:1"},
}
VALUES: dict[str, Any] = {
    "address": "tcp://b:2",
    "minimum": 1,
    "hosts": ["a", "c"],
    "trust_hosts": True,
    "image": "other",
    "directives": ["--x"],
    "claims": ["frames:/frames"],
    "prologue": ["module load x"],
    "walltime": "01:00:00",
}


def job(**cluster: Any) -> Any:
    return parse_job({"archive": "a", "sources": [{"path": "x"}], "cluster": cluster})


@pytest.mark.parametrize("key", [key for key in OF_KIND if key != "tls_ca"])
def test_a_key_counts_for_its_kinds_and_is_refused_for_others(key: str) -> None:
    value = VALUES.get(key, "text")
    with pytest.raises(ConfigError, match=rf"cluster: {key} is for .*, not for kind = 'local'"):
        job(**{key: value})
    kind = next(kind for kind in OF_KIND[key] if kind in OF_A_KIND)
    plain = OF_A_KIND[kind]
    assert job(**plain).digest != job(**(plain | {key: value})).digest


def test_every_key_is_of_all_kinds_or_of_some() -> None:
    assert set(Cluster.model_fields) - set(OF_KIND) == {
        "kind",
        "workers",
        "patience",
        "kernels",
        "tls_cert",
        "tls_key",
    }


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"kind": "ssh", "hosts": ["a"]}, "at least two names"),
        ({"kind": "kubernetes", "workers": 2}, "needs image"),
        ({"kind": "slurm"}, "needs workers"),
        (SLURM | {"minimum": 9}, "minimum = 9 is more than workers = 4"),
        (SLURM | {"walltime": "soon"}, r"cluster\.walltime"),
        (SLURM | {"tls_ca": "a.pem"}, "give all or none"),
    ],
)
def test_what_can_not_be_is_refused_with_the_remedy(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(**cluster)


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        ("slurm", "dask_jobqueue", "slurm"),
        ("ssh", "asyncssh", "ssh"),
        ("kubernetes", "dask_kubernetes.operator", "kubernetes"),
    ],
)
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    kind: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(ConfigError, match=rf"pip install 'deblur\[{extra}\]'"),
        connect(Cluster(**OF_A_KIND[kind]), memory=2**30),
    ):
        pass


def test_workers_end_before_their_walltime() -> None:
    assert clusters._lifetime(None) == []
    assert clusters._lifetime("01:00:00")[:2] == ["--lifetime", f"{3600 - clusters.MARGIN}s"]
    assert clusters._lifetime("2-00:00:00")[1] == f"{2 * 86400 - clusters.MARGIN}s"


def test_every_batch_system_has_its_cluster_in_dask_jobqueue() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install '.[slurm]'")
    assert all(hasattr(jobqueue, name) for name in JOBQUEUES.values())


def test_a_batch_job_pins_threads_and_keeps_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install '.[slurm]'")
    monkeypatch.chdir(tmp_path)
    cluster = Cluster(
        **SLURM,
        queue="night",
        walltime="02:00:00",
        kernels="/var/cache/numba",
        directives=("--constraint=v3",),
        prologue=("module load python",),
    )
    with clusters._jobqueue(cluster, 2**30, worker_environment(cluster))() as started:
        script = started.job_script()
    for line in ("#SBATCH -p night", "#SBATCH -t 02:00:00", "#SBATCH --constraint=v3", "module load python"):
        assert line in script
    for name in ("OMP_NUM_THREADS='1'", "NUMBA_CACHE_DIR='/var/cache/numba'", "COMM__TIMEOUTS__TCP='12s'"):
        assert name in script
    assert "--lifetime 6600s" in script
    assert "tls://" in script


def test_the_kubernetes_resource_is_what_the_operator_accepts() -> None:
    package = pytest.importorskip(
        "dask_kubernetes", reason="needs dask-kubernetes: pip install '.[kubernetes]'"
    )
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    cluster = Cluster(**OF_A_KIND["kubernetes"])
    spec = kubernetes_spec(cluster, 2**30, worker_environment(cluster))
    chart = (
        Path(str(package.__file__)).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator"
    )
    schema = yaml.safe_load((chart / "crds" / "daskcluster.yaml").read_text())
    schema = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate(spec, schema)
    (container,) = spec["spec"]["worker"]["spec"]["containers"]
    assert container["image"] == "registry/deblur:1"
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
    assert container["resources"]["limits"]["memory"] == str(2**30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A scheduler behind TLS: its address, and the profile's keys for it."""
    pytest.importorskip("cryptography", reason="temporary certificates need cryptography")
    from distributed import LocalCluster
    from distributed.security import Security

    folder = tmp_path_factory.mktemp("tls")
    made = Security.temporary()
    files = {"tls_ca": made.tls_ca_file, "tls_cert": made.tls_client_cert, "tls_key": made.tls_client_key}
    for name, text in files.items():
        (folder / name).write_text(text)
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        memory_limit=2**30,
        security=made,
        dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address, {name: str(folder / name) for name in files}


def test_a_scheduler_behind_tls_takes_those_with_its_certificates_only(
    guarded: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    address, files = guarded
    others = {id(each) for each in gc.get_objects() if isinstance(each, Client)}
    seen: list[str] = []
    with connect(Cluster(kind="address", address=address, **files), memory=2**30) as client:
        assert (
            run_tasks(
                tasks(3), client=client, done=lambda task, record: seen.append(record["key"]), work=fine
            )
            == []
        )
    assert len(seen) == 3
    monkeypatch.setattr(clusters, "PATIENCE", 0.5)
    for stranger in (
        Cluster(kind="address", address=address),
        Cluster(kind="address", address=address.replace("tls", "tcp")),
    ):
        with pytest.raises(ConfigError, match="no scheduler answers there"), connect(stranger, memory=2**30):
            pass
        # left to the collector, it may be closed in the middle of the next one's start, and Dask hangs
        left = [each for each in gc.get_objects() if isinstance(each, Client) and each is not client]
        assert {id(each) for each in left} <= others


def test_a_unit_that_fits_nowhere_is_refused_and_one_that_fits_once_has_one_place(
    guarded: tuple[str, dict[str, str]],
) -> None:
    address, files = guarded
    profile = Cluster(kind="address", address=address, **files)
    for need, places in ((2**29, 2), (600 * 2**20, 1)):
        with connect(profile, memory=2**30, need=need) as client:
            assert client is not None
            assert list(clusters.places_of(client, need).values()) == [places]
    with (
        pytest.raises(
            PlanError, match=r"no worker is large enough: .* has 1024 MiB, and a unit takes up to 2048"
        ),
        connect(profile, memory=2**30, need=2**31),
    ):
        pass


def test_as_many_local_workers_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2**30)
    assert clusters.fitting_workers(2**31) == 1
    assert clusters.fitting_workers(1) == clusters.fitting_workers(0)


def test_settings_are_ones_that_dask_has() -> None:
    import dask
    import distributed

    assert distributed.__name__ == "distributed"  # its defaults are there once it is imported
    missing = object()
    assert [key for key in SETTINGS if dask.config.get(key, missing) is missing] == []


def test_a_scheduler_forgets_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's default span collects the metadata of every submission; ours is emptied now and then."""
    from distributed import Client, LocalCluster

    tidy = import_module("deblur.tidy")
    monkeypatch.setattr(tidy, "EVERY", 20)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(tidy.Tidy())
        run_tasks(tasks(110), client=client, done=lambda task, record: None, work=fine)
        spans = cluster.scheduler.extensions["spans"].spans.values()
        assert sum(len(span.metadata["collections"]) for span in spans) <= 20
        assert len(cluster.scheduler.task_groups) <= 1
        assert len(cluster.scheduler.tasks) < 20  # the last ones are released at their leisure
