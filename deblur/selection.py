"""Which sequences of an archive a reprocessing is about."""

from __future__ import annotations

from deblur.catalog import Catalog
from deblur.config import JobConfig, Source
from deblur.errors import ConfigError
from deblur.outcome import Sequence
from deblur.redact import without_secrets
from deblur.store import Archive


def chosen(job: JobConfig, ids: tuple[str, ...] = (), *, where: str = "") -> tuple[str, ...]:
    """The ids of the sequences to reprocess: those given, or those that meet a condition, or all.

    Raises ConfigError where the condition can't be understood, or nothing meets it.
    """
    if not where:
        return ids or Archive.open(job.archive).sequences()
    catalog = Catalog(Archive.open(job.archive))
    catalog.rebuild()  # what is reprocessed follows from the stores, not from an index that may be old
    found = tuple(id for id in catalog.ids(where=where) if not ids or id in ids)
    if not found:
        raise ConfigError(f"--where {where}: no sequence of {job.archive} is like that: see `deblur list`")
    return found


def published(job: JobConfig, ids: tuple[str, ...] = ()) -> list[Sequence]:
    """Sequences that the archive holds, with the job's settings for their source, or else those of their ingest."""
    archive = Archive.open(job.archive)
    by_path = {without_secrets(source.path): source for source in job.sources}
    found = []
    for sequence in ids or archive.sequences():
        store = archive.sequence(sequence)
        if not store.source.exists:
            raise archive.unknown(sequence)
        told = Source.model_validate(store.source.header.metadata["deblur"]["source"])
        found.append(Sequence(sequence, by_path.get(told.path, told), len(store.source.frames)))
    return found
