"""Two runs side by side, and what differs between them, in one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.light import Light
from deblur.report import pictures
from deblur.report.colour import signed_to_rgb


def difference_picture(first: NDArray[Any], second: NDArray[Any], *, light: Light) -> bytes:
    """A PNG of three panels: the first run's pixels (c, y, x), the second's, and their difference in luma.

    Red where the second is brighter, blue where it is darker, full colour at the 99.5th percentile.
    """
    white = pictures.white_point(first, light)
    gap = (second.astype(np.float32) - first.astype(np.float32)).mean(axis=0)
    top = pictures.typical_largest(gap) if np.any(gap) else 1.0
    shown = [pictures.display(codes, light, white=white) for codes in (first, second)]
    longest = max(first.shape[1:])
    return pictures.to_png(
        pictures.contact_sheet([*shown, signed_to_rgb(gap, largest=top)], columns=3, cell=longest)
    )
