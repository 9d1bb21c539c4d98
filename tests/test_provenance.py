"""The run record: an RO-Crate that others can read, by the Process Run Crate profile."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur import provenance
from deblur.errors import StoreError
from deblur.store import Archive, RunSpec, RunStore, SourceStore, publish_run
from deblur.tiling import Box
from deblur.types import FrameInfo, SequenceHeader


def stores(path: Path) -> tuple[SourceStore, RunStore]:
    """A source of two frames and a finished run."""
    sequence = Archive.create(path).sequence("clip")
    header = SequenceHeader("clip", (1, 8, 8), "uint8", ("grey",))
    with SourceStore.create(
        sequence.source.path, header, [FrameInfo("a"), FrameInfo("b")], chunk=8, shard_size=8
    ) as w:
        w.write(0, np.zeros((2, 1, 8, 8), np.uint8))
        source = w.finish()
    spec = RunSpec(
        (2, 1, 8, 8), "uint8", 2, 8, chunk=8, parameters={"restore": {"iterations": 20}, "gate": True}
    )
    run = sequence.create_run("first", spec)
    shards: dict[str, str] = {}
    for name, (grid, dtype, _) in spec.arrays().items():
        shards |= run.write(name, 0, Box(0, 8, 0, 8), np.zeros(grid.shape, dtype))
    run.ledger().append({"key": "all", "shards": shards})
    return source, run


@pytest.fixture
def crate(tmp_path: Path) -> Any:
    from rocrate.rocrate import ROCrate

    source, run = stores(tmp_path)
    path = provenance.write_run_record(
        run,
        source=source,
        given={"restore": {"iterations": 20}},
        began=1.5,
        ended=60.0,
        parent=run,
        survey="ab" * 32,
        command=["deblur", "run", "job.toml"],
        agent="ada",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rocrate warns of entities that hang in the air
        return ROCrate(path.parent)


def of_type(crate: Any, kind: str) -> list[Any]:
    return [entity for entity in crate.get_entities() if entity.type == kind]


def test_it_conforms_to_the_profile(crate: Any) -> None:
    assert crate.version == "1.1"
    profile = crate.root_dataset["conformsTo"]
    assert (profile.id, profile.type) == (provenance.PROFILE, "CreativeWork")
    (action,) = of_type(crate, "CreateAction")
    assert action in crate.root_dataset["mentions"]
    assert action.id.startswith("urn:uuid:")
    assert action["instrument"].type == "SoftwareApplication"
    assert action["instrument"]["softwareVersion"]
    assert action["instrument"].get("version") is None  # not both, says the profile
    assert action["agent"].type == "Person"
    assert (action["startTime"], action["endTime"]) == (
        "1970-01-01T00:00:01.500+00:00",
        "1970-01-01T00:01:00.000+00:00",
    )
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert action["description"] == "deblur run job.toml"
    assert {entity.type for entity in action["object"]} == {"Dataset", "File", "PropertyValue"}
    assert {entity.type for entity in action["result"]} == {"Dataset"}


def test_inputs_are_one_dataset_with_the_root_digest(crate: Any) -> None:
    source = crate.dereference("#source")
    digest = Archive.open(Path(crate.source).parents[3]).sequence("clip").source.digest
    assert source["sha256"] == digest
    assert source["identifier"] == provenance.named(digest)
    assert crate.dereference("#survey")["sha256"] == "ab" * 32


def test_results_are_in_the_store(crate: Any) -> None:
    (action,) = of_type(crate, "CreateAction")
    for entity in action["result"]:
        assert (Path(crate.source) / entity.id).is_dir()
        assert entity in crate.root_dataset["hasPart"]
    names = {entity.id for entity in action["result"]}
    assert {"0/", "motion/forward/", "quality/weight/", "provenance/units/"} <= names


def test_parameters_are_there_as_given_and_as_resolved(crate: Any) -> None:
    found = {e["name"]: e["value"] for e in of_type(crate, "PropertyValue") if e.id.startswith("#parameter")}
    assert found == {"restore.iterations": 20, "gate": "true"}
    told = json.loads((Path(crate.source) / "provenance" / "parameters.json").read_text())
    assert told == {
        "given": {"restore": {"iterations": 20}},
        "resolved": {"restore": {"iterations": 20}, "gate": True},
    }


def test_the_parent_is_named(crate: Any) -> None:
    assert crate.root_dataset["isBasedOn"]["identifier"] == "first"


def test_versions_are_those_that_ran(crate: Any) -> None:
    needs = {e["name"]: e["softwareVersion"] for e in crate.dereference("#deblur")["softwareRequirements"]}
    assert needs["python"] == platform.python_version()
    assert needs["numpy"] == np.__version__


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    source, run = stores(tmp_path)
    path = provenance.write_run_record(run, source=source, given={}, began=0, ended=1, error="disk full")
    graph = json.loads(path.read_text())["@graph"]
    (action,) = (entity for entity in graph if entity["@type"] == "CreateAction")
    assert action["error"] == "disk full"
    assert action["actionStatus"].endswith("FailedActionStatus")


def test_a_published_record_never_changes(tmp_path: Path) -> None:
    source, run = stores(tmp_path)
    sequence = Archive.open(tmp_path).sequence("clip")
    publish_run(sequence, run, sequence.lease().acquire())
    with pytest.raises(StoreError, match="published"):
        provenance.write_run_record(run, source=source, given={}, began=0, ended=1)


def test_parameters_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    source, run = stores(tmp_path)
    with pytest.raises(StoreError, match="JSON"):
        provenance.write_run_record(run, source=source, given={"x": float("nan")}, began=0, ended=1)
    assert not (run.path / "ro-crate-metadata.json").exists()


def test_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setenv("DASK_SECRET_TOKEN", "hush")
    found = json.loads(json.dumps(provenance.environment(), allow_nan=False))
    assert found["settings"]["NUMBA_NUM_THREADS"] == "1"
    assert "hush" not in json.dumps(found)
    assert found["packages"]["zarr"]
    assert found["numerics"] == provenance.numerics_class()


def test_the_numerics_class_is_the_same_in_another_process() -> None:
    code = "import json; from deblur.provenance import numerics_class; print(json.dumps(numerics_class()))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert json.loads(done.stdout) == provenance.numerics_class()
    assert provenance.numerics_class().keys() == {"arch", "simd", "fastmath", "numpy", "scipy", "numba"}


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, min_size=1), max_leaves=6
)


@given(st.dictionaries(st.text("abc", min_size=1), nested))
def test_flattened_keys_lead_to_their_values(values: dict[str, Any]) -> None:
    for key, value in provenance.flattened(values):
        inner: Any = values
        for part in key.split("."):
            inner = inner[part]
        assert inner == value
