"""The manifests for Kubernetes, by kustomize, by the schemas, and by the models of its own client."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deblur.clusters import kubernetes_spec
from deblur.config import JobConfig, load_job

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KINDS = ("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "CronJob")


def documents() -> dict[str, dict[str, Any]]:
    files = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in files]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


def job() -> JobConfig:
    return load_job(FOLDER / "job.toml")


def round_trip(told: dict[str, Any], model: str) -> Any:
    """What the client makes of it and would send; a required field that is missing raises."""
    client = pytest.importorskip("kubernetes.client", reason="needs the client: pip install '.[kubernetes]'")
    api = client.ApiClient()
    return api.sanitize_for_serialization(api._ApiClient__deserialize(told, model))


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """What `kubectl apply --kustomize` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine")
    run = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(run.stdout))


def test_kustomize_puts_the_job_into_the_night(rendered: list[dict[str, Any]]) -> None:
    found = {one["kind"]: one for one in rendered}
    assert set(found) == {*KINDS, "ConfigMap"}
    assert all(one["metadata"]["namespace"] == job().cluster.namespace for one in rendered)
    volumes = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    (name,) = [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    assert name == found["ConfigMap"]["metadata"]["name"]
    assert found["ConfigMap"]["data"]["job.toml"] == (FOLDER / "job.toml").read_text(encoding="utf-8")


def test_every_manifest_fits_the_schema_of_kubernetes(rendered: list[dict[str, Any]]) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate")
    for one in rendered:
        schemas.validate(one, "1.34", strict=True)
    with pytest.raises(schemas.ValidationError):
        schemas.validate(rendered[0] | {"spce": {}}, "1.34", strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_is_what_kubernetes_knows(kind: str) -> None:
    told = documents()[kind]
    assert round_trip(told, f"V1{kind}") == told
    assert re.fullmatch(r"[a-z0-9-]+", told["metadata"]["name"])


def test_the_models_refuse_what_is_wrong() -> None:
    told = documents()["CronJob"]
    assert round_trip(told | {"spce": {}}, "V1CronJob") != told | {"spce": {}}
    with pytest.raises(ValueError, match="schedule"):
        round_trip(told | {"spec": {"jobTemplate": {}}}, "V1CronJob")


def test_the_job_and_its_workers_see_the_same_places() -> None:
    config = job()
    pod = documents()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    names = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"]
             if "persistentVolumeClaim" in v}  # fmt: skip
    claims = {f"{names[m['name']]}:{m['mountPath']}" for m in container["volumeMounts"] if m["name"] in names}
    assert claims == set(config.cluster.claims)
    assert container["image"] == config.cluster.image
    for place in (config.archive, config.watch[0].path):
        assert any(str(place).startswith(claim.partition(":")[2]) for claim in claims)
    allowed = documents()["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert allowed == pod["metadata"]["labels"]


def test_workers_mount_the_claims() -> None:
    pytest.importorskip("dask_kubernetes", reason="needs dask-kubernetes: pip install '.[kubernetes]'")
    worker = kubernetes_spec(job().cluster, 2**32, {})["spec"]["worker"]["spec"]
    assert worker["containers"][0]["volumeMounts"] == [
        {"name": "archive", "mountPath": "/archive"},
        {"name": "incoming", "mountPath": "/incoming"},
    ]
    assert round_trip(worker, "V1PodSpec") == worker
