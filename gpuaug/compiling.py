"""What the methods of a pipeline become in a graph that torch.compile or torch.export makes: operators, see `operator`.

Imported only while they trace: importing torch._dynamo takes a second.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import _disable_current_modes

from .backends import select
from .barriers import name_of, stops
from .inputs import check_images, check_labels, children_of, is_fake
from .lowering import lower
from .mixing import Mix
from .operator import find, views_in
from .params import Params, check_params, one_view
from .program import Canvas, Program
from .recipe import frames_of, is_channels_last

_orders: dict[torch.device, torch.Tensor] = {}


SOME_CANVASES = frozenset({(3001, 4001), (4000, 3000), (5003, 5003), (6007, 3011)})
NO_PLACE = "cannot stand in a graph of torch.compile or torch.export"


class Device(NamedTuple):
    """Of images, what the choice of a backend looks at."""

    device: torch.device

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"


class Call(NamedTuple):
    """A call in a graph.

    Attributes:
        images: [C, H, W], [B, C, H, W] or [B, T, C, H, W].
        grad: whether its result is differentiable.
        number: the pipeline's.
        promise: shape and dtype of the output, and whether its channels stand last.
        asked: ids, epoch, views, view, index.
    """

    images: torch.Tensor
    grad: bool
    number: int
    program: Program
    promise: tuple
    asked: dict


def forward(pipeline, images, labels, ids, epoch, views, view, index):
    """`Compose.forward`."""
    asked = dict(ids=ids, epoch=epoch, views=views, view=view, index=index)
    call = _call(pipeline, images, asked)
    if views is not None and view is not None:
        call = "views= asks for several views and view= for one; give one of the two"
    mix = None if labels is None or isinstance(call, str) else call.program.mix
    mixes = mix is not None and mix.pair is not None
    classes = _classes(labels, mix, images.dim() == 3) if mixes else None
    if isinstance(classes, str):
        call = classes
    if isinstance(call, str):
        return _outside(call, pipeline.forward, images, labels, **asked)
    if labels is None:
        return _augment(call)
    check_labels(labels, images.dim() == 3)
    if not mixes:
        return _augment(call), labels
    table = _sample(call)
    soft = torch.ops.gpuaug.soft_labels(labels, images.detach(), table, index, call.number, classes)
    return _apply(call, table), soft


def views_of(pipeline, images, asked, ids, epoch, index):
    """`Compose.views_of`."""
    views, view = (None, asked.view) if asked.views is None else (len(asked.views), asked.views[0])
    call = _call(pipeline, images, dict(ids=ids, epoch=epoch, views=views, view=view, index=index))
    if isinstance(call, str):
        return _outside(call, pipeline.views_of, images, asked, ids=ids, epoch=epoch, index=index)
    return _augment(call)


def _classes(labels, mix: Mix, single: bool) -> int | str:
    """How many classes the labels have, or why they cannot be mixed in a graph."""
    if not isinstance(labels, torch.Tensor):
        return f"{type(labels).__name__} as labels that are mixed {NO_PLACE}; give a tensor"
    if labels.dim() == 2 - single:
        return labels.shape[-1]
    if mix.num_classes is None:
        return "hard labels become soft where a pipeline mixes: pass num_classes= to MixUp or CutMix"
    return mix.num_classes


def sample(pipeline, images, ids, epoch, views, view, index):
    """`Compose.sample`."""
    asked = dict(ids=ids, epoch=epoch, views=views, view=view, index=index)
    call = _call(pipeline, images, asked, sized=True)
    if isinstance(call, str):
        return _outside(call, pipeline.sample, images, **asked)
    frames = operator.index(images.shape[1]) if images.dim() == 5 else None
    return Params(_sample(call), call.program.columns, call.program, _sizes(call), frames)


def apply(pipeline, images, params, out, view, index):
    """`Compose.apply`."""
    table = params.table if view is None else one_view(params, view)
    call = f"a buffer given as out= {NO_PLACE}"
    if out is None:
        call = _call(pipeline, images, dict(views=views_in(table), index=index), sized=True)
    if isinstance(call, str):
        return _outside(call, pipeline.apply, images, params, out=out, view=view, index=index)
    sizes = _sizes(call)
    draws = (len(sizes),) if table.dim() == 2 else (table.shape[0], len(sizes))
    check_params(params, table, call.program, draws, sizes)
    return _apply(call, table)


def break_for(function: Callable, name: str, *args, **keywords):
    """A function of `functional`: it breaks the graph."""
    return _outside(f"{name}: functions of gpuaug's {NO_PLACE}; a Compose can", function, *args, **keywords)


def reason_against(images, ids=None, epoch=None, views=None, view=None, index=None) -> str | None:
    """None, or why a call with such arguments cannot stand in a graph; outside of graphs it may well do."""
    if type(images) is not torch.Tensor and not is_fake(images):
        return f"{type(images).__name__} as images {NO_PLACE}; give a tensor"
    if images.dim() not in (3, 4, 5):
        return f"images must be [B, C, H, W], [C, H, W] or clips [B, T, C, H, W], got {images.dim()} axes"
    for name, value in (("ids", ids), ("index", index)):
        if not (value is None or isinstance(value, torch.Tensor)):
            return f"{type(value).__name__} as {name} {NO_PLACE}, which would be made anew for others; give a tensor"
    if isinstance(epoch, torch.Tensor):
        return f"a tensor as epoch {NO_PLACE}; give a whole number, or call set_epoch()"
    if views is not None and not views > 0:
        return f"views must be at least 1, got {views}"
    if index is not None and (images.dim() == 3 or index.dim() != 1):
        return f"index must be int64 [B] and take images of [N, C, H, W] or [N, T, C, H, W], got {images.dim()} axes"
    return None


def _call(pipeline, images, asked: dict, sized: bool = False) -> Call | str:
    """The call, or why it cannot stand in a graph; `sized`: made for images of one size alone."""
    if reason := reason_against(images, **asked):
        return reason
    grad = images.requires_grad and torch.is_grad_enabled()
    number = pipeline._number
    for transform in pipeline.transforms:
        id(transform)  # a graph is made anew where another stands in its place
    frames = operator.index(images.shape[1]) if images.dim() == 5 else None
    kind = operator.index(images.shape[-3]), frames, images.dtype, images.device, grad
    made = None if sized else gpuaug_program(number, None, *kind)
    if made is None:
        made = gpuaug_program(number, _canvas(images), *kind)
    if isinstance(made, str):
        return made
    program, shape, dtype = made
    last = is_channels_last(images if images.dim() > 3 else images[None], pipeline._memory_format)
    return Call(images, grad, number, program, (shape, dtype, last), asked)


def _canvas(images: torch.Tensor) -> Canvas:
    """Height and width, as numbers that the graph is made for."""
    return operator.index(images.shape[-2]), operator.index(images.shape[-1])


def _sizes(call: Call) -> tuple[Canvas, ...]:
    """Each sample's (H, W); the graph is made for so many samples."""
    chosen = call.asked["index"]
    b = len(chosen) if chosen is not None else 1 if call.images.dim() == 3 else call.images.shape[0]
    return (_canvas(call.images),) * operator.index(b)


@torch.compiler.assume_constant_result
def gpuaug_program(number: int, canvas: Canvas | None, channels: int, frames: int | None, dtype, device, grad: bool):
    """What a pipeline makes of such images: a program, shape and dtype of an output; or why it cannot, as text.
    torch.compile keeps it by this name, among the globals of the function that is compiled.

    Args:
        canvas: None for images of any size; then the result is None where the outputs have not one size, too. A size
            that the program cannot take is refused when the graph runs.
        frames: of clips.
    """
    with _disable_current_modes():
        try:
            made = _made(find(number), canvas, channels, () if frames is None else (frames,), dtype, device, grad)
        except (TypeError, ValueError, RuntimeError) as error:
            made = str(error)
    return None if canvas is None and isinstance(made, str) else made


def _made(pipeline, canvas: Canvas | None, channels: int, clip: tuple[int, ...], dtype, device, grad: bool):
    transforms = children_of("Compose", pipeline.transforms)
    if pipeline._recipes.is_staged(pipeline.transforms):
        name = next(name_of(child) for child in transforms if stops(child))
        return f"a pipeline with a callable, {name}, {NO_PLACE}"
    if canvas is not None:
        check_images("Compose", torch.empty((1, *clip, channels, *canvas), dtype=dtype, device="meta"))
    program = lower(transforms, SOME_CANVASES if canvas is None else frozenset({canvas}), channels, dtype)
    if canvas is not None:
        select(program, Device(device), pipeline.backend, grad)
    if program.out_size is None:
        return f"an output whose size is drawn {NO_PLACE}; end the pipeline with an op of fixed size, as Resize((H, W))"
    frames = frames_of(program, clip)
    return program, (*([len(frames)] if clip else []), program.out_channels, *program.out_size), program.out_dtype


def _order(images: torch.Tensor) -> torch.Tensor:
    """What operators claim to write to, so that calls in one graph keep their order."""
    if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
        return _order_on(images.device)
    return torch.empty(0, device=images.device)  # an exported program may not write to constants


@torch.compiler.assume_constant_result
def _order_on(device: torch.device) -> torch.Tensor:
    if device not in _orders:
        with torch.inference_mode(False):
            _orders[device] = torch.zeros(1, device=device)
        torch._dynamo.mark_static_address(_orders[device])  # else inductor makes no CUDA graph of what writes to it
    return _orders[device]


def _augment(call: Call) -> torch.Tensor:
    if call.grad:
        return _apply(call, _sample(call))
    images, order = call.images.detach(), _order(call.images)
    return torch.ops.gpuaug.augment(images, order, call.number, *call.promise, **call.asked)


def _sample(call: Call) -> torch.Tensor:
    columns, order = len(call.program.columns), _order(call.images)
    return torch.ops.gpuaug.sample(call.images.detach(), order, call.number, columns, call.grad, **call.asked)


def _apply(call: Call, table: torch.Tensor) -> torch.Tensor:
    return torch.ops.gpuaug.apply(call.images, table, call.asked["index"], call.number, *call.promise, call.grad)


def _outside(reason: str, method: Callable, *args, **keywords):
    """Call a method outside of the graphs that torch.compile makes.

    Raises:
        RuntimeError: the reason, in torch.export; with fullgraph=True torch.compile raises an error that quotes it.
    """
    if not torch.compiler.is_dynamo_compiling() or torch.compiler.is_exporting():
        raise RuntimeError(reason)
    torch._dynamo.graph_break(msg=reason)
    return uncompiled(method, *args, **keywords)


@torch.compiler.disable(reason="a gpuaug function breaks the graph: it is compiled already")
def uncompiled(function: Callable, *args, **keywords):
    """Call a function; nothing in it is compiled."""
    return function(*args, **keywords)
