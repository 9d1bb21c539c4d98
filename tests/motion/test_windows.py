"""Motion of a window against motion of the whole frame, both from one coarse field."""

from pathlib import Path

import numpy as np
import pytest

from deblur.gradients import sobel
from deblur.motion import METHODS, estimate_motion
from deblur.motion.pyramid import reduce, upsample
from tests.motion.scenes import photograph

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gopro240"
BOUND = 0.05  # px


def disagreement(
    a: np.ndarray, b: np.ndarray, *, method: str, levels: int, core: int, corner: tuple[int, int]
) -> float:
    """The 99.9th percentile of |window - whole| in px over the textured half of one core."""
    height, width = a.shape
    coarse = np.float32(4) * estimate_motion(reduce(a, 4), reduce(b, 4), method=method, reduced=4)

    def field(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        start = upsample(coarse, factor=4, y0=y0, x0=x0, height=y1 - y0, width=x1 - x0)
        return estimate_motion(a[y0:y1, x0:x1], b[y0:y1, x0:x1], method=method, initial=start, levels=levels)

    y, x = corner
    near = coarse[:, y // 4 : (y + core) // 4, x // 4 : (x + core) // 4]
    step = (
        2**levels
    )  # windows start at multiples of this: they see the same pyramid, in the same red and black
    halo = METHODS[method].reach_for(levels) + step * int(np.ceil(np.abs(near).max() / step))
    y0, x0 = max(0, y - halo), max(0, x - halo)
    window = field(y0, min(height, y + core + halo), x0, min(width, x + core + halo))
    inner = window[:, y - y0 : y - y0 + core, x - x0 : x - x0 + core]
    whole = field(0, height, 0, width)[:, y : y + core, x : x + core]
    strength = np.hypot(*sobel(a, size=3))[y : y + core, x : x + core]
    assert x0 > 0  # or there is nothing to compare
    return float(np.percentile(np.hypot(*(inner - whole))[strength >= np.median(strength)], 99.9))


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("levels", [2, 3])
def test_a_window_agrees_with_the_whole_frame(method: str, levels: int) -> None:
    scene = photograph(420, 520, seed=4)
    a = scene[10:410, 10:510]
    b = a.copy()
    b[:210] = scene[10 - 5 : 220 - 5, 10 + 4 : 510 + 4]  # two halves move apart
    b[210:] = scene[220 + 3 : 410 + 3, 10 - 6 : 510 - 6]
    rng = np.random.default_rng(5)
    a, b = (np.clip(v + rng.normal(0, 0.01, v.shape), 0, 1).astype(np.float32) for v in (a, b))
    assert disagreement(a, b, method=method, levels=levels, core=96, corner=(160, 200)) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("core", [256, 512, 1024])
def test_windows_of_any_size_agree_at_60_px(method: str, core: int) -> None:
    height, width = (720, 1000) if core < 1024 else (1500, 1600)
    scene = photograph(height + 100, width + 100, seed=6)
    a = scene[50 : 50 + height, 50 : 50 + width]
    b = scene[2 : 2 + height, 86 : 86 + width].copy()  # 60 px, and a part that goes 20 px the other way
    b[200:500, 350:650] = scene[262:562, 384:684]
    rng = np.random.default_rng(7)
    a, b = (np.clip(v + rng.normal(0, 0.01, v.shape), 0, 1).astype(np.float32) for v in (a, b))
    corner = (128, 256)
    assert disagreement(a, b, method=method, levels=3, core=core, corner=corner) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("middle", [5, 37])
def test_a_window_agrees_on_real_blurred_frames(method: str, levels: int, middle: int) -> None:
    a, b = blurred_pair(middle)
    for core, corner in ((256, (256, 256)), (256, (256, 768)), (512, (128, 512))):
        assert disagreement(a, b, method=method, levels=levels, core=core, corner=corner) < BOUND


def blurred_pair(middle: int) -> tuple[np.ndarray, np.ndarray]:
    if not DATA.is_dir():
        pytest.skip("the real frames (shared/data/gopro240 beside the repository) are not here")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    files = sorted(DATA.glob("*.png"))

    def blurred(centre: int) -> np.ndarray:
        frames = [np.asarray(image.open(p).convert("L"), np.float32) for p in files[centre - 5 : centre + 6]]
        return np.round(np.mean(frames, axis=0)).astype(np.float32) / np.float32(255)

    return blurred(middle), blurred(middle + 12)
