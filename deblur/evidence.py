"""A second copy of what can't be computed again: the records and metadata of runs and of their source.

Pixels come back by computing them; a ledger, a run record, a seal don't. They are a thousandth of the bytes, so each
finished run has a copy of them in the sequence's `evidence/RUN/`, with the sums by which either copy is checked, and its
source in `evidence/source/`. Of `current.json` there is one beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deblur.errors import StoreError
from deblur.place import Place, below, listed
from deblur.store import Problem, RunStore, SequenceStore, SourceStore, sha256_file
from deblur.store.archive import PUBLICATION_COPY
from deblur.store.durable import (
    copy_file,
    digest_of,
    read_json,
    settle_folders,
    sweep_partials,
    write_atomic,
    write_json,
)
from deblur.store.run import SEAL
from deblur.store.source import DOCUMENTS

SUMS = "sums.json"
BEGUN = ".begun"  # there while copies are made for which there are no sums yet
SOURCE = "source"  # no run is called so
Kept = RunStore | SourceStore


def copies_of(sequence: SequenceStore, run_id: str) -> Place:
    """Where the copies of a run's evidence lie."""
    return sequence.path / "evidence" / run_id


def kept_runs(sequence: SequenceStore) -> tuple[str, ...]:
    """The runs whose evidence has a copy, whether they are still there or not."""
    folder = sequence.path / "evidence"
    there = folder.iterdir() if folder.is_dir() else ()
    names = (path.name for path in there if path.name[0] != "." and (path / SUMS).is_file())
    return tuple(sorted(set(names) - {SOURCE}))


def keep_copy(sequence: SequenceStore, run: RunStore) -> None:
    """Copy what has no copy yet of the evidence of a finished run, of the source, and of what is published.

    Raises StoreError where it can't be written.
    """
    _keep_copy(sequence, sequence.source)
    _keep_copy(sequence, run)
    copied = (sequence.path / PUBLICATION_COPY).is_file()
    if not copied and sequence.publication()[0]:  # an earlier version published it
        sequence.keep_publication()


def _keep_copy(sequence: SequenceStore, kept: Kept) -> None:
    folder = _folder(sequence, kept)
    sweep_partials(folder)  # the lease is ours
    known = _sums(folder) if (folder / SUMS).is_file() else {}
    new = {key: sha256_file(kept.path / key) for key in _files(kept) if key not in known}
    if new and isinstance(kept, SourceStore) and kept.list_digest() != kept.digest:
        return  # damage is no evidence
    if new:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / BEGUN, b"")
    for key, digest in new.items():
        copy_file(kept.path / key, folder / key, digest)
    if new:
        settle_folders(
            {parent for key in new for parent in (folder / key).parents if sequence.path in parent.parents}
        )
        _write_sums(folder, known | new)
        (folder / BEGUN).unlink(missing_ok=True)


def copy_problems(sequence: SequenceStore, kept: Kept) -> Iterator[Problem]:
    """Where evidence and its copy are not as they were written; nothing for a run or source without a copy."""
    folder, name = _folder(sequence, kept), _called(kept)
    if not (folder / SUMS).is_file():
        if listed(folder, "[!.]*") and not (folder / BEGUN).is_file():
            yield Problem("metadata", SUMS, f"{folder / SUMS} is missing: repair writes it anew")
        return
    try:
        sums = _sums(folder)
    except StoreError as error:
        yield Problem("metadata", SUMS, str(error))
        return
    for key, digest in sums.items():
        if not _is(kept.path / key, digest):
            what = "is not what was written" if (kept.path / key).is_file() else "is missing"
            yield Problem("metadata", key, f"{key} of {name} {what}")
        if not _is(folder / key, digest):
            yield Problem("metadata", key, f"the kept copy of {key} of {name} is damaged or gone")


def mend(sequence: SequenceStore, kept: Kept) -> list[str]:
    """Put right either copy from the other; returns the files of which neither is as it was written."""
    folder = _folder(sequence, kept)
    if not (folder / SUMS).is_file():
        return []
    lost = []
    for key, digest in _sums(folder).items():
        here, there = kept.path / key, folder / key
        if _is(here, digest) and not _is(there, digest):
            copy_file(here, there, digest)
        elif _is(there, digest) and not _is(here, digest):
            copy_file(there, here, digest)
        elif not _is(here, digest):
            lost.append(key)
    return lost


def renew_sums(sequence: SequenceStore, kept: Kept) -> None:
    """Write the list of sums anew, after damage to it. Raises StoreError where the two copies are not the same."""
    folder = _folder(sequence, kept)
    sums = {key: sha256_file(kept.path / key) for key in _files(kept)}
    other = [key for key, digest in sums.items() if not _is(folder / key, digest)]
    if other:
        raise StoreError(
            f"{folder / SUMS} is damaged, and {other[0]} differs from its copy: compare them by hand"
        )
    _write_sums(folder, sums)


def _folder(sequence: SequenceStore, kept: Kept) -> Place:
    return copies_of(sequence, kept.id if isinstance(kept, RunStore) else SOURCE)


def _called(kept: Kept) -> str:
    return f"run {kept.id}" if isinstance(kept, RunStore) else "the source"


def _files(kept: Kept) -> Iterator[str]:
    if isinstance(kept, SourceStore):
        return iter(DOCUMENTS)
    seal = (kept.path / SEAL,) if kept.sealed else ()
    return (below(path, kept.path) for path in (*kept.documents(), *seal))


def _is(path: Place, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


def _sums(folder: Place) -> dict[str, str]:
    told: dict[str, Any] = read_json(folder / SUMS, what="list of kept evidence")
    sums = told.get("sums")
    if not isinstance(sums, dict) or told.get("sha256") != digest_of(sums):
        raise StoreError(f"{folder / SUMS} is damaged: repair writes it anew")
    return sums


def _write_sums(folder: Place, sums: dict[str, str]) -> None:
    write_json(folder / SUMS, {"sums": sums, "sha256": digest_of(sums)})
