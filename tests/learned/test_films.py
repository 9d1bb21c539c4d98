"""Films with known truth: the same seed, the same film; what stands still is its own truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="training needs OpenCV")

from deblur.errors import ConfigError  # noqa: E402
from deblur.learned.films import Damage, Film, Moves, make_film  # noqa: E402
from deblur.learned.pairs import pairs_of  # noqa: E402
from deblur.learned.shards import Recipe, make_shard  # noqa: E402
from tests.test_sequence import scene  # noqa: E402

CLEAN = Damage(noisy=0, grainy=0, clipped=0, compressed=0, misjudged=0)
SIDE = 200


def pictures(count: int = 2) -> list[np.ndarray]:
    grey = (scene(420, 480) * 255).astype(np.uint8)
    return [np.repeat(np.roll(grey, 37 * k, 1)[..., None], 3, axis=2) for k in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_makes_the_same_film(seed: int) -> None:
    first, second = (make_film(pictures(), np.random.default_rng(seed), side=SIDE) for _ in range(2))
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.truth, second.truth)
    assert first.frames.shape[1:] == first.truth.shape == (SIDE, SIDE)
    assert 0 <= first.truth.min() <= first.truth.max() <= 1
    assert 0 < first.fraction <= 1
    assert 0 <= first.at < len(first.frames)


def test_what_stands_still_is_its_own_truth() -> None:
    still = Moves(speed=(1e-6, 2e-6), turn=0, near=0, objects=(1.0,))
    film = make_film(pictures(), np.random.default_rng(1), side=SIDE, moves=still, damage=CLEAN)
    codes = film.frames[film.at] / np.iinfo(film.frames.dtype).max
    light = codes if film.transfer == "linear" else np.where(
        codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4
    )  # fmt: skip
    assert np.abs(light - film.truth).max() < 0.01


def test_faster_is_more_blurred() -> None:
    def left(speed: float) -> float:
        moves = Moves(
            speed=(speed, speed * 1.01), unsteady=0, tremor=0, relief=0, turn=0, near=0, objects=(1.0,)
        )
        film = make_film(pictures(), np.random.default_rng(3), side=SIDE, moves=moves, damage=CLEAN)
        return float(
            np.abs(np.diff(film.frames[film.at].astype(float) / np.iinfo(film.frames.dtype).max)).mean()
        )

    assert left(2) > left(8) > left(24)


def test_pairs_are_what_the_product_shows_its_network() -> None:
    rng = np.random.default_rng(5)
    moves = replace(Moves(), speed=(6.0, 9.0), objects=(1.0,))
    film = make_film(pictures(), rng, side=208, moves=moves, damage=CLEAN)
    pairs = pairs_of(film, side=96, rng=rng)
    assert len(pairs) == 4
    for pair in pairs:
        assert pair.images.shape == (21, 96, 96)
        assert pair.fields.shape == (10, 96, 96)
        assert pair.limit.min() >= 0
        assert np.isfinite(pair.images).all()


def test_a_film_of_scene_cuts_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product would leave it alone: its frames have nothing in common."""
    frames = np.stack([picture[:SIDE, :SIDE, 0].T[:, ::-1] * (k + 1) for k, picture in enumerate(pictures())])
    frames[1] = 255 - frames[1][::-1]
    film = Film(frames[[0, 1, 0]], frames[1].astype(np.float32) / 255, 1, 0.5, "linear")
    assert pairs_of(film, side=96, rng=np.random.default_rng(5)) == []
    monkeypatch.setattr("deblur.learned.shards.make_film", lambda *_, **__: film)
    with pytest.raises(ConfigError, match="nothing is learned from them"):
        make_shard(tmp_path / "0000", pictures(), Recipe(side=96, count=1), 0)
