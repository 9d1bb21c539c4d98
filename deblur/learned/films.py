"""Short films whose truth is known: sharp pictures, moved and blurred as cameras do it.

A view over a photograph moves, turns and nears; other things move before it; all of it at a speed that changes during
the exposure, so that paths are bent. What the exposure saw is averaged, then damaged as cameras and files do: noise,
clipping, quantisation, compression, and an exposure fraction that is told a little wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deblur.light import LUMA, Light, decode, encode
from deblur.types import Bytes, Float

COARSE = 8  # pixels of the grid on which landscapes of depth are made
STEPS = 0.8  # a pixel of path: moments of an exposure
EXPOSED = (0.3, 1.0)  # exposure fractions, where nothing is known of them
SRGB, UNIT = Light(0.0, 1.0, "srgb"), Light(0.0, 1.0, "linear")


@dataclass(frozen=True, slots=True)
class Film:
    """`frames`: (t, y, x) codes; `truth`: (y, x) light of frame `at` at mid-exposure, nominally in [0, 1]; `fraction`:
    the exposure fraction that the restoration is told; `transfer`: of the codes."""

    frames: NDArray[Any]
    truth: Float
    at: int
    fraction: float
    transfer: Literal["srgb", "linear"]


@dataclass(frozen=True, slots=True)
class Damage:
    """How likely each fault is in a film, and how strong. `noise`, `grain`: least and most standard deviation; grain
    is what a codec leaves of it, no finer than two pixels."""

    noisy: float = 0.55
    noise: tuple[float, float] = (0.002, 0.04)
    grainy: float = 0.5
    grain: tuple[float, float] = (0.0004, 0.003)
    shot: float = 0.3
    clipped: float = 0.12
    compressed: float = 0.15
    misjudged: float = 0.4
    misjudgement: float = 0.06


@dataclass(frozen=True, slots=True)
class Moves:
    """How things move. `speed`: least and most pixels a frame interval; `unsteady`: how much of the speed may come or
    go within an interval; `tremor`: how far a camera in the hand trembles, as a share of it; `relief`: how much more or
    less than the rest what is near or far moves; `turn`: radians, `near`: share of its size by which the view turns and
    nears in one; `swing`: radians by which things turn, as limbs do; `objects`: how likely there are 0, 1, … things;
    `fraction`: least and most of the interval that the shutter is open."""

    speed: tuple[float, float] = (7.0, 84.0)
    unsteady: float = 1.0
    tremor: float = 0.08
    relief: float = 0.25
    turn: float = 0.006
    near: float = 0.006
    swing: float = 0.04
    objects: tuple[float, ...] = (0.25, 0.3, 0.25, 0.2)
    fraction: tuple[float, float] = EXPOSED


@dataclass(frozen=True, slots=True)
class Looks:
    """How pictures look before they move. `scale`: by which they are enlarged, for what fills a fast camera's view is
    large and smooth; `soft`: pixels of the lens, for cameras are softer than reduced photographs, and no sharper than that
    is the truth; `contrast`, `dim`: the least of a picture's own contrast and of its light."""

    scale: tuple[float, float] = (0.7, 3.0)
    soft: tuple[float, float] = (0.3, 1.6)
    contrast: float = 0.25
    dim: float = 0.6


def make_film(
    pictures: Sequence[Bytes],
    rng: np.random.Generator,
    *,
    side: int = 560,
    moves: Moves | None = None,
    damage: Damage | None = None,
    looks: Looks | None = None,
) -> Film:
    """A film of `side` x `side` pixels over some of the `pictures`, (y, x, 3) codes, 8 bits, sRGB.

    Same pictures, same state of `rng`, same film.
    """
    moves, damage, looks = moves or Moves(), damage or Damage(), looks or Looks()
    count = int(rng.choice([2, 3, 5], p=[0.1, 0.6, 0.3]))
    at = count // 2 if count > 2 else int(rng.integers(2))
    transfer: Literal["srgb", "linear"] = "srgb" if rng.random() < 0.5 else "linear"
    light = SRGB if transfer == "srgb" else UNIT
    layers = _layers(lambda: _picture(pictures, rng, looks, light), rng, side, moves)
    moments, instant, fraction = _exposure(rng, layers, moves.fraction)
    frames = np.empty((count, side, side), np.float32)
    gain = rng.uniform(1.2, 2.5) if rng.random() < damage.clipped else 1.0

    def seen(at: float) -> Float:
        return np.asarray(np.maximum(gain * _seen(layers, at, side), 0), np.float32)

    for t in range(count):
        frames[t] = np.mean([seen(t - at + m) for m in moments], 0)
    truth = np.clip(np.mean([seen(m) for m in instant], 0), 0, 1).astype(np.float32)
    codes = _damaged(np.clip(frames, 0, 1), light, rng, damage)
    told = (
        fraction * np.exp(rng.normal(0, damage.misjudgement)) if rng.random() < damage.misjudged else fraction
    )
    return Film(codes, truth, at, float(min(told, 1.0)), transfer)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A picture in light, or a thing cut out of one by `cover`, and its pose over time: (4, k) coefficients of
    polynomials for y, x, angle and log of the scale; `relief`: (y, x), how much further than the pose a place moves, for
    it is nearer; `tremor`: (n, 4), height, width, frequency and phase of the camera's own trembling."""

    picture: Float
    cover: Float | None
    pose: NDArray[np.float64]
    relief: Float
    tremor: NDArray[np.float64]


def _exposure(
    rng: np.random.Generator, layers: Sequence[_Layer], fractions: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The moments that an exposure is the mean of, those that its truth is the mean of, and its fraction.

    Either nearly one a pixel and the middle, or as where a high-speed camera's frames were averaged: each of those was
    exposed for a while itself, and the truth is the middle one.
    """
    longest = max(float(np.hypot(*layer.pose[:2, 1])) for layer in layers)
    kind = rng.random() if fractions == EXPOSED else 1.0
    if kind > 0.5:
        fraction = float(rng.uniform(*fractions))
        return fraction * _spread(max(9, round(STEPS * fraction * longest))), np.zeros(1), fraction
    many = 7 if kind < 0.3 else 11
    gap = 1 / (many + 1)
    own = rng.uniform(0.3, 1.0) * gap * _spread(max(2, round(STEPS * gap * longest)))
    moments = gap * (np.arange(many) - many // 2)[:, None] + own
    return moments.ravel(), own, many * gap


def _spread(count: int) -> NDArray[np.float64]:
    """Evenly over an interval of length 1 around 0."""
    return (np.arange(count) + 0.5) / count - 0.5


def _layers(picture: Callable[[], Float], rng: np.random.Generator, side: int, moves: Moves) -> list[_Layer]:
    speed = np.exp(rng.uniform(*np.log(moves.speed)))
    tremor = _tremor(rng, speed, moves)
    pose = _pose(rng, speed, moves)
    view = _Layer(picture(), None, pose, _relief(rng, side, moves), tremor)
    layers = [view]
    for _ in range(int(rng.choice(len(moves.objects), p=moves.objects))):
        own = np.exp(rng.uniform(*np.log(moves.speed)))
        pose = _pose(rng, own, moves)
        if rng.random() < 0.5:
            pose[:, 1:] = 0.5 * pose[:, 1:] + view.pose[:, 1:]  # most things move much as the view does
        pose[:2, 0] = rng.uniform(-0.4, 0.4, 2) * side
        pose[2, 1] += rng.normal(0, moves.swing) * (rng.random() < 0.5)
        relief = np.float32(0.3) * _relief(rng, side, moves)  # things bend a little
        layers.append(_Layer(picture(), _cover(rng, side), pose, relief, tremor))
    return layers


def _picture(pictures: Sequence[Bytes], rng: np.random.Generator, looks: Looks, light: Light) -> Float:
    """One of them, cut, reduced or enlarged, softened, turned and mirrored at random, in light."""
    picture = pictures[int(rng.integers(len(pictures)))] @ _mix(rng)
    factor = np.exp(rng.uniform(*np.log(looks.scale)))
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    if rng.random() < 0.7:
        small = gaussian_filter(small, rng.uniform(*looks.soft))
    if rng.random() < 0.5:
        middle = small.mean()
        small = middle + np.float32(rng.uniform(looks.contrast, 1.0)) * (small - middle)
    small = np.clip(small, 0, 1) * np.float32(rng.uniform(looks.dim, 1.0))
    small = np.rot90(small, int(rng.integers(4)))[:, :: 1 if rng.random() < 0.5 else -1]
    offset = [int(rng.integers(max(1, n // 2))) for n in small.shape]
    return decode(
        np.ascontiguousarray(np.roll(small, offset, (0, 1)) if rng.random() < 0.2 else small), light
    )


def _mix(rng: np.random.Generator) -> Float:
    """How three channels become one: as luma, or one of them."""
    mix = LUMA if rng.random() < 0.5 else np.eye(3, dtype=np.float32)[int(rng.integers(3))]
    return np.asarray(mix / np.float32(255), np.float32)


def _pose(rng: np.random.Generator, speed: float, moves: Moves) -> NDArray[np.float64]:
    heading = rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.sin(heading), np.cos(heading)])
    unsteady = speed * rng.uniform(0, moves.unsteady)
    acceleration, jerk = unsteady * rng.normal(0, 0.6, 2), unsteady * rng.normal(0, 0.3, 2)
    pose = np.zeros((4, 4))
    pose[:2, 0] = rng.uniform(-60, 60, 2)
    pose[:2, 1], pose[:2, 2], pose[:2, 3] = velocity, acceleration / 2, jerk / 6
    pose[2, :2] = rng.normal(0, 0.1), rng.normal(0, moves.turn)
    pose[3, 1] = rng.normal(0, moves.near)
    return pose


def _tremor(rng: np.random.Generator, speed: float, moves: Moves) -> NDArray[np.float64]:
    """Two swings, of periods from less than two frames to many."""
    strength = moves.tremor * speed * rng.uniform(0, 1, 2)
    turns = rng.uniform(0, 2 * np.pi, 2)
    heights, widths = strength * np.sin(turns), strength * np.cos(turns)
    return np.stack([heights, widths, 1 / rng.uniform(1.6, 8, 2), rng.uniform(0, 1, 2)], axis=1)


def _relief(rng: np.random.Generator, side: int, moves: Moves) -> Float:
    """A landscape of depth: smooth, here and there steep."""
    coarse = rng.normal(0, 1, (side // COARSE + 1,) * 2).astype(np.float32)
    coarse = gaussian_filter(coarse, side * rng.uniform(0.02, 0.2) / COARSE)
    rough = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    rough /= max(float(rough.std()), 1e-9)
    if rng.random() < 0.4:  # cliffs
        rough = np.tanh(rng.uniform(2, 6) * rough)
    return np.asarray(rng.uniform(0, moves.relief) * rough, np.float32)


def _cover(rng: np.random.Generator, side: int) -> Float:
    """The outline of a thing: a blob, 1 inside, its rim a pixel soft."""
    size = rng.uniform(0.08, 0.35) * side
    y, x = np.mgrid[:side, :side] - side / 2
    squash = rng.uniform(0.5, 1.0)
    far = np.hypot(y / squash, x * squash) / (size / 2)
    bumps = gaussian_filter(rng.normal(0, 1, (side, side)), size / 6)
    bumps *= 0.35 / max(float(bumps.std()), 1e-9)
    return np.asarray(np.clip((1 - far + bumps * 0.5) * size / 4 + 0.5, 0, 1), np.float32)


def _seen(layers: Sequence[_Layer], time: float, side: int) -> Float:
    """The light (side, side) of all layers, one before the other, at a moment."""
    view = _placed(layers[0].picture, layers[0], time, side, cv2.BORDER_REFLECT_101)
    for thing in layers[1:]:
        cover = _placed(thing.cover, thing, time, side, cv2.BORDER_CONSTANT)
        view += cover * (_placed(thing.picture, thing, time, side, cv2.BORDER_REFLECT_101) - view)
    return view


def _placed(picture: Any, layer: _Layer, time: float, side: int, border: int) -> Float:
    y, x, angle, scale = layer.pose @ time ** np.arange(4)
    trembling = np.sin(2 * np.pi * (layer.tremor[:, 2] * time + layer.tremor[:, 3])) @ layer.tremor[:, :2]
    c, s = np.exp(-scale) * np.cos(angle), np.exp(-scale) * np.sin(angle)
    first, nearer = layer.pose[:2, 0], 1 + layer.relief  # what is nearer moves further
    down, right = np.array([y, x]) + trembling - first
    rows = np.arange(side, dtype=np.float32)[:, None] - np.float32(first[0] + side / 2)
    columns = np.arange(side, dtype=np.float32) - np.float32(first[1] + side / 2)
    across = np.float32(-c * right - s * down) * nearer
    across += np.float32(s) * rows + np.float32(picture.shape[1] / 2)
    across += np.float32(c) * columns
    along = np.float32(s * right - c * down) * nearer
    along += np.float32(c) * rows + np.float32(picture.shape[0] / 2)
    along -= np.float32(s) * columns
    found = cv2.remap(picture, across, along, cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(np.clip(found, 0, 1, out=found), np.float32)


def _damaged(frames: Float, light: Light, rng: np.random.Generator, damage: Damage) -> NDArray[Any]:
    codes = encode(frames, light)
    if rng.random() < damage.noisy:
        level = np.exp(rng.uniform(*np.log(damage.noise)))
        spread = np.sqrt(codes / 0.5) if rng.random() < damage.shot else 1.0
        codes = codes + level * spread * rng.standard_normal(codes.shape, np.float32)
    if rng.random() < damage.grainy:
        level = np.exp(rng.uniform(*np.log(damage.grain)))
        for plane in codes:
            grain = cv2.GaussianBlur(
                rng.standard_normal(plane.shape, np.float32), (0, 0), rng.uniform(0.7, 1.5)
            )
            plane += np.float32(level) / grain.std() * grain
    if rng.random() < 0.2:
        return np.rint(np.clip(codes, 0, 1) * 65535).astype(np.uint16)
    bytes8 = np.rint(np.clip(codes, 0, 1) * 255).astype(np.uint8)
    if rng.random() < damage.compressed:
        quality = int(rng.integers(75, 97))
        for t, frame in enumerate(bytes8):
            _, packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
            bytes8[t] = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))
    return bytes8
