"""What the network of the method "hybrid" learned: is it the physics that helps, and does an archive's own help more?

usage: python tests/benchmarks/learned.py ablation PICTURES... [--steps N] [--shards N] [--work DIR] [--json] [--quick]
       python tests/benchmarks/learned.py archive [--hours H] [--work DIR] [--json] [--quick]
       python tests/benchmarks/learned.py curve [WEIGHTS] --output PICTURE

ablation: two networks of the same size and as many steps on the same pairs, one shown what physics made of the frame
(and correcting that), one shown the frame and its neighbours alone (and correcting the frame). Decibels over physics
on pictures that were set aside.
archive: frames of a texture that no photograph has (hatched cells) are filmed, restored as a job, and `deblur train
--from` fine-tunes the shipped weights on that archive. Decibels over physics on further scenes of that texture, which
are not in the archive, restored with the shipped and with the fine-tuned weights; and of what was set aside in it, without
the check that a correction explains the frame.
curve: the learning curve of a file of weights, from its card.
What real frames gain: tests/benchmarks/restoration.py --frames DIR --only table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from PIL import Image

from deblur import job as work
from deblur.config import load_job
from deblur.deconv.hybrid import IMAGES, PLACES
from deblur.deconv.network import Network, shipped
from deblur.learned import fit
from deblur.learned.archive import lesson_of, wins
from deblur.learned.films import Damage, Film, Looks, Moves, make_film
from deblur.learned.model import Model
from deblur.learned.pictures import gather, parted, with_leaves
from deblur.learned.shards import Pairs, Recipe, make_shards
from deblur.learned.train import train
from deblur.light import decode, encode, resolve
from deblur.sequence import restored_frame
from deblur.store import Archive
from deblur.types import Estimate
from deblur.window import RestoreSettings

WORKERS = 2
EDGE = 16  # pixels that aren't scored
NOISE = 9  # of the fields, which every camera knows
JOB = """\
archive = "archive"
[[sources]]
path = "frames/*"
exposure_fraction = 0.8
frame_rate = 25.0
transfer = "linear"
"""


def say(name: str, done: int, total: int) -> None:
    if done in (0, total) or done % max(1, total // 10) == 0:
        print(f"{name}: {done}/{total}", file=sys.stderr)


def plain(batch: fit.Batch) -> fit.Batch:
    """The same pairs without what physics knows: the frame stands for the restored one, the rest is blank."""
    planes, fields = batch.planes.clone(), torch.zeros_like(batch.fields)
    planes[:, 1], planes[:, IMAGES] = planes[:, 0], 0.5
    there = 5 + len(PLACES)
    planes[:, 5:there], planes[:, 2], planes[:, there:IMAGES] = planes[:, :1], 0, 0
    fields[:, NOISE] = batch.fields[:, NOISE]
    return replace(batch, planes=planes, fields=fields)


def plain_errors(model: Model, batch: fit.Batch) -> tuple[torch.Tensor, ...]:
    """Of the plain network against what physics gave."""
    after, bare, _ = INFORMED(model, plain(batch))
    return after, bare, INFORMED(model, batch)[2]


INFORMED = fit.outcome


def ablation(
    paths: Sequence[Path], folder: Path, steps: int, shards: int, checked: int
) -> list[dict[str, Any]]:
    learn, check = parted(gather(paths))
    recipe = Recipe()
    pairs = Pairs(
        make_shards(
            folder / "pairs", with_leaves([p.codes for p in learn], 0), recipe, shards,
            workers=WORKERS, name="pairs", progress=say,
        )
    )  # fmt: skip
    aside = Pairs(
        make_shards(
            folder / "aside", [p.codes for p in check], replace(recipe, seed=1), checked,
            workers=WORKERS, name="aside", progress=say,
        )
    )  # fmt: skip
    torch.set_num_threads(WORKERS)
    rows = []
    for name, errors in (("physics and network", INFORMED), ("plain network", plain_errors)):
        place = folder / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        torch.manual_seed(0)
        with mock.patch("deblur.learned.fit.outcome", errors):
            best = fit.fit(
                Model(),
                lambda _: pairs,
                aside,
                fit.Course(steps=steps),
                folder=place,
                device="cpu",
                progress=say,
            )
            gained = fit.gains(best, aside)
        rows.append({"by": name, "steps": steps, "pairs": len(pairs), **told(gained)})
    return rows


def told(gained: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(gained.mean()),
        "lowest_twentieth": float(np.quantile(gained, 0.05)),
        "worst": float(gained.min()),
    }


def hatched(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) codes: cells of fine stripes, each with a direction, width and contrast of its own."""
    picture = np.zeros((side, side), np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    cells = np.zeros((side, side), np.int32)
    points = rng.uniform(0, side, (side // 6, 2))
    nearest = np.full((side, side), np.inf, np.float32)
    for k, (py, px) in enumerate(points):
        far = (y - py) ** 2 + (x - px) ** 2
        cells[far < nearest] = k
        np.minimum(nearest, far, out=nearest)
    for k in range(len(points)):
        angle, width, strength = rng.uniform(0, np.pi), rng.uniform(5, 12), rng.uniform(0.25, 0.48)
        stripes = (
            np.sign(np.sin((y * np.sin(angle) + x * np.cos(angle)) * 2 * np.pi / width)) * strength + 0.5
        )
        picture = np.where(cells == k, stripes, picture)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.7)
    return np.repeat(np.rint(soft * 255).astype(np.uint8)[..., None], 3, axis=2)


def film_archive(folder: Path, sequences: int, side: int) -> None:
    """A job over films of that texture: some move slowly, so that there is something sharp, others fast."""
    rng = np.random.default_rng(11)
    quiet = Damage(noisy=1, grainy=0, noise=(0.004, 0.006), clipped=0, compressed=0, misjudged=0)
    for k in range(sequences):
        speed = (0.4, 0.8) if k % 2 else (12.0, 24.0)
        moves = Moves(
            speed=speed, unsteady=0.2, fraction=(0.8, 0.801), objects=(1.0,), turn=0.002, near=0.002
        )
        looks = Looks(scale=(0.9, 1.2), soft=(0.3, 0.31), contrast=1.0, dim=0.9)
        film = make_film([hatched(rng, side * 2)], rng, side=side, moves=moves, damage=quiet, looks=looks)
        place = folder / "frames" / f"film{k:02d}"
        place.mkdir(parents=True, exist_ok=True)
        for t, frame in enumerate(film.frames):
            codes = frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
            Image.fromarray(codes).save(place / f"{t:03d}.png")
    sources = "\n".join(
        JOB.split("\n", 1)[1].replace("frames/*", f"frames/film{k:02d}") for k in range(sequences)
    )
    (folder / "job.toml").write_text(JOB.split("\n", 1)[0] + "\n" + sources)


def archive(folder: Path, hours: float, sequences: int, side: int, checked: int) -> list[dict[str, Any]]:
    if not (folder / "job.toml").exists():
        film_archive(folder, sequences, side)
    job = load_job(folder / "job.toml")
    outcomes = work.run(job, progress=say)
    assert all(outcome.sound for outcome in outcomes), [outcome.line() for outcome in outcomes]
    lesson = lesson_of(Archive.open(job.archive), start=shipped().data)
    made = train(lesson, folder / "training", hours=hours, workers=WORKERS, progress=say)
    rng = np.random.default_rng(99)
    fresh, recipe = [hatched(rng, 900) for _ in range(6)], lesson.recipe
    further = [
        make_film(fresh, rng, side=recipe.film, moves=recipe.moves, damage=recipe.damage, looks=recipe.looks)
        for _ in range(checked)
    ]
    physics = np.array([restored_gain(film, None) for film in further])
    rows = [
        {"by": name, **told(np.array([restored_gain(film, Network(data)) for film in further]) - physics)}
        for name, data in (("shipped weights", shipped().data), ("fine-tuned", made.weights))
    ]
    rows.append({"by": "set aside in the archive, before", **told(made.before)})
    rows.append({"by": "set aside in the archive, after", **told(made.gained)})
    return [row | {"kept": wins(made.gained, made.before), "pictures": len(lesson.pictures)} for row in rows]


def restored_gain(film: Film, network: Network | None) -> float:
    """Decibels over its blurred frame that the product gains of a film, by physics or with a network on top."""
    stack = film.frames[:, None]
    light = resolve(stack.dtype, transfer=film.transfer, largest=float(stack.max()), bits=16)
    codes, _ = restored_frame(
        stack,
        film.at,
        light=light,
        exposure=Estimate(film.fraction, 0.0),
        motion_method="fast",
        settings=RestoreSettings(method="hybrid" if network else "variational"),
        network=network,
    )
    truth = encode(film.truth, light)[EDGE:-EDGE, EDGE:-EDGE]
    errors = [
        np.mean((encode(decode(plane, light), light)[EDGE:-EDGE, EDGE:-EDGE] - truth) ** 2)
        for plane in (stack[film.at, 0], codes[0])
    ]
    return float(10 * np.log10(errors[0] / errors[1]))


def curve(weights: Path | None, output: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    card = (Network(weights.read_bytes()) if weights else shipped()).card
    _, minutes, gain = np.array(card["curve"]).T
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(minutes, gain, color="#0072b2", linewidth=2)
    axes.set(xlabel=f"minutes of training ({card['device']})", ylabel="dB over physics, pictures set aside")
    axes.grid(alpha=0.3)
    figure.savefig(output, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ablation", "archive", "curve"))
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--hours", type=float, default=0.25)
    parser.add_argument("--work", type=Path, help="keep pairs and archive here, and go on from what is there")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a few steps: that it runs, not what it finds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.what == "curve":
        curve(options.paths[0] if options.paths else None, options.output or Path("curve.png"))
        return
    with ExitStack() as stack:
        folder = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        quick = options.quick
        if options.what == "ablation":
            rows = ablation(
                options.paths, folder, 20 if quick else options.steps, 1 if quick else options.shards, 1
            )
        else:
            hours = 0.02 if quick else options.hours
            rows = archive(folder, hours, 2 if quick else 8, 320 if quick else 560, 2 if quick else 24)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'by':36s}{'mean dB':>9s}{'lowest 1/20':>13s}{'worst':>8s}")
    for row in rows:
        print("{by:36s}{mean:+9.3f}{lowest_twentieth:+13.3f}{worst:+8.3f}".format(**row))
    print({key: value for key, value in rows[0].items() if key in ("kept", "pictures", "steps", "pairs")})


if __name__ == "__main__":
    main()
