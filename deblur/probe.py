"""How fast this machine is: a small window is restored once, so that a plan can say how long it will take."""

from __future__ import annotations

import math
import time
from functools import lru_cache

import numpy as np

from deblur.neighbours import Neighbour
from deblur.sequence import restore
from deblur.survey import refine
from deblur.types import Float
from deblur.window import JOINT, RestoreSettings, restore_window

WARM, SIDE = 64, 768  # px of the windows: a much smaller one would stay in the caches, as a real one does not
SHIFT = 6
FRACTION = 0.5
SHORT, LONG = 2.0, 64.0  # px of a path
USUAL = RestoreSettings()


def compile_kernels() -> None:
    """Have every kernel of the usual way compiled and kept where Numba keeps them: a moment where they are already."""
    scene = np.random.default_rng(0).random((3, 96, 128 + 2 * SHIFT), np.float32)
    frames = np.stack([scene[..., k * SHIFT : k * SHIFT + 128] for k in range(3)])
    restore(np.rint(frames * 255).astype(np.uint8), exposure_fraction=0.5)


def seconds_per_megapixel(
    settings: RestoreSettings = USUAL, motion_method: str = "fast", *, noise: float = 0.0, path: float = 12.0
) -> dict[str, float]:
    """CPU seconds per megapixel of one frame on one core: {"motion": both directions, "restore": one channel}.

    `noise`, `path` (pixels): of the frames. Noisy ones are restored from their neighbours too, and longer paths take
    longer. Measured once for each kind of frames: of an archive's many sequences most are alike.
    """
    kind = 2 ** (round(2 * math.log2(min(max(path, SHORT), LONG))) / 2)
    return _measured(settings, motion_method, noise >= JOINT, kind)


@lru_cache(maxsize=256)
def _measured(settings: RestoreSettings, motion_method: str, noisy: bool, path: float) -> dict[str, float]:
    found = {}
    for side in (WARM, SIDE):  # the first turn compiles
        views, ahead = _scene(side, round(path / FRACTION))
        megapixels = side * side / 1e6
        coarse = np.ascontiguousarray(ahead[:, ::4, ::4])
        began = time.process_time()
        refine(views[1], views[2], coarse, reduction=4, y0=0, x0=0, method=motion_method)
        found["motion"] = 2 * (time.process_time() - began) / megapixels
        after = Neighbour(views[2][None], ahead, -ahead, FRACTION)
        before = Neighbour(views[0][None], -ahead, ahead, -FRACTION)
        began = time.process_time()
        restore_window(views[1][None], (after, before), noise=JOINT if noisy else 0.0, settings=settings)
        found["restore"] = (time.process_time() - began) / megapixels
    return found


def _scene(side: int, step: int) -> tuple[list[Float], Float]:
    """Three views (y, x) of a pan by `step` pixels, and the motion (2, y, x) from each to the next."""
    wide = np.random.default_rng(0).random((side, side + 2 * step), np.float32)
    wide = (wide + np.roll(wide, 1, 1) + np.roll(wide, 2, 1)) / np.float32(3)
    ahead = np.zeros((2, side, side), np.float32)
    ahead[1] = -step
    return [np.ascontiguousarray(wide[:, k * step : k * step + side]) for k in range(3)], ahead
