"""The demo's scene: a bookshelf in warm light. Lettering, cloth, wood, leaves and brass, from a seed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deblur.errors import ArrayError
from deblur.scene import objects
from deblur.scene.paint import colour, grain, lay, turned
from deblur.types import Float

ROOM = 372  # scene pixels from board to board
BOARD = 34
_LENS = 0.8  # scene pixels: what the camera's optics smear, so that views don't alias


def make_scene(seed: int = 0, shape: tuple[int, int] = (1240, 1640)) -> Float:
    """A sharp picture like a photograph: (3, y, x) float32, linear light in [0, 1].

    Books with legible spines, a clock, a camera, a framed view and a trailing plant stand on shelves. The
    same seed and shape give the same picture. Raises ArrayError for a shape under 64 pixels.

    >>> make_scene(1, (80, 100)).shape
    (3, 80, 100)
    """
    if min(shape) < 64:
        raise ArrayError(f"a scene of {shape} is too small: give at least 64 x 64")
    rng = np.random.default_rng(seed)
    canvas = _panel(rng, shape)
    feet = range(ROOM * 2 // 3, shape[0] + ROOM, ROOM + BOARD)
    pots = []
    for row, foot in enumerate(feet):
        pots += _fill(canvas, rng, foot, row)
        _shade(canvas, foot)
    for foot in feet:
        _board(canvas, rng, foot)
    for top, left in pots:
        _vines(canvas, rng, top, left)
    lit = canvas * _daylight(shape)
    lit = ndimage.gaussian_filter(lit, (_LENS, _LENS, 0), truncate=3)
    return np.ascontiguousarray(np.clip(lit, 0.002, 0.96).transpose(2, 0, 1), np.float32)


def _panel(rng: np.random.Generator, shape: tuple[int, int]) -> Float:
    """The back of the shelf: dark boards standing upright."""
    boards = np.float32(1) + 0.18 * grain(rng, shape, 40, 1.2) + 0.10 * grain(rng, shape, 9, 3)
    seams = np.arange(shape[1]) % 167 < 3
    boards[:, seams] *= 0.35
    return np.asarray(colour("5b4a3c") * np.clip(boards, 0.2, 2)[..., None], np.float32)


def _fill(canvas: Float, rng: np.random.Generator, foot: int, row: int) -> list[tuple[int, int]]:
    """Stand things side by side on one shelf, in place; returns where pots stand (top, middle)."""
    left, pots = int(rng.integers(-40, 0)), []
    special = ["clock", "camera", "pot", "painting", "pile"]
    special = special[(2 * row) % 5 :] + special[: (2 * row) % 5]
    titles = rng.permutation(len(objects.TITLES))
    run, taken = int(rng.integers(4, 7)), 0
    while left < canvas.shape[1]:
        if run == 0 and special:
            patch, gap = _ornament(rng, special.pop(0)), 16
            if patch.shape[1] == int(150 * 1.05):
                pots.append((foot - patch.shape[0], left + gap + patch.shape[1] // 2))
            run = int(rng.integers(4, 8))
        else:
            title = objects.TITLES[titles[taken % len(titles)]]
            taken, run = taken + 1, run - 1
            patch, gap = objects.book(rng, int(rng.integers(38, 74)), int(rng.integers(236, 318)), title), 0
            if run == 0:  # the last of a row leans on the others
                patch = turned(patch, float(rng.uniform(6, 11)))
                gap = -6
        gap = gap if left + gap > 0 else 0
        lay(canvas, patch, foot - patch.shape[0] + 1, left + gap)
        left += gap + patch.shape[1] + (14 if gap == 16 else int(rng.integers(0, 3)))
    return pots


def _ornament(rng: np.random.Generator, name: str) -> Float:
    if name == "clock":
        return objects.clock(rng, 118)
    if name == "camera":
        return objects.camera(rng, 250)
    if name == "pot":
        return objects.pot(rng, 150)
    if name == "painting":
        return objects.painting(rng, 210, 270)
    return objects.pile(rng, 290, 4)


def _shade(canvas: Float, foot: int) -> None:
    """What the board above keeps from the light, and what gathers at the foot, in place."""
    top = foot - ROOM
    rows = np.arange(max(top, 0), min(foot, canvas.shape[0]))
    fall = np.clip((rows - top) / (0.42 * ROOM), 0, 1)
    light = 0.22 + 0.78 * fall * fall * (3 - 2 * fall)
    light *= 1 - 0.45 * np.exp(-(foot - rows) / 7)
    canvas[rows] *= light[:, None, None].astype(np.float32)


def _board(canvas: Float, rng: np.random.Generator, foot: int) -> None:
    """A shelf's front edge, in place: grain along it, a bright upper rim, a dark lower one."""
    stop = min(foot + BOARD, canvas.shape[0])
    if foot >= canvas.shape[0]:
        return
    shape = (stop - foot, canvas.shape[1])
    wood = (
        1
        + 0.20 * grain(rng, shape, 1.1, 60)
        + 0.12 * grain(rng, shape, 0.6, 14)
        + 0.04 * grain(rng, shape, 0.5, 0.5)
    )
    rows = np.arange(shape[0])
    edge = 1 + 0.7 * np.exp(-rows / 2.0) - 0.5 * np.exp(-(BOARD - rows) / 4.0)
    canvas[foot:stop] = colour("9a6a3f") * np.clip(wood * edge[:, None], 0.1, 3)[..., None]


def _vines(canvas: Float, rng: np.random.Generator, top: int, middle: int) -> None:
    """Shoots that rise from a pot and hang over the board, leaves to either side, in place."""
    for heading in (-2.75, -2.2, -1.7, -1.2, -0.7, -0.3):
        y, x, angle = top + 14.0, middle + 60 * np.cos(heading), heading
        for step in range(int(rng.integers(8, 22))):
            pull = 0.28 if np.cos(angle) > 0 else -0.28
            angle += pull * min(step, 3) / 2 + rng.normal(0, 0.16)
            y, x = y + 22 * np.sin(angle), x + 22 * np.cos(angle)
            side = 55 if step % 2 else -55
            length = int(rng.integers(34, 62) * (1 - step / 40))
            patch = objects.leaf(rng, length, float(np.rad2deg(angle) + side + rng.normal(0, 14)))
            lay(
                canvas,
                patch,
                int(y - patch.shape[0] / 2),
                int(x - patch.shape[1] / 2),
                shadow=(7, 8),
                soft=5,
                depth=0.5,
            )


def _daylight(shape: tuple[int, int]) -> Float:
    """(y, x, 3): a warm window's light falling aslant through its panes onto a cooler, dimmer room."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    aslant = x + 0.55 * y
    panes = np.zeros(shape, np.float32)
    for left, right in ((0.30, 0.52), (0.55, 0.77), (0.80, 1.02)):
        near, far = (aslant - left * shape[1]) / 26, (right * shape[1] - aslant) / 26
        panes += np.clip(near, 0, 1) * np.clip(far, 0, 1)
    panes = ndimage.gaussian_filter(panes, 10, truncate=3)
    room = 1.0 - 0.35 * np.hypot((y - 0.4 * shape[0]) / shape[0], (x - 0.45 * shape[1]) / shape[1])
    warm, cool = np.array([1.12, 0.98, 0.80], np.float32), np.array([0.86, 0.90, 0.96], np.float32)
    return np.asarray(0.95 * room[..., None] * cool + 0.62 * panes[..., None] * warm, np.float32)
