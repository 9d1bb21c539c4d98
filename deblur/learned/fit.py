"""Training of the network on pairs: the same seeds, threads and packages, the same weights; goes on after a kill."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur.deconv.hybrid import IMAGES, OPEN, PLACES
from deblur.ingest import Progress
from deblur.learned.model import Model
from deblur.learned.shards import QUARTER, Pairs
from deblur.store.durable import write_atomic

SILENT = 1e-6  # a mean squared error that is as good as none
BARE = (
    0.05  # share in the loss of the picture before the weight: where that is shut it learns from this alone
)
TURNS = 16  # ways to mirror, transpose and reverse a pair
BACKWARD = [n for kind in (1, 2) for n in range(4 + kind * len(PLACES), 4 + (kind - 1) * len(PLACES), -1)]
LOOKS = 12  # times that the validation is looked at
STATE, CURVE = "state.npz", "curve.jsonl"


@dataclass(frozen=True, slots=True)
class Course:
    """How the network is trained; part of the model card. `rate`: the highest, of a cosine; `kept`: of the running mean
    of the weights, a step; `crop`: side of what is seen at once."""

    steps: int = 20000
    batch: int = 8
    rate: float = 1.5e-3
    warm: int = 200
    kept: float = 0.998
    crop: int = 128
    clip: float = 5.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    planes: Tensor  # (n, IMAGES + 3, y, x): the images, the gate's weight, its limit, the root of the truth
    fields: Tensor  # (n, 10, y/4, x/4)
    root: Tensor  # (n, 1, 1, 1) bool


def outcome(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared errors (n,) of what comes out, of the corrected plane without its weight, and of what physics gave."""
    images, gate, limit, truth = batch.planes.split([IMAGES, 1, 1, 1], dim=1)
    correction, weight = model.reduced(images, batch.fields, gate)
    frame, restored = _light(images[:, :1]), images[:, 1:2]
    better, was = _light(restored + correction.float()), _light(restored)
    weight = torch.minimum(weight.float(), torch.minimum(limit, OPEN * gate))
    after = frame + weight * (better - frame)
    bare = frame + limit * (better - frame)
    before = frame + gate * (was - frame)
    return (
        _error(after, truth, batch.root),
        _error(bare, truth, batch.root),
        _error(before, truth, batch.root),
    )


def loss_of(model: Model, batch: Batch) -> Tensor:
    """Decibels against physics: the easy and the hard count alike."""
    after, bare, before = outcome(model, batch)
    return (decibels(after, before) + BARE * decibels(bare, before)).mean()


def decibels(error: Tensor, than: Tensor) -> Tensor:
    """How much larger a mean squared error is than another."""
    return 10 * (torch.log10(error + SILENT) - torch.log10(than + SILENT))


def _light(root: Tensor) -> Tensor:
    return root * root.abs()


def _error(light: Tensor, truth: Tensor, root: Tensor) -> Tensor:
    """In what codes are made of: PSNR is taken there."""
    rooted = torch.sqrt(light.clamp_min(0) + 1e-4) - torch.sqrt(truth * truth + 1e-4)
    return (torch.where(root, rooted, light - truth * truth) ** 2).mean(dim=(1, 2, 3))


def take(
    pairs: Pairs, which: Sequence[int], corners: Sequence[tuple[int, int]], crop: int, turns: Sequence[int]
) -> Batch:
    """Squares of `crop` pixels of some pairs, each turned in its way."""
    planes, fields = [], []
    for k, (y, x), turn in zip(which, corners, turns, strict=True):
        near, far = slice(y // QUARTER, (y + crop) // QUARTER), slice(x // QUARTER, (x + crop) // QUARTER)
        p = torch.from_numpy(pairs.part("planes", k)[:, y : y + crop, x : x + crop].astype(np.float32))
        f = torch.from_numpy(pairs.part("fields", k)[:, near, far].astype(np.float32))
        p, f = turned(p, f, turn)
        planes.append(p)
        fields.append(f)
    root = torch.tensor([float(pairs.part("root", k)) for k in which]).bool().reshape(-1, 1, 1, 1)
    return Batch(torch.stack(planes), torch.stack(fields), root)


def draw(pairs: Pairs, course: Course, step: int) -> Batch:
    """The batch of a step."""
    rng = np.random.default_rng((course.seed, step))
    which = rng.integers(len(pairs), size=course.batch)
    corners = rng.integers((pairs.side - course.crop) // 8 + 1, size=(course.batch, 2)) * 8
    turns = rng.integers(TURNS, size=course.batch)
    return take(pairs, which.tolist(), [(int(y), int(x)) for y, x in corners], course.crop, turns.tolist())


def turned(planes: Tensor, fields: Tensor, turn: int) -> tuple[Tensor, Tensor]:
    """One of the sixteen ways to mirror, transpose and reverse a pair; its vectors turn with it."""
    fields = fields.clone()
    if turn & 1:  # upside down
        planes, fields = planes.flip(-2), fields.flip(-2)
        fields[[2, 3]] *= -1
    if turn & 2:  # left to right
        planes, fields = planes.flip(-1), fields.flip(-1)
        fields[[2, 4]] *= -1
    if turn & 4:  # transposed
        planes, fields = planes.transpose(-1, -2), fields.transpose(-1, -2)
        fields = fields[[0, 1, 2, 4, 3, 5, 6, 7, 8, 9]]
        fields[1] *= -1
    if turn & 8:  # backward in time
        planes = planes[[0, 1, 2, 4, 3, *BACKWARD, *range(IMAGES, len(planes))]]
        fields = fields[[0, 1, 2, 3, 4, 5, 7, 6, 8, 9]]
    return planes, fields


def gains(model: Model, pairs: Pairs) -> NDArray[np.float64]:
    """Decibels that the network adds to the physics, a pair."""
    found = []
    device = next(model.parameters()).device
    with torch.inference_mode():
        for k in range(len(pairs)):
            batch = _on(take(pairs, [k], [(0, 0)], pairs.side, [0]), device)
            after, _, before = outcome(model, batch)
            found.append(-float(decibels(after, before)))
    return np.array(found)


def fit(
    model: Model,
    learn: Callable[[int], Pairs],
    check: Pairs,
    course: Course,
    *,
    folder: Path,
    device: str,
    progress: Progress,
) -> Model:
    """Train `model`; the running mean of its weights. `learn`: the pairs that a step draws from; `folder` holds how far
    it is: killed, it goes on from there."""
    model = model.to(device=device, memory_format=torch.channels_last)
    mean = deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.rate, weight_decay=1e-4, betas=(0.9, 0.99))
    first, spent = _restored(folder, model, mean, optimizer)
    began, run, every = time.monotonic(), 0.0, max(1, course.steps // LOOKS)
    for step in range(first, course.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(course, step)
        batch = _on(draw(learn(step), course, step), torch.device(device))
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), course.clip)
        optimizer.step()
        run += (loss.item() - run) / min(step - first + 1, every)
        with torch.no_grad():
            share = 1 - min(course.kept, 1 - 10 / (step + 11))
            for kept, now in zip(mean.parameters(), model.parameters(), strict=True):
                kept.lerp_(now, share)
        if (step + 1) % every == 0 or step + 1 == course.steps:
            gained = gains(mean, check)
            minutes = spent + (time.monotonic() - began) / 60
            told = {"step": step + 1, "minutes": round(minutes, 2), "loss": round(run, 4)}
            told |= {"gain": round(float(gained.mean()), 4), "least": round(float(gained.min()), 4)}
            with (folder / CURVE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")
            _keep(folder, model, mean, optimizer, step + 1, minutes)
        progress("learn", step + 1, course.steps)
    return mean


def rate_at(course: Course, step: int) -> float:
    """Up in a straight line, down along half a cosine."""
    fall = 0.5 * (1 + np.cos(np.pi * step / course.steps)) + 0.005
    return float(course.rate * min(1.0, (step + 1) / course.warm) * fall)


def _on(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.planes.to(device), batch.fields.to(device), batch.root.to(device))


def _keep(folder: Path, model: Model, mean: Model, optimizer: Any, step: int, minutes: float) -> None:
    """All that going on needs, as plain arrays: no pickle."""
    arrays = {"step": np.array(step), "minutes": np.array(minutes)}
    for name, parameter in model.named_parameters():
        held = optimizer.state[parameter]
        arrays |= {f"model {name}": _array(parameter), f"mean {name}": _array(mean.get_parameter(name))}
        arrays |= {f"{key} {name}": _array(held[key]) for key in ("step", "exp_avg", "exp_avg_sq")}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(folder / STATE, buffer.getvalue())


def _restored(folder: Path, model: Model, mean: Model, optimizer: Any) -> tuple[int, float]:
    if not (folder / STATE).exists():
        (folder / CURVE).unlink(missing_ok=True)
        return 0, 0.0
    with np.load(folder / STATE, allow_pickle=False) as held, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(held[f"model {name}"]))
            mean.get_parameter(name).copy_(torch.from_numpy(held[f"mean {name}"]))
            optimizer.state[parameter] = {
                key: torch.from_numpy(held[f"{key} {name}"]).to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        return int(held["step"]), float(held["minutes"])


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().float().cpu().contiguous().numpy())
