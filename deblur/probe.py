"""How fast this machine is: a small window is restored once, so that a plan can say how long it will take."""

from __future__ import annotations

import time

import numpy as np

from deblur.neighbours import Neighbour
from deblur.survey import refine
from deblur.window import RestoreSettings, restore_window

SIDE = 256
SHIFT = 6


def seconds_per_megapixel(method: str | None = None, motion_method: str = "fast") -> dict[str, float]:
    """CPU seconds per megapixel of one frame on one core: {"motion": both directions, "restore": one channel}."""
    rng = np.random.default_rng(0)
    scene = rng.random((SIDE, SIDE + SHIFT), np.float32)
    scene = (scene + np.roll(scene, 1, 1) + np.roll(scene, 2, 1)) / np.float32(3)
    frame, other = (np.ascontiguousarray(scene[:, k : k + SIDE]) for k in (0, SHIFT))
    coarse = np.zeros((2, SIDE // 4, SIDE // 4), np.float32)
    field = np.zeros((2, SIDE, SIDE), np.float32)
    field[1] = -SHIFT
    settings = RestoreSettings() if method is None else RestoreSettings(method=method)
    beside = (Neighbour(other[None], field, -field, 1.0),)
    found = {}
    for _ in range(2):  # the first turn compiles
        began = time.process_time()
        refine(frame, other, coarse, reduction=4, y0=0, x0=0, method=motion_method)
        found["motion"] = 2 * (time.process_time() - began) / (SIDE * SIDE / 1e6)
        began = time.process_time()
        restore_window(frame[None], beside, noise=0.004, settings=settings)
        found["restore"] = (time.process_time() - began) / (SIDE * SIDE / 1e6)
    return found
