"""Scenes with known motion, for the tests of this folder."""

import numpy as np


def texture(y: np.ndarray, x: np.ndarray, seed: int = 0) -> np.ndarray:
    """A picture defined everywhere: waves of many lengths and directions, in [0.1, 0.9]."""
    rng = np.random.default_rng(seed)
    total = np.zeros(np.broadcast(y, x).shape)
    for _ in range(48):
        length, angle, phase = np.exp(rng.uniform(*np.log([6, 400]))), *rng.uniform(0, 2 * np.pi, 2)
        total += length**0.4 * np.sin(2 * np.pi / length * (np.cos(angle) * y + np.sin(angle) * x) + phase)
    return (0.5 + 0.4 * np.tanh(total / 24)).astype(np.float32)


def shifted_pair(
    height: int, width: int, dy: float, dx: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two views of the texture with `moving[p + (dy, dx)] = reference[p]`."""
    y, x = np.mgrid[:height, :width].astype(float)
    return texture(y, x, seed), texture(y - dy, x - dx, seed)


def visible(height: int, width: int, dy: float, dx: float, margin: int = 4) -> np.ndarray:
    """Where a pixel and its place in the other frame both lie `margin` px inside."""
    y, x = np.mgrid[:height, :width]
    inside = (y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin)
    return (
        inside
        & (y + dy >= margin)
        & (y + dy <= height - 1 - margin)
        & (x + dx >= margin)
        & (x + dx <= width - 1 - margin)
    )


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Discs of all sizes that cover one another, as photographs do (dead leaves), in [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    out = np.full((height, width), 0.5, np.float32)
    for radius in sorted(np.exp(rng.uniform(np.log(3), np.log(90), 900)), reverse=True):
        cy, cx, value = rng.uniform(0, height), rng.uniform(0, width), rng.random()
        out[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = value
    return np.clip(out + rng.normal(0, 0.01, out.shape), 0, 1).astype(np.float32)
