"""A traced network as plain data: its steps as JSON, and its tensors. Nothing of it is code that a file could bring
along: a step names an op of torch's by name, with numbers and with the results of steps before it.
"""

from __future__ import annotations

import importlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

STEPS = "steps"  # the tensor that has them, uint8
SPACES = ("aten", "quantized_decomposed")
BUILTIN = {name: getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv")}  # of sizes
KINDS = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}
LIBRARY = "torch.ao.quantization.fx._decomposed"  # which makes quantized_decomposed known


class Program(nn.Module):
    """A network of normalised images float32 [B, 3, size, size], made of its steps; logits float32 [B, K].

    Attributes:
        steps: as JSON, uint8. graph: which computes. fast: what is called in its place, once it is compiled.
    """

    def __init__(self, steps: Tensor, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.register_buffer(STEPS, steps)
        self.graph, self.fast = made(json.loads(bytes(steps.tolist())), tensors), None

    @classmethod
    def of(cls, traced: fx.GraphModule) -> Program:
        """Of what torch.export and torchao give. Raises ValueError for a step that cannot be told."""
        steps, tensors = told(traced)
        return cls(
            torch.frombuffer(bytearray(json.dumps(steps, separators=(",", ":")).encode()), dtype=torch.uint8), tensors
        )

    @classmethod
    def filled(cls, state: Mapping[str, Tensor]) -> Program:
        """Of what ``state_dict`` gave. Raises ValueError for what is no such."""
        if STEPS not in state or state[STEPS].dtype != torch.uint8:
            raise ValueError("there are no steps in it, as gpuaug quantize writes them")
        return cls(state[STEPS], {k.removeprefix("graph."): v for k, v in state.items() if k.startswith("graph.")})

    def forward(self, x: Tensor) -> Tensor:
        call = self.graph if self.fast is None or torch.compiler.is_compiling() else self.fast
        if not torch.is_autocast_enabled(x.device.type):
            return call(x)
        with torch.autocast(x.device.type, enabled=False):
            return call(x.float())


# --- to data ----------------------------------------------------------------------------------------------------------
def told(traced: fx.GraphModule) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """({"steps": [...], "answer": number of a step}, tensors by name) of a traced network of one input and one output;
    step 0 is the input. Raises ValueError for what no step can say."""
    steps: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    places: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        if node.op == "output":
            (answer,) = node.args[0] if isinstance(node.args[0], list | tuple) else node.args
            return {"steps": steps, "answer": places[answer]}, tensors
        if node.op == "placeholder":
            step: dict[str, Any] = {"input": len(steps)}
        elif node.op == "get_attr":
            name = f"t{len(tensors)}"
            tensors[name], step = _within(traced, node.target).detach().clone(), {"tensor": name}
        else:
            op = _name(node)
            if op.partition(".")[2].startswith("_assert"):
                continue
            op_of(op)
            step = {"op": op, "args": [_plain(one, places) for one in node.args]}
            if node.kwargs:
                step["named"] = {name: _plain(one, places) for name, one in node.kwargs.items()}
        places[node] = len(steps)
        steps.append(step)
    raise ValueError("a traced network without an output")


def _name(node: fx.Node) -> str:
    """ "aten.relu.default", or "add" of Python's."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target)
    name = getattr(node.target, "__name__", str(node.target))
    return name if BUILTIN.get(name) is node.target else f"{node.op} {name}"


def _within(traced: nn.Module, name: str) -> Tensor:
    place, _, last = name.rpartition(".")
    return getattr(traced.get_submodule(place), last)


def _plain(value: Any, places: Mapping[fx.Node, int]) -> Any:
    """An argument as JSON."""
    if isinstance(value, fx.Node):
        return {"step": places[value]}
    if isinstance(value, list | tuple):
        return [_plain(one, places) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for kind, type_ in KINDS.items():
        if isinstance(value, type_):
            return {kind: str(value).removeprefix("torch.")}
    raise ValueError(f"a step has the argument {value!r}, which is no number")


# --- from data --------------------------------------------------------------------------------------------------------
def made(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> fx.GraphModule:
    """The network again. Raises ValueError for steps that :func:`told` does not tell."""
    graph, nodes = fx.Graph(), []
    for step in data["steps"]:
        if "input" in step:
            node = graph.placeholder("x")
        elif "tensor" in step:
            if step["tensor"] not in tensors or not re.fullmatch(r"t\d+", step["tensor"]):
                raise ValueError(f"a step wants the tensor {step['tensor']!r}, and there is none")
            node = graph.get_attr(step["tensor"])
        else:
            op, known = op_of(step["op"]), step.get("named", {})
            check_names(op, known)  # fx writes them into the source that it runs
            arguments = tuple(_argument(one, nodes) for one in step["args"])
            node = graph.call_function(op, arguments, {name: _argument(one, nodes) for name, one in known.items()})
        nodes.append(node)
    graph.output(nodes[data["answer"]])
    return fx.GraphModule(dict(tensors), graph)


def op_of(name: str) -> Callable:
    """Python's or torch's. Raises ValueError for any that does more than compute with its tensors."""
    importlib.import_module(LIBRARY)
    if name in BUILTIN:
        return BUILTIN[name]
    space, _, rest = name.partition(".")
    found = re.fullmatch(r"([a-z]\w*)\.(\w+)", rest)  # what begins with _ may read beyond its tensors
    op = found and space in SPACES and getattr(getattr(getattr(torch.ops, space), found[1], None), found[2], None)
    if not isinstance(op, torch._ops.OpOverload) or not _computes(op, found[1]):
        raise ValueError(f"it has the step {name!r}, which is none that a run's file may have")
    return op


def _computes(op: torch._ops.OpOverload, name: str) -> bool:
    """Whether an op has tensors to compute with, and neither reads files nor changes what a tensor's memory is."""
    arguments = op._schema.arguments
    tensors = any("Tensor" in str(one.type) for one in arguments)
    named = any(one.name in ("filename", "storage", "source") for one in arguments)
    return (
        tensors
        and not named
        and not name.startswith(("empty", "new_empty", "set_", "resize", "as_strided", "record_stream"))
    )


def check_names(op: Callable, named: Any) -> None:
    """Raises ValueError for arguments that an op does not have."""
    known = {one.name for one in op._schema.arguments} if isinstance(op, torch._ops.OpOverload) else set()
    for name in named if isinstance(named, dict) else [named]:
        if name not in known:
            raise ValueError(f"a step of {op} has the argument {str(name)[:40]!r}, which is none of its own")


def _argument(value: Any, nodes: list[fx.Node]) -> Any:
    if isinstance(value, list):
        return [_argument(one, nodes) for one in value]
    if not isinstance(value, dict):
        return value
    (kind, one), *others = value.items()
    if kind == "step" and not others:
        return nodes[one]
    found = getattr(torch, str(one), None)
    if others or kind not in KINDS or not isinstance(found, KINDS[kind]):
        raise ValueError(f"a step has the argument {value!r}, which is no number")
    return found
