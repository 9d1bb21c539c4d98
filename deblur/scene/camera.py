"""A camera that moves over a flat scene while its shutter is open, and the truth about it.

Light adds up linearly, so sub-frames are averaged in linear light and encoded afterwards, as a camera does
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deblur.errors import ArrayError, ConfigError
from deblur.light import Light, encode
from deblur.types import Bytes, Float

SRGB = Light(0.0, 255.0, "srgb")


@dataclass(frozen=True, slots=True)
class Camera:
    """How the camera moves, in view pixels, radians and parts per frame interval; `sway` bends the pan.

    `pan`: (dy, dx), the velocity of the view over the scene at the middle of the sequence. `sway`: radians by
    which the pan's direction turns in a frame. `rotation`, `zoom`: per frame. `scale`: scene pixels to a view
    pixel.
    """

    pan: tuple[float, float] = (-5.0, 15.0)
    sway: float = 0.16
    rotation: float = 0.010
    zoom: float = 0.008
    scale: float = 2.0


@dataclass(frozen=True, slots=True)
class DemoSequence:
    """Blurred frames and everything that is known about them.

    `frames`: (t, 3, y, x) uint8, sRGB, what the camera gives. `truth`: the same shape, the noise-free view at
    the middle of each exposure. `motion`: (t, 2, y, x) float32, pixels from frame t to t + 1 (also for the
    last one, where the camera would have gone on). `path`: (t, 2, y, x) float32, displacement over the
    exposure. `noise`: standard deviation added to the codes, as a fraction of full range. `frame_rate`: per
    second.
    """

    frames: Bytes
    truth: Bytes
    motion: Float
    path: Float
    exposure_fraction: float
    frame_rate: float
    noise: float


def moving_view(
    scene: Float,
    *,
    shape: tuple[int, int] = (480, 640),
    count: int = 6,
    camera: Camera = Camera(),
    exposure_fraction: float = 0.6,
    frame_rate: float = 25.0,
    subframes: int = 32,
    noise: float = 0.004,
    seed: int = 0,
) -> DemoSequence:
    """Film `scene` with a moving camera: every frame is the mean light of `subframes` views along its path.

    `scene`: (3, y, x) float32 linear light in [0, 1], `camera.scale` times finer than the view. `shape`: (y,
    x) of the frames. The path is centred on the scene; where it leaves it, the scene is mirrored. Raises
    ArrayError for a scene of the wrong shape, ConfigError for fewer than 16 sub-frames or a fraction outside
    (0, 1].

    >>> from deblur.scene import make_scene
    >>> film = moving_view(make_scene(0, (160, 200)), shape=(48, 64), count=2, subframes=16)
    >>> film.frames.shape, film.motion.shape
    ((2, 3, 48, 64), (2, 2, 48, 64))
    """
    if scene.ndim != 3 or scene.shape[0] != 3:
        raise ArrayError(f"scene has shape {scene.shape}: give (3, y, x)")
    if not 0 < exposure_fraction <= 1:
        raise ConfigError(f"exposure_fraction is {exposure_fraction}: give a number above 0 and at most 1")
    if subframes < 16:
        raise ConfigError(f"subframes is {subframes}: fewer than 16 leave gaps in the path")
    pixels = np.ascontiguousarray(scene.transpose(1, 2, 0), np.float32)
    rng = np.random.default_rng(seed)
    middle = (count - 1) / 2
    offsets = ((np.arange(subframes) + 0.5) / subframes - 0.5) * exposure_fraction
    frames, truth, motion, path = [], [], [], []
    for t in range(count):
        poses = np.stack([_pose(t - middle + o, camera, scene.shape[1:], shape) for o in offsets])
        sharp = _pose(t - middle, camera, scene.shape[1:], shape)
        frames.append(_codes(_view(pixels, poses, *shape), rng.normal(0, noise, (3, *shape))))
        truth.append(_codes(_view(pixels, sharp[None], *shape), 0.0))
        after = _pose(t - middle + 1, camera, scene.shape[1:], shape)
        ends = [
            _pose(t - middle + side * exposure_fraction / 2, camera, scene.shape[1:], shape)
            for side in (-1, 1)
        ]
        motion.append(_displacement(sharp, after, shape))
        path.append(_displacement(sharp, ends[1], shape) - _displacement(sharp, ends[0], shape))
    return DemoSequence(
        np.stack(frames),
        np.stack(truth),
        np.stack(motion),
        np.stack(path),
        exposure_fraction,
        frame_rate,
        noise,
    )


def _pose(time: float, camera: Camera, scene: tuple[int, ...], view: tuple[int, int]) -> NDArray[np.float64]:
    """(2, 3) map from view (y, x, 1) to scene (y, x), `time` frames after the middle of the sequence."""
    bend = camera.sway * time
    if abs(bend) > 1e-9:  # the velocity turns steadily: its integral
        along, aside = np.sin(bend) / camera.sway, (1 - np.cos(bend)) / camera.sway
    else:
        along, aside = time, 0.0
    dy, dx = camera.pan
    shift = np.array([dy * along + dx * aside, dx * along - dy * aside]) * camera.scale
    angle, size = camera.rotation * time, camera.scale * np.exp(-camera.zoom * time)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(view) - 1) / 2
    origin = (np.array(scene) - 1) / 2 + shift - turn @ centre
    return np.column_stack([turn, origin])


def _displacement(here: NDArray[np.float64], there: NDArray[np.float64], shape: tuple[int, int]) -> Float:
    """(2, y, x): where the content of each pixel of pose `here` lies in pose `there`, less where it was."""
    back = np.linalg.inv(there[:, :2])
    linear = back @ here[:, :2]
    constant = back @ (here[:, 2] - there[:, 2])
    grid = np.indices(shape, dtype=np.float64)
    moved = np.tensordot(linear, grid, 1) + constant[:, None, None]
    return np.asarray(moved - grid, np.float32)


def _codes(light: Float, noise: NDArray[np.float64] | float) -> Bytes:
    codes = encode(light.transpose(2, 0, 1), SRGB) + np.asarray(noise) * SRGB.scale
    return np.clip(np.rint(codes), 0, 255).astype(np.uint8)


@njit(cache=True, nogil=True)
def _view(scene: Float, poses: NDArray[np.float64], height: int, width: int) -> Float:
    """Mean over `poses` of bilinear views of `scene` (y, x, 3), mirrored at its border."""
    rows, columns = scene.shape[0], scene.shape[1]
    out = np.zeros((height, width, 3), np.float32)
    share = np.float32(1.0 / poses.shape[0])
    for y in range(height):
        for i in range(poses.shape[0]):
            p = poses[i]
            for x in range(width):
                v = _mirror(p[0, 0] * y + p[0, 1] * x + p[0, 2], rows)
                u = _mirror(p[1, 0] * y + p[1, 1] * x + p[1, 2], columns)
                y0, x0 = min(int(v), rows - 2), min(int(u), columns - 2)
                b, a = np.float32(v - y0), np.float32(u - x0)
                one = np.float32(1)
                for c in range(3):
                    top = scene[y0, x0, c] * (one - a) + scene[y0, x0 + 1, c] * a
                    low = scene[y0 + 1, x0, c] * (one - a) + scene[y0 + 1, x0 + 1, c] * a
                    out[y, x, c] += (top * (one - b) + low * b) * share
    return out


@njit(cache=True, nogil=True)
def _mirror(position: float, extent: int) -> float:
    period = 2.0 * (extent - 1)
    position = abs(position) % period
    return period - position if position > extent - 1 else position
