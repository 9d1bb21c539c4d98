"""Whoever changes what a stage computes must say so: archives recompute only where a NUMERICS_VERSION changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deblur import deconv, motion, survey, window
from deblur.light import Light
from deblur.neighbours import Neighbour
from tests.conftest import pan

RECORDED = Path(__file__).with_suffix(".json")
LIGHT = Light(0, 255, "srgb")
FRAMES = pan(4, 96, 128)[0]
LUMAS = FRAMES[:, 0].astype(np.float32) / 255


def surveyed() -> NDArray[np.float32]:
    found = survey.survey(FRAMES, light=LIGHT, motion_method="fast", fraction=0.75)
    return np.concatenate([found.forward[1, 1, 20::24, 20::24].ravel(), found.noise, found.shake.ravel()])


def moved(method: str) -> NDArray[np.float32]:
    return motion.estimate_motion(LUMAS[1], LUMAS[2], method=method)[:, 24::24, 24::24].ravel()


def restored(method: str) -> NDArray[np.float32]:
    field = np.zeros((2, 96, 128), np.float32)
    field[1] = np.linspace(-9, -7, 128, dtype=np.float32)
    beside = [Neighbour(LUMAS[t][None], s * field, -s * field, s * 0.75) for t, s in ((2, 1), (0, -1))]
    settings = window.RestoreSettings(method=method)
    found = window.restore_window(LUMAS[1][None], tuple(beside), noise=0.006, settings=settings)
    return np.concatenate([found.image[0, 12::24, 12::24].ravel(), found.weight[12::24, 12::24].ravel()])


STAGES: dict[str, tuple[int, Callable[[], NDArray[np.float32]]]] = {
    "survey": (survey.NUMERICS_VERSION, surveyed),
    **{
        f"motion {name}": (method.NUMERICS_VERSION, lambda name=name: moved(name))  # type: ignore[misc]
        for name, method in motion.METHODS.items()
    },
    **{
        f"restoration {name}": (window.NUMERICS_VERSION, lambda name=name: restored(name))  # type: ignore[misc]
        for name in deconv.ALONG_PATHS
    },
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_computes_otherwise_has_another_version(stage: str) -> None:
    """Up to what CPUs round differently. A stage that was changed on purpose: raise its version, then record it with
    `python -m tests.test_numerics`."""
    version, compute = STAGES[stage]
    recorded = json.loads(RECORDED.read_text())[stage]
    assert recorded["version"] == version, "record what this version computes"
    np.testing.assert_allclose(compute(), recorded["values"], atol=2e-4, err_msg="raise NUMERICS_VERSION")


def test_nothing_is_recorded_that_is_gone() -> None:
    assert set(json.loads(RECORDED.read_text())) == set(STAGES)


if __name__ == "__main__":
    told = {
        name: {"version": version, "values": [round(float(v), 5) for v in compute()]}
        for name, (version, compute) in STAGES.items()
    }
    RECORDED.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in told.items()) + "\n}\n")
