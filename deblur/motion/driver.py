"""Coarse to fine: the one loop that every method shares."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ArrayError
from deblur.motion.overall import affine, likeness
from deblur.motion.pyramid import halve, reduce, upsample
from deblur.types import Float

ALIKE = 0.95  # correlation after motion on the coarsest level below which another start is looked for ...
BETTER = 0.02  # ... and taken when it correlates by so much better
AREA = 1 << 14  # px: on larger images no start is looked for
LARGEST = 1e9  # beyond it float32 arithmetic would leave the finite numbers


class Method(Protocol):
    """What the driver asks of a method.

    Its arithmetic must not depend on where in the array a pixel lies (no absolute coordinates in float32), so
    that windows which start at multiples of 2^levels (of 2^(levels - 1) for the pyramid, and even there for
    the colour of a checkerboard) repeat the bits of the whole frame once the halo is
    large enough.

    `reach_for(levels)`: px of the input beyond which a pixel's motion is not noticeably influenced, besides
    the displacement, when that many levels start from one `initial`; `reach`: that of three levels.
    `smallest`: px, how short the shorter side of the coarsest level may be. `NUMERICS_VERSION`: bumped
    whenever the output changes.
    """

    @property
    def NUMERICS_VERSION(self) -> int: ...

    @property
    def reach(self) -> int: ...

    @property
    def smallest(self) -> int: ...

    def reach_for(self, levels: int) -> int: ...

    def first_guess(self, reference: Float, moving: Float) -> Float:
        """A field (2, y, x) for the coarsest level to start from, found without any knowledge."""
        ...

    def solve_level(self, reference: Float, moving: Float, field: Float, level: int) -> Float:
        """Improve `field` (2, y, x) at one level; images (y, x) float32, values in this level's pixels."""
        ...


def as_image(image: NDArray[Any], name: str) -> Float:
    """A finite (y, x) float32 copy; integers are divided by their dtype's largest. Raises ArrayError."""
    given = np.asarray(image)
    if given.ndim != 2 or given.size == 0:
        raise ArrayError(
            f"{name} must be one plane (y, x), got shape {given.shape}: give luma or one channel"
        )
    if given.dtype.kind not in "buif":
        raise ArrayError(f"{name} has dtype {given.dtype}: give integers or floats")
    if given.dtype.kind in "ui":
        return np.ascontiguousarray(given, np.float32) / np.float32(np.iinfo(given.dtype).max)
    plane = np.array(given, np.float32, order="C")
    if not np.isfinite(plane).all():
        raise ArrayError(f"{name} holds values that are not finite: fill them in before measuring motion")
    if np.abs(plane).max() > LARGEST:
        raise ArrayError(f"{name} holds values above {LARGEST:g}: scale it to [0, 1]")
    return plane


def depth(shape: tuple[int, int], smallest: int) -> int:
    """How many pyramid levels an image of this shape gets, none of them shorter than `smallest` px."""
    levels, side = 1, min(shape)
    while (side + 1) // 2 >= smallest:
        side = (side + 1) // 2
        levels += 1
    return levels


def coarse_to_fine(
    reference: Float, moving: Float, method: Method, initial: Float | None, levels: int, first: int
) -> Float:
    """Run `method` from level `levels - 1` (reduced by 2 to that power) down to the images as given.

    `first`: the level that the images as given count as; more than 0 when they were reduced before.
    """
    pyramid = [(reference, moving)]
    for _ in range(levels - 1):
        pyramid.append((halve(pyramid[-1][0]), halve(pyramid[-1][1])))
    coarsest = 2 ** (levels - 1)
    if initial is None:
        field = method.first_guess(*pyramid[-1])
    else:
        field = np.stack([reduce(plane, coarsest) for plane in initial]) / np.float32(coarsest)
    for level, (one, other) in reversed(list(enumerate(pyramid))):
        if field.shape[1:] != one.shape:
            doubled = np.float32(2) * field
            field = upsample(doubled, factor=2, y0=0, x0=0, height=one.shape[0], width=one.shape[1])
        field = method.solve_level(one, other, field, first + level)
        if initial is None and len(pyramid) == levels:
            field = _or_overall(one, other, field, method, first + level)
        del pyramid[level]
    return field


def _or_overall(one: Float, other: Float, field: Float, method: Method, level: int) -> Float:
    """`field`, or what one motion of the whole view leads to where that explains the frames far better."""
    if one.size > AREA or likeness(one, other, field)[0] >= ALIKE:
        return field
    start = affine(one, other)
    if start is None or likeness(one, other, start)[0] < likeness(one, other, field)[0] + BETTER:
        return field
    return method.solve_level(one, other, start, level)
