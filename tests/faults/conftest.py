"""How many seeds a night or a change is worth: `pytest tests/faults --seeds 1000`."""

from __future__ import annotations

import pytest

from tests.faults.world import World, make_world


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=None, help="seeds a seeded fault; by default a few each")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("seeds", None):
        config.option.markexpr = ""  # who asks for seeds wants the slow ones too
    config.addinivalue_line("markers", "seeds(count): how many seeds of this fault every change has to stand")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        asked = metafunc.config.getoption("seeds", None)
        metafunc.parametrize("seed", range(asked or marker.args[0]))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
