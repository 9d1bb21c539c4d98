"""Weights of the network between PyTorch and ONNX files: half precision, a model card inside, no pickle."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from deblur.deconv.hybrid import FIELDS, IMAGES
from deblur.errors import ConfigError
from deblur.learned.model import Model

OPSET = 17
SIDE = 64


def to_onnx(model: Model, card: Mapping[str, Any]) -> bytes:
    """An ONNX file with any height and width in multiples of 8: images and fields in, correction and weight out."""
    model = model.to("cpu", memory_format=torch.contiguous_format).eval()
    buffer = io.BytesIO()
    free = {2: "height", 3: "width"}
    names = ("images", "fields", "correction", "weight")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Constant folding")  # of no use to anyone
        torch.onnx.export(
            model,
            (torch.zeros(1, IMAGES, SIDE, SIDE), torch.zeros(1, FIELDS, SIDE, SIDE)),
            buffer,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes=dict.fromkeys(names, free),
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load_from_string(buffer.getvalue())
    _halve(proto, set(dict(model.named_parameters())))
    entry = proto.metadata_props.add()
    entry.key, entry.value = "card", json.dumps(card, sort_keys=True)
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


def from_onnx(data: bytes) -> Model:
    """The network of such a file, to train it further. Raises ConfigError for another file."""
    try:
        held = {
            tensor.name.removesuffix(HALF): numpy_helper.to_array(tensor)
            for tensor in onnx.load_from_string(data).graph.initializer
        }
        model = Model()
        state = {name: torch.from_numpy(held[name].astype(np.float32)) for name in model.state_dict()}
        model.load_state_dict(state)
    except Exception as error:  # protobuf, ONNX and PyTorch have no kind in common
        line = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"these weights are of another network ({line}): give a file of `deblur train`"
        ) from None
    return model


HALF = ".half"


def _halve(proto: Any, parameters: set[str]) -> None:
    """Store parameters as float16; they become float32 as the file is loaded."""
    graph, casts = proto.graph, []
    for tensor in list(graph.initializer):
        if tensor.name in parameters:
            name = tensor.name
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + HALF)
            tensor.CopyFrom(half)
            casts.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
    for place, node in enumerate(casts):
        graph.node.insert(place, node)
