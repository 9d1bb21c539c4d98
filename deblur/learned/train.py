"""The whole training, from pictures to a file of weights: reproducible, resumable, with a card that says what it is."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deblur.errors import ConfigError
from deblur.ingest import Progress
from deblur.learned.fit import Course, draw, fit, gains, loss_of
from deblur.learned.model import Model
from deblur.learned.pictures import Picture, parted, with_leaves
from deblur.learned.shards import Pairs, Recipe, make_shards, making
from deblur.learned.weights import from_onnx, to_onnx
from deblur.provenance import commit, version
from deblur.store.durable import digest_of, read_json, write_json

PLAN = "plan.json"
SHARD_SECONDS = 45.0  # CPU time of a shard of pairs
SHARDS = (2, 400)
FIRST = 2  # shards with which learning begins; the others are made meanwhile
READY = 0.9  # of the steps are done when the last of them comes in
CHECKED = 2  # shards of pictures that were set aside
MARGIN = 0.9  # of the time left is planned with
TRIAL = 30  # steps by which the time of one is measured


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from what. `start`: weights to go on from; `notes`: for the card, as licences of the pictures."""

    pictures: Sequence[Picture]
    recipe: Recipe = field(default_factory=Recipe)
    course: Course = field(default_factory=Course)
    start: bytes | None = None
    notes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """`weights`: an ONNX file with its card inside; `gained`, `before`: decibels over physics for each pair of pictures
    that were set aside, by these weights and by those that it started from (0 without)."""

    weights: bytes
    card: dict[str, Any]
    gained: NDArray[np.float64]
    before: NDArray[np.float64]


def train(
    lesson: Lesson,
    folder: Path,
    *,
    hours: float,
    workers: int,
    progress: Progress,
    device: str | None = None,
    steps: int | None = None,
) -> Trained:
    """Train a network within about `hours`, `steps` if given. `folder` keeps pairs and state: killed, it goes on there.

    Raises ConfigError where the folder belongs to another training.
    """
    began = time.monotonic()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    threads = max(1, workers // 2)  # the other half makes pairs
    makers = max(1, workers - threads)
    torch.set_num_threads(threads)
    torch.manual_seed(lesson.course.seed)
    learn, check = parted(lesson.pictures)
    count = round(hours * 3600 * makers * READY / SHARD_SECONDS)
    plan = _planned(folder, lesson, min(max(count, SHARDS[0]), SHARDS[1]))
    seed = lesson.recipe.seed
    aside = replace(lesson.recipe, seed=seed + 1)
    shown = [picture.codes for picture in check]
    checked = Pairs(
        make_shards(
            folder / "aside",
            shown,
            aside,
            CHECKED,
            name="make pairs to check with",
            workers=workers,
            progress=progress,
        )
    )
    shown = with_leaves([picture.codes for picture in learn], seed)
    model = from_onnx(lesson.start) if lesson.start else Model()
    before = gains(model.to(device), checked) if lesson.start else np.zeros(len(checked))
    with making(
        folder / "pairs",
        shown,
        lesson.recipe,
        plan["shards"],
        name="make pairs",
        workers=makers,
        progress=progress,
    ) as first:
        if "steps" not in plan:
            some = Pairs(first(min(FIRST, plan["shards"])))
            left = hours * 3600 - (time.monotonic() - began)
            plan["steps"] = steps or _steps(model, some, lesson.course, device, left)
            write_json(folder / PLAN, plan)
        course = replace(lesson.course, steps=plan["steps"])
        shards = _Growing(first, plan["shards"], course.steps)
        best = fit(model, shards, checked, course, folder=folder, device=device, progress=progress)
        pairs = len(Pairs(first(plan["shards"])))
    gained = gains(best, checked)
    card = _card(lesson, course, pairs, gained, before, device, threads, folder)
    card["minutes of the last process"] = round((time.monotonic() - began) / 60, 1)
    return Trained(to_onnx(best, card), card, gained, before)


@dataclass(slots=True)
class _Growing:
    """The pairs of each step: of more and more shards, at steps that don't depend on how fast those are made."""

    first: Callable[[int], list[Path]]
    shards: int
    steps: int
    _held: tuple[int, Pairs] | None = None

    def __call__(self, step: int) -> Pairs:
        grown = FIRST + int(step / (READY * self.steps) * (self.shards - FIRST))
        count = min(max(grown, 1), self.shards)
        if self._held is None or self._held[0] != count:
            self._held = count, Pairs(self.first(count))
        return self._held[1]


def _planned(folder: Path, lesson: Lesson, shards: int) -> dict[str, Any]:
    """The plan of this folder, made or found; of another training it isn't."""
    lesson_digest = digest_of([
        [picture.digest for picture in lesson.pictures],
        asdict(lesson.recipe),
        {key: value for key, value in asdict(lesson.course).items() if key != "steps"},
        lesson.start is not None and digest_of(lesson.start.hex()),
    ])  # fmt: skip
    if (folder / PLAN).exists():
        plan = read_json(folder / PLAN, what="the plan of a training")
        if plan.get("lesson") != lesson_digest:
            raise ConfigError(
                f"{folder} holds a training on other pictures or settings: name another folder, or remove it"
            )
        return plan
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"lesson": lesson_digest, "shards": shards}
    write_json(folder / PLAN, plan)
    return plan


def _steps(model: Model, pairs: Pairs, course: Course, device: str, seconds: float) -> int:
    """How many steps fit."""
    model = model.to(device=device, memory_format=torch.channels_last)
    began = time.monotonic()
    for step in range(TRIAL):
        if step == TRIAL // 4:  # what comes first is slower
            began = time.monotonic()
        batch = draw(pairs, course, step)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            loss = loss_of(model, replace(batch, planes=batch.planes.to(device), fields=batch.fields.to(device),
                                          root=batch.root.to(device)))  # fmt: skip
        loss.backward()
        model.zero_grad()
    each = (time.monotonic() - began) / (TRIAL - TRIAL // 4)
    return max(100, int(seconds * MARGIN / each))


def _card(
    lesson: Lesson,
    course: Course,
    pairs: int,
    gained: NDArray[np.float64],
    before: NDArray[np.float64],
    device: str,
    threads: int,
    folder: Path,
) -> dict[str, Any]:
    sources: dict[str, int] = {}
    for picture in lesson.pictures:
        sources[picture.source] = sources.get(picture.source, 0) + 1
    names = ("numpy", "torch", "onnx", "opencv-python-headless")
    return {
        "what": "correction and weight for deblur's method hybrid",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "deblur": version("deblur"),
        "commit": commit(),
        "packages": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "parameters": sum(p.numel() for p in Model().parameters()),
        "pictures": sources,
        "pictures digest": digest_of([picture.digest for picture in lesson.pictures]),
        "pairs": pairs,
        "recipe": asdict(lesson.recipe),
        "course": asdict(course),
        "started from other weights": lesson.start is not None,
        "decibels over physics, pictures set aside": {
            "mean": round(float(gained.mean()), 3),
            "worst": round(float(gained.min()), 3),
            "lowest twentieth": round(float(np.quantile(gained, 0.05)), 3),
            "before": round(float(before.mean()), 3),
        },
        "curve": [
            [told["step"], told["minutes"], told["gain"]]
            for told in map(json.loads, (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines())
        ],
        **(lesson.notes or {}),
    }
