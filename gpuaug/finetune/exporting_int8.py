"""An int8 network as ONNX: QuantizeLinear and DequantizeLinear around its layers, in the form that ONNX Runtime turns
into kernels of int8."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE, RELATIVE = 0.25, 0.1  # of a probability; of the largest logit. Runtimes round a last bit otherwise, which
# layers behind it multiply; a scale or a zero point that is wrong does more
LAYERS = ("Conv", "Gemm")


def rounds(about: Any) -> bool:
    """Whether a model, or one of an ensemble's, is int8; ``about``: a :class:`gpuaug.finetune.saved.About`."""
    return about.kind == "int8" or any("int8" in one["details"] for one in about.details.get("ensemble", ()))


def whole_biases(model: Any) -> None:
    """Biases of quantised layers in int32, with the product of the scales of input and weight, as ONNX Runtime wants
    them: a layer with a float bias it computes in floats. ``model``: an onnx.ModelProto, changed in place."""
    from onnx import helper, numpy_helper

    graph = model.graph
    tensors = {one.name: one for one in graph.initializer}
    scales = {one.output[0]: one.input[1] for one in graph.node if one.op_type == "DequantizeLinear"}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        wanted = node.op_type in LAYERS and len(node.input) == 3 and node.input[2] in tensors
        if wanted and all(name in scales and scales[name] in tensors for name in node.input[:2]):
            bias, *pair = (
                numpy_helper.to_array(tensors[name]) for name in (node.input[2], *map(scales.get, node.input[:2]))
            )
            scale = np.broadcast_to((pair[0] * pair[1]).astype(np.float32), bias.shape)
            whole = np.clip(np.rint(bias.astype(np.float64) / scale), -(2**31), 2**31 - 1).astype(np.int32)
            names = [f"{node.output[0]}.bias{end}" for end in ("", ".whole", ".scale")]
            for name, value in zip(names[1:], (whole, scale), strict=True):
                graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            graph.node.append(helper.make_node("DequantizeLinear", names[1:], names[:1], axis=0))
            node.input[2] = names[0]
        graph.node.append(node)
    used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
