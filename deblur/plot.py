"""Pictures of results for notebooks and papers, by matplotlib (`pip install 'deblur[plot]'`).

Each function draws into `ax`, the current axes if it is None, and returns them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from deblur.errors import ArrayError, ConfigError
from deblur.report.colour import motion_to_rgb, motion_wheel
from deblur.report.pictures import REASON_COLOURS, typical_largest
from deblur.types import Reason, Restoration

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_motion(motion: ArrayLike, *, longest: float | None = None, ax: Axes | None = None) -> Axes:
    """A motion (2, y, x), (dy, dx) in pixels, in the Middlebury colours with their wheel beside it.

    `longest`: pixels that get the full colour; None takes a length that few outliers can stretch.
    """
    field = _vectors(motion)
    top = longest or typical_largest(np.hypot(*field))
    axes = _bare(ax)
    axes.imshow(motion_to_rgb(field, longest=top))
    wheel = axes.inset_axes((1.02, 0.0, 0.2, 0.2 * field.shape[2] / field.shape[1]))
    wheel.imshow(motion_wheel(128))
    wheel.set_axis_off()
    wheel.set_title(f"{top:.1f} px", fontsize="small")
    return axes


def plot_paths(
    path: ArrayLike, image: ArrayLike | None = None, *, every: int = 32, ax: Axes | None = None
) -> Axes:
    """Blur paths (2, y, x), pixels over the exposure, as lines on a grid of `every` pixels, over `image` (y, x[, 3])."""
    field = _vectors(path)
    axes = _bare(ax)
    axes.imshow(np.zeros(field.shape[1:]) if image is None else np.asarray(image), cmap="gray")
    y, x = np.mgrid[every // 2 : field.shape[1] : every, every // 2 : field.shape[2] : every]
    dy, dx = field[:, y, x] / 2
    axes.plot(
        [(x - dx).ravel(), (x + dx).ravel()], [(y - dy).ravel(), (y + dy).ravel()], color="#ff4020", lw=1.2
    )
    axes.set_xlim(-0.5, field.shape[2] - 0.5)
    axes.set_ylim(field.shape[1] - 0.5, -0.5)
    return axes


def plot_psf(psf: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """A PSF (k, l), its centre at (0, 0), axes in pixels."""
    kernel = np.asarray(psf, np.float64)
    if kernel.ndim != 2:
        raise ArrayError(f"psf has shape {kernel.shape}: give (k, l)")
    axes = _bare(ax)
    axes.set_axis_on()
    half = np.array(kernel.shape) / 2
    axes.imshow(kernel, cmap="magma", extent=(-half[1], half[1], half[0], -half[0]))
    axes.set_xlabel("px")
    axes.set_ylabel("px")
    return axes


def plot_quality(result: Restoration, *, ax: Axes | None = None) -> Axes:
    """What became of each frame's pixels: a stacked band a reason, frame by frame; green was restored."""
    reason = np.asarray(result.reason)
    axes = _bare(ax)
    axes.set_axis_on()
    axes.set_aspect("auto")
    shares = np.array([[(frame == kind).mean() for frame in reason] for kind in Reason])
    seen = [kind for kind in Reason if shares[kind].any()]
    below = np.zeros(len(reason))
    for kind in seen:
        colour = tuple(part / 255 for part in REASON_COLOURS[kind])
        words = kind.name.lower().replace("_", " ")
        axes.bar(range(len(reason)), shares[kind], bottom=below, width=1.0, color=colour, label=words)
        below += shares[kind]
    axes.set_xlabel("frame")
    axes.set_ylabel("share of pixels")
    axes.set_ylim(0, 1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    return axes


def _vectors(field: ArrayLike) -> Any:
    vectors = np.asarray(field, np.float32)
    if vectors.ndim != 3 or len(vectors) != 2:
        raise ArrayError(f"the field has shape {vectors.shape}: give (2, y, x), as result.motion[t]")
    return vectors


def _bare(ax: Axes | None) -> Axes:
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ConfigError("plots need matplotlib: pip install 'deblur[plot]'") from None
        ax = pyplot.gca()
    ax.set_axis_off()
    return ax
