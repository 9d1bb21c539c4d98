"""Shared by all tests: nothing leaves the test's own folder, and everything is seeded."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests.objects import bucket, s3_server

if TYPE_CHECKING:
    from tests.small import Command

__all__ = ["bucket", "s3_server"]  # fixtures

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

if "PREFECT_HOME" in os.environ and (process := os.environ.get("PYTEST_XDIST_WORKER")):
    os.environ["PREFECT_HOME"] += f"/{process}"  # an embedded server has its database to itself

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # in the background of a script; processes that tests begin inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("deblur", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("deblur")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's index goes to a folder of the test run, not to the user's."""
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path_factory.getbasetemp() / "catalog"))


@pytest.fixture
def data() -> Path:
    """The real frames beside the checkout; they may not be redistributed, so they are not part of it."""
    if not DATA.is_dir():
        pytest.skip("the real frames (shared/data beside the checkout) are not on this machine")
    return DATA


@pytest.fixture
def deblur(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: `deblur("plan", job)`."""
    from tests.small import command  # which needs `pan` of this file

    return command(capsys)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames/, job.toml and an archive whose run is published. Not to be changed."""
    from tests.small import publish_small

    return publish_small(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """One's own copy of that archive; the originals stay where they were ingested from."""
    return Path(shutil.copytree(finished / "archive", tmp_path / "archive"))


def texture(height: int, width: int, *, seed: int = 0) -> NDArray[np.float32]:
    """A smooth random picture in [0.1, 0.9] with detail at several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for scale in (2, 4, 8, 16):
        coarse = rng.random((height // scale + 3, width // scale + 3))
        y, x = np.mgrid[:height, :width] / scale
        i, j = y.astype(int), x.astype(int)
        a, b = y - i, x - j
        a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
        top = (1 - b) * coarse[i, j] + b * coarse[i, j + 1]
        bottom = (1 - b) * coarse[i + 1, j] + b * coarse[i + 1, j + 1]
        total += ((1 - a) * top + a * bottom) * scale**0.5
    low, high = total.min(), total.max()
    return (0.1 + 0.8 * (total - low) / (high - low)).astype(np.float32)


def pan(
    count: int, height: int, width: int, *, step: int = 8, fraction: float = 0.75, channels: int = 1
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A pan to the right by `step` px a frame, blurred by its exposure: (frames, truth), each (t, c, y, x) uint8.

    Rendered on a four times finer grid along the motion, so that half-pixel positions are exact.
    """
    fine = 4
    frames, truth = [], []
    views = [texture(height, (width + step * (count + 2)) * fine, seed=9 + c) for c in range(channels)]
    half = round(step * fraction * fine / 2)
    for t in range(count):
        start = (t + 1) * step * fine
        box = np.ones(fine) / fine

        def seen(offset: int, start: int = start, box: NDArray[np.float64] = box) -> NDArray[np.float64]:
            planes = [v[:, start + offset : start + offset + width * fine] for v in views]
            return np.stack([(p.reshape(height, width, fine) @ box) for p in planes])

        frames.append(np.mean([seen(k) for k in range(-half, half + 1)], 0))
        truth.append(seen(0))
    return tuple(np.rint(np.stack(x) * 255).astype(np.uint8) for x in (frames, truth))  # type: ignore[return-value]
