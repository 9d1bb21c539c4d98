"""What the solvers share: the blur as a linear operator with an exact adjoint, and what a solver is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deblur.paths import Trails, trails
from deblur.types import Float, Iterations


class Blur(Protocol):
    """The blur of one plane. The sharp plane may be larger than the blurred one: light came in from
    outside."""

    def start(self, blurred: Float) -> Float:
        """A first guess of the sharp plane: the blurred one, its border repeated outwards."""
        ...

    def apply(self, sharp: Float) -> Float:
        """Sharp plane to blurred plane."""
        ...

    def adjoint(self, blurred: Float) -> Float:
        """The transpose of `apply`."""
        ...

    def finish(self, sharp: Float) -> Float:
        """The part of the sharp plane that the blurred one covers."""
        ...


class Solver(Protocol):
    """A deconvolver. `iterations`: how many steps at most."""

    @property
    def iterations(self) -> int: ...

    def solve(
        self, blurred: Float, model: Blur, *, noise: float, trust: Float | None
    ) -> tuple[Float, Iterations]:
        """Restore one plane (y, x), of which `blurred` is what `model` makes: (y, x), or (k, y, x) of `Jointly`.

        `noise`: standard deviation of the blurred plane's noise. `trust`: in [0, 1], of that shape, how much each
        blurred pixel counts (0 where the sensor clipped or nothing is known).
        """


class AlongPath:
    """Blur along the path of each pixel, (2, y, x) or bent (4, y, x); the sharp plane has the size of the
    blurred one. `tolerance` and `smallest`: how far its cells (`deblur.paths`) go into detail; measured paths
    are not worth more than these (finer cells gained 0.04 dB on real frames and took three times as long)."""

    def __init__(self, path: Float, *, tolerance: float = 0.5, smallest: int = 8) -> None:
        self._trails: Trails = trails(path, tolerance=tolerance, smallest=smallest)

    def start(self, blurred: Float) -> Float:
        return blurred.copy()

    def apply(self, sharp: Float) -> Float:
        return self._trails.blur(np.ascontiguousarray(sharp))

    def adjoint(self, blurred: Float) -> Float:
        return self._trails.adjoint(np.ascontiguousarray(blurred))

    def finish(self, sharp: Float) -> Float:
        return sharp


class Jointly:
    """Several looks at one scene, each blurred in its own way: blurred planes are (k, y, x), one a model."""

    def __init__(self, models: Sequence[AlongPath]) -> None:
        self._models = tuple(models)

    def start(self, blurred: Float) -> Float:
        return self._models[0].start(blurred[0])

    def apply(self, sharp: Float) -> Float:
        if len(self._models) == 1:
            return self._models[0].apply(sharp)[None]  # a copy would cost as much as a tenth of the work
        return np.stack([model.apply(sharp) for model in self._models])

    def adjoint(self, blurred: Float) -> Float:
        parts = (m.adjoint(plane) for m, plane in zip(self._models, blurred, strict=True))
        total = next(parts)
        for part in parts:
            total += part
        return total

    def finish(self, sharp: Float) -> Float:
        return sharp


class Convolution:
    """The same PSF (k, k), odd, everywhere. The sharp plane is larger by its radius: no border is invented.

    Done by FFT at a size that SciPy likes. The unknown border as in Reeves 2005
    (doi:10.1109/TIP.2005.854474).
    """

    def __init__(self, psf: Float, shape: tuple[int, int]) -> None:
        self._radius = (psf.shape[0] // 2, psf.shape[1] // 2)
        self._shape = shape
        self._outer = tuple(n + 2 * r for n, r in zip(shape, self._radius, strict=True))
        self._fast = tuple(scipy.fft.next_fast_len(n, real=True) for n in self._outer)
        kernel = np.zeros(self._fast, np.float32)
        kernel[: psf.shape[0], : psf.shape[1]] = psf
        kernel = np.roll(kernel, [-r for r in self._radius], axis=(0, 1))
        self._transfer: NDArray[np.complex64] = scipy.fft.rfft2(kernel)

    def start(self, blurred: Float) -> Float:
        return np.pad(blurred, [(r, r) for r in self._radius], mode="edge")

    def finish(self, sharp: Float) -> Float:
        (ry, rx), (h, w) = self._radius, self._shape
        return np.ascontiguousarray(sharp[ry : ry + h, rx : rx + w])

    def apply(self, sharp: Float) -> Float:
        return self.finish(self._filtered(sharp, self._transfer))

    def adjoint(self, blurred: Float) -> Float:
        placed = np.pad(blurred, [(r, r) for r in self._radius])
        return np.ascontiguousarray(
            self._filtered(placed, np.conj(self._transfer))[: self._outer[0], : self._outer[1]]
        )

    @property
    def transfer(self) -> NDArray[np.complex64]:
        """The spectrum of the PSF at the size `fast`."""
        return self._transfer

    @property
    def fast(self) -> tuple[int, ...]:
        """The size at which the FFT is done: the sharp plane and what makes it a quick one."""
        return self._fast

    def placed(self, blurred: Float) -> Float:
        """The blurred plane in one of size `fast`, its border repeated outwards."""
        pads = [(r, n - r - m) for r, n, m in zip(self._radius, self._fast, self._shape, strict=True)]
        return np.pad(blurred, pads, mode="edge")

    def part(self, plane: Float) -> Float:
        """A view of what the blurred plane covers in one of size `fast`."""
        (ry, rx), (h, w) = self._radius, self._shape
        return plane[ry : ry + h, rx : rx + w]

    def filtered(self, plane: Float) -> Float:
        """A plane of size `fast`, convolved as a ring."""
        return self._filtered(plane, self._transfer)

    def _filtered(self, plane: Float, transfer: NDArray[np.complex64]) -> Float:
        spectrum = scipy.fft.rfft2(plane, s=self._fast, workers=1)
        spectrum *= transfer
        return np.asarray(scipy.fft.irfft2(spectrum, s=self._fast, workers=1), np.float32)
