"""What an archive's keeper asks of it: what is there, is it whole, give me the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deblur.catalog import Catalog, RunRow, SequenceRow
from deblur.damage import find_damage
from deblur.errors import ConfigError, StoreError
from deblur.ingest import Progress, say
from deblur.io import images
from deblur.io.export import export_frames, export_stack, layer_of
from deblur.io.originals import original_of
from deblur.pace import Pace, at_work, pace
from deblur.place import Place
from deblur.segments import in_order, own_frames, segments
from deblur.store import Archive, RunStore, SequenceStore

GOING = ("failed", "memory", "cpu")  # columns of what a run took


def status(path: str | Place) -> list[dict[str, Any]]:
    """A row a run (and one for a sequence without runs), read anew from the stores.

    `pace`: how a run gets on (`deblur.pace.Pace`); `worker`: who works on an unfinished one, if anybody does.
    """
    archive = Archive.open(path)
    catalog = Catalog(archive)
    catalog.rebuild()
    runs: dict[str, list[RunRow]] = {}
    for run in catalog.each_run():
        runs.setdefault(run.sequence, []).append(run)
    return [
        row for sequence in catalog.each() for row in _status_of(archive, sequence, runs.get(sequence.id, []))
    ]


def _status_of(archive: Archive, sequence: SequenceRow, runs: list[RunRow]) -> Iterator[dict[str, Any]]:
    common = {"sequence": sequence.id, "frames": sequence.frames, "broken": sequence.quarantined}
    if not runs:
        waiting = {"run": "", "state": sequence.error or "not computed", "units": 0}
        blank: dict[str, Any] = dict.fromkeys(("quality", "weight", *GOING), "")
        yield common | waiting | blank | {"pace": None, "worker": None}
    for run in runs:
        shown = {"run": run.id, "state": run.error or run.state, "units": run.units}
        known = not run.error and run.state != "unfinished"
        figures = {"quality": run.quality, "weight": run.weight}
        judged = {key: f"{value:.2f}" if known else "" for key, value in figures.items()}
        store = archive.sequence(sequence.id)
        going = None if run.error else pace(store.run(run.id))
        worker = at_work(store) if run.state == "unfinished" else None
        told = {"pace": going.dump() if going else None, "worker": worker}
        yield common | shown | judged | _took(going) | told


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


def verify_archive(path: str | Place, sequences: tuple[str, ...] = ()) -> list[str]:
    """Check every shard of every source and run; a line a problem, none when all is well."""
    return [str(damage) for damage in find_damage(Archive.at(path), sequences)]


def export_run(path: str | Place, sequence: str, output: Path, *, run: str | None, progress: Progress) -> int:
    """Write a run's frames as files under their original names; returns how many.

    `run` None takes the published one, and with it those of all segments of a source that grew, in the source's order;
    context frames, which are another segment's, are left out. Where the originals' store can't be asked, it is said, and
    what only they hold is left out. Raises StoreError where there is no such sequence or run.
    """
    archive = Archive.open(path)
    store = archive.sequence(sequence)
    if not store.source.exists:
        raise archive.unknown(sequence)
    chain = segments(archive, sequence) if run is None and "first" not in _told(store) else (store,)
    runs = [_chosen(part, run) for part in chain]
    order = in_order(chain) if len(chain) > 1 else [(0, place) for place in own_frames(store)]
    frames = [chain[number].source.frames[place] for number, place in order]

    def stream() -> Iterator[Any]:
        for done, (number, place) in enumerate(order, 1):
            yield runs[number].read("0", place, place + 1)[0]
            progress(f"export {sequence}", done, len(order))

    whole = len(chain) > 1 or len(order) == len(store.source.frames)
    with ExitStack() as stack:
        original: Path | None = None
        ready: Callable[[Path], None] = images.is_there
        try:
            if whole and (told := str(_told(store).get("source", {}).get("path", ""))):
                original, ready = stack.enter_context(original_of(told))
        except (StoreError, ConfigError) as error:
            say(progress, f"{error}: audio, notes and EXIF are left out")
        export_frames(
            stream(),
            output,
            header=store.source.header,
            names=[frame.name for frame in frames],
            times=[frame.time for frame in frames],
            original=original,
            ready=ready,
        )
    return len(frames)


def export_planes(path: str | Place, sequences: Sequence[str], output: Path) -> None:
    """Put the published runs of a file's planes, z and positions, back together in one OME-TIFF."""
    archive = Archive.open(path)
    layers = []
    for name in sequences:
        store = archive.sequence(name)
        run, frames = _chosen(store, None), store.source.frames
        read = (run.read("0", place, place + 1)[0] for place in range(len(frames)))
        layers.append(layer_of(store.source.header, [frame.time for frame in frames], read))
    export_stack(layers, output)


def _told(store: SequenceStore) -> dict[str, Any]:
    told: dict[str, Any] = store.source.header.metadata.get("deblur", {})
    return told


def _chosen(store: SequenceStore, run: str | None) -> RunStore:
    chosen = run or store.current()
    if chosen is None:
        raise StoreError(
            f"sequence {store.id!r} has no published run: finish one with `deblur run`, or name one with --run"
        )
    return store.run(chosen)
