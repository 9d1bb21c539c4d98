"""The archive on disk: sources, surveys, runs, their ledgers and leases. Zarr is imported when first used."""

from deblur.store.archive import Archive, SequenceStore
from deblur.store.durable import sha256_file
from deblur.store.lease import Lease
from deblur.store.ledger import Ledger
from deblur.store.publish import history, publish_run
from deblur.store.pyramid import halve, levels_for
from deblur.store.run import QUANTUM, RunSpec, RunStore
from deblur.store.source import FrameRecord, QuarantinedFrame, SourceStore, SourceWriter
from deblur.store.verify import Problem, verify_run, verify_source

__all__ = [
    "QUANTUM",
    "Archive",
    "FrameRecord",
    "Lease",
    "Ledger",
    "Problem",
    "QuarantinedFrame",
    "RunSpec",
    "RunStore",
    "SequenceStore",
    "SourceStore",
    "SourceWriter",
    "halve",
    "history",
    "levels_for",
    "publish_run",
    "sha256_file",
    "verify_run",
    "verify_source",
]
