"""Anything that can be done to an archive, in any order, killed or out of space anywhere: it is what a simple model says.

The model knows which runs are whole, which is published, what people decided, and what was damaged; and of each run the
bytes that an undisturbed job makes.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from deblur import job as work
from deblur import night
from deblur.config import JobConfig, load_job, with_settings
from deblur.damage import Damage, find_damage
from deblur.errors import DeblurError
from deblur.evidence import kept_runs
from deblur.integrity import repair
from deblur.outcome import Outcome
from deblur.store import Archive, SequenceStore
from deblur.store.archive import IDENTITY, IDENTITY_COPY
from deblur.store.durable import digest_of, read_json, sha256_file
from deblur.store.owner import Owner
from deblur.versions import Policy, promote, prune, retract, rollback
from tests.conftest import pan
from tests.faults.disk import Disk, Trouble
from tests.faults.found import FOUND
from tests.faults.world import NAME, child, contents, contents_of, end_of, finish, harm
from tests.small import tree, write_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is copied to be killed"),
]
# The job as it is, another last stage, another motion.
SETTINGS: tuple[dict[str, Any], ...] = ({}, {"restore.iterations": 5}, {"motion.method": "accurate"})
EXAMPLES, STEPS = 4, 24  # a seed
MEMORY = Path("/dev/shm")  # who is killed loses nothing that he wrote: no disk has to be waited for
WHICH = st.integers(0, len(SETTINGS) - 1)
DECISIONS = ("reprocess", "promote", "rollback", "retract")
Entry = tuple[str, str | None, str | None]  # what somebody did, the run published since, the one before
Do = Callable[[JobConfig], list[Outcome]]
LEFTOVERS = (".*.partial", ".*.gone", ".*.staging", ".*.repair", ".*.draft", "_repair-*")


@dataclass(frozen=True)
class Small:
    """`equal`: what a run of each of SETTINGS must be; `source`: likewise what ingest makes."""

    job: JobConfig
    equal: tuple[dict[str, str], ...]
    source: dict[str, str]
    original: str


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    np.save(folder / "pan.npy", pan(3, 32, 64)[0])
    job = load_job(write_job(folder, path="pan.npy", extra="publish = {drop = 1.0}"))
    equal = []
    for number, told in enumerate(SETTINGS):
        calm = with_settings(job.model_copy(update={"archive": str(folder / f"calm-{number}")}), told)
        finish(calm)
        equal.append(contents(calm))
    return Small(job, tuple(equal), source_files(calm.archive), sha256_file(folder / "pan.npy"))


def source_files(archive: str) -> dict[str, str]:
    path = Archive.open(archive).sequence(NAME).source.path
    return {str(p.relative_to(path)): sha256_file(p) for p in sorted(path.rglob("*")) if p.is_file()}


def owner_of(draft: Path) -> Owner:
    return Owner(**read_json(draft / "draft.json", what="draft")["owner"])


def leftovers(archive: Path) -> list[Path]:
    """What nobody would ever remove. Whoever dies in his very first write leaves some bytes that nobody knows to be his; a
    survey that failed leaves its draft to the next one, or to be swept when its process has ended."""
    sequence = archive / "sequences" / NAME
    found = [path for pattern in LEFTOVERS for path in sequence.rglob(pattern)]
    nobodys = {path for path in sequence.glob(".*.staging") if not (path / "owner.json").exists()}
    nobodys |= {path for path in sequence.glob(".survey.*.draft") if not owner_of(path).is_gone()}
    return [path for path in found if not nobodys & {path, *path.parents}]


TROUBLE = st.none() | st.builds(
    Trouble, st.sampled_from(["killed", "killed", "full", "hiccup"]), st.integers(0, 25) | st.integers(0, 400)
)


class ArchiveMachine(RuleBasedStateMachine):
    def __init__(self, small: Small) -> None:
        super().__init__()
        self.small = small
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.job = small.job.model_copy(update={"archive": str(self.folder / "archive")})
        self.history: list[Entry] = []
        self.whole: set[str] = set()  # runs that were published once and are there
        self.begun: set[str] = set()  # somebody was disturbed at them: there in parts, whole, or not at all
        self.damaged: set[str] = set()  # runs, and "" for the source
        self.forsaken: set[str] = set()  # damaged and half pruned: the copies that would mend them are gone
        self.ingested = False
        self.looked_at: tuple[str, list[Damage]] = ("", [])

    # What the model knows

    @property
    def published(self) -> str | None:
        return self.history[-1][1] if self.history else None

    @property
    def retracted(self) -> set[str]:
        found: set[str] = set()
        for action, run, instead in self.history:
            found.discard(str(run))
            if action in ("retract", "rollback"):
                found.add(str(instead))
        return found

    def name(self, which: int) -> str:
        return self.small.equal[which]["run"]

    @property
    def store(self) -> SequenceStore:
        return Archive.at(self.job.archive).sequence(NAME)

    def asked_for(self) -> SequenceStore:
        """The same for those who do something with it: refused where archive.json is damaged."""
        return Archive.open(self.job.archive).sequence(NAME)

    # How something is done

    def tried(self, act: Callable[[], object], trouble: Trouble | None) -> str:
        """What `_told` says, or "disturbed": then nobody knows how far it came."""
        if trouble is None:
            return _told(act)
        said = self.folder / "said"
        said.unlink(missing_ok=True)

        def disturbed() -> None:
            with Disk(Path(self.job.archive), trouble.fault).watched():
                told = _told(act)
            said.write_text(told)

        assert end_of(child(disturbed)) in (0, -signal.SIGKILL)
        return "done" if said.exists() and said.read_text() == "done" else "disturbed"

    def settle(self, how: str, entry: Entry | None = None, *, may: bool | None = True) -> None:
        """The model follows. `entry`: what the history gains if all goes well; `may`: whether it can at all, None where
        the model doesn't know."""
        before, undisturbed = self.published, how != "disturbed"
        if undisturbed and may is not None and not (may and self.damaged):
            assert may == (how == "done"), how
        there = any(Path(self.job.archive).glob("archive.*")) and self.store.source.exists
        assert there or not self.ingested
        self.ingested = there
        now = self.store.current() if there else None
        if entry is not None and (how == "done" or now != before):
            self.history.append(entry)
        assert now == self.published, how
        if now != before and now is not None:
            assert now not in self.damaged, "what is damaged was published"
            self.whole.add(now)
            self.begun.discard(now)
        self.check()

    def check(self) -> None:
        """Whole runs have the bytes that they were made with, and nothing else than what was damaged is."""
        if not self.ingested:
            return
        store = self.store
        there = set(store.runs())
        assert self.whole <= there, "a whole run is gone"
        assert there <= self.whole | self.begun
        for run in self.whole - self.damaged:
            (equal,) = (equal for equal in self.small.equal if equal["run"] == run)
            assert contents_of(store.run(run)) == equal
        found = {damage.run for damage in self.problems()}
        assert found <= self.damaged, "damage that nobody did"
        self.damaged = found
        if "" not in found:
            assert source_files(self.job.archive) == self.small.source

    def problems(self) -> list[Damage]:
        """What `deblur verify` finds, but for units that a run in the making hasn't done yet."""
        files = digest_of([f for f in tree(Path(self.job.archive)).items() if "lease" not in f[0]])
        if self.looked_at[0] != files:  # of the same files it says the same
            self.looked_at = files, list(find_damage(Archive.at(self.job.archive)))
        return [d for d in self.looked_at[1] if d.problem.kind != "unrecorded" or d.run not in self.begun]

    # What can be done

    @rule(trouble=TROUBLE)
    def ingest(self, trouble: Trouble | None) -> None:
        how = self.tried(lambda: work.ingest(self.job), trouble)
        self.settle(how)
        assert self.ingested or how == "disturbed"

    @rule(which=WHICH, trouble=TROUBLE)
    def run(self, which: int, trouble: Trouble | None) -> None:
        past = [entry for entry in self.history if entry[1]]
        last = self.history[-1] if self.history else None
        run = self.name(which)
        passed_over = (
            last is not None and last[0] in DECISIONS and last[1] != run and any(e[1] == run for e in past)
        )
        self.make(which, "publish", passed_over or run in self.retracted, trouble, work.run)

    @precondition(lambda self: self.ingested)
    @rule(which=WHICH, trouble=TROUBLE)
    def reprocess(self, which: int, trouble: Trouble | None) -> None:
        kept = self.name(which) in self.retracted
        self.make(which, "reprocess", kept, trouble, lambda job: night.redo(job, [NAME]))

    def make(self, which: int, action: str, kept: bool, trouble: Trouble | None, do: Do) -> None:
        run, job = self.name(which), with_settings(self.job, SETTINGS[which])

        def act() -> None:
            (outcome,) = do(job)
            if outcome.faults():
                raise DeblurError("; ".join(outcome.faults()))
            assert (outcome.published, bool(outcome.kept)) == (not kept, kept), outcome

        if run not in self.whole:
            self.begun.add(run)
        how = self.tried(act, trouble)
        new = not kept and run != self.published
        self.settle(how, (action, run, self.published) if new else None)
        if how == "done" and not kept:
            assert run in kept_runs(self.store), "its records have no second copy"

    @precondition(lambda self: self.ingested)
    @rule(which=WHICH, trouble=TROUBLE)
    def promote(self, which: int, trouble: Trouble | None) -> None:
        run = self.name(which)

        def act() -> None:
            promote(self.asked_for(), self.store.run(run), reason="why not")

        how = self.tried(act, trouble)
        new = ("promote", run, self.published) if run != self.published else None
        self.settle(how, new, may=None if run in self.begun else run in self.whole)

    @precondition(lambda self: self.ingested)
    @rule(which=WHICH, trouble=TROUBLE)
    def retract(self, which: int, trouble: Trouble | None) -> None:
        run = self.name(which)
        how = self.tried(lambda: retract(self.asked_for(), self.store.run(run), reason="bad"), trouble)
        self.settle(how, ("retract", None, run), may=run == self.published)

    @precondition(lambda self: self.ingested)
    @rule(trouble=TROUBLE)
    def roll_back(self, trouble: Trouble | None) -> None:
        there, now = self.store.runs(), self.published
        past = [run for _, run, _ in reversed(self.history) if run in there and run != now]
        to = next((run for run in past if run not in self.retracted), None)
        how = self.tried(lambda: rollback(self.asked_for()), trouble)
        can = to is not None and now is not None
        self.settle(how, ("rollback", to, now) if can else None, may=None if to in self.begun else can)

    @precondition(lambda self: self.ingested)
    @rule(keep=st.integers(0, 2), trouble=TROUBLE)
    def prune(self, keep: int, trouble: Trouble | None) -> None:
        def act() -> None:
            prune(Archive.open(self.job.archive), Policy(keep, 0.0), now=time.time() + 1)

        last = {run: place for place, (_, run, _) in enumerate(self.history) if run}
        past = sorted(self.whole - self.retracted - {self.published}, key=lambda run: last[str(run)])
        stay = {self.published, *past[max(0, len(past) - keep) :]} & self.whole
        how = self.tried(act, trouble)
        there = set(self.store.runs())
        if how == "done":
            assert there & self.whole == stay
        assert there >= stay
        self.whole &= there
        self.begun = {run for run in self.begun if run in there or how != "done"}
        self.forsaken = (self.damaged - {"", *kept_runs(self.store)}) & there
        self.settle(how)

    @precondition(lambda self: self.ingested and not self.damaged)
    @rule(where=st.sampled_from(["source", "shard", "document", "archive"]), number=st.integers(0, 2**16))
    def corrupt(self, where: str, number: int) -> None:
        """A bit flips, a file is cut off or gone: it is found."""
        store, choose = self.store, np.random.default_rng(number)
        files = [store.source.path / key for key in store.source.shard_digests(0, store.source.shape[0])]
        if where == "archive":
            files = [store.path.parents[1] / name for name in (IDENTITY, IDENTITY_COPY)]
        # whoever was disturbed may leave one that has no copies yet
        whole = sorted(self.whole & set(kept_runs(store)))
        if where in ("shard", "document") and whole:
            run = store.run(whole[number % len(whole)])
            keys = sorted(run.ledger().shards())
            files = [run.path / key for key in keys] if where == "shard" else sorted(run.documents())
            self.damaged.add(run.id)
        else:
            self.damaged.add("")
        harm(files[int(choose.integers(len(files)))], choose)
        assert {damage.run for damage in self.problems()} == self.damaged

    @precondition(lambda self: self.ingested)
    @rule(trouble=TROUBLE)
    def repair(self, trouble: Trouble | None) -> None:
        archive = Archive.at(self.job.archive)

        def act() -> None:
            left = repair(archive, self.problems())
            if any(damage.run not in self.forsaken for damage in left):
                raise DeblurError("; ".join(map(str, left)))

        how = self.tried(act, trouble)
        assert how in ("done", "disturbed"), how
        assert how == "disturbed" or {damage.run for damage in self.problems()} <= self.forsaken
        self.settle(how)

    def teardown(self) -> None:
        """Whatever it was: repair and another run make it good, and nothing is left lying about."""
        try:
            if self.ingested:
                self.repair(None)
                self.run(0, None)
                self.reprocess(1, None)
                self.prune(0, None)
                assert leftovers(Path(self.job.archive)) == []
            assert sha256_file(Path(self.job.sources[0].path)) == self.small.original
        finally:
            shutil.rmtree(self.folder)


def _told(act: Callable[[], object]) -> str:
    try:
        act()
    except (DeblurError, OSError) as error:
        said = str(error)
    else:
        return "done"
    assert "\n" not in said
    return f"refused: {said}"


@pytest.mark.seeds(1)
def test_anything_in_any_order(small: Small, seed: int) -> None:
    @seeded(seed)
    def machine() -> ArchiveMachine:
        return ArchiveMachine(small)

    told = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=False,
        database=None,
        phases=[Phase.generate],  # a step takes too long to look for fewer of them
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=told)


@pytest.mark.parametrize("steps", FOUND.values(), ids=FOUND)
def test_what_was_found_stays_mended(small: Small, steps: list[tuple[str, dict[str, Any]]]) -> None:
    machine = ArchiveMachine(small)
    try:
        for name, told in steps:
            getattr(machine, name)(**told)
    finally:
        machine.teardown()
