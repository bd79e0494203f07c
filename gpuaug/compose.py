"""Compose: a pipeline that draws, applies, describes and explains itself."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from . import backends
from .backends.engine import Key
from .explain import explain
from .inputs import NO_EXPORT, as_images, check_labels, check_out, check_pixels, children_of, moved
from .keys import EPOCHS, Keys, as_ids, whole
from .memory import no_memory
from .messages import warn
from .mixing import mixable, partner
from .program import Canvas, Program
from .recipe import Recipe, Recipes

FORMATS = (torch.contiguous_format, torch.channels_last, torch.preserve_format)


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
        arguments}; what did not act is absent. What MixUp and CutMix did is {"op", "partner", "lam"} and CutMix's
        "box". Reads the table from the device.

        Raises:
            ValueError: a table, made by hand, with values that are not finite.
        """
        row, mix, n = self.table[i].tolist(), self.program.mix, len(self)
        for name, value in zip(self.columns, row, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"describe: sample {i} has {name} = {value}, which no call takes")
        other = None if mix is None else partner(i % n, n, mix.pair)
        return self.program.describe(row, self.canvas, None if other == i % n else other)

    def __len__(self) -> int:
        return self.table.shape[0]


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
        self._keys = Keys(int.from_bytes(os.urandom(6), "little") if seed is None else seed)
        self._recipes, self._warned = Recipes(), set()
        self.backend, self.memory_format, self.check = backend, memory_format, check

    @property
    def seed(self) -> int:
        """Of all draws: a whole number 0 .. 2^64 - 1."""
        return self._keys.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._keys.seed = seed

    @property
    def epoch(self) -> int | None:
        """Part of every draw's key, 0 .. 2^32 - 1; None counts as 0. DataLoader workers follow the process that made
        the pipeline."""
        return self._keys.epoch

    @epoch.setter
    def epoch(self, epoch: int | None) -> None:
        self._keys.epoch = epoch

    @property
    def backend(self) -> str:
        """ "auto", "triton", "kornia" or "cpu"."""
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        if backend not in backends.NAMES:
            raise ValueError(f"backend must be one of {', '.join(backends.NAMES)}, got {backend!r}")
        self._backend = backend
        self._recipes.forget()

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the output."""
        return self._memory_format

    @memory_format.setter
    def memory_format(self, memory_format: torch.memory_format) -> None:
        if memory_format not in FORMATS:
            raise ValueError(
                f"memory_format must be contiguous_format, channels_last or preserve_format, got {memory_format}"
            )
        self._memory_format = memory_format
        self._recipes.forget()

    def forward(self, images, labels=None, *, ids=None, epoch: int | None = None):
        """Augment a batch.

        Args:
            images: uint8, float16, bfloat16 or float32, [B, C, H, W] or [C, H, W], any strides, any device.
            labels: handed through beside the images: [B] or [B, K], or a list. Where the pipeline mixes, they become
                soft: float32 [B, K].
            ids: the samples' ids in the data set: whole numbers of 64 bits, a tensor [B] or a sequence.
            epoch: overrides `set_epoch`.

        Returns:
            The images, or (images, labels) if labels were given.
        """
        if torch.compiler.is_dynamo_compiling():
            return outside_the_graph(self.forward, images, labels, ids=ids, epoch=epoch)
        images, recipe = self.take(images)
        if labels is not None:
            check_labels(labels, images)
            labels = labels if recipe.mixing is None else mixable(labels, recipe.mixing.mix, images)
        out = self._allocate(recipe, images.device)
        key = self._draw_keys(recipe, images.device, ids, epoch)
        if recipe.shape[0]:
            plans = recipe.engine.plan(recipe.rows, None, key)
            recipe.engine.write(images, recipe.rows, plans, out, recipe.outputs)
        if labels is not None and recipe.mixing is not None:
            labels = recipe.mixing.soft(labels, plans.table if recipe.shape[0] else recipe.table(images.device))
            labels = labels if images.dim() == 4 else labels[0]
        out = out if images.dim() == 4 else out[0]
        return out if labels is None else (out, labels)

    def sample(self, images, *, ids=None, epoch: int | None = None) -> Params:
        """Draw for a batch without touching its pixels; arguments as for the call."""
        if torch.compiler.is_dynamo_compiling():
            return outside_the_graph(self.sample, images, ids=ids, epoch=epoch)
        images, recipe = self.take(images)
        key = self._draw_keys(recipe, images.device, ids, epoch)
        table, program = recipe.table(images.device), recipe.program
        if recipe.shape[0]:
            table = recipe.engine.plan(recipe.rows, table, key).table
        return Params(table, program.columns, program, recipe.canvas)

    def apply(self, images, params: Params, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Apply what was drawn. Pure: the same images and params give the same result.

        Args:
            params: drawn by this pipeline, or one that draws the same, for as many images of the same size.
            out: a buffer for the result, of its shape, dtype and device, with any strides; it shares no memory with the
                images.
        """
        if torch.compiler.is_dynamo_compiling():
            return outside_the_graph(self.apply, images, params, out=out)
        images, recipe = self.take(images)
        if params.program is not recipe.program or params.table.shape != (recipe.shape[0], len(params.columns)):
            _check_params(recipe, params)
        return self.replay(images, recipe, params.table, out)

    def replay(
        self, images: torch.Tensor, recipe: Recipe, table: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`apply`, where images and recipe are those of `take`, and the table is one for them."""
        b = recipe.shape[0]
        shape = (b, recipe.program.out_channels, *recipe.program.out_size)
        if out is None:
            batch = self._allocate(recipe, images.device)
        else:
            check_out(out, shape if images.dim() == 4 else shape[1:], recipe.program.out_dtype, images)
            batch = out if out.dim() == 4 else out[None]
        if b:
            plans = recipe.engine.plan(recipe.rows, moved(table, images.device, torch.float32).contiguous())
            recipe.engine.write(images, recipe.rows, plans, batch, recipe.outputs)
        return batch if images.dim() == 4 else batch[0]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is part of every draw's key: 0 .. 2^32 - 1."""
        self.epoch = whole("epoch", epoch, EPOCHS)

    def explain(self, images: torch.Tensor) -> str:
        """What these images would go through: slots, launches, bytes, and the backends with their reasons."""
        images, recipe = self.take(images)
        return explain(recipe.program, images, recipe.module.__name__.rsplit(".", 1)[-1], self.backend)

    def lower(self, build) -> None:
        """As part of another pipeline: its ops in a row; seed, backend and format are the outer one's."""
        for index, transform in enumerate(self.transforms):
            with build.op(index, transform):
                transform.lower(build)

    def take(self, images) -> tuple[torch.Tensor, Recipe]:
        """Images as a plain tensor, and their recipe."""
        if torch.jit.is_tracing():
            raise RuntimeError(NO_EXPORT)
        if type(images) is not torch.Tensor or images.is_neg():
            images = as_images(images)
        recipe = self.recipe(images)
        if recipe.copies:
            images = images.contiguous()
            recipe = self.recipe(images)
        if self.check:
            check_pixels(images)
        return images, recipe

    def recipe(self, images: torch.Tensor) -> Recipe:
        """What is needed to run this pipeline on such images."""
        return self._recipes.of(self.transforms, images, self._backend, self._memory_format)

    def _allocate(self, recipe: Recipe, device: torch.device) -> torch.Tensor:
        program = recipe.program
        shape = (recipe.shape[0], program.out_channels, *program.out_size)
        try:
            return recipe.module.allocate(shape, program.out_dtype, device, recipe.format)
        except (RuntimeError, MemoryError, ValueError):
            if device.type != "cpu":
                raise
            raise no_memory(program, shape[0]) from None

    def _draw_keys(self, recipe: Recipe, device: torch.device, ids, epoch: int | None) -> Key:
        """What the samples' draws are keyed by, on the device."""
        epoch = self._keys.epoch if epoch is None else whole("epoch", epoch, EPOCHS)
        if ids is None:
            return Key(None, epoch or 0, self._keys.of_counted(device))
        b = recipe.shape[0]
        given, ids = ids, as_ids(ids, device, b)
        if epoch is None:
            self._warn_once("ids without an epoch repeat the same draws in each epoch; pass epoch= or call set_epoch()")
        if b > 1 and ids.device.type == "cpu" and not isinstance(given, range) and len(set(ids.tolist())) < b:
            self._warn_once("ids repeat within a batch: equal ids get equal draws")
        return Key(ids, epoch or 0, self._keys.of_ids(device))

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message)

    def get_extra_state(self) -> torch.Tensor:
        """Seed, epoch and the number of samples counted so far, int64 [3] on the CPU: what a resumed run needs."""
        return self._keys.saved()

    def set_extra_state(self, state: torch.Tensor | dict) -> None:
        """Resume from `get_extra_state`, or from the dict that it was in versions before."""
        self._keys.resume(state)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        key = prefix + "_extra_state"
        if key not in state_dict:
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        del state["_recipes"], state["_warned"]
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._recipes, self._warned = Recipes(), set()

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


def _check_params(recipe: Recipe, params: Params) -> None:
    """Raise on params of another pipeline, batch or size."""
    columns = recipe.program.columns
    found, needs = tuple(params.table.shape), (recipe.shape[0], len(columns))
    if found != needs:
        raise ValueError(
            f"params hold a table of {found}, and this pipeline and batch need {needs}; draw them by sample()"
        )
    for theirs, own in zip(params.columns, columns, strict=True):
        if theirs != own:
            raise ValueError(f"params were drawn by another pipeline: {theirs} stands for {own}; draw them by sample()")
    if params.canvas != recipe.canvas:
        (h, w), (own_h, own_w) = params.canvas, recipe.canvas
        raise ValueError(
            f"params were drawn for images of {h}x{w}, and these are {own_h}x{own_w}; draw them by sample()"
        )


def outside_the_graph(method: Callable, *args, **keywords):
    """Call a method as torch.compile leaves it: with the graph broken in front of it."""
    if torch.compiler.is_exporting():
        raise RuntimeError(NO_EXPORT)
    from .uncompiled import run

    return run(method, *args, **keywords)
