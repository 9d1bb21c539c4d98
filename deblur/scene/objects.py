"""What stands on the shelf: each function draws one thing as a cut-out, (y, x, 4) linear light and coverage.

Sizes are scene pixels. The light comes from the upper left and is warm.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deblur.scene.letters import lettering
from deblur.scene.paint import bar, colour, cover, cutout, disc, grain, grid, ring, stamp
from deblur.types import Float

CLOTH = (
    "7c2a26", "1f3c5a", "2e5744", "c28b38", "e2d4b5", "2b6a72", "5a2436", "38342f", "b3572f", "8a8f6a",
    "d8b26a", "46526e", "efe6d2", "93382c", "27494a", "ab8a62", "57405c", "c9c1ae", "1d2733", "c46f45",
)  # fmt: skip
TITLES = (
    ("OPTICKS", "NEWTON"), ("HEAT", "FOURIER"), ("LIGHT", "HUYGENS"), ("CHANCES", "BAYES"),
    ("SIGNALS", "SHANNON"), ("THEORIA MOTUS", "GAUSS"), ("HORSE IN MOTION", "MUYBRIDGE"),
    ("TIME SERIES", "WIENER"), ("VISION", "MARR"), ("BOOK OF OPTICS", "ALHAZEN"), ("FIELDS", "MAXWELL"),
    ("SOUND", "RAYLEIGH"), ("STARS", "LUCY"), ("EDGES", "SOBEL"), ("WAVELETS", "HAAR"),
    ("COLOUR", "GOETHE"), ("LENSES", "ABBE"), ("SAMPLING", "NYQUIST"), ("OPTICAL FLOW", "HORN"),
    ("REGISTRATION", "LUCAS · KANADE"), ("SHADOWS", "LEONARDO"), ("PHOTOGENIC DRAWING", "TALBOT"),
    ("PERSPECTIVE", "ALBERTI"), ("INVERSE PROBLEMS", "HADAMARD"), ("STEREOSCOPE", "BREWSTER"),
    ("ASTRONOMY", "HERSCHEL"),
)  # fmt: skip
GOLD, SILVER, PAPER, INK = colour("e3bd6a"), colour("cfd3d6"), colour("efe7d3"), colour("1c1a18")


def book(rng: np.random.Generator, width: int, height: int, title: tuple[str, str]) -> Float:
    """A book's spine: woven cloth on a curve, bands, its title along it, its author's name."""
    y, x = grid(height, width)
    across = x / width * 2 - 1
    cloth = colour(CLOTH[rng.integers(len(CLOTH))]) * np.float32(rng.uniform(0.85, 1.1))
    foil = INK if cloth.mean() > 0.2 else (GOLD, GOLD, SILVER, PAPER)[rng.integers(4)]
    spine = np.broadcast_to(cloth, (height, width, 3)).astype(np.float32)
    style, ink = rng.integers(4), foil
    if style == 0:  # a label of another colour behind the title
        label = bar(y, x, (height * 0.14, height * 0.66, width * 0.1, width * 0.9), 3)
        paper, ink = ((PAPER, INK), (colour("1b2430"), GOLD))[int(cloth.mean() > 0.2)]
        spine = cover(spine, label, paper)
    for at in _bands(rng, int(style)):
        for part, weight in ((0.0, 2.6), (0.022, 1.2)):
            centre = height * (at + part)
            spine = cover(spine, bar(y, x, (centre - weight, centre + weight, -9, width + 9)) * 0.9, foil)
    spine = _printed(spine, title, ink, foil)
    round_light = 0.30 + 0.70 * np.sqrt(1 - (0.96 * across) ** 2) - 0.16 * across
    shine = rng.uniform(0.0, 0.16) * np.exp(-(((across + 0.38) / 0.16) ** 2))
    weave = 1 + 0.05 * grain(rng, (height, width), 0.6, 0.6) + 0.05 * np.sin(x * 2.1) * np.sin(y * 2.1)
    stains = 1 + 0.05 * grain(rng, (height, width), 18, 6)
    worn = np.clip(np.exp(-np.minimum(y, height - y) / 4) * (0.9 + grain(rng, (height, width), 1, 2)), 0, 1)
    spine = cover(spine, (0.35 * worn).astype(np.float32), colour("cdbb9c"))
    lit = spine * (round_light * weave * stains)[..., None] + shine[..., None]
    return cutout(lit.astype(np.float32), np.clip(y - 5 * across**4, 0, 1).astype(np.float32))


def _bands(rng: np.random.Generator, style: int) -> tuple[float, ...]:
    """Where the bands run, as parts of the height: an old binding has four, most books two or none."""
    return ((0.07, 0.92), (0.05, 0.13, 0.70, 0.93), (0.05, 0.93), ())[style] if rng.random() < 0.85 else ()


def _printed(spine: Float, title: tuple[str, str], ink: Float, foil: Float) -> Float:
    """Title down the spine in the upper part, author across the foot where it fits, else a small device."""
    height, width = spine.shape[:2]
    size = width * 0.42
    text = lettering(title[0], height=size)
    if text.shape[1] > height * 0.46:
        size *= height * 0.46 / text.shape[1]
        text = lettering(title[0], height=size)
    spine = stamp(spine, np.rot90(text, -1), (height * 0.40, width / 2), ink)
    name = lettering(title[1], height=min(width * 0.17, 13))
    if name.shape[1] < width * 0.9 and width > 40:
        return stamp(spine, name, (height * 0.82, width / 2), foil)
    y, x = grid(height, width)
    y, x = y - height * 0.82, x - width / 2
    device = np.maximum(ring(y, x, width * 0.2, 1.6), np.clip(width * 0.12 - abs(y) - abs(x) + 0.5, 0, 1))
    return cover(spine, device.astype(np.float32), foil)


def pile(rng: np.random.Generator, width: int, count: int) -> Float:
    """Books lying flat, one on another."""
    layers = []
    for k in range(count):
        long, thick = int(width * rng.uniform(0.8, 1.0)), int(rng.integers(34, 56))
        lying = np.rot90(book(rng, thick, long, TITLES[rng.integers(len(TITLES))]), 1)
        room = np.zeros((thick, width, 4), np.float32)
        left = int(rng.integers(0, width - long + 1)) if k < count - 1 else (width - long) // 2
        room[:, left : left + long] = lying[:thick]
        room[-2:, :, :3] *= 0.4
        layers.append(room)
    return np.concatenate(layers)


def clock(rng: np.random.Generator, radius: int) -> Float:
    """A brass clock with a second's ticks: fine detail in every direction."""
    size = 2 * radius
    y, x = grid(size, size)
    y, x = y - radius, x - radius
    turn, reach = np.arctan2(y, x), np.hypot(y, x)
    brass = colour("b98a3e") * (0.75 + 0.5 * np.cos(2 * (turn + 2.3)) ** 2)[..., None]
    face = cover(brass.astype(np.float32), disc(y, x, radius * 0.84), colour("f1ead9") * np.float32(0.86))
    face = cover(face, ring(y, x, radius * 0.84, 4) * 0.7, colour("3a2a14"))
    for tick in range(60):
        angle = tick * np.pi / 30
        along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        start, half = (0.68, 1.7) if tick % 5 == 0 else (0.74, 0.7)
        face = cover(face, bar(aside, along, (-half, half, radius * start, radius * 0.79)), INK)
    for text, angle in (("12", -90), ("3", 0), ("6", 90), ("9", 180)):
        at = np.deg2rad(angle)
        middle = (radius + radius * 0.54 * np.sin(at), radius + radius * 0.54 * np.cos(at))
        face = stamp(face, lettering(text, height=radius * 0.17), middle, INK)
    face = stamp(face, lettering("DEBLUR", height=radius * 0.085), (radius * 0.72, radius), INK)
    for angle, long, half in ((-0.52 - 2.09, 0.42, 2.6), (-0.35, 0.64, 1.7), (2.2, 0.7, 0.6)):
        along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        face = cover(face, bar(aside, along, (-half, half, -0.1 * radius, long * radius), half), INK)
    face = cover(face, disc(y, x, 5), colour("9a6a2c"))
    glass = 0.08 * np.clip(1 - np.hypot(y + radius * 0.5, x + radius * 0.5) / radius, 0, 1)
    edge = 1 - 0.5 * np.clip(reach / radius - 0.93, 0, 1) * 8
    return cutout(((face + glass[..., None]) * edge[..., None]).astype(np.float32), disc(y, x, radius - 1))


def painting(rng: np.random.Generator, height: int, width: int) -> Float:
    """A framed view: ranges of hills that pale with distance, a lake, a low sun."""
    y, x = grid(height, width)
    up = y / height
    sky = colour("f3c98b") * up[..., None] ** 1.2 + colour("5d86ad") * (1 - up[..., None])
    reach = np.hypot(y - height * 0.33, x - width * 0.64) / width
    sun = np.maximum(0.55 * np.exp(-reach / 0.11), np.clip((0.042 - reach) * width, 0, 1))
    picture = cover(sky.astype(np.float32), sun.astype(np.float32), colour("fff3cf"))
    for k in range(5):
        ridge = ndimage.gaussian_filter1d(rng.standard_normal(width), 14 - 2 * k) * (9 - k) * 7
        ridge += ndimage.gaussian_filter1d(rng.standard_normal(width), 1.5) * (1 + k)
        line = height * (0.42 + 0.085 * k) + ridge
        near = k / 4
        tone = colour("9fb3c0") * np.float32(1 - near) + colour("22382f") * np.float32(near)
        wood = 1 + 0.22 * near * grain(rng, (height, width), 1.2, 1.2)
        picture = cover(picture, np.clip(y - line[None], 0, 1).astype(np.float32), tone * wood[..., None])
    lake = np.clip((up - 0.84) * 40, 0, 1).astype(np.float32)
    ripple = np.clip(0.6 + 0.25 * grain(rng, (height, width), 0.7, 7), 0, 2)[..., None] * colour("c9a878")
    picture = cover(picture, lake, ripple.astype(np.float32))
    rim = int(width * 0.075)
    framed = np.pad(picture, ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    y, x = grid(*framed.shape[:2])
    inner = bar(y, x, (rim, rim + height, rim, rim + width))
    mount = bar(y, x, (rim * 0.55, 1.45 * rim + height, rim * 0.55, 1.45 * rim + width))
    wood = (
        colour("4a2d1a")
        * (1 + 0.22 * grain(rng, framed.shape[:2], 1, 9) + 0.5 * (y + x < rim * 2.4))[..., None]
    )
    framed = cover(wood.astype(np.float32), mount, PAPER * np.float32(0.8))
    return cutout(
        cover(framed, inner, np.pad(picture, ((rim, rim), (rim, rim), (0, 0)))), np.ones_like(inner)
    )


def camera(rng: np.random.Generator, width: int) -> Float:
    """An old camera: leatherette, a chrome top, a lens with rings and a reflection."""
    height = int(width * 0.68)
    y, x = grid(height, width)
    body = bar(y, x, (height * 0.16, height, 2, width - 2), width * 0.07)
    hump = bar(y, x, (2, height * 0.4, width * 0.34, width * 0.66), width * 0.03)
    knobs = np.maximum(
        bar(y, x, (height * 0.08, height * 0.3, width * 0.08, width * 0.2), 3),
        bar(y, x, (height * 0.06, height * 0.3, width * 0.77, width * 0.91), 3),
    )
    leather = colour("1b1a1a") * (1 + 0.45 * grain(rng, (height, width), 1.1, 1.1))[..., None] + np.float32(
        0.004
    )
    chrome = (
        colour("b9bcbd")
        * (0.75 + 0.35 * np.cos(y / height * 14) + 0.03 * grain(rng, (height, width), 0.5, 9))[..., None]
    )
    picture = cover(
        leather.astype(np.float32), bar(y, x, (0, height * 0.37, 0, width)), chrome.astype(np.float32)
    )
    picture = cover(picture, bar(y, x, (height * 0.92, height, 0, width)), chrome.astype(np.float32))
    picture = cover(
        picture, bar(y, x, (height * 0.17, height * 0.28, width * 0.42, width * 0.58), 4), colour("202833")
    )
    picture = stamp(picture, lettering("LUMEN", height=height * 0.06), (height * 0.335, width * 0.5), INK)
    v, u = y - height * 0.63, x - width * 0.5
    for part, tone in (
        (0.25, "8f9294"),
        (0.235, "1c1c1d"),
        (0.19, "4c4e50"),
        (0.18, "121214"),
        (0.13, "17202c"),
    ):
        picture = cover(picture, disc(v, u, width * part), colour(tone))
    glow = np.exp(-(((v + width * 0.04) / (width * 0.05)) ** 2) - ((u + width * 0.04) / (width * 0.05)) ** 2)
    picture += (0.5 * glow * disc(v, u, width * 0.125)).astype(np.float32)[..., None] * colour("8fb4e8")
    notches = (np.cos(np.arctan2(v, u) * 60) > 0.2) * ring(v, u, width * 0.21, width * 0.03)
    picture = cover(picture.astype(np.float32), notches.astype(np.float32) * 0.6, colour("5c5e60"))
    return cutout(picture, np.maximum(np.maximum(body, hump), knobs))


def pot(rng: np.random.Generator, height: int) -> Float:
    """A pot of glazed clay, wider above."""
    width = int(height * 1.05)
    y, x = grid(height, width)
    half = width * (0.33 + 0.15 * y[::-1] / height) - 1
    across = (x - width / 2) / half
    lit = 0.2 + 0.75 * np.sqrt(np.clip(1 - across**2, 0, 1)) - 0.25 * across
    shine = 0.5 * np.exp(-(((across + 0.45) / 0.1) ** 2) - ((y / height - 0.45) / 0.3) ** 2)
    glaze = (
        colour("2f6f7d") * (1 + 0.10 * grain(rng, (height, width), 3, 3) + 0.05 * np.sin(y * 0.5))[..., None]
    )
    glaze = cover(glaze.astype(np.float32), bar(y, x, (0, height * 0.13, 0, width)), colour("d9cdb4"))
    alpha = np.clip(half - abs(x - width / 2) + 0.5, 0, 1).astype(np.float32)
    return cutout((glaze * np.clip(lit, 0.05, 2)[..., None] + shine[..., None]).astype(np.float32), alpha)


def leaf(rng: np.random.Generator, length: int, degrees: float) -> Float:
    """A heart-shaped leaf with its veins, one half in the light; its tip points `degrees` clockwise."""
    size = int(length * 1.25) | 1
    y, x = grid(size, size)
    y, x = y - size / 2, x - size / 2
    turn = np.deg2rad(degrees)
    along = (x * np.cos(turn) + y * np.sin(turn)) / length + 0.5
    aside = (y * np.cos(turn) - x * np.sin(turn)) / length
    half = 0.46 * np.sin(np.pi * np.clip(along, 0, 1) ** 0.62) * (1 - 0.35 * np.clip(along, 0, 1))
    alpha = np.clip((half - abs(aside)) * length + 0.5, 0, 1) * ((along > 0) & (along < 1))
    veins = abs(((along - 0.55 * abs(aside)) * 7) % 1 - 0.5) * 2 / 7 * length
    lines = np.maximum(np.clip(1.6 - abs(aside) * length, 0, 1), 0.5 * np.clip(1.3 - veins, 0, 1))
    green = colour(("3f6b2c", "55803a", "2f5a2e", "7a9440")[rng.integers(4)]) * np.float32(
        rng.uniform(0.8, 1.2)
    )
    side = 0.72 + 0.42 / (1 + np.exp(aside * 60 * np.sign(np.cos(turn) + 1e-3))) - 1.1 * abs(aside)
    tone = green * (side * (1 + 0.06 * grain(rng, (size, size), 1, 1)))[..., None]
    return cutout(cover(tone.astype(np.float32), lines.astype(np.float32) * 0.34, colour("b9c98a")), alpha)
