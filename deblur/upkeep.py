"""What an archive's keeper asks of it: what is there, is it whole, give me the frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deblur.catalog import Catalog
from deblur.errors import DeblurError, StoreError
from deblur.ingest import Progress
from deblur.integrity import find_damage
from deblur.io import images
from deblur.io.export import export_frames
from deblur.io.images import root_of
from deblur.pace import Pace, at_work, pace
from deblur.store import Archive, SequenceStore

GOING = ("failed", "memory", "cpu")  # columns of what a run took


def status(path: str | Path) -> list[dict[str, Any]]:
    """A row a run (and one for a sequence without runs), read anew from the stores.

    `pace`: how a run gets on (`deblur.pace.Pace`); `worker`: who works on an unfinished one, if anybody does.
    """
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
            blank: dict[str, Any] = dict.fromkeys(("quality", "weight", *GOING), "")
            rows.append(common | waiting | blank | {"pace": None, "worker": None})
        for run in own:
            shown = {"run": run.id, "state": run.error or run.state, "units": run.units}
            known = not run.error and run.state != "unfinished"
            figures = {"quality": run.quality, "weight": run.weight}
            judged = {key: f"{value:.2f}" if known else "" for key, value in figures.items()}
            store = archive.sequence(sequence.id)
            going = None if run.error else pace(store.run(run.id))
            worker = at_work(store) if run.state == "unfinished" else None
            told = {"pace": going.dump() if going else None, "worker": worker}
            rows.append(common | shown | judged | _took(going) | told)
    return rows


def _took(going: Pace | None) -> dict[str, Any]:
    """Columns of a table: units given up, the largest peak of a unit, CPU hours."""
    if going is None:
        return dict.fromkeys(GOING, "")
    peak, cpu = going.peak, going.cpu_hours
    return {
        "failed": going.failed,
        "memory": f"{peak / 2**20:.0f} MiB" if peak else "",
        "cpu": f"{cpu:.2f} h" if cpu else "",
    }


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
        original=_original(store) if (lead, trail) == (0, 0) else None,
    )
    return len(frames)


def _original(store: SequenceStore) -> Path | None:
    """The clip or folder that a sequence was read from, if it is still there: what frames don't hold is taken from it."""
    header = store.source.header
    told = str(header.metadata.get("deblur", {}).get("source", {}).get("path", ""))
    if str(header.metadata.get("format", "")).startswith("video"):
        return Path(told) if Path(told).is_file() else None
    try:
        return root_of(told) if told and images.matches(told) else None
    except DeblurError:
        return None
