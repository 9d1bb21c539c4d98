"""deblur: takes the motion blur out of image sequences. NumPy in, NumPy out.

The names are loaded when first used, so that `import deblur` and `deblur --help` cost next to nothing.

>>> import deblur, numpy
>>> deblur.sobel(numpy.zeros((8, 8), numpy.uint8)).shape
(2, 8, 8)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblur.blind import estimate_psf
    from deblur.deconv import deconvolve
    from deblur.errors import DeblurError
    from deblur.gradients import gaussian_gradient, scharr, sobel, temporal_difference
    from deblur.motion import estimate_motion, estimate_motion_pair
    from deblur.paths import blur, blur_adjoint
    from deblur.sequence import restore
    from deblur.shutter import estimate_exposure_fraction
    from deblur.types import Estimate, Motion, Reason, Restoration

__version__ = "0.1.0"
__all__ = [
    "DeblurError",
    "Estimate",
    "Motion",
    "Reason",
    "Restoration",
    "blur",
    "blur_adjoint",
    "deconvolve",
    "estimate_exposure_fraction",
    "estimate_motion",
    "estimate_motion_pair",
    "estimate_psf",
    "gaussian_gradient",
    "restore",
    "scharr",
    "sobel",
    "temporal_difference",
]

_HOME = {
    "DeblurError": "errors",
    "Estimate": "types",
    "Motion": "types",
    "Reason": "types",
    "Restoration": "types",
    "blur": "paths",
    "blur_adjoint": "paths",
    "deconvolve": "deconv",
    "estimate_exposure_fraction": "shutter",
    "estimate_motion": "motion",
    "estimate_motion_pair": "motion",
    "estimate_psf": "blind",
    "gaussian_gradient": "gradients",
    "restore": "sequence",
    "scharr": "gradients",
    "sobel": "gradients",
    "temporal_difference": "gradients",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deblur' has no attribute {name!r}")
    return getattr(import_module(f"deblur.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
