"""Raw photographs, developed through rawpy (LibRaw) to linear 16-bit sRGB primaries, a file a frame.

Every frame is developed alike: the camera's white balance, no automatic brightness, no turning, so that neighbours stay
comparable and light stays additive. Clipping is the sensor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.errors import ReadError
from deblur.io.pictures import Picture
from deblur.io.stack import BROKEN, broken, library

SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
TURNED = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF orientation


def read_single_header(path: Path) -> Picture:
    """The header of a raw photograph. Raises ReadError for damage, ConfigError where rawpy is not installed."""
    with _opened(path) as raw:
        sizes, notes = raw.sizes, raw.other
        shape = (3, int(sizes.height), int(sizes.width))
        turned = TURNED.get(int(sizes.flip), 1)
        told: dict[str, Any] = {} if turned == 1 else {"orientation": turned}
        exposure = float(notes.shutter_speed) if notes is not None else 0.0
        return Picture(shape, "uint16", 16, "linear", None, exposure if exposure > 0 else None, told)


def read_single_pixels(path: Path) -> NDArray[Any]:
    """The (3, y, x) pixels of a raw photograph, uint16, linear. Raises ReadError when it is broken."""
    rawpy = library("rawpy", what=str(path), extra="raw")
    with _opened(path) as raw:
        image = raw.postprocess(
            output_bps=16,
            gamma=(1, 1),
            no_auto_bright=True,
            use_camera_wb=True,
            user_flip=0,
            output_color=rawpy.ColorSpace.sRGB,
            demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
        )
    return np.ascontiguousarray(np.moveaxis(np.asarray(image), -1, 0))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    rawpy = library("rawpy", what=str(path), extra="raw")
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except ReadError:
        raise
    except (*BROKEN, rawpy.LibRawError) as error:
        raise broken(str(path), error, kind="raw photograph") from error
