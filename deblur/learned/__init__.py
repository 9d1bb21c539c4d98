"""Training of the network that the method "hybrid" corrects physics with. Needs the extra `train`."""

from __future__ import annotations

from importlib.util import find_spec

from deblur.errors import ConfigError

NEEDED = ("torch", "onnx", "cv2", "onnxruntime")


def require() -> None:
    """Raise ConfigError where what training needs is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"`deblur train` needs {', '.join(missing)}: pip install 'deblur[train]'")
