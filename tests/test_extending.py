"""The code of deploy/extending.md: what it adds works as soon as its line is in the registry."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import deblur
from deblur import deconv
from deblur.errors import ReadError
from deblur.io import READERS, Opener, open_source
from tests.conftest import pan

PAGE = (Path(__file__).parents[1] / "deploy" / "extending.md").read_text(encoding="utf-8")
METHOD, FORMAT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def module(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The code as a module of its own."""
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, f"{name}.py", "exec"), vars(made))
    return made


def test_the_method_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module("landweber", METHOD, monkeypatch)
    assert '"landweber": Landweber()' in PAGE
    monkeypatch.setitem(deconv.METHODS, "landweber", made.Landweber())
    frames, truth = pan(3, 64, 96)
    result = deblur.restore(frames, exposure_fraction=0.75, method="landweber")
    assert result.iterations[1].count == made.Landweber().iterations
    error = [np.mean((images[1] - truth[1].astype(float)) ** 2) for images in (frames, result.frames)]
    assert error[1] < 0.7 * error[0]


def test_the_format_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = module("grey", FORMAT, monkeypatch)
    assert '"grey": Opener(grey.matches, grey.open_grey)' in PAGE
    monkeypatch.setitem(READERS, "grey", Opener(made.matches, made.open_grey))  # type: ignore[arg-type]
    frames = pan(4, 32, 48)[0]
    path = tmp_path / "clip.grey"
    path.write_bytes(b"48 32 4\n" + frames.tobytes()[:-1])
    (reader,) = open_source(str(path))
    with reader:
        assert np.array_equal([reader.read(k) for k in range(3)], frames[:3])
        with pytest.raises(ReadError, match=r"clip\.grey#3 is cut off"):
            reader.read(3)
    path.write_bytes(b"nonsense\n")
    with pytest.raises(ReadError, match="no header like"):
        open_source(str(path))
