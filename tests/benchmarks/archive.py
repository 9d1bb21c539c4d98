"""What an archive's keeper waits for: a night with nothing new, the catalog, and what the evidence costs.

    python tests/benchmarks/archive.py [--quick] [--json]

Prints a table (or one JSON object). Seconds are CPU seconds of this process: other people's work doesn't count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from deblur import job as work
from deblur import night, unit
from deblur.catalog import Catalog, SequenceRow, _connection, _create, _flush
from deblur.config import parse_job
from deblur.store import Archive, Ledger, arrays
from deblur.types import Iterations
from deblur.window import RestoredWindow
from tests.conftest import pan

WHERE = "camera = 'north' and time >= 2026-01-01 and quality < 0.1"


def seconds(do: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    do()
    return time.process_time() - began


def job_in(folder: Path) -> Any:
    small = {"window": 64, "chunk": 32, "shard": 64, "unit": 64, "frames": 2}
    watch = {"path": str(folder / "watched"), "quiet": 0, "exposure_fraction": 0.75}
    told = {
        "archive": str(folder / "archive"),
        "watch": [watch],
        "tiling": small,
        "cluster": {"kind": "serial"},
    }
    return parse_job(told)


def nights(folder: Path, count: int) -> dict[str, float]:
    """`count` sequences dealt with (one computed, the others copies of it), then a night with nothing new."""
    frames = pan(2, 64, 64)[0]
    (folder / "watched").mkdir()
    np.save(folder / "watched" / "0000.npy", frames)
    job = job_in(folder)
    (outcome,) = night.work_on(job, night.find(job).todo)
    assert outcome.published
    sequences = folder / "archive" / "sequences"
    for number in range(1, count):
        shutil.copy2(folder / "watched" / "0000.npy", folder / "watched" / f"{number:04d}.npy")
        shutil.copytree(sequences / outcome.sequence.id, sequences / f"watched-{number:04d}.npy")
    memory = night._Memory(job)
    for arrival in night.find(job).todo:
        memory.add(arrival, [str(arrival.source.id)])
    memory.save()
    told: dict[str, float] = {}
    told["idle_night_s"] = seconds(lambda: night.find(job))
    assert night.find(job).todo == ()
    catalog = Catalog(Archive.open(job.archive))
    told["rebuilt_per_s"] = count / min(seconds(catalog.rebuild) for _ in range(3))
    assert len(catalog.ids(where="state = 'published'")) == count
    return told


def listing(folder: Path, count: int) -> dict[str, float]:
    """A catalog of `count` sequences, filtered and paged."""
    archive = Archive.create(folder / "large")
    catalog = Catalog(archive)
    catalog.path.parent.mkdir(parents=True, exist_ok=True)
    with _connection(catalog.path) as connection:
        _create(connection)
        blank = SequenceRow(
            "", frames=100, channels=3, height=1080, width=1920, dtype="uint8", digest="ab" * 32
        )
        rows = [
            blank._replace(
                id=f"seq-{k:06d}", name=f"seq-{k}", camera=("north", "south", "east")[k % 3],
                time=1.76e9 + 100 * k, quality=k % 100 / 100, state="published", current="run-0123456789ab",
            )
            for k in range(count)
        ]  # fmt: skip
        _flush(connection, rows, [])
    return {
        "filtered_ms": 1000 * min(seconds(lambda: catalog.sequences(where=WHERE)) for _ in range(3)),
        "page_ms": 1000 * min(seconds(lambda: catalog.sequences(limit=1000)) for _ in range(3)),
        "later_page_ms": 1000 * seconds(lambda: catalog.sequences(after=f"seq-{count // 2:06d}", limit=1000)),
        "ids_ms": 1000 * min(seconds(lambda: catalog.ids(where="camera = 'north'")) for _ in range(3)),
    }


def evidence(folder: Path, side: int, count: int) -> dict[str, float]:
    """What a whole run costs; and how much motion a reprocessing of the last stage computes again."""
    frames = pan(count, side, side)[0]
    np.save(folder / "clip.npy", frames)
    source = {"path": str(folder / "clip.npy"), "exposure_fraction": 0.75}
    told = {"archive": str(folder / "evidence"), "sources": [source], "cluster": {"kind": "serial"}}
    job = parse_job(told)
    whole = time.process_time()
    planned = work.plan(job, work.ingest(job))
    computed = work.verify(job, work.compute(job, planned))
    whole = time.process_time() - whole
    work.publish(job, computed)
    store = Archive.open(job.archive).sequence("clip")
    changed = job.model_copy(update={"restore": job.restore.model_copy(update={"iterations": 2})})
    again = work.compute(changed, work.plan(changed, work.published(changed), action="reprocess"))
    motion = sum(
        r.get("stage") == "motion" and "carried_from" not in r
        for r in store.run(again[0].plan.run).ledger().latest()  # type: ignore[union-attr]
    )
    return {"cpu_s_per_megapixel": whole / (frames.size / 1e6), "motion_units_recomputed": float(motion)}


def large(folder: Path, side: int, count: int, speed: float) -> dict[str, float]:
    """What evidence takes of a run of `count` colour frames: of its bytes, and of the time that a run with the default
    methods takes at `speed`, CPU seconds a megapixel of one channel.

    Only the maths is stood in for; units, shards, ledger and record are what they always are. Counted as evidence:
    hashing shards, appending to the ledger, the record, the seal, the copies of them.
    """
    noise = np.random.default_rng(0).integers(0, 2**16, (count, 3, side, side), np.uint16)
    np.save(folder / "large.npy", noise)
    del noise
    source = {"path": str(folder / "large.npy"), "exposure_fraction": 0.75}
    told = {"archive": str(folder / "heavy"), "sources": [source], "cluster": {"kind": "serial"}}
    job = parse_job(told | {"limits": {"memory": "16 GiB"}})
    planned = work.plan(job, work.ingest(job))
    spent: list[float] = []

    def counted(do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            found: list[Any] = []
            spent.append(seconds(lambda: found.append(do(*arguments))))
            return found[0]

        return done

    with ExitStack() as stack:
        for name, instead in (("refine", _some_motion), ("restore_window", _as_it_was)):
            stack.enter_context(mock.patch.object(unit, name, instead))
        stack.enter_context(mock.patch.object(arrays, "settle", counted(arrays.settle)))
        stack.enter_context(mock.patch.object(Ledger, "append", counted(Ledger.append)))
        computed = work.compute(job, planned)
    spent.append(seconds(lambda: work.publish(job, computed)))
    store = Archive.open(job.archive).sequence("large")
    run = store.run(str(store.current()))
    size = {path: path.stat().st_size for path in run.path.rglob("*") if path.is_file()}
    copies = sum(path.stat().st_size for path in (store.path / "evidence").rglob("*") if path.is_file())
    records = sum(n for path, n in size.items() if "provenance" in path.parts or "crate" in path.name)
    return {
        "run_mb": sum(size.values()) / 1e6,
        "evidence_bytes_percent": 100 * (records + copies) / sum(size.values()),
        "evidence_time_percent": 100 * sum(spent) / (speed * count * side * side / 1e6),
    }


def _some_motion(reference: Any, moving: Any, coarse: Any, **_: Any) -> Any:
    return np.random.default_rng(0).normal(0, 2, (2, *reference.shape)).astype(np.float32)


def _as_it_was(frame: Any, *_: Any, **__: Any) -> RestoredWindow:
    weight, reason = np.full(frame.shape[1:], 0.5, np.float32), np.ones(frame.shape[1:], np.uint8)
    return RestoredWindow(frame, weight, reason, Iterations(1, 0.0, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DEBLUR_CACHE"] = str(folder / "cache")
        told = nights(folder, 100 if options.quick else 1000)
        told |= listing(folder, 10_000 if options.quick else 100_000)
        told |= evidence(folder, 256 if options.quick else 1024, 4 if options.quick else 8)
        told |= large(
            folder, 512 if options.quick else 2048, 4 if options.quick else 24, told["cpu_s_per_megapixel"]
        )
    if options.json:
        print(json.dumps(told))
        return
    for key, value in told.items():
        print(f"{key:28} {value:12.3f}")


if __name__ == "__main__":
    main()
