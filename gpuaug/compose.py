"""Compose: a pipeline that draws, applies, describes and explains itself."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from . import backends
from .explain import explain
from .images import check_images, check_memory
from .kernels import plan, torch_dialect
from .lowering import lower
from .messages import warn
from .program import Canvas, Program
from .transforms.containers import children_of

MASK = 0xFFFFFFFF
KEPT_RECIPES = 64


@dataclass(frozen=True)
class Params:
    """What a pipeline drew for a batch.

    Attributes:
        table: float32 [B, P], a row a sample.
        columns: P names, "2.RandomAffine.angle". A column of an op that did not act holds 0.
    """

    table: torch.Tensor
    columns: tuple[str, ...]
    program: Program
    canvas: Canvas

    def describe(self, i: int) -> list[dict]:
        """The functional calls that sample `i` gets, in order.

        Each is {"op": class name, "call": name in torchvision.transforms.v2.functional, "kwargs": all of its
        arguments}; what did not act is absent. Reads the table from the device.
        """
        return self.program.describe(self.table[i].tolist(), self.canvas)

    def __len__(self) -> int:
        return self.table.shape[0]


@dataclass
class Recipe:
    """All that one kind of input needs, worked out once: its program, its engine, and the rows of its batch."""

    program: Program
    module: object
    engine: object
    rows: torch.Tensor
    shape: tuple[int, ...]
    canvas: Canvas
    format: torch.memory_format


class Compose(nn.Module):
    """A pipeline of augmentations for a batch, in which each sample has its own draw.

    Args:
        transforms: descriptions from `gpuaug`, applied in order.
        seed: makes the draws reproducible; None takes one from the operating system, and `repr` shows it.
        backend: "auto", "triton", "kornia" or "cpu". auto takes triton for CUDA tensors, cpu for CPU tensors, and
            kornia where neither can run (it warns once and says why) or where the input requires grad.
        memory_format: of the output: torch.contiguous_format, torch.channels_last, or torch.preserve_format.
        check: look at the pixels of each batch and raise on NaN, or on floats outside of [0, 1]. On a GPU this waits
            for it.

    A draw is a pure function of (seed, epoch, sample id, op, column): with `ids`, a sample gets the same draw in any
    batch, order, worker and on any backend. Without, the pipeline counts samples; rank, DataLoader worker and the
    loader's seed are part of the key.
    """

    def __init__(
        self,
        transforms: Sequence,
        *,
        seed: int | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.preserve_format,
        check: bool = False,
    ):
        super().__init__()
        self.transforms = list(children_of("Compose", transforms))
        if backend not in backends.NAMES:
            raise ValueError(f"backend must be one of {', '.join(backends.NAMES)}, got {backend!r}")
        if memory_format not in (torch.contiguous_format, torch.channels_last, torch.preserve_format):
            raise ValueError(
                f"memory_format must be contiguous_format, channels_last or preserve_format, got {memory_format}"
            )
        if seed is not None and not isinstance(seed, int):
            raise TypeError(f"seed must be an int or None, got {seed!r}")
        self.seed = int.from_bytes(os.urandom(6), "little") if seed is None else seed
        self.backend, self.memory_format, self.check = backend, memory_format, check
        self.epoch: int | None = None
        self._counter = 0
        self._forget()

    def _forget(self) -> None:
        self._recipes: dict[tuple, Recipe] = {}
        self._engines: dict[tuple, object] = {}
        self._states: dict[tuple, torch.Tensor] = {}
        self._warned = False

    def forward(self, images, labels=None, *, ids=None, epoch: int | None = None):
        """Augment a batch.

        Args:
            images: uint8, float16, bfloat16 or float32, [B, C, H, W] or [C, H, W], any strides, any device.
            labels: handed through beside the images.
            ids: int64 [B], the samples' ids in the data set (a tensor, or a sequence of ints).
            epoch: overrides `set_epoch`.

        Returns:
            The images, or (images, labels) if labels were given.
        """
        recipe = self.recipe(images)
        out = self._allocate(recipe, images.device)
        ids, state = self._keys(recipe, images.device, ids, epoch)
        if recipe.shape[0]:
            b = recipe.shape[0]
            recipe.engine.draw_and_run(images, recipe.rows, b, ids, self._epoch(epoch), state, out)
        out = out if images.dim() == 4 else out[0]
        return out if labels is None else (out, labels)

    def sample(self, images, *, ids=None, epoch: int | None = None) -> Params:
        """Draw for a batch without touching its pixels; arguments as for the call."""
        recipe = self.recipe(images)
        ids, state = self._keys(recipe, images.device, ids, epoch)
        b, program = recipe.shape[0], recipe.program
        if b:
            table = recipe.engine.draw(recipe.rows, b, ids, self._epoch(epoch), state)
        else:
            table = torch.zeros((0, len(program.columns)), device=images.device)
        return Params(table, program.columns, program, recipe.canvas)

    def apply(self, images, params: Params, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Apply what was drawn. Pure: the same images and params give the same result.

        Args:
            out: a buffer for the result, of its shape, dtype and device, with any strides.
        """
        recipe = self.recipe(images)
        b, columns = recipe.shape[0], len(recipe.program.columns)
        if tuple(params.table.shape) != (b, columns) or params.columns != recipe.program.columns:
            raise ValueError(
                f"params hold a table of {tuple(params.table.shape)} with the columns {params.columns}, but this "
                f"pipeline and batch need {(b, columns)} with {recipe.program.columns}; draw them by sample()"
            )
        shape = (b, recipe.program.out_channels, *recipe.program.out_size)
        shape = shape if images.dim() == 4 else shape[1:]
        if out is None:
            batch = self._allocate(recipe, images.device)
        elif tuple(out.shape) != shape or out.dtype != recipe.program.out_dtype or out.device != images.device:
            expected = f"{shape} {recipe.program.out_dtype} on {images.device}"
            raise ValueError(f"out must be {expected}, got {tuple(out.shape)} {out.dtype} on {out.device}")
        else:
            batch = out if out.dim() == 4 else out[None]
        if b:
            recipe.engine.run(images, recipe.rows, params.table.to(images.device, torch.float32), batch)
        return batch if images.dim() == 4 else batch[0]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is part of every draw's key."""
        self.epoch = int(epoch)

    def explain(self, images: torch.Tensor) -> str:
        """What these images would go through: slots, launches, bytes, and the backends with their reasons."""
        recipe = self.recipe(images)
        return explain(recipe.program, images, recipe.module.__name__.rsplit(".", 1)[-1], self.backend)

    def lower(self, build) -> None:
        """As part of another pipeline: its ops in a row; seed, backend and format are the outer one's."""
        for index, transform in enumerate(self.transforms):
            with build.op(index, transform):
                transform.lower(build)

    def recipe(self, images: torch.Tensor) -> Recipe:
        """What is needed to run this pipeline on such images: made at the first call, then looked up."""
        if not isinstance(images, torch.Tensor):
            check_images("Compose", images)
        grad = images.requires_grad and torch.is_grad_enabled()
        key = (images.shape, images.dtype, images.device, images.stride(), grad)
        recipe = self._recipes.get(key)
        if recipe is None:
            recipe = self._new_recipe(images, grad)
            if len(self._recipes) >= KEPT_RECIPES:
                self._recipes.pop(next(iter(self._recipes)))
            self._recipes[key] = recipe
        if self.check:
            _check_pixels(images)
        return recipe

    def _new_recipe(self, images: torch.Tensor, grad: bool) -> Recipe:
        check_images("Compose", images)
        batch = images if images.dim() == 4 else images[None]
        b, c, h, w = batch.shape
        program = lower(self.transforms, frozenset({(h, w)}), c, images.dtype)
        check_memory(program, b, images.device)
        module = backends.select(program, images, self.backend, grad)
        key = (module.__name__, images.device, (h, w), c, images.dtype)
        if key not in self._engines:
            self._engines[key] = module.Engine(program, images.device)
        last = self.memory_format == torch.channels_last
        if self.memory_format == torch.preserve_format:
            plain = batch.is_contiguous()
            last = not plain and batch.is_contiguous(memory_format=torch.channels_last)
        memory_format = torch.channels_last if last else torch.contiguous_format
        spread = batch.expand(-1, program.channels, -1, -1) if c == 1 else batch
        rows = batch_rows(spread, program.out_channels * math.prod(program.out_size)).to(images.device)
        return Recipe(program, module, self._engines[key], rows, tuple(batch.shape), (h, w), memory_format)

    def _allocate(self, recipe: Recipe, device: torch.device) -> torch.Tensor:
        shape = (recipe.shape[0], recipe.program.out_channels, *recipe.program.out_size)
        return recipe.module.allocate(shape, recipe.program.out_dtype, device, recipe.format)

    def _epoch(self, epoch: int | None) -> int:
        return int(epoch if epoch is not None else self.epoch or 0)

    def _keys(self, recipe: Recipe, device: torch.device, ids, epoch: int | None):
        """The ids as int64 on the device (or None), and the state tensor that goes with them."""
        if ids is None:
            return None, self._counting_state(device)
        if not isinstance(ids, torch.Tensor):
            ids = torch.as_tensor(ids)
        if ids.is_floating_point() and ids.numel():  # an empty list is a float tensor
            raise TypeError(f"ids must be whole numbers, int64 [B], got {ids.dtype}")
        ids = ids.reshape(-1).to(device, torch.int64)
        if ids.shape[0] != recipe.shape[0]:
            raise ValueError(f"ids must hold one id for each of {recipe.shape[0]} samples, got {ids.shape[0]}")
        if epoch is None and self.epoch is None and not self._warned:
            self._warned = True
            warn("ids without an epoch repeat the same draws in each epoch; pass epoch= or call set_epoch()")
        key = ("ids", device)
        state = self._states.get(key)
        if state is None:  # setdefault: threads that arrive together share one
            state = self._states.setdefault(key, new_state(self.seed & MASK, (self.seed >> 32) & MASK, 0, device))
        return ids.contiguous(), state

    def _counting_state(self, device: torch.device) -> torch.Tensor:
        worker = torch.utils.data.get_worker_info()
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        index = device.index or 0
        key = ("counter", device, rank, None if worker is None else (worker.id, worker.seed))
        state = self._states.get(key)
        if state is None:
            low, high = self.seed & MASK, (self.seed >> 32) & MASK
            loader = 0 if worker is None else worker.seed & MASK
            place = 0 if worker is None else worker.id + 1
            a, b, _, _ = torch_dialect.DRAW["philox"](rank, place, loader, index + 1, low, high)
            state = self._states.setdefault(key, new_state(a, b, self._counter, device))
        return state

    def get_extra_state(self) -> dict:
        """Seed, epoch and the number of samples counted so far: what a resumed run needs."""
        counted = [int(s[plan.STATE_COUNTER]) for key, s in self._states.items() if key[0] == "counter"]
        return {"seed": self.seed, "epoch": self.epoch, "counter": max([self._counter, *counted])}

    def set_extra_state(self, state: dict) -> None:
        """Resume from `get_extra_state`."""
        self.seed, self.epoch, self._counter = state["seed"], state["epoch"], state["counter"]
        self._states = {}

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        key = prefix + "_extra_state"
        if key not in state_dict:
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def __getstate__(self) -> dict:
        state = self.__dict__ | {"_counter": self.get_extra_state()["counter"]}
        for name in ("_recipes", "_engines", "_states", "_warned"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._forget()

    def __deepcopy__(self, memo: dict) -> Compose:
        new = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __repr__(self) -> str:
        lines = "".join(f"    {t!r},\n" for t in self.transforms)
        extras = f"seed={self.seed}"
        extras += "" if self.backend == "auto" else f", backend={self.backend!r}"
        extras += "" if self.memory_format == torch.preserve_format else f", memory_format={self.memory_format}"
        extras += ", check=True" if self.check else ""
        return f"Compose([\n{lines}], {extras})" if lines else f"Compose([], {extras})"


def new_state(seed_low: int, seed_high: int, counter: int, device: torch.device) -> torch.Tensor:
    """The state tensor (`kernels.plan.STATE_*`) of a stream of draws."""
    state = torch.zeros(plan.STATE, dtype=torch.int64)
    state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH], state[plan.STATE_COUNTER] = seed_low, seed_high, counter
    return state.to(device)


def batch_rows(batch: torch.Tensor, out_elements: int) -> torch.Tensor:
    """`rows` (`kernels.plan.ROW_*`) of a batch [B, C, H, W]: image i is sample i, table row i and output i."""
    b, _, h, w = batch.shape
    rows = torch.zeros((b, plan.ROW), dtype=torch.int64)
    i = torch.arange(b)
    rows[:, plan.ROW_SOURCE] = i * batch.stride(0)
    rows[:, plan.ROW_H], rows[:, plan.ROW_W] = h, w
    for word, axis in ((plan.ROW_STRIDE_C, 1), (plan.ROW_STRIDE_Y, 2), (plan.ROW_STRIDE_X, 3)):
        rows[:, word] = batch.stride(axis)
    rows[:, plan.ROW_OUT] = i * out_elements
    for word in (plan.ROW_SAMPLE, plan.ROW_TABLE, plan.ROW_PARTNER):
        rows[:, word] = i
    return rows


def _check_pixels(images: torch.Tensor) -> None:
    """Raise on NaN, and on floats outside of [0, 1]. Waits for the device."""
    if not images.is_floating_point() or images.numel() == 0:
        return
    low, high = (float(v) for v in torch.aminmax(images))
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"images of {images.dtype} must lie in [0, 1], got values from {low:g} to {high:g}; "
            "scale them, or use check=False"
        )
