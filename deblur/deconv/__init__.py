"""Deconvolution of one image whose blur is known: a registry of methods and one function over it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur.deconv.hybrid import Hybrid
from deblur.deconv.model import AlongPath, Blur, Convolution, Solver
from deblur.deconv.richardson_lucy import RichardsonLucy
from deblur.deconv.sparse import Sparse
from deblur.deconv.variational import Variational
from deblur.deconv.wiener import Wiener
from deblur.errors import ArrayError, ConfigError, meant
from deblur.types import Float

METHODS: dict[str, Solver | Sparse | Wiener] = {
    "variational": Variational(),
    "fast": Variational(iterations=14, regularisation=0.12),
    "hybrid": Hybrid(),
    "richardson_lucy": RichardsonLucy(),
    "sparse": Sparse(),
    "wiener": Wiener(),
}

ALONG_PATHS = tuple(name for name, method in METHODS.items() if not isinstance(method, Sparse | Wiener))


def solver(method: str, *, iterations: int | None = None, regularisation: float | None = None) -> Solver:
    """The iterative method of that name with these settings. Raises ConfigError for a wrong one."""
    if method not in METHODS:
        raise ConfigError(
            f"method {method!r} is unknown{meant(method, METHODS)}: use one of {', '.join(METHODS)}"
        )
    found = METHODS[method]
    if isinstance(found, Sparse | Wiener):
        raise ConfigError(
            f"method {method!r} needs one PSF for the whole image: use 'variational' along a path"
        )
    given = {"iterations": iterations, "regularisation": regularisation}
    known = {field.name for field in fields(found)}  # type: ignore[arg-type]
    return replace(found, **{k: v for k, v in given.items() if v is not None and k in known})  # type: ignore[type-var]


def deconvolve(
    image: NDArray[Any],
    *,
    psf: NDArray[Any] | None = None,
    path: NDArray[Any] | None = None,
    method: str | None = None,
    noise: float | None = None,
    iterations: int | None = None,
) -> Float:
    """Restore an image whose blur is known.

    `image`: (y, x) or (c, y, x) in linear light, nominally [0, 1]. Give either `psf`, (k, l) with odd sides,
    which is centred and normalised here, the same everywhere; or `path`, (2, y, x), pixels over the exposure
    (`deblur.blur`). `method`: a name from `METHODS`; by default "sparse" for a PSF, "richardson_lucy" along a
    path (for a path that is exact it gains more than "variational", which is made for measured ones).
    `noise`: standard deviation, measured if not given. `iterations`: at most so many steps (the method's own
    number if not given). Papers: see each method's module.

    Returns float32 of the image's shape, not clipped. Raises ArrayError for shapes that don't fit or what
    isn't finite, ConfigError for a wrong method, NumericsError if the solver diverges.

    >>> from deblur.paths import blur
    >>> sharp = np.zeros((32, 48), np.float32); sharp[8:24, 16:32] = 1
    >>> path = np.zeros((2, 32, 48), np.float32); path[1] = 6
    >>> seen = blur(sharp, path)
    >>> bool(abs(deconvolve(seen, path=path, noise=0.0) - sharp).mean() < 0.5 * abs(seen - sharp).mean())
    True
    """
    planes = np.ascontiguousarray(image, np.float32)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ArrayError(f"image of shape {planes.shape} can't be restored: use (y, x) or (c, y, x)")
    if not np.isfinite(planes).all():
        raise ArrayError("image holds NaN or infinity: fill what is unknown first")
    if (psf is None) == (path is None):
        raise ConfigError("deconvolve needs to know the blur: give either psf or path")
    name = method or ("sparse" if path is None else "richardson_lucy")
    stack = planes.reshape(-1, *planes.shape[-2:])
    if name == "hybrid":
        raise ConfigError("method 'hybrid' looks at a frame's neighbours: use deblur.restore")
    level = noise_of(stack) if noise is None else noise
    kernel = None if psf is None else normalised(psf)
    if name == "wiener" and kernel is not None:
        restored = [METHODS["wiener"].restore(plane, kernel, noise=level) for plane in stack]  # type: ignore[union-attr]
    elif name == "sparse" and kernel is not None:
        sparse = Sparse() if iterations is None else Sparse(iterations=iterations)
        model = Convolution(kernel, (stack.shape[1], stack.shape[2]))
        restored = [sparse.solve(plane, model, noise=level)[0] for plane in stack]
    else:
        chosen = solver(name, iterations=iterations)
        restored = [chosen.solve(p, _model(p, kernel, path), noise=level, trust=None)[0] for p in stack]
    return np.asarray(np.stack(restored).reshape(planes.shape), np.float32)


def noise_of(planes: Float) -> float:
    """Mean over the planes (c, y, x) of Immerkaer's noise estimate, 1996 (doi:10.1006/cviu.1996.0060)."""
    return float(np.mean([_noise(plane) for plane in planes]))


def _noise(plane: Float) -> float:
    if min(plane.shape) < 3:
        return 0.0
    rows = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    second = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.median(np.abs(second))) / 0.6745 / 6


def normalised(psf: NDArray[Any]) -> Float:
    """The PSF as float32 with sum 1, or ArrayError."""
    kernel = np.asarray(psf, np.float64)
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ArrayError(f"psf of shape {kernel.shape} has no centre: use (k, l) with odd sides")
    total = kernel.sum()
    if not np.isfinite(total) or total <= 0 or kernel.min() < 0:
        raise ArrayError("psf must be finite, not negative, and not all zero")
    return np.asarray(kernel / total, np.float32)


def _model(plane: Float, psf: Float | None, path: NDArray[Any] | None) -> Blur:
    if psf is not None:
        return Convolution(psf, (plane.shape[0], plane.shape[1]))
    field = np.ascontiguousarray(path, np.float32)
    if field.shape != (2, *plane.shape):
        raise ArrayError(f"path of shape {field.shape} doesn't fit the image: use {(2, *plane.shape)}")
    return AlongPath(field)
