"""What distributing costs, and what memory it takes: the figures of the scale issue in one run.

usage: scale.py [--quick] [--long] [--json] [--only NAME …]
Every measurement runs in a process of its own; ours and the peer take turns. Wall times want a quiet machine; `busy` is
the share of the workers' wall time that they spent in units, which other work on the machine disturbs less.
  overhead_ratio          wall time of a job's units on one Dask worker / a bare loop over the same unit function
  two_worker_speedup      one worker's wall time / two workers'
  two_loop_speedup        what two bare loops get done at once / what one does: the machine allows no more than that
  cpu_ms_per_unit         CPU of client and scheduler (one process here) a no-op unit
  million_growth_mb       their growth over a million units, from the slope between a fifth of the units and all of them
  memory_vs_map_overlap   peak memory above start, of a filter over a big Zarr array: ours / dask.array.map_overlap
  speedup_vs_ilk          seconds a megapixel: map_overlap + scipy Sobel + scikit-image ILK + Richardson-Lucy / ours
  speedup_vs_tvl1         the same with scikit-image's TV-L1; *_fast: of our method "fast"; *_cpu: from CPU seconds;
                          gain_*_db: PSNR gained over the blurred frames (naive.py)
  growth_frames           CPU a further frame, from 64 frames to 512 / from 8 to 64
  growth_side             CPU a megapixel at 4096² (--long: 16384²) / at 1024²
  restart_seconds         plan and compute again on a run of restart_units units, all of them in the ledger
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deblur import job as work
from deblur.clusters import WORKER_ENVIRONMENT, connect
from deblur.config import Cluster, JobConfig, parse_job
from deblur.execute import run_tasks
from deblur.plan import STAGES, Unit, units
from deblur.probe import seconds_per_megapixel
from deblur.store import Archive
from deblur.tiling import Box
from deblur.unit import Task, peak_memory, run_unit
from tests.benchmarks.naive import PEERS, film, naive_seconds, our_seconds
from tests.benchmarks.overlap import filter_memory
from tests.conftest import pan

PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--long", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(FIGURES))
    parser.add_argument("--part", nargs="*", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.part:
        print(json.dumps(PARTS[a.part[0]](*a.part[1:])))
        return
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in a.only:
            found |= FIGURES[name](Path(folder), SIZES[a.quick - a.long])
    print(
        json.dumps(found)
        if a.json
        else "\n".join(f"{name:24} {value:10.3f}" for name, value in found.items())
    )


def part(*arguments: object, environment: Mapping[str, str] = WORKER_ENVIRONMENT) -> Any:
    """Run a part in a process of its own, as a rule with the environment of a worker."""
    command = [sys.executable, __file__, "--part", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment
    )
    return json.loads(done.stdout.splitlines()[-1])


# overhead and speed-up


def overhead(folder: Path, size: str) -> dict[str, float]:
    """The best of several turns each, because other work on the machine only ever adds."""
    quick = size == "quick"
    job = prepared(
        folder / "overhead",
        frames=8 if quick else 48,
        side=512 if quick else 1024,
        unit=512 if quick else 1024,
    )
    part("motion", job)  # restoration needs all of it, whoever is being timed
    best = dict.fromkeys(("bare", "one", "two"), (np.inf, 0.0))
    pair = np.inf
    for _ in range(3):
        for name, workers in (("bare", 0), ("one", 1), ("two", 2)):
            best[name] = min(best[name], tuple(part("units", job, workers)))
        with ThreadPoolExecutor() as both:
            pair = min(
                pair, max(seconds for seconds, _ in both.map(lambda _: part("units", job, 0), range(2)))
            )
    (bare, _), (one, alone), (two, together) = best.values()
    ratios = {"overhead_ratio": one / bare, "two_worker_speedup": one / two}
    ratios["two_loop_speedup"] = 2 * bare / pair
    return ratios | {"one_worker_busy": alone, "two_workers_busy": together}


def clip(frames: int, side: int) -> np.ndarray:
    """(t, 1, y, x) uint16: a small pan, mirrored until it is large enough."""
    small = min(side, 512)
    tile = pan(min(frames, 8), small, small)[0].astype(np.uint16) * 16
    wide = np.concatenate([tile, tile[..., ::-1]], -1)
    times = -(-side // small)
    view = np.tile(np.concatenate([wide, wide[..., ::-1, :]], -2), (1, 1, times, times))[..., :side, :side]
    return np.concatenate([view] * -(-frames // len(view)))[:frames]


def prepared(folder: Path, *, frames: int, side: int, unit: int | None, window: int | None = None) -> Path:
    """A job with its archive, run laid out."""
    folder.mkdir()
    np.save(folder / "pan.npy", clip(frames, side))
    told = {
        "archive": str(folder / "archive"),
        "sources": [{"path": str(folder / "pan.npy"), "exposure_fraction": 0.75}],
        "tiling": {
            "window": window,
            "chunk": min(window or 256, 256),
            "shard": unit or 1024,
            "unit": unit,
            "frames": 2,
        },
        "cluster": {"kind": "serial"},
    }
    (folder / "job.json").write_text(json.dumps(told))
    job = parse_job(told)
    work.ingest(parse_job(told | {"tiling": {}}))  # a source of few shards, whatever the units
    (outcome,) = work.plan(job, work.ingest(job))
    assert outcome.plan is not None
    store = Archive.open(job.archive).sequence(outcome.plan.sequence)
    store.create_run(outcome.plan.run, work.run_spec(outcome.plan, store, job))
    return folder / "job.json"


def tasks_of(job: JobConfig) -> list[list[Task]]:
    """Every unit of a job's one sequence, finished or not, stage by stage."""
    (outcome,) = work.plan(job, work.ingest(job))
    plan = outcome.plan
    assert plan is not None
    store = Archive.open(job.archive).sequence(plan.sequence)
    return [[Task(job.archive, plan.sequence, plan.run, u) for u in units(plan, store, s)] for s in STAGES]


def all_motion(path: str) -> None:
    """Compute the first stage."""
    for task in tasks_of(parse_job(json.loads(Path(path).read_text())))[0]:
        run_unit(task)


def time_units(path: str, workers: str) -> tuple[float, float]:
    """Wall seconds for all units, and the share of the workers' time spent in them; kernels are loaded before."""
    job = parse_job(json.loads(Path(path).read_text()))
    stages = tasks_of(job)
    ledger = Archive.open(job.archive).sequence(stages[0][0].sequence).run(stages[0][0].run).ledger()
    spent = 0.0

    def done(task: Task, record: dict[str, Any]) -> None:
        nonlocal spent
        ledger.append(record)
        spent += record["seconds"]

    if workers == "0":
        for stage in stages:
            run_unit(stage[0])
        began = time.perf_counter()
        for stage in stages:
            for task in stage:
                spent += run_unit(task)["seconds"]
        seconds = time.perf_counter() - began
        return seconds, spent / seconds
    with connect(Cluster(kind="local", workers=int(workers)), memory=2**31) as client:
        for stage in stages:
            run_tasks(stage[:1] * 2 * int(workers), client=client, done=lambda task, record: None)
        began = time.perf_counter()
        for stage in stages:
            run_tasks(stage, client=client, done=done)
        seconds = time.perf_counter() - began
        return seconds, spent / seconds / int(workers)


# cost and memory of a million units


SETTLED = 8000  # units after which Dask's bounded logs are full


def million(folder: Path, size: str) -> dict[str, float]:
    count = {"quick": 20_000, "usual": 100_000, "long": 1_000_000}[size]
    cpu, growth = part("noop", count, environment={})  # client and scheduler have no worker's
    return {"cpu_ms_per_unit": cpu, "million_growth_mb": growth}


def noop(task: Task) -> dict[str, Any]:
    """A unit that does nothing and tells as much of it as a real one."""
    shards = {
        f"{name}/c/{task.unit.t0}/0/1/2": "0" * 64 for name in ("0", "1", "quality/weight", "quality/reason")
    }
    return {"key": task.unit.key, "stage": "restore", "shards": shards, "host": "here", "seconds": 0.0}


def noop_units(count: str) -> tuple[float, float]:
    """(CPU ms a unit, growth in MB a million units), from a fifth of them on."""
    total = int(count)
    marks: list[tuple[int, float, float]] = []
    done = 0

    def mark(task: Task, record: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        if done % (total // 5) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            marks.append((done, time.process_time(), pages * PAGE))

    def stream() -> Iterator[Task]:
        for t in range(total):
            unit = Unit("restore", t, t + 1, Box(0, 1024, 0, 1024), f"{t:064x}")
            yield Task("/some/archive", "sequence", "run-0123456789ab", unit)

    with connect(Cluster(kind="local", workers=1), memory=2**31) as client:
        run_tasks(stream(), client=client, done=mark, work=noop)
    (first, began, small) = next(row for row in marks if row[0] >= SETTLED or row is marks[-2])
    (last, ended, large) = marks[-1]
    return (ended - began) / (last - first) * 1e3, (large - small) / (last - first) * 1e6


# memory against map_overlap


def memory(folder: Path, size: str) -> dict[str, float]:
    import zarr

    side = 8192 if size == "quick" else 16384
    shards = {"shards": (1024, 1024), "chunks": (256, 256)}
    array = zarr.create_array(folder / "big.zarr", shape=(side, side), dtype="uint16", **shards)
    rng = np.random.default_rng(0)
    for y in range(0, side, 1024):
        array[y : y + 1024] = rng.integers(0, 4096, (1024, side), np.uint16)
    ours, theirs = (
        part("filter", kind, folder / "big.zarr", folder / f"{kind}.zarr") for kind in ("ours", "theirs")
    )
    same = np.array_equal(
        *(zarr.open_array(folder / f"{kind}.zarr", mode="r")[:2048] for kind in ("ours", "theirs"))
    )
    if not same:
        raise SystemExit("ours and map_overlap differ")
    return {"memory_vs_map_overlap": ours / theirs}


# against the pipeline people write today


def naive(folder: Path, size: str) -> dict[str, float]:
    """Ours on many frames, the slow peers on four, of one film."""
    folder /= "naive"
    frames, side, peer = {"quick": (4, 512, 512), "usual": (64, 2048, 1024), "long": (64, 2048, 2048)}[size]
    part("film", folder, 4 if size == "quick" else 8, side)
    sizes = {
        "ours": ("variational", frames),
        "fast": ("fast", frames),
        "ilk": ("ilk", peer),
        "tvl1": ("tvl1", peer),
    }
    told = {
        name: part("theirs" if name in PEERS else "ours", folder, size, how)
        for name, (how, size) in sizes.items()
    }
    found = {f"{name}_s_per_mp": wall for name, (wall, _, _) in told.items()}
    found |= {f"gain_{name}_db": gain for name, (_, _, gain) in told.items()}
    for theirs in PEERS:
        for ours, suffix in (("ours", ""), ("fast", "_fast")):
            found[f"speedup_vs_{theirs}{suffix}"] = told[theirs][0] / told[ours][0]
            found[f"speedup_vs_{theirs}{suffix}_cpu"] = told[theirs][1] / told[ours][1]
    return found


# growth with frames and their size


def growth(folder: Path, size: str) -> dict[str, float]:
    """From CPU seconds, which other work on the machine disturbs least."""
    counts = (8, 16, 32) if size == "quick" else (8, 64, 512)
    few, some, many = (part("whole", folder / f"frames{n}", n, 256) for n in counts)
    further = (many - some) / (counts[2] - counts[1]) / ((some - few) / (counts[1] - counts[0]))
    side = {"quick": 2048, "usual": 4096, "long": 16384}[size]
    small, large = (part("whole", folder / f"side{n}", 2, n) / n**2 for n in (1024, side))
    return {"growth_frames": further, "growth_side": large / small}


def whole_job(folder: str, frames: str, side: str) -> float:
    """CPU seconds of a job from ingest to publication; kernels are loaded before."""
    Path(folder).mkdir()
    np.save(Path(folder) / "clip.npy", clip(int(frames), int(side)))
    told = {"archive": str(Path(folder) / "archive"), "cluster": {"kind": "serial"},
            "sources": [{"path": str(Path(folder) / "clip.npy"), "exposure_fraction": 0.75}]}  # fmt: skip
    job = parse_job(told)
    seconds_per_megapixel()
    began = time.process_time()
    (outcome,) = work.run(job)
    if not outcome.published:
        raise SystemExit("; ".join(outcome.faults()))
    return time.process_time() - began


# a finished run, asked for again


def restart(folder: Path, size: str) -> dict[str, float]:
    """Two frames in a great many units; the ledger says that all are done."""
    side = (32 if size == "quick" else 224) * 64
    job = prepared(folder / "restart", frames=2, side=side, unit=64, window=64)
    config = parse_job(json.loads(job.read_text()))
    stages = tasks_of(config)
    run = Archive.open(config.archive).sequence(stages[0][0].sequence).run(stages[0][0].run)
    lines = (json.dumps(noop(task) | {"status": "done", "at": 1.0}) for stage in stages for task in stage)
    pyramid = json.dumps({"key": "pyramid", "stage": "pyramid", "shards": {}})
    (run.units_folder / "all.jsonl").write_text("\n".join([*lines, pyramid, ""]))
    count = sum(map(len, stages))
    seconds, grown = part("restart", job)
    return {"restart_units": count, "restart_seconds": seconds, "restart_mb": grown}


def restart_seconds(path: str) -> tuple[float, float]:
    job = parse_job(json.loads(Path(path).read_text()))
    before = peak_memory()
    began = time.perf_counter()
    (outcome,) = work.compute(job, work.plan(job, work.ingest(job)))
    if outcome.computed:
        raise SystemExit("a finished run computed something")
    return time.perf_counter() - began, (peak_memory() - before) / 1e6


SIZES = {0: "usual", 1: "quick", -1: "long"}
FIGURES = {
    "overhead": overhead, "million": million, "memory": memory, "naive": naive, "growth": growth, "restart": restart,
}  # fmt: skip
PARTS: dict[str, Any] = {
    "motion": all_motion, "units": time_units, "noop": noop_units, "filter": filter_memory, "film": film,
    "ours": our_seconds, "theirs": naive_seconds, "whole": whole_job, "restart": restart_seconds,
}  # fmt: skip

if __name__ == "__main__":
    from tests.benchmarks import scale  # functions of __main__ would travel by value

    scale.main()
