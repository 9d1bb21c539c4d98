"""Is an archive as it was written? Everything that is wrong with it, named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deblur import models
from deblur.errors import StoreError
from deblur.evidence import copy_problems, kept_runs
from deblur.ingest import Progress, silent
from deblur.place import place
from deblur.provenance import CRATE, recorded
from deblur.store import (
    Archive,
    Problem,
    RunStore,
    Sample,
    SequenceStore,
    sha256_file,
    verify_image,
    verify_run,
    verify_source,
)
from deblur.store.archive import IDENTITY, IDENTITY_COPY, PUBLICATION, PUBLICATION_COPY
from deblur.store.source import DOCUMENTS

ORIGINAL = "original"  # stands for a run's id where the damage is outside of the archive
SURVEY = "survey"
STATE = (SURVEY, PUBLICATION, PUBLICATION_COPY)  # what of a sequence neither its source nor a run holds


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong. `run`: empty for the source; `sequence`: for the archive itself."""

    sequence: str
    run: str
    problem: Problem

    def __str__(self) -> str:
        whose = f"{self.sequence} {self.run or 'source'}" if self.sequence else "archive"
        return f"{whose}: {self.problem}"


def find_damage(
    archive: Archive,
    sequences: Iterable[str] = (),
    *,
    sample: Sample | None = None,
    originals: bool = False,
    progress: Progress = silent,
) -> Iterator[Damage]:
    """Everything that is wrong with sources and runs; `originals`: also with the files that were ingested.

    Raises StoreError for a sequence that there isn't.
    """
    yield from (Damage("", "", problem) for problem in _identity(archive))
    there = (*archive.sequences(), *archive.headless())
    chosen = tuple(sequences) or there
    weights: set[str] = set()
    unknown = sorted(set(chosen) - set(there))
    if unknown:
        raise archive.unknown(unknown[0])
    for done, sequence_id in enumerate(chosen, 1):
        store = archive.sequence(sequence_id)
        picked = sample or Sample()
        found = [Damage(sequence_id, "", p) for p in source_problems(store, picked)]
        if originals and not found:
            found += [Damage(sequence_id, ORIGINAL, p) for p in _originals(store, picked)]
        for run_id in sorted({*store.runs(), *kept_runs(store)}):
            run = RunStore(store.run_path(run_id))
            found += [Damage(sequence_id, run_id, p) for p in run_problems(store, run, picked)]
            weights |= _weights(run)
        found += [Damage(sequence_id, "", p) for p in _state(store)]
        yield from found
        progress("verify", done, len(chosen))
    yield from (Damage("", "", problem) for problem in models.problems(archive.path, weights))


def _weights(run: RunStore) -> set[str]:
    """The digest of the network that a run was made with, if any."""
    try:
        network = run.parameters["restore"].get("network")
    except (StoreError, KeyError):  # said of the run already
        return set()
    return {str(network).split()[0]} if network else set()


def _identity(archive: Archive) -> Iterator[Problem]:
    """Whether the archive's own record is whole, and its copy the same."""
    try:
        Archive.open(archive.path)
    except StoreError as error:
        yield Problem("metadata", IDENTITY, str(error))
        return
    copy = archive.path / IDENTITY_COPY
    if not copy.is_file() or copy.read_bytes() != (archive.path / IDENTITY).read_bytes():
        yield Problem("metadata", IDENTITY_COPY, f"{copy} is missing, or no copy of {IDENTITY}")


def source_problems(store: SequenceStore, sample: Sample) -> Iterator[Problem]:
    """What is wrong with a source's records; else with the rest of it."""
    records = list(copy_problems(store, store.source))
    yield from records
    if not any(problem.shard in DOCUMENTS for problem in records):
        yield from verify_source(store.source, sample=sample)
        yield from verify_image(store.source.path)


def _state(store: SequenceStore) -> Iterator[Problem]:
    """Whether survey and publication, which no run holds, are there and whole."""
    sealed = [run_id for run_id in store.runs() if RunStore(store.run_path(run_id)).sealed]
    try:
        if (store.runs() or store.survey_path.exists()) and not store.survey_is_replaced():
            store.check_survey()
    except StoreError as error:
        yield Problem("metadata", SURVEY, str(error))
    decided: set[str] = set()  # runs that were published at some time
    try:
        if (store.path / PUBLICATION_COPY).exists():
            decided = {str(entry["run"]) for entry in store.kept_publication().get("history", ())}
    except StoreError as error:
        yield Problem("metadata", PUBLICATION_COPY, str(error))
    try:
        publication = store.publication()[0]
    except StoreError as error:
        yield Problem("metadata", PUBLICATION, str(error))
        return
    current, kept = publication.get("run"), set(kept_runs(store))
    if publication and kept and not (store.path / PUBLICATION_COPY).exists():
        copy = store.path / PUBLICATION_COPY
        yield Problem("metadata", PUBLICATION_COPY, f"{copy} is missing: repair writes it anew")
    # of a run that has a copy, the copy tells
    if current is not None and current not in {*sealed, *kept}:
        yield Problem("metadata", "", f"run {current} is published, but it or its seal is missing")
    # a run that is sealed and has no copy yet is about to be published
    if {*sealed, *decided} & kept and not publication:
        yield Problem(
            "metadata", PUBLICATION, f"{store.path / PUBLICATION} is missing: restore it from a copy"
        )


def run_problems(store: SequenceStore, run: RunStore, sample: Sample) -> Iterator[Problem]:
    """What is wrong with a run's records, then with the rest of it; each file is named once."""
    records = list(copy_problems(store, run))
    yield from records
    told = {problem.shard for problem in records}
    try:
        rest = [*verify_run(run, sample=sample), *verify_image(run.path), *_provenance(store, run)]
    except StoreError as error:  # a ledger that is damaged and has no copy
        rest = [Problem("metadata", "", str(error))]
    yield from (problem for problem in rest if problem.shard not in told)


def _provenance(store: SequenceStore, run: RunStore) -> Iterator[Problem]:
    """Whether a run's record is of the source that lies beside it."""
    if not (run.path / CRATE).is_file():
        return
    try:
        told = recorded(run, "#source")
    except StoreError:
        told = None
    if told is None:
        yield Problem("metadata", CRATE, f"the record {CRATE} of run {run.id} is damaged")
        return
    try:
        digest = store.source.digest
    except StoreError:
        return  # said of the source already
    if told != digest:
        yield Problem("metadata", "", f"run {run.id} was made from another source than the one beside it")


def _originals(store: SequenceStore, sample: Sample) -> Iterator[Problem]:
    """Files that were ingested and are still there, but not as they were; those that are gone are no damage."""
    root = place(str(store.source.header.metadata.get("deblur", {}).get("source", {}).get("path", "")))
    recorded = {frame.name: frame.file for frame in store.source.frames if frame.file is not None}
    for name in sorted(filter(sample.of(recorded), recorded)):
        path = next((p for p in (root / name, root.parent / name) if p.is_file()), None)
        if path is not None and sha256_file(path) != recorded[name]:
            yield Problem("changed", "", f"{path} is not what was ingested: its bytes have another sha256")
