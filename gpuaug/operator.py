"""The operators by which a pipeline stands in a graph of torch.compile or torch.export; nothing traces into them.

A graph holds a pipeline's number, by which the process that made it finds the pipeline, and what the pipeline promised:
shape, dtype and layout of its output, so that fake kernels need no pipeline. All else is asked when the graph runs, as
in any other call: backend, seed, epoch, counter, rank and worker. Operators that draw claim to write to `order`, a
tensor that nobody reads: so no two of their calls are merged, swapped or dropped.

    augment         a call without gradients
    sample, apply   the two halves of a call; `apply` is differentiable with respect to the images
    soft_labels     what becomes of the labels where a pipeline mixes
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from .mixing import mixable
from .recipe import Asked, asked_for, capturing

_LIBRARY = torch.library.Library("gpuaug", "DEF")
_PIPELINES: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_ASKED = "Tensor? ids=None, SymInt? epoch=None, SymInt? views=None, SymInt? view=None, Tensor? index=None"
_PROMISE = "int[] shape, ScalarType dtype, bool channels_last"


def register(pipeline: Any) -> int:
    """A number by which graphs name a pipeline: no other process has it, but those forked from this one."""
    number = int.from_bytes(os.urandom(7), "little")
    _PIPELINES[number] = pipeline
    return number


def find(number: int) -> Any:
    """The pipeline of a number.

    Raises:
        RuntimeError: it lives no longer, or in another process.
    """
    pipeline = _PIPELINES.get(number)
    if pipeline is None:
        raise RuntimeError(
            "this graph's gpuaug pipeline is not here: a compiled or exported program runs in the process that made "
            "it, as long as its pipeline lives; compile or export it again"
        )
    return pipeline


def ready(number: int, images: torch.Tensor, grad: bool = False, **asked: Any) -> Any:
    """The pipeline of a number, ready for such a call.

    On a stream of its own inductor may be about to record a CUDA graph: what is allocated now lies in the graph's
    memory, and must not be kept. So what the pipeline keeps is made before, by a thread whose memory is torch's.
    """
    pipeline, device = find(number), images.device
    if images.is_cuda and torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        index = asked.get("index")
        chosen = asked.get("views"), asked.get("view"), None if index is None else len(index)
        kind = images.shape, images.stride(), images.dtype, device, grad, chosen
        if not capturing(images) and pipeline._recipes.is_new(pipeline.transforms, kind):
            torch.cuda.synchronize(device)
            with ThreadPoolExecutor(1) as thread:
                thread.submit(prepare, pipeline, images, grad, **asked).result()
    return pipeline


def prepare(pipeline: Any, images: torch.Tensor, grad: bool, **asked: Any) -> None:
    """Have the pipeline make all that it keeps for such a call."""
    asked = _asked(**asked)
    with torch.set_grad_enabled(grad):
        images = images.detach().requires_grad_(grad)
        source, recipe = pipeline.take(images, asked["asked"], asked["index"])
        table = pipeline.params_of(images, **asked | dict(ids=range(recipe.samples), epoch=0)).table
    with torch.no_grad():
        pipeline.replay(source, recipe, table)
    pipeline._keys.of_counted(images.device)


def _operator(schema: str) -> Callable:
    """A decorator: the function is an operator's kernel on every device."""

    def define(kernel: Callable) -> Callable:
        name = _LIBRARY.define(schema, tags=(torch.Tag.needs_exact_strides,))
        _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
        return kernel

    return define


@_operator(f"augment(Tensor images, Tensor(a!) order, int pipeline, {_PROMISE}, *, {_ASKED}) -> Tensor")
def augment(images, order, pipeline, shape, dtype, channels_last, **asked) -> torch.Tensor:
    """The images [..., C, H, W] as [..., *shape], clips [..., T, C, H, W] likewise.

    Args:
        asked: as the call; with both, there are `views` from number `view` on.
    """
    pipeline = ready(pipeline, images, **asked)
    return _kept(pipeline.views_of(images, **_asked(**asked)), shape, dtype, channels_last)


@_operator(f"sample(Tensor images, Tensor(a!) order, int pipeline, int columns, bool grad, *, {_ASKED}) -> Tensor")
def sample(images, order, pipeline, columns, grad, **asked) -> torch.Tensor:
    """The table that is drawn, float32 [V, B, columns] or [B, columns]; `grad` says that the images require grad."""
    pipeline = ready(pipeline, images, grad, **asked)
    with torch.set_grad_enabled(grad):
        table = pipeline.params_of(images.detach().requires_grad_(grad), **_asked(**asked)).table.contiguous()
    if table.shape[-1] != columns:
        raise _changed(f"tables of {columns} columns", f"{table.shape[-1]}")
    return table


@_operator(f"apply(Tensor images, Tensor table, Tensor? index, int pipeline, {_PROMISE}, bool grad) -> Tensor")
def apply(images, table, index, pipeline, shape, dtype, channels_last, grad) -> torch.Tensor:
    """As `augment`, as the table says."""
    pipeline = find(pipeline)
    with torch.set_grad_enabled(grad):
        source, recipe = pipeline.take(images.detach().requires_grad_(grad), asked_for(views_in(table), None), index)
    with torch.no_grad():
        return _kept(pipeline.replay(source, recipe, table), shape, dtype, channels_last)


@_operator("apply_backward(Tensor slopes, Tensor images, Tensor table, Tensor? index, int pipeline) -> Tensor")
def apply_backward(slopes, images, table, index, pipeline) -> torch.Tensor:
    """The gradient with respect to the images of `apply`, which is run once more."""
    pipeline, found = find(pipeline), torch.zeros_like(images)
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        out = pipeline.replay(*pipeline.take(leaf, asked_for(views_in(table), None), index), table)
    if out.requires_grad:
        found.copy_(torch.autograd.grad(out, leaf, slopes)[0])
    return found


def views_in(table: torch.Tensor) -> int | None:
    """V of a table [V, B, P], None of [B, P]."""
    return table.shape[0] if table.dim() == 3 else None


@_operator(
    "soft_labels(Tensor labels, Tensor images, Tensor table, Tensor? index, int pipeline, int classes) -> Tensor"
)
def soft_labels(labels, images, table, index, pipeline, classes) -> torch.Tensor:
    """The labels of a batch that is mixed as the table says, float32 [..., classes]."""
    _, recipe = find(pipeline).take(images, asked_for(views_in(table), None), index)
    return recipe.mixing.soft(mixable(labels, recipe), table.view(-1, table.shape[-1]), recipe)


def _asked(ids=None, epoch=None, views=None, view=None, index=None) -> dict[str, Any]:
    """Arguments of `Compose.views_of`."""
    several = views is not None and view is not None
    asked = Asked(views=tuple(range(view, view + views))) if several else asked_for(views, view)
    return dict(asked=asked, ids=ids, epoch=epoch, index=index)


def _changed(promised: str, found: str) -> RuntimeError:
    return RuntimeError(
        f"the pipeline was compiled for {promised}, and now that it has changed makes {found}; "
        "call torch.compiler.reset(), or export it again"
    )


def _kept(out: torch.Tensor, shape: list[int], dtype: torch.dtype, channels_last: bool) -> torch.Tensor:
    """The output in the layout that was promised; raises where it is another's."""
    if not isinstance(out, torch.Tensor) or list(out.shape[-len(shape) :]) != list(shape) or out.dtype != dtype:
        found = "a list" if isinstance(out, list) else f"{[*out.shape[-len(shape) :]]} {out.dtype}"
        raise _changed(f"images of {[*shape]} {dtype}", found)
    flat, memory_format = out.reshape(math.prod(out.shape[:-3]), *shape[-3:]), _format(channels_last)
    if flat.is_contiguous(memory_format=memory_format):
        return out
    return flat.contiguous(memory_format=memory_format).view(out.shape)


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _draws(images, views, index) -> list:
    """The axes of the table in front of its columns: [V,] B."""
    b = len(index) if index is not None else 1 if images.dim() == 3 else images.shape[0]
    return [b] if views is None else [views, b]


def _empty(images, views, index, shape, dtype, channels_last) -> torch.Tensor:
    """Memory for the output, as `run.run` lays it out."""
    samples = images.shape[: images.dim() - len(shape)] if index is None else index.shape
    whole = (*([] if views is None else [views]), *samples, *shape)
    flat = (math.prod(whole[:-3]), *whole[-3:])
    memory = torch.empty(flat, dtype=dtype, device=images.device, memory_format=_format(channels_last))
    return memory.view(whole)


@torch.library.register_fake("gpuaug::augment", lib=_LIBRARY)
def _(images, order, pipeline, *promise, views=None, index=None, **asked) -> torch.Tensor:
    return _empty(images, views, index, *promise)


@torch.library.register_fake("gpuaug::sample", lib=_LIBRARY)
def _(images, order, pipeline, columns, grad, views=None, index=None, **asked) -> torch.Tensor:
    return images.new_empty((*_draws(images, views, index), columns), dtype=torch.float32)


@torch.library.register_fake("gpuaug::apply", lib=_LIBRARY)
def _(images, table, index, pipeline, shape, dtype, channels_last, grad) -> torch.Tensor:
    return _empty(images, views_in(table), index, shape, dtype, channels_last)


@torch.library.register_fake("gpuaug::apply_backward", lib=_LIBRARY)
def _(slopes, images, table, index, pipeline) -> torch.Tensor:
    return torch.empty_like(images)


@torch.library.register_fake("gpuaug::soft_labels", lib=_LIBRARY)
def _(labels, images, table, index, pipeline, classes) -> torch.Tensor:
    draws = table.shape[:-2] if images.dim() == 3 else table.shape[:-1]
    return table.new_empty((*draws, classes))


def _save(ctx, inputs, output) -> None:
    images, table, index, ctx.pipeline, *_ = inputs
    ctx.save_for_backward(images, table, index)


def _backward(ctx, slopes) -> tuple:
    return torch.ops.gpuaug.apply_backward(slopes, *ctx.saved_tensors, ctx.pipeline), *[None] * 7


torch.library.register_autograd("gpuaug::apply", _backward, setup_context=_save, lib=_LIBRARY)
