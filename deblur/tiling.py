"""Integers only: windows, units, halos.

The numerics run on *windows* of one global grid that starts at (0, 0). A window owns its *core*; it reads its core
plus a *halo*, clipped to the frame. Cores tile the frame without overlap, so a unit (any group of whole windows)
never computes a pixel that belongs to another one. The halo is what keeps neighbours in agreement; how well they
agree is measured (the seam certificate), not hoped for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblur.errors import PlanError


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open rectangle of pixels: rows y0..y1, columns x0..x1."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def size(self) -> int:
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, outer: Box) -> tuple[slice, slice]:
        """The slices of this box in an array that holds just `outer`."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )

    def grown(self, halo: int, height: int, width: int) -> Box:
        """This box with `halo` pixels more on every side, clipped to a frame of (height, width)."""
        return Box(
            max(0, self.y0 - halo),
            min(height, self.y1 + halo),
            max(0, self.x0 - halo),
            min(width, self.x1 + halo),
        )


@dataclass(frozen=True, slots=True, order=True)
class Layout:
    """How a run is cut: sides in pixels of the numerics' windows, of chunks, shards and units; frames of a unit and of
    a shard. None of them but `window` changes a bit of the result."""

    window: int
    chunk: int
    shard: int
    unit: int
    frames: int


@dataclass(frozen=True, slots=True)
class Window:
    """One tile of the numerics: it owns `core` and reads `read`."""

    core: Box
    read: Box

    @property
    def inner(self) -> tuple[slice, slice]:
        """The slices of the core in an array that holds the read box."""
        return self.core.within(self.read)


def boxes(height: int, width: int, size: int) -> Iterator[Box]:
    """Squares of `size` that tile a frame, row by row; those at the far edges are cut."""
    for y in range(0, height, size):
        for x in range(0, width, size):
            yield Box(y, min(y + size, height), x, min(x + size, width))


def windows(region: Box, height: int, width: int, *, size: int, halo: int) -> tuple[Window, ...]:
    """The windows of the global grid whose cores make up `region`.

    `region` must consist of whole windows: its near edges on the grid, its far edges on the grid or on the
    frame's. Raises PlanError otherwise.
    """
    if (
        region.y0 % size
        or region.x0 % size
        or _ragged(region.y1, height, size)
        or _ragged(region.x1, width, size)
    ):
        raise PlanError(
            f"region {region} is not made of whole windows of {size} px: make the unit a multiple of it"
        )
    cores = (
        Box(y, min(y + size, region.y1), x, min(x + size, region.x1))
        for y in range(region.y0, region.y1, size)
        for x in range(region.x0, region.x1, size)
    )
    return tuple(Window(core, core.grown(halo, height, width)) for core in cores)


def _ragged(edge: int, extent: int, size: int) -> bool:
    return edge % size != 0 and edge != extent


def blocks(frames: int, size: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of `size` frames that cover a sequence; the last one is cut."""
    for start in range(0, frames, size):
        yield start, min(start + size, frames)


def round_up(value: float, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `value`."""
    whole = int(value) if value == int(value) else int(value) + 1
    return -(-whole // multiple) * multiple
