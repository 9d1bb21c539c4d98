"""Pairs on disk: made once, in any order, by several processes, and never twice; read as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblur.deconv.hybrid import GATE
from deblur.errors import ConfigError
from deblur.ingest import Progress
from deblur.learned.films import Damage, Looks, Moves, make_film
from deblur.learned.pairs import Pair, pairs_of
from deblur.store.durable import appearing
from deblur.types import Bytes

QUARTER = 4
MOST_FILMS = 4  # a pair of a shard
PARTS = ("planes", "fields", "root")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How pairs are made; part of the model card. `side`: of a pair, `film`: of the film that it is cut from;
    `count`: pairs of a shard."""

    seed: int = 0
    side: int = 264
    film: int = 560
    count: int = 64
    moves: Moves = field(default_factory=Moves)
    damage: Damage = field(default_factory=Damage)
    looks: Looks = field(default_factory=Looks)


def make_shards(
    folder: Path,
    pictures: Sequence[Bytes],
    recipe: Recipe,
    count: int,
    *,
    workers: int,
    name: str,
    progress: Progress,
) -> list[Path]:
    """`count` shards below `folder`; those that are there already are not made again."""
    with making(folder, pictures, recipe, count, workers=workers, name=name, progress=progress) as first:
        return first(count)


@contextmanager
def making(
    folder: Path,
    pictures: Sequence[Bytes],
    recipe: Recipe,
    count: int,
    *,
    workers: int,
    name: str,
    progress: Progress,
) -> Iterator[Callable[[int], list[Path]]]:
    """The same while the block does something else: it is given a function that waits for the first n of them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}" for number in range(count)]
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(pictures, recipe)
    ) as pool:
        jobs = [None if path.exists() else pool.submit(_make, path, k) for k, path in enumerate(paths)]

        def first(n: int) -> list[Path]:
            for done, job in enumerate(jobs[:n], 1):
                if job is not None:
                    job.result()
                progress(name, done, count)
            return paths[:n]

        try:
            yield first
        finally:
            pool.shutdown(cancel_futures=True)


_shared: tuple[Sequence[Bytes], Recipe]  # of a process of the pool: handed over once, not with every shard


def _prepare(pictures: Sequence[Bytes], recipe: Recipe) -> None:
    import cv2

    global _shared
    cv2.setNumThreads(1)
    _shared = pictures, recipe


def _make(path: Path, number: int) -> None:
    make_shard(path, *_shared, number)


def make_shard(path: Path, pictures: Sequence[Bytes], recipe: Recipe, number: int) -> None:
    """Shard `number` of a set of pairs, whole or not at all: the same numbers, the same pairs."""
    rng = np.random.default_rng((recipe.seed, number))
    pairs: list[Pair] = []
    for _ in range(MOST_FILMS * recipe.count):
        film = make_film(
            pictures, rng, side=recipe.film, moves=recipe.moves, damage=recipe.damage, looks=recipe.looks
        )
        pairs += pairs_of(film, side=recipe.side, rng=rng)
        if len(pairs) >= recipe.count:
            break
    else:
        raise ConfigError(
            "these films move too fast for anything to be restored: nothing is learned from them"
        )
    with appearing(path) as folder:
        for name, array in _packed(pairs).items():
            np.save(folder / f"{name}.npy", array)


def _packed(pairs: Sequence[Pair]) -> dict[str, NDArray[np.float16]]:
    fields = np.stack([pair.fields for pair in pairs])
    n, k, h, w = fields.shape
    means = fields.reshape(n, k, h // QUARTER, QUARTER, w // QUARTER, QUARTER).mean(axis=(3, 5))
    planes = [
        np.concatenate([p.images, p.fields[GATE][None], p.limit[None], np.sqrt(p.truth)[None]]) for p in pairs
    ]
    return {
        "planes": np.stack(planes).astype(np.float16),
        "fields": means.astype(np.float16),
        "root": np.array([pair.root for pair in pairs], np.float16),
    }


class Pairs:
    """The pairs of some shards, mapped into memory: as many as the disk holds."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._parts = {
            name: [np.load(s / f"{name}.npy", mmap_mode="r", allow_pickle=False) for s in shards]
            for name in PARTS
        }
        self._ends = np.cumsum([len(part) for part in self._parts["root"]])
        self.side = int(self._parts["planes"][0].shape[-1])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def part(self, name: str, k: int) -> NDArray[np.float16]:
        """Pair k's "planes" (IMAGES + 3, y, x), "fields" (10, y/4, x/4) or "root"."""
        shard = int(np.searchsorted(self._ends, k, side="right"))
        first = int(self._ends[shard - 1]) if shard else 0
        return np.asarray(self._parts[name][shard][k - first])
