"""How people name a sequence or a run on the command line."""

from __future__ import annotations

from deblur.errors import StoreError
from deblur.place import place
from deblur.store.archive import SUFFIX, Archive, SequenceStore
from deblur.store.run import RunStore

FORMS = "write ARCHIVE/SEQUENCE, ARCHIVE/SEQUENCE@RUN, or the path of the run's store"


def find_sequence(text: str) -> SequenceStore:
    """The sequence that `ARCHIVE/SEQUENCE` names (or the path of its folder). Raises StoreError."""
    path = place(text)
    folder = path.parent.parent if path.parent.name == "sequences" else path.parent
    if not (folder / "archive.json").is_file():
        if (path / "archive.json").is_file():
            raise StoreError(
                f"{text} is a whole archive: name one of its sequences, as `deblur status {text}` tells"
            )
        raise StoreError(f"{text}: {folder.resolve()} is no archive: {FORMS}")
    archive = Archive.open(folder)
    sequence = archive.sequence(path.name)
    if not sequence.source.exists:
        raise archive.unknown(path.name)
    return sequence


def find_run(text: str) -> tuple[SequenceStore, RunStore]:
    """The run that `ARCHIVE/SEQUENCE@RUN` names; without `@RUN` the published one. Raises StoreError.

    The path of a run's store does as well.
    """
    if text.rstrip("/").endswith(SUFFIX):
        path = place(text)
        sequence = find_sequence(str(path.resolve().parent.parent))
        return sequence, sequence.run(path.name.removesuffix(SUFFIX))
    whole, _, run = text.partition("@")
    sequence = find_sequence(whole)
    chosen = run or sequence.current()
    if chosen is None:
        raise StoreError(f"sequence {sequence.id} has no published run: {FORMS}")
    return sequence, sequence.run(chosen)
