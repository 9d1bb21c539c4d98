"""Who made a run, from what, with what: the run record (an RO-Crate) and the facts that go into it.

The record follows the Process Run Crate profile 0.5 (https://w3id.org/ro/wfrun/process/0.5) on RO-Crate 1.1
(Soiland-Reyes et al. 2022, doi:10.3233/DS-210053; Leo et al. 2024, doi:10.1371/journal.pone.0309210).
"""

from __future__ import annotations

import base64
import getpass
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from deblur.errors import StoreError
from deblur.place import Place
from deblur.redact import without_secrets
from deblur.store.durable import canonical, digest_of, read_json, sha256_file, write_json
from deblur.store.run import RunStore
from deblur.store.source import SourceStore

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
CRATE = "ro-crate-metadata.json"
HOME = "https://github.com/deblur/deblur"
PACKAGES = (
    *("numpy", "scipy", "numba", "llvmlite", "zarr", "numcodecs", "dask", "distributed", "prefect"),
    *("pydantic", "tifffile", "imagecodecs", "Pillow", "av", "rocrate"),
)
SETTINGS = (
    "NUMBA_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NPY_",
    "SCIPY_",
    "DASK_",
)  # what these set may decide bits
LEVELS = (
    ("v4", {"X86_V4", "AVX512_SKX", "AVX512F"}),
    ("v3", {"X86_V3", "AVX2"}),
)  # NumPy's names, new and old


@lru_cache(maxsize=1)
def numerics_class() -> dict[str, str]:
    """What the bits of a result may depend on besides its input and parameters.

    `simd` is the level that NumPy dispatches to here: its float32 exp, log and power differ in the last bit
    between AVX2 and AVX-512 (NPY_DISABLE_CPU_FEATURES brings a machine down to a lower one). Kernels are
    compiled without fast-math, so the rest of the CPU has no say.
    """
    versions = {name: version(name) or "none" for name in ("numpy", "scipy", "numba")}
    return {"arch": platform.machine(), "simd": _simd(), "fastmath": "none", **versions}


def numerics_digest() -> str:
    """The sha256 of the numerics class."""
    return digest_of(numerics_class())


def environment() -> dict[str, Any]:
    """Where this process runs: Python, packages, CPU, threads, host, settings, and the commit of a
    checkout."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable,
        "packages": {name: found for name in PACKAGES if (found := version(name)) is not None},
        "deblur": version("deblur"),
        "commit": commit(),
        "settings": _settings(),
        "numerics": dict(numerics_class()),
    }


def version(package: str) -> str | None:
    """The installed version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The git commit of the checkout that this package runs from, with `+changes` if it has any; None
    elsewhere."""
    package = Path(__file__).resolve().parent
    try:
        top = _git(package, "rev-parse", "--show-toplevel")
        if Path(top) != package.parent:
            return None  # installed somewhere inside of another project's checkout
        head = _git(package, "rev-parse", "--verify", "HEAD")
        return head + ("+changes" if _git(package, "status", "--porcelain", "--", str(package)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def has_record(run: RunStore) -> bool:
    """Whether a run's record is written, which happens once: when it is complete and verified."""
    return (run.path / CRATE).is_file()


def environment_of(run: RunStore) -> dict[str, Any]:
    """`environment` of the process that wrote a run's record; empty while there is none."""
    path = run.path / "provenance" / "environment.json"
    return read_json(path, what="environment of the run") if path.is_file() else {}


def write_run_record(
    run: RunStore,
    *,
    source: SourceStore,
    given: Mapping[str, Any],
    origins: Mapping[str, str] | None = None,
    began: float,
    ended: float,
    parent: RunStore | None = None,
    survey: str | None = None,
    error: str | None = None,
    command: Sequence[str] | None = None,
    agent: str | None = None,
) -> Place:
    """Write the run's record into its store, before it is published; returns the path.

    `given`: the parameters as the user gave them; the resolved ones are those the run was created with;
    `origins`: where each of these came from. Credentials in any of it are left out.
    `began`, `ended`: seconds since 1970. `parent`: the run that this one reprocesses. `survey`: the survey's
    digest. `error`: why it failed, if it did. `command`: what was called (this process's command line by
    default). `agent`: who called it (the login name by default). Raises StoreError for values that JSON can't
    hold, and for a run that is published already.
    """
    if run.sealed:
        raise StoreError(f"run {run.id} is published and never changes: its record was written before")
    here = environment()
    folder = run.path / "provenance"
    told = {"given": without_secrets(dict(given)), "resolved": dict(run.parameters)}
    write_json(folder / "parameters.json", told | ({"origins": dict(origins)} if origins else {}))
    write_json(folder / "environment.json", here)
    crate = _crate(run, source)
    tool = _software(crate, here)
    inputs = [_input(crate, source), *_survey(crate, survey), *_files(crate, folder)]
    action = _entity(
        crate,
        uuid.uuid4().urn,
        "CreateAction",
        name=f"deblur run {run.id}",
        description=without_secrets(
            " ".join(command if command is not None else [Path(sys.argv[0]).name, *sys.argv[1:]])
        ),
        startTime=_iso(began),
        endTime=_iso(ended),
        instrument=tool,
        agent=_agent(crate, agent),
        object=inputs + _parameters(crate, run.parameters),
        result=_results(crate, run),
        environment=[_value(crate, f"#env-{k}", k, v) for k, v in here["settings"].items()],
        actionStatus="http://schema.org/" + ("FailedActionStatus" if error else "CompletedActionStatus"),
        error=without_secrets(error),
    )
    crate.root_dataset["mentions"] = [action, inputs[0]]
    if parent is not None:
        crate.root_dataset["isBasedOn"] = _parent(crate, parent)
    path = run.path / CRATE
    write_json(path, crate.metadata.generate())
    return path


def _crate(run: RunStore, source: SourceStore) -> Any:
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    profile = _entity(crate, PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    root = crate.root_dataset
    root["conformsTo"] = profile
    root["name"] = f"{source.header.name}, deblurred: run {run.id}"
    root["description"] = (
        "Restored frames, the motion they were restored with, and where they were left alone."
    )
    root["identifier"] = run.id
    root["license"] = "Of the source: deblur adds no terms of its own."
    return crate


def _software(crate: Any, here: Mapping[str, Any]) -> Any:
    needs = [("python", here["python"], "https://www.python.org/")]
    needs += [(name, found, f"pkg:pypi/{name}@{found}") for name, found in here["packages"].items()]
    return _entity(
        crate,
        "#deblur",
        "SoftwareApplication",
        name="deblur",
        url=HOME,
        softwareVersion=here["deblur"] or "unreleased",
        identifier=here["commit"],
        softwareRequirements=[
            _entity(crate, where, "SoftwareApplication", name=name, softwareVersion=found, url=where)
            for name, found, where in needs
        ],
    )


def _input(crate: Any, source: SourceStore) -> Any:
    """All inputs as one dataset, named by its root digest (RFC 6920) wherever the archive lies."""
    kept, lost = len(source.frames), len(source.quarantined)
    return _entity(
        crate,
        "#source",
        "Dataset",
        name=source.header.name,
        description=f"{kept} frames, {lost} quarantined; beside the run in ../../source.ome.zarr",
        identifier=named(source.digest),
        sha256=source.digest,
    )


def _files(crate: Any, folder: Place) -> Iterator[Any]:
    about = {
        "parameters.json": "Parameters as given and as resolved",
        "stages.json": "What each stage took: units, seconds, bytes read and written",
        "environment.json": "Versions, CPU, threads and host of the process that wrote this record",
    }
    for name, text in about.items():
        path = folder / name
        if not path.exists():
            continue
        facts = {"encodingFormat": "application/json", "contentSize": str(path.stat().st_size)}
        entity = _entity(crate, f"provenance/{name}", "File", name=text, sha256=sha256_file(path), **facts)
        crate.root_dataset.append_to("hasPart", entity)
        yield entity


def _parameters(crate: Any, resolved: Mapping[str, Any]) -> list[Any]:
    return [_value(crate, f"#parameter-{key}", key, value) for key, value in flattened(resolved)]


def survey_of(run: RunStore) -> str | None:
    """The digest of the survey that a run was computed with, where its record tells."""
    return recorded(run, "#survey") if has_record(run) else None


def recorded(run: RunStore, entity: str) -> str | None:
    """The digest that a run's record gives for one of its entities, if it does. Raises StoreError for a damaged record."""
    record = read_json(run.path / CRATE, what="run record")
    try:
        found = [one.get("sha256") for one in record["@graph"] if one["@id"] == entity]
    except (KeyError, TypeError, AttributeError):
        raise StoreError(f"the record {CRATE} of run {run.id} is damaged") from None
    return None if not found or found[0] is None else str(found[0])


def _survey(crate: Any, digest: str | None) -> list[Any]:
    if digest is None:
        return []
    about = {"name": "survey", "identifier": named(digest), "sha256": digest}
    return [_entity(crate, "#survey", "Dataset", description="beside the run in ../../survey", **about)]


def _results(crate: Any, run: RunStore) -> list[Any]:
    table = run.table()
    found = []
    for name, (grid, dtype, axes) in run.spec.arrays().items():
        shape = " ".join(f"{axis}={extent}" for axis, extent in zip(axes, grid.shape, strict=True))
        text = f"{dtype} {shape}, {table.count(name)} shards"
        root = table.root_of(name)
        found.append(_entity(crate, f"{name}/", "Dataset", name=name, description=text, identifier=root))
    about = "One line a unit: region, halo, digests, attempt, host"
    found.append(_entity(crate, "provenance/units/", "Dataset", name="ledger", description=about))
    crate.root_dataset.append_to("hasPart", found)
    return found


def _parent(crate: Any, parent: RunStore) -> Any:
    about = {"name": f"run {parent.id}", "identifier": parent.id, "sha256": parent.digest()}
    return _entity(crate, f"#run-{parent.id}", "CreativeWork", **about)


def _agent(crate: Any, agent: str | None) -> Any:
    if agent is None:
        try:
            agent = getpass.getuser()
        except (KeyError, OSError):  # a container without an entry for its user
            return None
    return _entity(crate, f"#agent-{agent}", "Person", name=agent)


def _value(crate: Any, at: str, name: str, value: object) -> Any:
    plain = (
        value if isinstance(value, str | int | float) and not isinstance(value, bool) else canonical(value)
    )
    return _entity(crate, at, "PropertyValue", name=name, value=plain)


def _entity(crate: Any, at: str, kind: str, /, **properties: Any) -> Any:
    from rocrate.model.contextentity import ContextEntity

    told = {key: value for key, value in properties.items() if value is not None and value != []}
    plain = {"@type": kind} | {key: value for key, value in told.items() if not _linked(value)}
    entity = crate.add(ContextEntity(crate, at, properties=plain))
    for key, value in told.items():
        if _linked(value):
            entity[key] = value
    return entity


def _linked(value: object) -> bool:
    """Whether a property's value is another entity, or a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return hasattr(first, "properties") and hasattr(first, "id")


def named(digest: str) -> str:
    """A sha256 as a URI that names content wherever it is kept (RFC 6920).

    >>> named("00" * 32)
    'ni:///sha-256;AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


def flattened(values: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys.

    >>> list(flattened({"restore": {"iterations": 20}, "window": 256}))
    [('restore.iterations', 20), ('window', 256)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _settings() -> dict[str, str]:
    found = {key: value for key, value in os.environ.items() if key.startswith(SETTINGS)}
    hidden = ("KEY", "TOKEN", "PASS", "SECRET")
    return {
        key: without_secrets(found[key]) for key in sorted(found) if not any(word in key for word in hidden)
    }


def _simd() -> str:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return next((f"x86-64-{level}" for level, names in LEVELS if names & set(found)), "baseline")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor()
    return platform.processor()


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
