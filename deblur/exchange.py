"""A run's evidence in other people's formats: W3C PROV as JSON, and a BagIt bag of the whole run.

PROV-JSON: Huynh et al. 2013 (https://www.w3.org/Submission/prov-json/). BagIt: Kunze et al. 2018 (RFC 8493).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deblur.errors import ConfigError, StoreError
from deblur.place import below, files_below
from deblur.provenance import CRATE, has_record, named
from deblur.store import RunStore, SequenceStore, sha256_file
from deblur.store.durable import copy_file, read_json, settle, settle_folders

SPACE = "https://github.com/deblur/deblur/prov#"


def prov_json(run: RunStore) -> dict[str, Any]:
    """The run as PROV: its source and survey were used, its arrays generated, by whom, with what software.

    Raises StoreError for a run that is not finished.
    """
    graph = _graph(run)
    action = next(e for e in graph.values() if e["@type"] == "CreateAction")
    software, tool = graph["#deblur"], "deblur:software"
    used = {
        f"deblur:{entity['@id'].lstrip('#')}": {
            "prov:label": entity["name"],
            "deblur:sha256": entity["sha256"],
            "deblur:uri": named(entity["sha256"]),
        }
        for entity in (graph["#source"], graph.get("#survey"))
        if entity
    }
    made = {
        f"deblur:{entity['@id'].rstrip('/').replace('/', '_')}": {
            "prov:label": entity["description"],
            "deblur:digest": entity["identifier"],
        }
        for entity in (graph[one["@id"]] for one in action["result"])
        if "identifier" in entity
    }
    whole = {"prov:type": {"$": "prov:Collection", "type": "prov:QUALIFIED_NAME"}, "prov:label": run.id}
    parameters = {f"deblur:{e['name']}": e["value"] for e in graph.values() if e["@type"] == "PropertyValue"}
    activity = {"prov:startTime": action["startTime"], "prov:endTime": action["endTime"], **parameters}
    agents: dict[str, Any] = {
        tool: {
            "prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"},
            "prov:label": f"deblur {software['softwareVersion']}",
            **({"deblur:commit": software["identifier"]} if "identifier" in software else {}),
        }
    }
    person = next((e for e in graph.values() if e["@type"] == "Person"), None)
    if person is not None:
        kind = {"$": "prov:Person", "type": "prov:QUALIFIED_NAME"}
        agents["deblur:agent"] = {"prov:type": kind, "prov:label": person["name"]}
    document: dict[str, Any] = {
        "prefix": {"deblur": SPACE, "prov": "http://www.w3.org/ns/prov#"},
        "entity": {**used, **made, "deblur:run": whole | {"deblur:sha256": run.digest()}},
        "activity": {"deblur:restoration": activity},
        "agent": agents,
        "used": {
            f"_:u{n}": {"prov:activity": "deblur:restoration", "prov:entity": e} for n, e in enumerate(used)
        },
        "wasGeneratedBy": {
            f"_:g{n}": {"prov:entity": e, "prov:activity": "deblur:restoration"}
            for n, e in enumerate((*made, "deblur:run"))
        },
        "wasAssociatedWith": {
            f"_:a{n}": {"prov:activity": "deblur:restoration", "prov:agent": e} for n, e in enumerate(agents)
        },
        "wasDerivedFrom": {
            "_:d0": {"prov:generatedEntity": "deblur:run", "prov:usedEntity": "deblur:source"}
        },
        "hadMember": {
            f"_:m{n}": {"prov:collection": "deblur:run", "prov:entity": e} for n, e in enumerate(made)
        },
    }
    parent = graph["./"].get("isBasedOn")
    if parent:
        before = graph[parent["@id"]]
        document["entity"]["deblur:parent"] = {
            "prov:label": before["name"],
            "deblur:sha256": before["sha256"],
        }
        document["wasDerivedFrom"]["_:d1"] = {
            "prov:generatedEntity": "deblur:run",
            "prov:usedEntity": "deblur:parent",
            "prov:type": {"$": "prov:Revision", "type": "prov:QUALIFIED_NAME"},
        }
    return document


def _graph(run: RunStore) -> dict[str, dict[str, Any]]:
    if not has_record(run):
        raise StoreError(f"run {run.id} has no record yet: finish it with `deblur run`")
    entities = read_json(run.path / CRATE, what="run record").get("@graph", [])
    return {entity["@id"]: entity for entity in entities}


def write_bag(sequence: SequenceStore, run: RunStore, target: Path, *, now: datetime | None = None) -> int:
    """Copy a finished run into a new bag at `target`; returns how many files. Shards are checked on the way.

    The bag appears whole or not at all. Raises ConfigError where `target` exists, StoreError for a damaged shard.
    """
    if target.exists():
        raise ConfigError(f"{target} exists already: name another folder")
    if not has_record(run):
        raise StoreError(f"run {run.id} has no record yet: finish it with `deblur run`")
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        listed = staging / "manifest-sha256.txt"
        count, size = _payload(run, staging / "data" / run.path.name, listed)
        day = (now or datetime.now(UTC)).strftime("%Y-%m-%d")
        info = {
            "Bag-Software-Agent": "deblur",
            "Bagging-Date": day,
            "External-Identifier": f"{sequence.id}@{run.id}",
            "External-Description": f"{sequence.source.header.name}, deblurred; source {named(sequence.source.digest)}",
            "Payload-Oxum": f"{size}.{count}",
        }
        texts = {
            "bagit.txt": "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": "".join(f"{key}: {value}\n" for key, value in info.items()),
        }
        tags = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        tags[listed.name] = sha256_file(listed)
        texts["tagmanifest-sha256.txt"] = "".join(
            f"{digest}  {name}\n" for name, digest in sorted(tags.items())
        )
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
            settle(staging / name)
        for folder, _, _ in os.walk(staging, topdown=False):
            settle_folders([Path(folder)])
        os.rename(staging, target)
    except OSError as error:
        raise StoreError(f"can't write the bag {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


def _payload(run: RunStore, to: Path, listed: Path) -> tuple[int, int]:
    """(files, bytes) of everything of a run, copied to `to` and named in the manifest `listed` as it goes."""
    known = run.table()
    to.mkdir(parents=True)
    count = size = 0
    with listed.open("w", encoding="utf-8") as manifest:
        for path, length in files_below(run.path):
            if path.name.endswith(".partial"):
                continue
            key = below(path, run.path)
            digest = known.of(key) or sha256_file(path)
            copy_file(path, to / key, digest)
            manifest.write(f"{digest}  data/{run.path.name}/{key}\n")
            count, size = count + 1, size + length
    settle(listed)
    return count, size
