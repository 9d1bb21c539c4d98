"""How a sequence is cut into windows, units and blocks of frames, and what that costs: integers only.

What the job leaves open is chosen here from the sequence's own facts, never from the machine, so that whoever plans the
same job over the same frames plans the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from deblur.config import Tiling
from deblur.tiling import Layout, round_up

Stage = Literal["survey", "share", "motion", "restore"]  # the first two come before there is a plan
STAGES: tuple[Stage, ...] = ("motion", "restore")
# Measured: a worker that has imported NumPy, Numba, Zarr and Dask, kernels loaded, takes 240 MiB, 20 more after a hundred
# units; float32 planes of a window at the peak are 40 for motion, 36 for restoration, 6 more (8 in colour) a neighbour
# that it starts from too.
BASE_MEMORY = 300 * 2**20
MOTION_PLANES = 50
RESTORE_PLANES = 40  # of one channel; each further one adds 12
LOOK_PLANES = 8  # of one channel; each further one adds 2
LEARNED_PLANES = 160  # what a network looks at and its own; 4 for each further channel
MOST_LOOKS = 3  # a frame and its two neighbours

WINDOW_MEMORY = 3 << 29  # bytes that a chosen window may take: with its unit it fits a worker of 2 GiB
STEP = 512  # chosen windows are multiples of it, or as large as the frame
GRAIN = 64  # windows must see the pyramid that the whole frame sees
WORK = 5 << 23  # pixels × frames of a chosen unit at the most: what a crash may cost
SHARES = 32  # units of a stage at the least before one gets more than FEW frames: workers want their share
FEW, MOST = 4, 16  # frames of a chosen unit


@dataclass(frozen=True, slots=True)
class Facts:
    """What a layout has to suit. `halos`: px that a window of a stage reads beyond its core; `looks`: frames that a
    restoration starts from; `extra`: kinds of further outputs; `learned`: whether a network looks at each window."""

    shape: tuple[int, int, int, int]
    dtype: str
    halos: Mapping[Stage, int]
    looks: int = 1
    extra: int = 0
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan will take: a projection, made before anything runs.

    `read_amplification`: pixels decoded / pixels of the sequence, over both stages; frames beside a block count, and so
    do halos. `compute_amplification`: the same of pixels computed.
    """

    units: int
    megapixels: float
    read_amplification: float
    compute_amplification: float
    memory: int
    output_bytes: int


def project(facts: Facts, layout: Layout) -> Cost:
    """Project what a run costs, from shapes alone."""
    count, channels, height, width = facts.shape
    itemsize = np.dtype(facts.dtype).itemsize
    read = memory = 0
    numbers = math.ceil(count / layout.frames)
    seen = count + 2 * (numbers - 1)  # a block reads the frames beside it too
    for stage in STAGES:
        rows, columns = (_lengths(extent, layout.unit, facts.halos[stage]) for extent in (height, width))
        read += sum(rows) * sum(columns) * seen  # every row of units has the same columns
        memory = max(memory, _unit_memory(stage, facts, layout, max(rows) * max(columns)))
    units = math.ceil(height / layout.unit) * math.ceil(width / layout.unit) * numbers
    stored = (
        count
        * height
        * width
        * (channels * itemsize * 4 / 3 + 8 + 2 + facts.learned + (12 if facts.extra else 0))
    )
    return Cost(
        units=len(STAGES) * units,
        megapixels=count * height * width / 1e6,
        read_amplification=read / (len(STAGES) * count * height * width),
        compute_amplification=_computed(facts, layout.window),
        memory=BASE_MEMORY + memory,
        output_bytes=int(stored),
    )


def choose(tiling: Tiling, facts: Facts, *, memory: int, kept: Layout | None = None) -> Layout:
    """The layout of a sequence: what `tiling` gives, and for the rest what reads and computes least in `memory`.

    `kept`: of an earlier run, taken where it agrees and fits, so that finished units can be carried over. The window
    follows from the frame's size and the halos alone, unless not even one frame of it fits; where nothing fits, the
    layout that takes least is the answer.
    """
    if kept is not None and _agrees(tiling, kept) and project(facts, kept).memory <= memory:
        return kept
    tried = []
    for window in _windows(tiling, facts):
        for layout in _layouts(tiling, facts, window):
            cost = project(facts, layout)
            if cost.memory <= memory:
                return layout
            tried.append((cost.memory, layout.unit, layout.frames, layout))
    return min(tried)[-1]


def _agrees(tiling: Tiling, kept: Layout) -> bool:
    return all(
        value in (None, getattr(kept, name))
        for name, value in tiling
    )  # fmt: skip


def _windows(tiling: Tiling, facts: Facts) -> list[int]:
    """The sides to try, best first: those that compute least, of equal ones the smallest."""
    if tiling.window is not None:
        return [tiling.window]
    longer = max(facts.shape[2:])
    whole = round_up(longer, GRAIN)
    sides = {whole, *range(STEP, whole, STEP), *([tiling.unit] if tiling.unit else [])}
    held = {side: _window_memory(facts, side) for side in sides if _divides(side, tiling.unit, longer)}
    fit = [side for side in held if held[side] <= WINDOW_MEMORY] or [min(held)]
    return sorted(fit, key=lambda side: (_computed(facts, side), side))


def _divides(side: int, unit: int | None, longer: int) -> bool:
    return side % GRAIN == 0 and (unit is None or unit % side == 0 or unit >= longer)


def _layouts(tiling: Tiling, facts: Facts, window: int) -> Iterator[Layout]:
    """Units and blocks of frames for a window, those that read least first."""
    count, _, height, width = facts.shape
    longer = max(height, width)
    step = math.lcm(window, tiling.shard)
    cover = round_up(longer, window)  # one unit holds every shard of its frames, multiple or not
    units = {tiling.unit} if tiling.unit else {cover, *range(step, longer, step)}
    numbers = (
        {tiling.frames} if tiling.frames else {n for n in (1, 2, 4, 8, 16) if n <= MOST and n < 2 * count}
    )
    found = [Layout(window, tiling.chunk, tiling.shard, u, n) for u in units for n in numbers]
    wanted = [layout for layout in found if _apt(layout, facts)]
    least = min(found, key=lambda one: (one.unit, one.frames))
    return iter(sorted({least, *wanted}, key=lambda one: (project(facts, one).read_amplification, one.unit)))


def _apt(layout: Layout, facts: Facts) -> bool:
    count, _, height, width = facts.shape
    core = min(layout.unit, height) * min(layout.unit, width)
    shares = math.ceil(height / layout.unit) * math.ceil(width / layout.unit) * (count // layout.frames)
    return core * layout.frames <= WORK and (layout.frames <= FEW or shares >= SHARES)


@lru_cache(maxsize=1024)
def _lengths(extent: int, size: int, halo: int) -> tuple[int, ...]:
    """How far each of the pieces of an axis reads."""
    return tuple(min(at + size + halo, extent) - max(0, at - halo) for at in range(0, extent, size))


def _computed(facts: Facts, window: int) -> float:
    """Pixels computed / pixels of a frame, the mean of both stages."""
    height, width = facts.shape[2:]
    whole = sum(math.prod(sum(_lengths(n, window, h)) for n in (height, width)) for h in facts.halos.values())
    return whole / (len(STAGES) * height * width)


def _largest(facts: Facts, stage: Stage, window: int) -> int:
    """Pixels of the largest window with its halo."""
    return math.prod(max(_lengths(extent, window, facts.halos[stage])) for extent in facts.shape[2:])


def _planes(stage: Stage, facts: Facts, looks: int) -> int:
    if stage == "motion":
        return MOTION_PLANES
    more = facts.shape[1] - 1
    network = LEARNED_PLANES + 4 * more if facts.learned else 0
    return RESTORE_PLANES + 12 * more + (looks - 1) * (LOOK_PLANES + 2 * more) + network


def _window_memory(facts: Facts, window: int) -> int:
    """Bytes of a window's planes, whether the frames are noisy or not."""
    return max(_largest(facts, stage, window) * 4 * _planes(stage, facts, MOST_LOOKS) for stage in STAGES)


def _unit_memory(stage: Stage, facts: Facts, layout: Layout, region: int) -> int:
    """Bytes one unit holds at its peak, beyond the process itself. `region`: pixels that it reads of a frame."""
    count, channels, height, width = facts.shape
    itemsize = np.dtype(facts.dtype).itemsize
    core = min(layout.unit, height) * min(layout.unit, width) * min(layout.frames, count)
    if stage == "motion":
        held = region * (3 * 4 + channels * itemsize) + core * (8 + 12 * facts.extra)
    else:
        held = region * (3 * channels * itemsize + 4 * 2 * 2) + core * (
            channels * itemsize * 4 // 3 + 2 + facts.learned
        )
    window = _largest(facts, stage, layout.window) * 4 * _planes(stage, facts, facts.looks)
    return held * 5 // 4 + window
