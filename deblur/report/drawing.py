"""The picture of one pixel's story: four panels of one size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.light import Light
from deblur.paths import psf_of
from deblur.report import pictures
from deblur.report.colour import amount_to_rgb
from deblur.types import Bytes, Float

PANEL = 384  # pixels of a panel's longer side
INK = (255, 64, 32)


def draw_story(
    source: NDArray[Any],
    restored: NDArray[Any],
    weight: Float,
    *,
    path: tuple[float, float],
    at: tuple[int, int],
    light: Light,
) -> bytes:
    """A PNG of four panels: the source with the path over it, the PSF, the restored pixels, the weight.

    `source`, `restored`: (c, y, x) codes of one crop; `weight`: (y, x); `path`: (dy, dx) of the pixel `at` (y, x) of
    the crop, in pixels over the exposure.
    """
    scale = max(1, PANEL // max(weight.shape))
    white = pictures.white_point(source, light)
    views = [
        pictures.display(source, light, white=white),
        _psf(path, weight.shape),
        pictures.display(restored, light, white=white),
        pictures.weight_picture(weight),
    ]
    large = [np.repeat(np.repeat(view, scale, axis=0), scale, axis=1) for view in views]
    large[0] = _with_path(large[0], path, at, scale)
    large[2] = _with_path(large[2], (0.0, 0.0), at, scale)
    return pictures.to_png(pictures.contact_sheet(large, columns=4, cell=max(large[0].shape[:2])))


def _psf(path: tuple[float, float], shape: tuple[int, ...]) -> Bytes:
    """The PSF in the middle of a panel, at the scale of the crop; its tails are cut where it is longer."""
    psf = psf_of(path)
    out = np.zeros(shape[:2], np.float32)
    size = [min(psf.shape[k], shape[k]) for k in (0, 1)]
    to = [(shape[k] - size[k]) // 2 for k in (0, 1)]
    of = [(psf.shape[k] - size[k]) // 2 for k in (0, 1)]
    out[to[0] : to[0] + size[0], to[1] : to[1] + size[1]] = psf[
        of[0] : of[0] + size[0], of[1] : of[1] + size[1]
    ]
    return amount_to_rgb(out, largest=max(float(out.max()), 1e-6))


def _with_path(picture: Bytes, path: tuple[float, float], at: tuple[int, int], scale: int) -> Bytes:
    """The picture with a line along the path and a ring around the pixel."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    y, x = ((place + 0.5) * scale for place in at)
    dy, dx = (part * scale / 2 for part in path)
    draw.line([(x - dx, y - dy), (x + dx, y + dy)], fill=INK, width=max(1, scale // 2))
    ring = 1.5 * scale
    draw.ellipse([(x - ring, y - ring), (x + ring, y + ring)], outline=INK)
    return np.asarray(image)
