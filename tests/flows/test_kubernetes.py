"""The manifest for Kubernetes, by the models of its own client: no field that it doesn't know, none missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deblur.clusters import kubernetes_spec
from deblur.config import JobConfig, parse_job

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes.yaml"


def documents() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}


def job() -> JobConfig:
    import tomllib

    return parse_job(tomllib.loads(documents()["ConfigMap"]["data"]["job.toml"]))


def round_trip(told: dict[str, Any], model: str) -> Any:
    """What the client makes of it and would send; a required field that is missing raises."""
    client = pytest.importorskip("kubernetes.client", reason="needs the client: pip install '.[kubernetes]'")
    api = client.ApiClient()
    return api.sanitize_for_serialization(api._ApiClient__deserialize(told, model))


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "CronJob"]
)
def test_the_manifest_is_what_kubernetes_knows(kind: str) -> None:
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
    assert "deblur run /job/job.toml --until" in container["command"][-1]
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
