"""Small frozen value objects that the layers hand to one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
T = TypeVar("T")


class Lazy(Sequence[T]):
    """Items that are made when they are asked for: a hundred thousand files must not be as many objects."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lazy[T]:
        if isinstance(index, slice):
            chosen = range(*index.indices(self._count))
            return Lazy(len(chosen), lambda place: self._make(chosen[place]))
        return self._make(range(self._count)[index])


class Reason(IntEnum):
    """Why a pixel kept its source value (in whole or in part); the values are stored in quality/reason."""

    RESTORED = 0  #: nothing held the restoration back
    STILL = 1  #: the path is too short to have blurred anything
    NO_NEIGHBOUR = 2  #: no frame beside it shows the same scene: first light needs one
    UNCERTAIN = 3  #: motion forward and backward contradict each other, or leave the frame
    RESIDUAL = 4  #: blurring the restored frame again does not give the source
    OVERSHOOT = 5  #: the restored value left the range of the source around it
    SATURATED = 6  #: the sensor clipped here, so its light is unknown
    INVALID = 7  #: not a number in the source
    LEARNED = 8  #: the network of the method "hybrid" doubts what physics restored


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard uncertainty."""

    value: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Motion:
    """Motion between two frames, both ways.

    `forward`, `backward`: (2, y, x) float32, (dy, dx) in pixels; `b[p + forward[p]] ≈ a[p]`.
    `confidence`: (y, x) float32 in [0, 1], on the grid of `a`. `occluded`: (y, x) bool: seen in `a` only.
    `cut`: the two frames don't show the same scene; the fields are then zero.
    """

    forward: Float
    backward: Float
    confidence: Float
    occluded: Bool
    cut: bool


@dataclass(frozen=True, slots=True)
class Iterations:
    """What the solver did for one frame: how many steps, the last relative change, the reblur residual (rms)."""

    count: int
    change: float
    residual: float


@dataclass(frozen=True, slots=True)
class Restoration:
    """What `deblur.restore` returns.

    `frames`: shape and dtype of the input. `weight`: (t, y, x) float32, 1 restored, 0 source kept.
    `reason`: (t, y, x) uint8, see `Reason`. `motion`: (t, 2, y, x) float32, pixels per frame interval.
    `noise`: (t,) float32, standard deviation as a fraction of full range. `iterations`: one record a frame.
    `exposure_fraction`: nan for a still. `exposure_uncertainty`: standard, of an estimated one; 0 where it was
    given. `psf`: (k, k), what a still was restored with, found from itself; None for frames with neighbours.
    `source`: the frames as they were given, not copied; `transfer`: how their codes were taken. Arrays with names to
    their axes (xarray's) give `frames`, `weight` and `reason` with the same coordinates.
    """

    frames: NDArray[Any]
    weight: Float
    reason: Bytes
    motion: Float
    exposure_fraction: float
    noise: Float
    iterations: tuple[Iterations, ...]
    exposure_uncertainty: float = 0.0
    psf: Float | None = None
    source: Any = field(default=None, repr=False)
    transfer: str = "auto"

    def _repr_html_(self) -> str:
        """What notebooks show. By name, since drawing lies above the maths."""
        return str(import_module("deblur.notebook").restoration_html(self))


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What a reader knows of one frame without decoding it.

    `name`: how the source calls it (a file name, or `clip.mp4#17`). `time`, `exposure_time`: seconds, where known.
    """

    name: str
    time: float | None = None
    exposure_time: float | None = None


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a reader knows of a sequence without decoding it.

    `shape`: (c, y, x). `dtype`: NumPy's name, native byte order. `bits`: significant bits of integer data,
    where the file says so. `transfer`: "srgb" or "linear" where the file says so, else None.
    `exposure_fraction`: where the file gives it (shutter angle / 360). `pixel_size`: (y, x) and its unit.
    `metadata`: free, JSON-able, carried through.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: str
    channels: tuple[str, ...]
    bits: int | None = None
    frame_rate: float | None = None
    exposure_fraction: float | None = None
    transfer: str | None = None
    pixel_size: tuple[float, float, str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a source may ask of this machine; checked from headers, before anything is decoded.

    `max_pixels`, `max_bytes`: of one decoded frame. `max_pages`: frames of one sequence. `max_ratio`: decoded
    over stored bytes of one frame, looked at only when the frame decodes to more than 64 MiB. `links`: where symbolic
    links in a folder may lead.
    """

    max_pixels: int = 1 << 30
    max_bytes: int = 1 << 33
    max_pages: int = 1_000_000
    max_ratio: float = 2000.0
    links: Literal["inside", "anywhere"] = "inside"

    def raised_to(self, header: SequenceHeader, frames: int) -> ReadLimits:
        """Those that let a sequence pass which did so before, however they were set then."""
        pixels = header.shape[1] * header.shape[2]
        size = header.shape[0] * pixels * np.dtype(header.dtype).itemsize
        largest = max(self.max_pixels, pixels), max(self.max_bytes, size), max(self.max_pages, frames)
        return ReadLimits(*largest, max_ratio=float("inf"), links="anywhere")


@dataclass(frozen=True, slots=True)
class Isolation:
    """A process of their own for decoders, and what it may take: `memory`, bytes beside six times a frame; `seconds`
    of CPU time for a frame, or to open a file."""

    memory: int = 1 << 30
    seconds: float = 120.0
