"""What a call needs beside the images, in two levels.

A kind of input (its channels, dtype and device, and what of its size the backend's engine depends on) has a program and
an engine. A batch (its shape and strides) has a recipe: those two, and its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from . import backends
from .backends.engine import Engine
from .inputs import check_images, children_of
from .kernels.shared import plan
from .lowering import lower
from .memory import check_memory
from .mixing import Mixing, mixing_of
from .program import Canvas, Program

KEPT_RECIPES = 64
KEPT_ENGINES = 32


@dataclass(eq=False)
class Recipe:
    """All that batches of one shape, with one set of strides, need; `copies` says to use contiguous copies of them;
    `mixing` is None where nothing is mixed."""

    program: Program
    module: ModuleType
    engine: Engine
    rows: torch.Tensor
    mixing: Mixing | None
    shape: tuple[int, ...]
    canvas: Canvas
    format: torch.memory_format
    copies: bool

    @property
    def outputs(self) -> torch.Tensor | None:
        """As `engine.Engine.write` takes them."""
        return None if self.mixing is None else self.mixing.outputs

    def table(self, device: torch.device) -> torch.Tensor:
        """A table for the batch, not initialised."""
        return torch.empty((self.shape[0], len(self.program.columns)), dtype=torch.float32, device=device)


class Recipes:
    """What a pipeline has worked out for its inputs; of recipes, engines and programs the last ones are kept.

    Attributes:
        captured: the recipes that CUDA graphs read, for good.
    """

    def __init__(self):
        self.captured: list[Recipe] = []
        self.forget()

    def forget(self) -> None:
        """Begin without any at the next call, as the backend or the format has changed."""
        self._transforms: list | None = None

    def of(self, transforms: list, images: torch.Tensor, backend: str, memory_format: torch.memory_format) -> Recipe:
        """The recipe for such images: made at the first call, then looked up."""
        if transforms != self._transforms or (self._nested and any(c.transforms != seen for c, seen in self._nested)):
            self._start_over(transforms)
        grad = images.requires_grad and torch.is_grad_enabled()
        key = (images.shape, images.dtype, images.device, images.stride(), grad)
        recipe = self._recipes.get(key)
        if recipe is None:
            recipe = self._recipes[key] = self._new(images, backend, memory_format, grad)
            _drop_oldest(self._recipes, KEPT_RECIPES)
        if capturing(images) and recipe not in self.captured:
            self.captured.append(recipe)
        return recipe

    def _start_over(self, transforms: Sequence) -> None:
        """Forget what was made of the transforms, or of the format and the backend, as they were."""
        children_of("Compose", transforms)
        self._recipes: dict[tuple, Recipe] = {}
        self._engines: dict[tuple, Engine] = {}
        self._programs: list[Program] = []
        pipelines = (t for t in _within(transforms) if isinstance(t, torch.nn.Module) and hasattr(t, "transforms"))
        self._nested = [(pipeline, list(pipeline.transforms)) for pipeline in pipelines]
        self._transforms = list(transforms)

    def _new(self, images: torch.Tensor, backend: str, memory_format: torch.memory_format, grad: bool) -> Recipe:
        check_images("Compose", images)
        batch = images if images.dim() == 4 else images[None]
        b, c, h, w = batch.shape
        program = self._program((h, w), c, images.dtype)
        check_memory(program, b, images.device)
        module = backends.select(program, images, backend, grad)
        engine = self._engine(program, module, images.device)
        last = memory_format == torch.channels_last
        if memory_format == torch.preserve_format:
            last = not batch.is_contiguous() and batch.is_contiguous(memory_format=torch.channels_last)
        memory_format = torch.channels_last if last else torch.contiguous_format
        spread = batch.expand(-1, program.channels, -1, -1) if c == 1 else batch
        rows = batch_rows(spread, program.out_channels * math.prod(program.out_size))
        rows, mixing = mixing_of(program, rows, b, images.device)
        rows, copies = rows.to(images.device), w * batch.stride(3) >= 2**31  # a row is addressed by 32 bits
        return Recipe(program, module, engine, rows, mixing, tuple(batch.shape), (h, w), memory_format, copies)

    def _program(self, canvas: Canvas, channels: int, dtype: torch.dtype) -> Program:
        """The program for images of a size: one made for another size, where it is the same for this one."""
        canvases = frozenset({canvas})
        for known in self._programs:
            if (known.in_channels, known.in_dtype) == (channels, dtype) and (program := known.at(canvases)):
                return program
        program = lower(self._transforms, canvases, channels, dtype)
        self._programs = [program, *self._programs][:KEPT_ENGINES]
        return program

    def _engine(self, program: Program, module: ModuleType, device: torch.device) -> Engine:
        key = (program.facts, module, device, module.size_key(program))
        engine = self._engines.pop(key, None) or module.Engine(program, device)
        self._engines[key] = engine  # the one used last stands last
        for old in _drop_oldest(self._engines, KEPT_ENGINES):
            self._recipes = {key: recipe for key, recipe in self._recipes.items() if recipe.engine is not old}
        return engine


def capturing(images: torch.Tensor) -> bool:
    """Whether what is done with the images now becomes part of a CUDA graph."""
    return images.is_cuda and torch.cuda.is_current_stream_capturing()


def batch_rows(batch: torch.Tensor, out_elements: int) -> torch.Tensor:
    """`rows` (`kernels.shared.plan.ROW_*`) of a batch [B, C, H, W]: image i is sample i, table row i and output i."""
    b, _, h, w = batch.shape
    first, step = np.zeros((2, plan.ROW), np.int64)
    first[[plan.ROW_H, plan.ROW_W]] = h, w
    stride_n, *strides = batch.stride()
    first[[plan.ROW_STRIDE_C, plan.ROW_STRIDE_Y, plan.ROW_STRIDE_X]] = strides
    step[[plan.ROW_SOURCE, plan.ROW_SAMPLE, plan.ROW_TABLE, plan.ROW_OUT]] = stride_n, 1, 1, out_elements
    return torch.from_numpy(first + np.arange(b, dtype=np.int64)[:, None] * step)


def _drop_oldest(kept: dict, most: int) -> list:
    """Leave the last `most` entries; threads that arrive together may each have made one. Returns what was dropped."""
    return [kept.pop(key, None) for key in list(kept)[:-most]]


def _within(transforms: Sequence) -> Iterator[Any]:
    """All ops of a list, and those inside of them."""
    for transform in transforms:
        yield transform
        yield from _within(getattr(transform, "transforms", ()))
