"""`deblur train` from pictures to weights that the product runs; and on an archive's own frames."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

for name in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(name, reason="deblur[train] is not installed (PyTorch is large)")

import torch  # noqa: E402

from deblur.deconv.hybrid import fields_of, images_of  # noqa: E402
from deblur.deconv.network import Network, shipped  # noqa: E402
from deblur.errors import ConfigError  # noqa: E402
from deblur.learned.archive import wins  # noqa: E402
from deblur.learned.fit import Course, draw, fit, outcome, turned  # noqa: E402
from deblur.learned.model import Model  # noqa: E402
from deblur.learned.pictures import dead_leaves, gather, parted  # noqa: E402
from deblur.learned.shards import Pairs, Recipe, make_shard  # noqa: E402
from deblur.learned.train import Lesson, train  # noqa: E402
from deblur.learned.weights import from_onnx, to_onnx  # noqa: E402
from tests.deconv.test_network import evidence  # noqa: E402
from tests.small import Command  # noqa: E402

SMALL = Recipe(side=96, film=200, count=8)


def quiet(name: str, done: int, total: int) -> None:
    del name, done, total


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    path = tmp_path_factory.mktemp("pairs") / "0000"
    make_shard(path, [dead_leaves(np.random.default_rng(0), side=320)], SMALL, 0)
    return Pairs([path])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(dead_leaves(np.random.default_rng(k), side=320)).save(folder / f"{k}.png")
    return folder


def weights(model: Model) -> np.ndarray:
    return torch.cat([p.detach().ravel() for p in model.parameters()]).numpy()


def test_training_that_was_killed_goes_on_to_the_same_weights(
    shard: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deblur.learned.fit.LOOKS", 3)
    course = Course(steps=6, batch=2, crop=64, warm=2)
    folders = tmp_path / "whole", tmp_path / "killed"
    found = []
    for folder in folders:
        folder.mkdir()
        torch.manual_seed(1)

        def kill(name: str, done: int, total: int, folder: Path = folder) -> None:
            if folder.name == "killed" and done == 5:
                raise KeyboardInterrupt

        model = Model()
        try:
            best = fit(model, lambda _: shard, shard, course, folder=folder, device="cpu", progress=kill)
        except KeyboardInterrupt:
            best = fit(Model(), lambda _: shard, shard, course, folder=folder, device="cpu", progress=quiet)
        found.append(weights(best))
    np.testing.assert_array_equal(*found)


def test_a_turned_pair_is_as_hard(shard: Pairs) -> None:
    """Turning neither moves the truth against the pictures nor leaves a vector behind."""
    batch = draw(shard, Course(batch=4, crop=64), 3)
    model = Model()
    for turn in range(16):
        parts = [turned(p, f, turn) for p, f in zip(batch.planes, batch.fields, strict=True)]
        planes, fields = (torch.stack(part) for part in zip(*parts, strict=True))
        for before, after in zip(
            outcome(model, batch), outcome(model, type(batch)(planes, fields, batch.root)), strict=True
        ):
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-9)
        back_planes, back_fields = zip(
            *[turned(p, f, turn) for p, f in zip(planes, fields, strict=True)], strict=True
        )
        if turn not in (5, 6, 13, 14):  # quarter turns are their own opposites only in pairs
            torch.testing.assert_close(torch.stack(back_planes), batch.planes)
            torch.testing.assert_close(torch.stack(back_fields), batch.fields)


@pytest.mark.parametrize("turn", range(16))
def test_vectors_turn_with_the_picture(turn: int) -> None:
    """What the network is shown of a turned frame is the turned of what it is shown."""
    seen = evidence(32, 32)
    bent = np.concatenate([seen.path, np.random.default_rng(1).normal(0, 2, (2, 32, 32))]).astype(np.float32)
    seen = replace(seen, path=bent)
    images, fields = images_of(seen, 0), fields_of(seen)

    def way(array: np.ndarray) -> np.ndarray:
        array = array[..., ::-1, :] if turn & 1 else array
        array = array[..., ::-1] if turn & 2 else array
        return np.ascontiguousarray(array.swapaxes(-1, -2) if turn & 4 else array)

    signs = np.array([-1 if turn & 1 else 1, -1 if turn & 2 else 1] * 2, np.float32)[:, None, None]
    path = way(bent) * signs
    path = path[[1, 0, 3, 2]] if turn & 4 else path
    order = [1, 0] if turn & 8 else [0, 1]
    names = ("frame", "restored", "again", "weight", "limit")
    other = replace(
        seen,
        **{name: way(getattr(seen, name)) for name in names},
        beside=way(seen.beside)[order],
        along=lambda channel: way(seen.along(channel))[:, :: -1 if turn & 8 else 1],
        trusts=way(seen.trusts)[order],
        path=path,
    )
    planes, turned_fields = turned(torch.from_numpy(images), torch.from_numpy(fields), turn)
    np.testing.assert_allclose(planes.numpy(), images_of(other, 0), atol=1e-6)
    np.testing.assert_allclose(turned_fields.numpy(), fields_of(other), atol=1e-6)


def test_the_file_computes_what_pytorch_computes() -> None:
    torch.manual_seed(2)
    model = Model()
    with torch.no_grad():
        model.leave.weight.normal_(0, 0.02)
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    data = to_onnx(model, {"what": "a test"})
    seen = evidence()
    planes, weight = Network(data).refine(seen)
    assert Network(data).card == {"what": "a test"}
    with torch.no_grad():
        correction, expected = model(
            torch.from_numpy(images_of(seen, 0)[None]), torch.from_numpy(fields_of(seen)[None])
        )
    value = images_of(seen, 0)[1] + correction[0, 0].numpy()
    np.testing.assert_allclose(planes[0], value * np.abs(value), atol=1e-5)
    np.testing.assert_allclose(weight, expected[0, 0].numpy(), atol=1e-4)
    np.testing.assert_array_equal(weights(from_onnx(data)), weights(model))
    with pytest.raises(ConfigError, match="of another network"):
        from_onnx(b"")


def test_a_new_network_changes_nothing(shard: Pairs) -> None:
    """Before it has learned, physics is what comes out, up to how far weights are kept from 0 and 1."""
    after, _, before = outcome(Model(), draw(shard, Course(batch=6, crop=64), 0))
    assert torch.all(after < before * 1.1 + 1e-5)


def test_pictures_are_gathered_and_some_set_aside(pictures: Path, tmp_path: Path) -> None:
    found = gather([pictures])
    assert [picture.source for picture in found] == ["0.png", "1.png", "2.png"]
    learn, check = parted(found)
    assert {p.digest for p in learn}.isdisjoint(p.digest for p in check)
    assert learn
    assert check
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="name folders of pictures or films"):
        gather([tmp_path / "empty"])


def test_the_command_trains_and_its_weights_restore(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deblur: Command
) -> None:
    monkeypatch.setattr("deblur.learned.train.SHARDS", (1, 1))
    monkeypatch.setattr("deblur.learned.train.CHECKED", 1)
    monkeypatch.setattr("deblur.learned.train.Lesson", partial(Lesson, recipe=SMALL, course=Course(crop=64)))
    output = tmp_path / "mine.onnx"
    said = deblur("train", pictures, "--output", output, "--steps", 4, "--hours", 0.02, "--json")
    assert said.code == 0, said.err
    card = json.loads(said.out)["card"]
    assert card["course"]["steps"] == 4
    assert card["pictures"] == {"0.png": 1, "1.png": 1, "2.png": 1}
    network = Network(output.read_bytes())
    assert network.card == card
    assert network.digest != shipped().digest


def test_a_folder_of_another_training_is_refused(pictures: Path, tmp_path: Path) -> None:
    lesson = Lesson(gather([pictures]), SMALL)
    (tmp_path / "plan.json").write_text(json.dumps({"lesson": "another", "shards": 1}))
    with pytest.raises(ConfigError, match="name another folder"):
        train(lesson, tmp_path, hours=0.01, workers=1, progress=quiet)


def test_only_what_wins_is_kept() -> None:
    before = np.linspace(-0.1, 1.0, 64)
    assert wins(before + 0.1, before)
    assert not wins(before, before)
    worse = before + 0.1
    worse[:8] -= 1
    assert not wins(worse, before)
