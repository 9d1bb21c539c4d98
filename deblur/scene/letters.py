"""Lettering without a font file: capitals and figures as strokes, drawn by distance.

A glyph is a handful of strokes on a grid six units high (y down). In `STROKES`, strokes are parted by `;` and
points by spaces; `@cx,cy,rx,ry,from,to` stands for the points of an elliptic arc, in degrees, clockwise as
seen.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deblur.types import Float

CAP = 6.0  # units from the baseline to the top of a capital
_GAP = 1.35  # units between two glyphs
_SPACE = 2.2

STROKES = {
    "A": "0,6 2,0 4,6;0.75,4 3.25,4",
    "B": "0,0 0,6;0,0 1.9,0 @1.9,1.45,1.5,1.45,-90,90 0,2.9;1.9,2.9 @2,4.45,1.7,1.55,-90,90 0,6",
    "C": "@2.1,3,2.1,3,-50,-310",
    "D": "0,0 0,6 1.2,6 @1.2,3,2.6,3,90,-90 0,0",
    "E": "3.2,0 0,0 0,6 3.2,6;0,2.9 2.7,2.9",
    "F": "3.2,0 0,0 0,6;0,2.9 2.6,2.9",
    "G": "@2.1,3,2.1,3,-50,-360 2.6,3",
    "H": "0,0 0,6;3.7,0 3.7,6;0,2.9 3.7,2.9",
    "I": "0.2,0 0.2,6",
    "J": "2.4,0 2.4,4.3 @1.2,4.3,1.2,1.7,0,170",
    "K": "0,0 0,6;3.5,0 0,3.6;1.2,2.5 3.7,6",
    "L": "0,0 0,6 3,6",
    "M": "0,6 0.4,0 2.4,4.4 4.4,0 4.8,6",
    "N": "0,6 0,0 3.8,6 3.8,0",
    "O": "@2.2,3,2.2,3,0,360",
    "P": "0,6 0,0 2,0 @2,1.6,1.7,1.6,-90,90 0,3.2",
    "Q": "@2.2,3,2.2,3,0,360;2.8,4.4 4.4,6.4",
    "R": "0,6 0,0 2,0 @2,1.6,1.7,1.6,-90,90 0,3.2;1.9,3.2 3.8,6",
    "S": "@1.8,1.55,1.7,1.55,-30,-270 @1.8,4.5,1.8,1.5,-90,150",
    "T": "0,0 4,0;2,0 2,6",
    "U": "0,0 0,4 @1.9,4,1.9,2,180,0 3.8,0",
    "V": "0,0 2,6 4,0",
    "W": "0,0 1.3,6 2.8,1 4.3,6 5.6,0",
    "X": "0,0 3.8,6;3.8,0 0,6",
    "Y": "0,0 2,3.1 4,0;2,3.1 2,6",
    "Z": "0,0 3.7,0 0,6 3.7,6",
    "0": "@1.8,3,1.8,3,0,360",
    "1": "0,1.3 1.4,0 1.4,6",
    "2": "@1.8,1.7,1.75,1.7,-165,35 0,6 3.7,6",
    "3": "@1.7,1.5,1.6,1.5,-150,90;@1.7,4.45,1.8,1.55,-90,150",
    "4": "2.8,6 2.8,0 0,4.2 3.8,4.2",
    "5": "3.3,0 0.5,0 0.3,2.8 @1.7,4.1,1.9,1.9,-125,140",
    "6": "2.9,0 0.5,3.1;@1.9,4.2,1.8,1.8,0,360",
    "7": "0,0 3.6,0 1.2,6",
    "8": "@1.8,1.5,1.5,1.5,0,360;@1.8,4.5,1.8,1.5,0,360",
    "9": "0.9,6 3.3,2.9;@1.9,1.8,1.8,1.8,0,360",
    "-": "0,3.2 2,3.2",
    "·": "0.3,3.1 0.5,3.1",
    ".": "0.2,5.9 0.3,5.9",
}


def lettering(text: str, *, height: float, weight: float = 0.13) -> Float:
    """`text` in capitals `height` pixels high: (y, x) float32 coverage in [0, 1], tightly set.

    `weight` is the stroke's width as a part of the height. Glyphs that the alphabet lacks are left blank.

    >>> lettering("LIGHT", height=12).shape
    (16, 45)
    """
    unit = height / CAP
    pen = max(weight * height, 1.0)
    margin = pen / 2 + 1
    glyphs, x = [], 0.0
    for letter in text.upper():
        if letter in STROKES:
            segments = _segments(STROKES[letter])
            glyphs.append((x, segments))
            x += float(segments[..., 0].max()) + _GAP
        else:
            x += _SPACE
    out = np.zeros((round(height + 2 * margin), max(1, round((x - _GAP) * unit + 2 * margin))), np.float32)
    for left, segments in glyphs:
        start = int(left * unit)
        stop = min(out.shape[1], int((left + float(segments[..., 0].max())) * unit + 2 * margin) + 1)
        offset = np.array([left * unit + margin - start, margin])
        cover = _strokes(segments * unit + offset, (out.shape[0], stop - start), pen)
        out[:, start:stop] = np.maximum(out[:, start:stop], cover)
    return out


def _strokes(segments: NDArray[np.float64], shape: tuple[int, int], pen: float) -> Float:
    """Coverage of round-ended strokes: half a pixel of slope about the distance pen/2."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    nearest = np.full(shape, np.inf)
    for (x0, y0), (x1, y1) in segments:
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        nearest = np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
    return np.asarray(np.clip(pen / 2 + 0.5 - np.sqrt(nearest), 0, 1), np.float32)


@cache
def _segments(strokes: str) -> NDArray[np.float64]:
    """(n, 2 ends, 2 = x, y): every stroke cut into straight pieces."""
    pieces = []
    for stroke in strokes.split(";"):
        points: list[tuple[float, float]] = []
        for token in stroke.split():
            points += _arc(token[1:]) if token.startswith("@") else [_point(token)]
        pieces += list(pairwise(points))
    return np.array(pieces)


def _point(token: str) -> tuple[float, float]:
    x, y = map(float, token.split(","))
    return x, y


def _arc(token: str) -> list[tuple[float, float]]:
    cx, cy, rx, ry, start, stop = map(float, token.split(","))
    turn = np.deg2rad(np.linspace(start, stop, max(4, int(abs(stop - start) / 15))))
    return [(float(cx + rx * np.cos(a)), float(cy + ry * np.sin(a))) for a in turn]
