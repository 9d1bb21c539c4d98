"""The network of the method "hybrid", run by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from deblur.deconv.hybrid import CELL, Evidence, fields_of, images_of
from deblur.errors import ConfigError
from deblur.types import Float

SHIPPED = "hybrid.onnx"
LARGEST = 16 << 20  # bytes of a file of weights


class Network:
    """Weights in an ONNX file, ready to run. Raises ConfigError without ONNX Runtime, or for what isn't such a file.

    `provider`: what ONNX Runtime computes with, "CPU" or another that is installed ("CUDA", …). `identity`: what the
    bits of its results depend on: the weights, the runtime, the provider.
    """

    def __init__(self, data: bytes, *, provider: str = "CPU", name: str = "these weights") -> None:
        runtime = _runtime()
        wanted, known = f"{provider}ExecutionProvider", runtime.get_available_providers()
        if wanted not in known:
            has = ", ".join(found.removesuffix("ExecutionProvider") for found in known)
            raise ConfigError(f"restore.provider {provider!r} is not in this ONNX Runtime: it has {has}")
        self.data = data
        self.digest = hashlib.sha256(data).hexdigest()
        self.identity = f"{self.digest} onnxruntime-{runtime.__version__} {provider}"
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = (
            1  # a worker has one thread, and bits follow it
        )
        options.use_deterministic_compute = True
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            if len(data) > LARGEST:
                raise ValueError("too large")
            self._session = runtime.InferenceSession(data, options, providers=[wanted])
            self.card: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map["card"])
        except Exception as error:  # the runtime's own kinds have no common name
            line = " ".join(str(error).split())[:120]
            raise ConfigError(
                f"{name}: no weights of a network ({line}): give an ONNX file of `deblur train`"
            ) from None

    def refine(self, seen: Evidence) -> tuple[Float, Float]:
        """The restored planes corrected, (c, y, x) light, and their weight, (y, x) in [0, 1], below any limit."""
        fields = fields_of(seen)
        _, height, width = fields.shape
        padded, planes, weights = _padded(fields), [], []
        for channel in range(len(seen.frame)):
            images = images_of(seen, channel)
            told = {"images": _padded(images), "fields": padded}
            correction, weight = self._session.run(None, told)
            value = images[1] + correction[0, 0, :height, :width]
            planes.append(value * np.abs(value))
            weights.append(weight[0, 0, :height, :width])
        return np.stack(planes), np.mean(weights, axis=0, dtype=np.float32)


@lru_cache(maxsize=2)
def shipped(provider: str = "CPU") -> Network:
    """The network in the package."""
    return Network(files("deblur.deconv").joinpath(SHIPPED).read_bytes(), provider=provider)


def _padded(planes: Float) -> Float:
    """(1, n, y, x), the border repeated up to whole cells."""
    _, height, width = planes.shape
    beyond = (-height % CELL, -width % CELL)
    return (np.pad(planes, [(0, 0), *((0, n) for n in beyond)], mode="edge") if any(beyond) else planes)[None]


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("method 'hybrid' needs ONNX Runtime: pip install 'deblur[learned]'") from None
    return onnxruntime
