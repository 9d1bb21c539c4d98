"""The exposure fraction of a stored sequence, where neither the job nor the files tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deblur.errors import ArrayError, ConfigError
from deblur.light import Light
from deblur.shutter import STRETCH, exposure_of
from deblur.store import SequenceStore
from deblur.survey import survey
from deblur.types import Estimate


def estimate_stored(
    store: SequenceStore,
    *,
    light: Light,
    motion_method: str,
    gaps: Sequence[bool],
    progress: Callable[[str, int, int], None],
) -> Estimate:
    """The estimate from the first stretch of frames that tells, so that frames added later change nothing.

    `gaps`: as for `deblur.survey.survey`. Raises ConfigError where no stretch tells.
    """
    count = store.source.shape[0]
    if count < 3:
        raise ConfigError(
            f"{store.id}: exposure fraction unknown, and {count} frames can't tell it: "
            "give exposure_fraction, or exposure_time and frame_rate"
        )
    for first in range(0, count - 2, STRETCH):
        last = min(first + STRETCH, count)
        stretch = gaps[first : last - 1]
        found = survey(_frames(store, first, last), light=light, motion_method=motion_method, gaps=stretch)
        progress(f"exposure {store.id}", last, count)
        try:
            return exposure_of(_frames(store, first, last), found, light)
        except ArrayError:
            continue
    raise ConfigError(
        f"{store.id}: exposure fraction unknown, and the frames don't move enough to tell it: "
        "give exposure_fraction, or exposure_time and frame_rate"
    )


def _frames(store: SequenceStore, first: int, last: int) -> Iterator[Any]:
    """One at a time: memory must not grow with their number."""
    return (store.source.read(t, t + 1)[0] for t in range(first, last))
