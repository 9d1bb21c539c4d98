"""What an archive has to teach: its own sharp pictures, and how things move, shake and rustle in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblur.config import Source
from deblur.errors import ConfigError, StoreError
from deblur.learned.films import Damage, Looks, Moves
from deblur.learned.fit import Course
from deblur.learned.pictures import SMALLEST, Picture
from deblur.learned.shards import Recipe
from deblur.learned.train import Lesson
from deblur.plan import source_light
from deblur.report.pictures import display
from deblur.store import Archive, SequenceStore
from deblur.tiling import Box

LOOKED = 400  # frames of the archive that are looked at, spread over its sequences
KEPT = 96  # pictures that are learned from
SIDE = 768  # of a picture: of larger frames the sharpest part
SHARP = 1.5  # pixels of path, left of any motion once the picture is reduced
MOST_REDUCED = 4.0
OWN = Looks(scale=(0.75, 1.5), soft=(0.3, 0.8), contrast=0.6)  # its pictures have its camera's looks already
GENTLE = Course(rate=4e-4, warm=50)
BETTER = 0.02  # decibels by which new weights must win, on the whole
WORSE = 0.1  # decibels that they may lose in the lowest twentieth


@dataclass(frozen=True, slots=True)
class _Candidate:
    picture: Picture
    sharpness: float


def lesson_of(archive: Archive, *, start: bytes) -> Lesson:
    """What to fine-tune `start` on. Raises ConfigError for an archive without frames that are sharp enough."""
    stores = [archive.sequence(name) for name in archive.sequences()]
    surveyed = [store for store in stores if store.has_survey()]
    each = max(1, LOOKED // max(1, len(surveyed)))
    found: list[_Candidate] = []
    lengths, noises, fractions = [], [], []
    for store in surveyed[:: max(1, len(surveyed) // LOOKED)]:
        fraction = _fraction(store)
        if fraction is None:
            continue
        fractions.append(fraction)
        noises.append(store.survey_part("noise", 0, store.source.shape[0]))
        for t, length in _frames(store, each):
            lengths.append(np.quantile(length, [0.05, 0.5, 0.95]))
            found += _candidates(store, t, length * np.float32(fraction))
    pictures = [one.picture for one in sorted(found, key=lambda one: -one.sharpness)[:KEPT]]
    if len(pictures) < 2:
        raise ConfigError(
            f"{archive.path}: no frames here are sharp enough to learn from ({len(pictures)} found): run more of it first"
        )
    spread = np.stack(lengths)
    slow, fast = float(np.quantile(spread[:, 0], 0.1)), float(np.quantile(spread[:, 2], 0.9))
    noise = np.concatenate(noises)
    low, high = (float(np.clip(np.quantile(noise, q), 5e-4, 0.1)) for q in (0.05, 0.95))
    exposed = float(np.clip(min(fractions), 0.05, 0.99)), min(float(max(fractions)) + 0.01, 1.0)
    recipe = Recipe(
        moves=replace(Moves(), speed=(max(1.0, slow), min(max(4.0, fast), 60.0)), fraction=exposed),
        damage=replace(Damage(), noise=(low, high * 1.2), noisy=float((noise > 0.002).mean())),
        looks=OWN,
    )
    order = sorted(pictures, key=lambda picture: picture.source)
    return Lesson(order, recipe, GENTLE, start, {"archive": archive.id, "sequences looked at": len(surveyed)})


def wins(gained: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Whether new weights are better than the old ones on what was set aside, and nowhere much worse."""
    lowest = np.quantile(gained, 0.05) - np.quantile(before, 0.05)
    return bool(gained.mean() >= before.mean() + BETTER and lowest >= -WORSE)


def _fraction(store: SequenceStore) -> float | None:
    """The exposure fraction that its survey was made with."""
    attrs = store.survey_attrs()
    known, estimate = attrs["identity"]["fraction"], attrs.get("exposure")
    found = known if isinstance(known, float) else estimate["value"] if estimate else attrs.get("assumed")
    return None if found is None else float(found)


def _frames(store: SequenceStore, count: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Frames spread over a sequence, each with the length of its motion in pixels, on the survey's coarse grid."""
    linked = store.survey_part("linked", 0, store.source.shape[0])
    places = np.flatnonzero(linked)
    for t in places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).astype(int))]:
        motion = store.survey_part("forward", int(t), int(t) + 1)[0]
        yield int(t), np.hypot(motion[0], motion[1]).astype(np.float32)


def _candidates(store: SequenceStore, t: int, path: NDArray[np.float32]) -> Iterator[_Candidate]:
    """The part of a frame that moved least, reduced until nothing of that shows."""
    _, _, height, width = store.source.shape
    reduction = height / path.shape[0]
    tall, wide = (min(n, int(SIDE / reduction) + 1) for n in path.shape)
    mean = cv2.blur(path, (wide, tall), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    mean = mean[: path.shape[0] - tall + 1, : path.shape[1] - wide + 1]  # where such a part begins
    y, x = divmod(int(np.argmin(mean)), mean.shape[1])
    factor = max(1.0, float(np.quantile(path[y : y + tall, x : x + wide], 0.9)) / SHARP)
    box = Box(
        int(y * reduction), min(height, int((y + tall) * reduction)),
        int(x * reduction), min(width, int((x + wide) * reduction)),
    )  # fmt: skip
    size = (round(box.shape[1] / factor), round(box.shape[0] / factor))
    if factor > MOST_REDUCED or min(size) < SMALLEST:
        return
    try:
        codes = store.source.read(t, t + 1, box)[0]
    except StoreError:
        return  # a damaged frame teaches nothing; `verify` will say so
    shown = display(codes if len(codes) == 3 else codes[:1], source_light(Source(path="."), store.source))
    if factor > 1:
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))
    digest = hashlib.sha256(shown.tobytes()).hexdigest()
    yield _Candidate(Picture(shown, store.id, digest), _sharpness(shown))


def _sharpness(picture: NDArray[Any]) -> float:
    """Energy of the finest details against that of coarser ones: of a blurred picture little."""
    grey = picture.astype(np.float32).mean(axis=2)
    fine, coarse = grey - cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.GaussianBlur(grey, (0, 0), 1.0)
    broad = coarse - cv2.GaussianBlur(coarse, (0, 0), 3.0)
    return float(fine.std() / (broad.std() + 1.0))
