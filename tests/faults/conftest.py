"""How much of it a change or a night is worth: `pytest tests/faults --seeds 1000`.

Without `--seeds` a fault has few seeds, and of cases that differ in its point only (`one_of`) one is drawn, by their name.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from deblur import job as work
from deblur.config import load_job
from tests.faults.world import World, make_world, outputs, prepare


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "seeds a seeded fault, `1000` or `1000:2000`, and every point; by default a few seeds and one point each"
    parser.addoption("--seeds", type=_range, default=None, metavar="N|FIRST:LAST", help=text)


def _range(told: str) -> tuple[int, int]:
    first, _, last = told.rpartition(":")
    return int(first or 0), int(last)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("seeds", None):
        config.option.markexpr = ""  # who asks for seeds wants the slow ones too
    config.addinivalue_line("markers", "seeds(count): how many seeds of this fault every change has to stand")
    config.addinivalue_line("markers", "one_of(what): cases alike, of which a change has to stand one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        asked = metafunc.config.getoption("seeds", None)
        metafunc.parametrize("seed", range(*asked) if asked else range(marker.args[0]))


@pytest.hookimpl(trylast=True)  # what was asked for by -k or by name is not drawn from
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("seeds", None):
        return
    alike = defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("one_of"):
            alike[marker.args[0]].append(item)
    left: list[pytest.Item] = []
    for what, cases in alike.items():
        able = [case for case in cases if not any(m.args[0] for m in case.iter_markers("skipif"))] or cases
        drawn = random.Random(what).choice(able)
        left += [case for case in cases if case is not drawn]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The `outputs` of what `prepare` makes, undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    (outcome,) = work.run(load_job(prepare(folder, "archive", "serial")))
    assert outcome.published, outcome.faults()
    return outputs(folder / "archive")
