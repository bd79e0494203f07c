"""What a call needs beside the images, in two levels.

A kind of input (its channels, dtype and device, and what of its size the backend's engine depends on) has a program and
an engine. A batch (its shape and strides, its views) has a recipe: those two, and its rows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from . import backends
from .backends.engine import Engine, Key, Plans
from .barriers import Staged, stops
from .forms import Form, end
from .inputs import check_images, check_list, children_of, moved
from .kernels.shared import plan
from .keys import whole
from .lowering import lower
from .memory import check_memory
from .mixing import Mixing, mixing_of, tiled_table
from .order import within
from .params import Params, check_params
from .program import Canvas, Program
from .rows import SOURCE_WORDS, Listed, batch_rows, by_pointer, framed, gathered, joined, list_rows
from .tree import Canvases

KEPT_RECIPES = 64
KEPT_ENGINES = 32
KEPT_SIZES = 4096
VIEWS = 4096  # a key has 12 bits for the view


class Asked(NamedTuple):
    """What a call asks for beside the images.

    Attributes:
        views: their numbers; None for view 0 without an axis of its own.
        view: the number of the only one.
        count: how many samples an index chooses; None without.
        single: the images are one sample, without an axis of its own.
    """

    views: tuple[int, ...] | None = None
    view: int = 0
    count: int | None = None
    single: bool = False


PLAIN = Asked()


def asked_for(views: int | None, view: int | None) -> Asked:
    """What views a call asks for."""
    if views is None and view is None:
        return PLAIN
    if views is not None and view is not None:
        raise ValueError(f"views={views} asks for views 0 .. {views} - 1 and view={view} for one; give one of the two")
    if views is None:
        return Asked(view=whole("view", view, VIEWS))
    if whole("views", views, VIEWS + 1) == 0:
        raise ValueError("views must be at least 1, got 0")
    return Asked(views=tuple(range(views)))


@dataclass(eq=False)
class Recipe:
    """All that batches of one shape, with one set of strides, need.

    Attributes:
        rows: int64 [V * B * T, ROW]: by view, sample, frame.
        host_rows: the same on the host, without what an index or a draw has changed.
        mixing: None where nothing is blended; `mixes`, whether samples are, and their labels.
        samples: B.
        frames: of a clip of the output; None for images.
        clip: of clips, how many frames those that come in have, and how many elements lie from one to the next.
        lead: the output's axes in front of [C, OH, OW]: [V,] [B,] [T,], without the first two where not asked for.
        sizes: each sample's (H, W).
        out_sizes: each sample's (OH, OW), where they differ; DRAWN where a draw decides.
        copies: what to use are contiguous copies of the images.
        outputs: as `engine.Engine.write` takes them.
        draws_size: a draw decides the output's size, and the images are not on the host.
        shape: of the output [R, C, OH, OW], where all have one size.
        beside: the recipes of what comes beside such images, kept by its kind and layout.
    """

    program: Program
    module: ModuleType
    engine: Engine
    rows: torch.Tensor
    host_rows: torch.Tensor
    mixing: Mixing | None
    samples: int
    views: tuple[int, ...] | None
    frames: int | None
    clip: tuple[int, int] | None
    lead: tuple[int, ...]
    sizes: tuple[Canvas, ...]
    out_sizes: Sequence[Canvas] | None
    format: torch.memory_format
    copies: bool

    def __post_init__(self):
        self.draws_size = self.out_sizes is DRAWN and self.rows.device.type != "cpu"
        self.outputs = None if self.mixing is None else self.mixing.outputs
        written = self.rows if self.outputs is None else self.outputs
        self.shape = (len(written), self.program.out_channels, *(self.program.out_size or ()))
        self.mixes = self.mixing is not None and self.mixing.others is not None
        self.beside: dict[tuple, Recipe] = {}

    @property
    def draws(self) -> tuple[int, ...]:
        """The axes of the table in front of its columns: [V,] B."""
        return (self.samples,) if self.views is None else (len(self.views), self.samples)

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.module.__name__.rsplit(".", 1)[-1]

    @property
    def single(self) -> bool:
        """Whether the images are one sample, without an axis of its own."""
        return len(self.lead) == (self.views is not None) + (self.frames is not None)

    def check(self, params: Params, table: torch.Tensor) -> None:
        """Raise unless a table of params fits."""
        same = params.program is self.program and (params.sizes is self.sizes or params.sizes == self.sizes)
        if not same or table.shape != (*self.draws, len(params.columns)):
            check_params(params, table, self.program, self.draws, self.sizes)

    def check_alone(self) -> None:
        """Raise where images alone are not enough.

        Raises:
            ValueError: an op needs masks beside them.
        """
        if self.program.pastes is not None:
            raise ValueError(f"{self.program.pastes.name}: pastes objects by their masks; give masks= of instances")
        if self.program.by_boxes:
            raise ValueError("RandomIoUCrop: draws by the boxes of its images; give boxes=")

    def table(self, device: torch.device) -> torch.Tensor:
        """A table for the batch, not initialised."""
        layers = self.program.mix.layers if self.program.tiles else 1
        shape = math.prod(self.draws) * layers, len(self.program.columns)
        return torch.empty(shape, dtype=torch.float32, device=device)

    def own(self, table: torch.Tensor) -> torch.Tensor:
        """Of a table the rows [V * B, P] of the samples themselves, without those of layers."""
        return table[: math.prod(self.draws)]

    def whole(self, table: torch.Tensor) -> torch.Tensor:
        """The table of all rows, of the samples' own."""
        program = self.program
        return tiled_table(table, program.mix, self.samples, program.shared_columns) if program.tiles else table

    def given(self, table: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The table of all rows on a device, of a table of params [B, P] or [V, B, P]."""
        flat = table if table.dim() == 2 else table.flatten(0, 1)
        return self.whole(moved(flat, device, torch.float32).contiguous())

    def gathering(self, index: torch.Tensor, step: int) -> Recipe:
        """For the samples of an index int64 [B] into images that lie `step` elements apart."""
        chosen = copy.copy(self)
        chosen.beside = self.beside
        chosen.rows = gathered(self.rows, index * step)
        return chosen

    def placed(self, rows: torch.Tensor) -> Recipe:
        """With other rows: of images that lie elsewhere, or in part."""
        chosen = copy.copy(self)
        chosen.rows = rows
        return chosen

    def host_sizes(self, key: Key) -> list[Canvas]:
        """The output sizes (OH, OW) of the rows, drawn on the host: equal to the device's."""
        engine = backends.on_host().Engine(self.program, torch.device("cpu"))
        return drawn_sizes(engine.plan(self.host_rows, None, key))

    def rows_of(self, plans: Plans) -> torch.Tensor:
        """The rows, behind what was drawn: of clips, with the frames that are taken."""
        if self.clip is None or not self.program.draws_frames:
            return self.rows
        t, step = self.clip
        return framed(self.rows, self.program.frames(self.own(plans.table), t) * step)


DRAWN: Sequence[Canvas] = ()


def drawn_sizes(plans: Plans) -> list[Canvas]:
    """The output sizes (OH, OW) of the rows that were planned. Waits for the device."""
    return [(int(h), int(w)) for h, w in plans.words[:, plan.OUT_H : plan.OUT_W + 1].tolist()]


class Recipes:
    """What a pipeline has worked out for its inputs; of recipes, engines and programs the last ones are kept.

    Args:
        streams: how many the draws of ops in front of the pipeline's take.

    Attributes:
        captured: the recipes that CUDA graphs read, for good.
        chain: of a pipeline with callables, kept as long as it holds the same.
        reforms: whether plain tensors go out in another form.
    """

    def __init__(self, streams: int = 0):
        self.captured: list[Recipe] = []
        self.streams, self.chain = streams, None
        self.forget()

    def forget(self) -> None:
        """Begin without any at the next call, as the backend or the format has changed."""
        self._transforms: list | None = None

    def of(
        self,
        transforms: list,
        images: torch.Tensor,
        backend: str,
        memory_format: torch.memory_format,
        asked: Asked = PLAIN,
    ) -> Recipe:
        """The recipe for such images: made at the first call, then looked up."""
        self._follow(transforms)
        grad = images.requires_grad and torch.is_grad_enabled()
        key = (images.shape, images.dtype, images.device, images.stride(), grad)
        if asked is not PLAIN:
            key = (key if asked.count is None else (images.shape[1:], *key[1:]), asked)
        recipe = self._recipes.get(key)
        if recipe is None:
            recipe = self._recipes[key] = self._new(images, backend, memory_format, grad, asked)
            _drop_oldest(self._recipes, KEPT_RECIPES)
        if capturing(images) and recipe not in self.captured:
            self.captured.append(recipe)
        return recipe

    def of_list(
        self,
        transforms: list,
        images: Sequence[torch.Tensor],
        backend: str,
        memory_format: torch.memory_format,
        asked: Asked = PLAIN,
    ) -> tuple[torch.Tensor, Recipe]:
        """For images [C, H, W] of any sizes and strides: a source that the rows count from, and the recipe."""
        self._follow(transforms)
        check_list("Compose", images)
        grad = torch.is_grad_enabled() and any(image.requires_grad for image in images)
        sizes = [tuple(image.shape[1:]) for image in images]
        found = self._some(sizes, images[0], backend, grad, asked)
        program, _, module = found
        listed = (module.POINTERS and by_pointer(images, program.channels)) or joined(images, program.channels)
        last = memory_format == torch.channels_last
        if memory_format == torch.preserve_format:
            last = all(image.stride(0) == 1 != image.stride(2) for image in images)
        return listed.source, self._listed(listed, sizes, found, asked, last)

    def of_sizes(
        self,
        transforms: list,
        sizes: Sequence[Canvas],
        device: torch.device,
        backend: str,
        last: bool,
        asked: Asked = PLAIN,
    ) -> Recipe:
        """For images uint8 [3, H, W] of which only the sizes are known: a row begins at its image's number.

        Args:
            last: the output's channels are.
        """
        self._follow(transforms)
        words = np.zeros((len(sizes), len(SOURCE_WORDS)), np.int64)
        words[:, :2] = sizes
        nothing = torch.empty((3, 0, 0), dtype=torch.uint8, device=device)
        found = self._some(sizes, nothing, backend, False, asked)
        return self._listed(Listed(nothing, words, np.arange(len(sizes))), sizes, found, asked, last)

    def _some(
        self, sizes: Sequence[Canvas], first: torch.Tensor, backend: str, grad: bool, asked: Asked
    ) -> tuple[Program, dict[Canvas, Canvases], ModuleType]:
        """The program for images of these sizes like the first, what they may become, and the backend's module."""
        program, ends = self._program_of_all(set(sizes), first.shape[0], first.dtype)
        frames_of(program, ())
        check_memory(program, len(sizes) * len(asked.views or (0,)), first.device)
        return program, ends, backends.select(program, first, backend, grad)

    def _listed(self, listed: Listed, sizes: Sequence[Canvas], found: tuple, asked: Asked, last: bool) -> Recipe:
        """The recipe for images of a list, of what `_some` found."""
        program, ends, module = found
        b, views, device = len(sizes), asked.views, listed.source.device
        rows = list_rows(listed, _elements(program), views or (asked.view,))
        rows, mixing = mixing_of(program, rows, b, 1, device)
        return Recipe(
            program,
            module,
            self._engine(program, module, device),
            moved(rows, device, torch.int64),
            rows,
            mixing,
            samples=b,
            views=views,
            frames=None,
            clip=None,
            lead=(b,) if views is None else (len(views), b),
            sizes=tuple(sizes),
            out_sizes=_out_sizes(program, [ends[size] for size in sizes]),
            format=torch.channels_last if last else torch.contiguous_format,
            copies=False,
        )

    def projected(
        self, recipe: Recipe, project: Callable[..., Program], *arguments: Hashable
    ) -> tuple[Program, Engine]:
        """What another kind of input beside a recipe's images takes: `project` of their program, and an engine."""
        key = (recipe.program.facts, project, *arguments)
        program = self._projected.pop(key, None) or project(recipe.program, *arguments)
        self._projected[key] = program
        _drop_oldest(self._projected, KEPT_ENGINES)
        program = program.of_sizes(recipe.program.canvases, recipe.program.out_sizes)
        return program, self._engine(program, recipe.module, recipe.rows.device)

    def is_new(self, transforms: list, kind: tuple) -> bool:
        """Whether a kind of call has not been made before, and is no longer."""
        self._follow(transforms)
        new = kind not in self._met
        self._met[kind] = None
        _drop_oldest(self._met, KEPT_RECIPES)
        return new

    def _follow(self, transforms: list) -> None:
        """Forget what was made of other transforms.

        Raises:
            Staged: there are callables among them.
        """
        if transforms != self._transforms or (self._nested and any(c.transforms != seen for c, seen in self._nested)):
            self._start_over(transforms)
        if self._staged:
            raise Staged

    def is_staged(self, transforms: list) -> bool:
        """Whether there are callables among the transforms; if they have changed, `chain` is None."""
        with suppress(Staged):
            self._follow(transforms)
        return self._staged

    def _start_over(self, transforms: Sequence) -> None:
        """Forget what was made of the transforms, or of the format and the backend, as they were."""
        self._staged, self.chain = any(map(stops, children_of("Compose", transforms))), None
        self.reforms = not self._staged and reforms(transforms)
        self._recipes: dict[tuple, Recipe] = {}
        self._met: dict[tuple, None] = {}
        self._engines: dict[tuple, Engine] = {}
        self._programs: list[Program] = []
        self._projected: dict[tuple, Program] = {}
        self._of_size: dict[tuple[Canvas, int, torch.dtype], Program] = {}
        self._of_sizes: dict[tuple[Canvases, int, torch.dtype], Program] = {}
        pipelines = (t for t in within(transforms) if isinstance(t, torch.nn.Module) and hasattr(t, "transforms"))
        self._nested = [(pipeline, list(pipeline.transforms)) for pipeline in pipelines]
        self._transforms = list(transforms)

    def _new(self, images, backend: str, memory_format: torch.memory_format, grad: bool, asked: Asked) -> Recipe:
        check_images("Compose", images)
        batch = images if images.dim() > 3 else images[None]
        *clip, c, h, w = batch.shape[1:]
        b = batch.shape[0] if asked.count is None else asked.count
        program = self._program(frozenset({(h, w)}), c, images.dtype)
        views = asked.views or (asked.view,)
        check_memory(program, len(views) * b * math.prod(clip), images.device)
        module = backends.select(program, images, backend, grad)
        last = is_channels_last(batch, memory_format)
        spread = batch.expand(*[-1] * (1 + len(clip)), program.channels, -1, -1) if c == 1 else batch
        frames = frames_of(program, clip)
        rows = batch_rows(spread, _elements(program), views, asked.count, frames)
        rows, mixing = mixing_of(program, rows, b, len(frames), images.device)
        many = () if asked.single or images.dim() == 3 else (b,)
        return Recipe(
            program,
            module,
            self._engine(program, module, images.device),
            rows.to(images.device),
            rows,
            mixing,
            samples=b,
            views=asked.views,
            frames=len(frames) if clip else None,
            clip=(clip[0], batch.stride(1)) if clip else None,
            lead=(*(() if asked.views is None else (len(views),)), *many, *([len(frames)] if clip else [])),
            sizes=((h, w),) * b,
            out_sizes=_out_sizes(program, [program.out_sizes]),
            format=torch.channels_last if last else torch.contiguous_format,
            copies=w * batch.stride(-1) >= 2**31,  # a row is addressed by 32 bits
        )

    def _program(self, canvases: Canvases, channels: int, dtype: torch.dtype) -> Program:
        """The program for images of some sizes: one made for others, where it is the same for these."""
        for known in self._programs:
            if (known.in_channels, known.in_dtype) == (channels, dtype) and (program := known.at(canvases)):
                return program
        program = lower(self._transforms, canvases, channels, dtype, self.streams)
        self._programs = [program, *self._programs][:KEPT_ENGINES]
        return program

    def _program_of_all(
        self, sizes: Set[Canvas], channels: int, dtype: torch.dtype
    ) -> tuple[Program, dict[Canvas, Canvases]]:
        """One program for images of several sizes, and the sizes that each of them may become."""
        programs = {}
        for size in sizes:
            program = self._of_size.get((size, channels, dtype))
            if program is None:
                program = self._of_size[size, channels, dtype] = self._program(frozenset({size}), channels, dtype)
                _drop_oldest(self._of_size, KEPT_SIZES)
            programs[size] = program
        ends = {size: program.out_sizes for size, program in programs.items()}
        first, canvases = next(iter(programs.values())), frozenset(sizes)
        if all(program.facts is first.facts for program in programs.values()):
            return first.of_sizes(canvases, frozenset().union(*ends.values())), ends
        key = (canvases, channels, dtype)
        program = self._of_sizes.pop(key, None) or self._program(canvases, channels, dtype)
        self._of_sizes[key] = program
        _drop_oldest(self._of_sizes, KEPT_RECIPES)
        return program, ends

    def _engine(self, program: Program, module: ModuleType, device: torch.device) -> Engine:
        key = (program.facts, module, device, module.size_key(program))
        engine = self._engines.pop(key, None) or module.Engine(program, device)
        self._engines[key] = engine  # the one used last stands last
        for old in _drop_oldest(self._engines, KEPT_ENGINES):
            self._recipes = {key: recipe for key, recipe in self._recipes.items() if recipe.engine is not old}
        return engine


def reforms(transforms: Sequence) -> bool:
    """Whether plain tensors go out in another form."""
    try:
        return end(transforms, Form("tensor"), "image").name != "tensor"
    except TypeError:  # it hangs on a draw, and is told where forms are given back
        return True


def is_channels_last(batch: torch.Tensor, memory_format: torch.memory_format) -> bool:
    """Whether the output for images [B, C, H, W] or clips [B, T, C, H, W] has its channels last."""
    if memory_format != torch.preserve_format:
        return memory_format == torch.channels_last
    one = batch[:, 0] if batch.dim() == 5 and batch.shape[1] else batch
    return one.dim() == 4 and not one.is_contiguous() and one.is_contiguous(memory_format=torch.channels_last)


def capturing(images: torch.Tensor) -> bool:
    """Whether what is done with the images now becomes part of a CUDA graph."""
    return images.is_cuda and torch.cuda.is_current_stream_capturing()


def frames_of(program: Program, clip: Sequence[int]) -> Sequence[int]:
    """Which frames of clips of T = clip[0] the rows read; 0 for each whose number is drawn, and of images.

    Raises:
        TypeError: an op on frames meets images.
    """
    if not clip:
        if program.temporal:
            name = program.temporal[0].name
            raise TypeError(f"{name}: expects clips [B, T, C, H, W] but meets images [B, C, H, W]")
        return (0,)
    if program.draws_frames:
        nothing = torch.zeros((1, len(program.columns)), dtype=torch.float32, device="cpu")
        return [0] * program.frames(nothing, *clip).shape[1]
    return program.frames(None, *clip)[0].tolist()


def _elements(program: Program) -> int:
    """Of an image of the output, where all have one size."""
    return 0 if program.out_size is None else program.out_channels * math.prod(program.out_size)


def _out_sizes(program: Program, ends: Sequence[Canvases]) -> Sequence[Canvas] | None:
    """As `Recipe.out_sizes`, for samples that may end with such sizes."""
    if program.out_size is not None:
        return None
    return DRAWN if any(len(end) > 1 for end in ends) else [next(iter(end)) for end in ends]


def _drop_oldest(kept: dict, most: int) -> list:
    """Leave the last `most` entries; threads that arrive together may each have made one. Returns what was dropped."""
    return [kept.pop(key, None) for key in list(kept)[:-most]] if len(kept) > most else []
