"""What an archive's keeper asks of it: what is there, is it whole, give me the frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deblur.catalog import Catalog
from deblur.errors import StoreError
from deblur.ingest import Progress
from deblur.integrity import find_damage
from deblur.io.export import export_frames
from deblur.store import Archive


def status(path: str | Path) -> list[dict[str, Any]]:
    """A row a run (and one for a sequence without runs), read anew from the stores."""
    archive = Archive.open(path)
    catalog = Catalog(archive)
    catalog.rebuild()
    runs = catalog.runs()
    rows: list[dict[str, Any]] = []
    for sequence in catalog.sequences():
        common = {"sequence": sequence.id, "frames": sequence.frames, "broken": sequence.quarantined}
        own = [run for run in runs if run.sequence == sequence.id]
        if not own:
            waiting = {"run": "", "state": sequence.error or "not computed", "units": 0}
            rows.append(common | waiting | {"quality": "", "weight": ""})
        for run in own:
            shown = {"run": run.id, "state": run.error or run.state, "units": run.units}
            known = not run.error and run.state != "unfinished"
            figures = {"quality": run.quality, "weight": run.weight}
            rows.append(common | shown | {k: f"{v:.2f}" if known else "" for k, v in figures.items()})
    return rows


def verify_archive(path: str | Path, sequences: tuple[str, ...] = ()) -> list[str]:
    """Check every shard of every source and run; a line a problem, none when all is well."""
    return [str(damage) for damage in find_damage(Archive.open(path), sequences)]


def export_run(path: str | Path, sequence: str, output: Path, *, run: str | None, progress: Progress) -> int:
    """Write a run's frames as files under their original names; returns how many. `run` None takes the published one.

    Raises StoreError where there is no such sequence or run.
    """
    store = Archive.open(path).sequence(sequence)
    if not store.source.exists:
        raise StoreError(f"{path} has no sequence {sequence!r}: see `deblur status {path}`")
    chosen = run or store.current()
    if chosen is None:
        raise StoreError(
            f"sequence {sequence!r} has no published run: finish one with `deblur run`, or name one"
        )
    pixels = store.run(chosen)
    lead, trail = store.source.header.metadata.get("deblur", {}).get("context", (0, 0))
    last = len(store.source.frames) - trail  # a segment's context frames are another one's
    frames = store.source.frames[lead:last]

    def stream() -> Iterator[Any]:
        for t in range(lead, last):
            yield pixels.read("0", t, t + 1)[0]
            progress(f"export {sequence}", t + 1 - lead, len(frames))

    export_frames(
        stream(),
        output,
        header=store.source.header,
        names=[frame.name for frame in frames],
        times=[frame.time for frame in frames],
    )
    return len(frames)
