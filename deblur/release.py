"""A computed run becomes what readers see: verified, recorded, judged, switched to."""

from __future__ import annotations

import time
from dataclasses import replace

from deblur.config import JobConfig
from deblur.errors import DeblurError
from deblur.evidence import keep_copy
from deblur.judge import summarise, waits
from deblur.origins import origins
from deblur.outcome import Outcome
from deblur.pace import write_totals
from deblur.provenance import has_record, write_run_record
from deblur.store import Archive, RunStore, SequenceStore, publish_run, verify_run
from deblur.store.publish import Action


def verify(job: JobConfig, outcomes: list[Outcome]) -> list[Outcome]:
    """Check every shard of the runs that were computed against their ledgers."""
    archive = Archive.open(job.archive)
    return [_verified(outcome, archive) if outcome.sound else outcome for outcome in outcomes]


def _verified(outcome: Outcome, archive: Archive) -> Outcome:
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    run = store.run(outcome.plan.run)
    if store.current() == run.id or (has_record(run) and not run.sealed):
        return outcome  # verified before its record was written; a night with nothing new reads nothing
    return replace(
        outcome, problems=tuple(map(str, verify_run(run)))
    )  # also one that was published in former days


def publish(job: JobConfig, outcomes: list[Outcome], *, action: Action = "publish") -> list[Outcome]:
    """Write the run record and switch `current.json` to the run, for runs that passed and needn't wait."""
    archive = Archive.open(job.archive)
    return [_published(o, archive, job, action) if o.sound else o for o in outcomes]


def _published(outcome: Outcome, archive: Archive, job: JobConfig, action: Action) -> Outcome:
    assert outcome.plan is not None
    store = archive.sequence(outcome.plan.sequence)
    before = store.current()
    try:
        if before == outcome.plan.run:
            keep_copy(store, store.run(before))  # of one that was killed before it came to that
            return replace(outcome, published=True)
        with store.lease().held() as lease:
            done = store.run(outcome.plan.run)
            if not has_record(done):
                outcome = replace(outcome, stages=write_totals(done))
                _record(done, store, job, outcome)
            found = summarise(done)
            waiting = waits(found, summarise(store.run(before)) if before else None, job.publish)
            if not waiting:
                publish_run(store, done, lease.token or 0, action=action, summary=found.dump())
            keep_copy(store, done)
    except DeblurError as error:
        return replace(outcome, error=error)
    return replace(outcome, published=not waiting, waiting=waiting)


def _record(done: RunStore, store: SequenceStore, job: JobConfig, outcome: Outcome) -> None:
    assert outcome.plan is not None
    source, parent = outcome.sequence.source, outcome.parent
    write_run_record(
        done,
        source=store.source,
        given=job.model_dump(mode="json", exclude={"hooks"}),  # an address may be a secret by itself
        origins=origins(job, source, store.source, outcome.plan.parameters),
        began=min(
            (float(told["began"]) for told in done.ledger().latest() if "began" in told), default=time.time()
        ),
        ended=time.time(),
        parent=store.run(parent) if parent else None,
        survey=store.survey_digest(),
    )
