"""Frames turned as a person should see them. Pixels are stored as the sensor had them: rolling shutters run along its
rows, and a turned copy is only for looking at.

EXIF numbers the eight ways from 1, upright (CIPA DC-008, tag 274).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.types import Float, SequenceHeader

# orientation: rows and columns swapped, then rows reversed, then columns reversed
_STEPS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_ANTICLOCKWISE = {0: 1, 90: 8, 180: 3, 270: 6}


def orientation_of(header: SequenceHeader) -> int:
    """The EXIF orientation that a reader recorded, or the one of a video's rotation; 1 where there is none."""
    told = header.metadata.get("orientation")
    if told is None:
        return _ANTICLOCKWISE.get(round(header.metadata.get("rotation", 0)) % 360, 1)
    return int(told) if told in _STEPS else 1


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An array (…, y, x) turned for looking at.

    >>> upright(np.array([[1, 2]]), 6).tolist()
    [[1], [2]]
    >>> upright(np.array([[1], [2]]), 6).tolist()
    [[2, 1]]
    """
    swapped, down, across = _STEPS[orientation]
    out = np.swapaxes(array, -1, -2) if swapped else array
    out = out[..., ::-1, :] if down else out
    return np.ascontiguousarray(out[..., ::-1] if across else out)


def upright_field(field: Float, orientation: int) -> Float:
    """The same for vectors (2, y, x), (dy, dx): they turn with their places."""
    swapped, down, across = _STEPS[orientation]
    dy, dx = field[::-1] if swapped else field
    return upright(np.stack([-dy if down else dy, -dx if across else dx]), orientation)
