"""Arrays with names to their axes (xarray's, or what looks like them) in, the same out. Nothing is imported for it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from deblur.errors import ArrayError

CHANNELS = ("c", "channel", "channels", "band", "bands", "rgb", "wavelength")


def check_names(frames: Any) -> None:
    """Raise ArrayError where the axes say that channels come last: they would be taken as columns."""
    names = tuple(str(name) for name in getattr(frames, "dims", ()))
    last = next((name for name in names[-2:] if name.lower() in CHANNELS), None)
    if last is not None and hasattr(frames, "coords"):
        order = [name for name in names if name != last]
        wanted = ", ".join([order[0], last, *order[1:]])
        raise ArrayError(f"frames have axes ({', '.join(names)}): transpose them to ({wanted})")


def labelled(values: NDArray[Any], like: Any) -> Any:
    """`values` with the axes, coordinates and attributes of `like`, where it has such; else as they are.

    `values`: the shape of `like`, or that without its second axis, the channels.
    """
    if not (hasattr(like, "dims") and hasattr(like, "coords")):
        return values
    target = like if values.ndim == like.ndim else like.isel({like.dims[1]: 0}, drop=True)
    return target.copy(data=values)
