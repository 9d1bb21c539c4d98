"""What became of the sequences of a job: handed from stage to stage, and told at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deblur.config import Source
from deblur.errors import DeblurError
from deblur.execute import Failure
from deblur.plan import Plan


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence of the archive and the source settings that apply to it; or, with `error`, a source that failed."""

    id: str
    source: Source
    frames: int = 0
    fresh: bool = False
    broken: tuple[str, ...] = ()
    error: DeblurError | None = None

    def describe(self) -> str:
        if self.error:
            return f"{self.source.path}: failed"
        quarantined = f", {len(self.broken)} quarantined" if self.broken else ""
        return f"{self.id}: {self.frames} frames{quarantined}{'' if self.fresh else ' (already there)'}"

    def dump(self) -> dict[str, Any]:
        return {
            "sequence": self.id,
            "source": self.source.path,
            "frames": self.frames,
            "fresh": self.fresh,
            "broken": list(self.broken),
            "error": str(self.error) if self.error else None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sequence so far.

    `missing`: units to compute; `carried`: units that `parent`, the run published before, holds already.
    `kept`: why a person's decision leaves it as it is; `waiting`: why its run waits for a person; `stopped`: what is
    left because the time was over; `stages`: what each stage of a run took (`deblur.pace.Totals`), once it is finished.
    """

    sequence: Sequence
    plan: Plan | None = None
    parent: str | None = None
    missing: int = 0
    carried: int = 0
    computed: int = 0
    projected_seconds: float = 0.0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    problems: tuple[str, ...] = ()
    error: DeblurError | None = None
    published: bool = False
    kept: str = ""
    waiting: str = ""
    stopped: str = ""
    stages: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        undone = self.error or self.failures or self.problems or self.kept or self.stopped
        return self.plan is not None and not undone

    def faults(self) -> list[str]:
        """Everything that was left undone, a line each; a quarantined frame by the run that met it."""
        errors = [str(error) for error in (self.sequence.error, self.error) if error]
        broken = self.sequence.broken if self.sequence.fresh else ()
        return [*broken, *map(str, self.failures), *self.problems, *errors]

    def line(self) -> str:
        """One line for a person."""
        if self.kept or self.stopped:
            name = self.sequence.id or self.sequence.source.path
            return f"{name}: {'left as it is: ' if self.kept else ''}{self.kept or self.stopped}"
        if self.plan is None or self.error:
            return f"{self.sequence.id or self.sequence.source.path}: failed"
        state = "published" if self.published else "not published"
        if self.waiting:
            state = f"waits for a person, {self.waiting}"
        done = f"{self.computed} units computed" + (f", {self.carried} carried over" if self.carried else "")
        return f"{self.plan.sequence}: {self.plan.run} {state}, {self.plan.shape[0]} frames, {done}, {self.seconds:.1f} s"

    def dump(self) -> dict[str, Any]:
        """As JSON-able values."""
        told: dict[str, Any] = {"sequence": self.sequence.id, "source": self.sequence.source.path}
        if self.plan is not None:
            told |= {"run": self.plan.run, "shape": list(self.plan.shape), "cost": asdict(self.plan.cost)}
            told["layout"] = asdict(self.plan.layout)
            told |= {"parameters": self.plan.parameters.dump(), "projected_seconds": self.projected_seconds}
        counts = {
            name: getattr(self, name)
            for name in (
                "missing",
                "carried",
                "computed",
                "seconds",
                "published",
                "kept",
                "waiting",
                "stopped",
            )
        }
        counts["stages"] = dict(self.stages)
        return told | counts | {"parent": self.parent, "faults": self.faults()}


def raise_for_failures(outcomes: Iterable[Outcome]) -> None:
    """Raise DeblurError, naming the first fault and how many there are, unless all went well."""
    faults = [text for outcome in outcomes for text in outcome.faults()]
    if faults:
        raise DeblurError(f"{len(faults)} left undone, the first: {faults[0]}")


def raise_if_all_failed(errors: list[DeblurError | None]) -> None:
    """One failure as it is; several as one line, of their common kind."""
    failed = list({str(error): error for error in errors if error}.values())
    if not errors or not all(errors):
        return
    if len(failed) == 1:
        raise failed[0]
    kinds = {type(error) for error in failed}
    raise (kinds.pop() if len(kinds) == 1 else DeblurError)("; ".join(map(str, failed)))
