"""What must be known before restoring: the noise level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.deconv import noise_of
from deblur.errors import ArrayError


def noise_level(image: NDArray[Any]) -> float:
    """Standard deviation of an image's noise, (y, x) or (c, y, x), in the image's own units.

    The median of the second mixed difference's magnitude, which smooth content and edges hardly touch
    (Immerkaer 1996, doi:10.1006/cviu.1996.0060; the median as in Donoho & Johnstone 1994,
    doi:10.1093/biomet/81.3.425).
    Returns 0 for images too small to tell. Raises ArrayError for other shapes or what isn't finite.

    >>> rng = np.random.default_rng(0)
    >>> round(noise_level(0.5 + 0.02 * rng.standard_normal((200, 200))), 3)
    0.02
    """
    planes = np.asarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"noise can't be measured on shape {planes.shape}: use (y, x) or (c, y, x)")
    if not np.isfinite(planes).all():
        raise ArrayError("noise can't be measured on NaN or infinity: fill what is unknown first")
    return noise_of(planes.reshape(-1, *planes.shape[-2:]))
