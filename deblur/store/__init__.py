"""The archive on disk: sources, surveys, runs, their ledgers and leases. Zarr is imported when first used."""

from deblur.store.address import find_run, find_sequence
from deblur.store.archive import Archive, SequenceStore
from deblur.store.durable import sha256_file
from deblur.store.frames import FrameRecord
from deblur.store.lease import Lease
from deblur.store.ledger import Ledger
from deblur.store.publish import (
    held_back,
    history,
    note_pruned,
    previous_run,
    publish_run,
    retract_run,
    retracted,
    roll_back,
    state_of,
)
from deblur.store.pyramid import halve, levels_for
from deblur.store.run import QUANTUM, RunSpec, RunStore
from deblur.store.source import QuarantinedFrame, SourceStore
from deblur.store.sourcewriter import SourceWriter
from deblur.store.verify import Problem, Sample, verify_image, verify_run, verify_source

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
    "Sample",
    "SequenceStore",
    "SourceStore",
    "SourceWriter",
    "find_run",
    "find_sequence",
    "halve",
    "held_back",
    "history",
    "levels_for",
    "note_pruned",
    "previous_run",
    "publish_run",
    "retract_run",
    "retracted",
    "roll_back",
    "sha256_file",
    "state_of",
    "verify_image",
    "verify_run",
    "verify_source",
]
