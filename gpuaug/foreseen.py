"""What pipelines with callables draw, and what they would do, before a callable has run.

What a callable makes of images is not known then. It is taken to leave their number, size and channels alone, as most
do; `apply` finds out, and says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from .barriers import Given, name_of
from .kinds import taken
from .params import Calls, Params
from .program import Canvas
from .recipe import PLAIN, Asked, frames_of
from .samples import is_plain, read
from .stages import ORDER, Chain, Draws, Item, Stage, is_mixed

Images = torch.Tensor | list


@dataclass(frozen=True)
class StagedParams:
    """What a pipeline with callables drew for a batch: as `Params`, of several passes.

    Attributes:
        table: float32 [B, P], [V, B, P] of several views: the columns of all passes.
        parts: the params of each pass, or a callable with its name.
    """

    table: torch.Tensor
    parts: tuple[Params | tuple[str, Any], ...]

    @property
    def passes(self) -> list[Params]:
        """The params of the passes."""
        return [part for part in self.parts if isinstance(part, Params)]

    @property
    def columns(self) -> tuple[str, ...]:
        """P names."""
        return tuple(name for part in self.passes for name in part.columns)

    @property
    def sizes(self) -> tuple[Canvas, ...]:
        """Each sample's (H, W) as it comes in to the first pass."""
        return self.passes[0].sizes if self.passes else ()

    @property
    def matrix(self) -> torch.Tensor:
        """Not known.

        Raises:
            ValueError: a callable may move pixels.
        """
        names = " and ".join(part[0] for part in self.parts if not isinstance(part, Params))
        raise ValueError(f"params.matrix: {names} may move pixels; ask the pipelines in front of it and behind it")

    def tables(self, table: torch.Tensor) -> list[torch.Tensor]:
        """Of a table with all columns, that of each pass."""
        widths = [len(part.columns) for part in self.passes]
        if table.shape[-1] != sum(widths):
            raise ValueError(f"params hold a table of {table.shape[-1]} columns, and {sum(widths)} were drawn")
        return list(table.split(widths, -1))

    def describe(self, i: int, view: int = 0) -> Calls:
        """As `Params.describe`; of a callable it is {"op": its name, "callable": itself}."""
        tables, found = iter(self.tables(self.table)), Calls()
        for part in self.parts:
            if isinstance(part, Params):
                found += dataclasses.replace(part, table=next(tables)).describe(i, view)
            else:
                found.append({"op": name_of(part[1]), "callable": part[1]})
        return found

    def __len__(self) -> int:
        return self.table.shape[-2]


# --- sample -----------------------------------------------------------------------------------------------------------
def sample(
    chain: Chain, images: Any, boxes: Any, asked: Asked, ids: Any, epoch: int | None, index: Any
) -> StagedParams:
    """`Compose.sample`."""
    draws, parts, given = Draws(chain.pipeline, ids, epoch, asked.view), [], {"boxes": boxes}
    for step in chain.steps:
        if isinstance(step, Item):
            if is_mixed(step.what):
                raise ValueError(
                    f"sample: {step.name} holds callables, and which of them act on what, a call alone says"
                )
            parts.append((step.name, step.what))
            draws.barrier = step.name
            images = cropped(step, alone(images, index, step.name))
        else:
            params = drawn(step, images, given, asked, draws, index)
            parts.append(params)
            images = behind(params, images, step.name)
        given, index = {"boxes": None}, None
    tables = [part.table for part in parts if isinstance(part, Params)]
    return StagedParams(torch.cat(tables, -1) if tables else torch.empty((0, 0)), tuple(parts))


def drawn(stage: Stage, images: Images, given: Given, asked: Asked, draws: Draws, index: Any) -> Params:
    """What a pass draws. Where it does not take integers, a callable in front may have made floats of them."""
    several = {} if asked.views is None else {"views": len(asked.views)}
    view = {"view": asked.view or None} if asked.views is None else {}
    keywords = {**given, **several, **view, "ids": draws, "index": index}
    try:
        return stage.sample(images, **keywords)
    except TypeError:
        if not draws.barrier or not isinstance(images, torch.Tensor | list):
            raise
        floats = (
            [x.float() for x in images] if isinstance(images, list) else unreal(images.shape, torch.float32, images)
        )
        return stage.sample(floats, **keywords)


def unreal(shape: Sequence[int], dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
    """Images of which nobody reads a pixel: they have memory for one."""
    return torch.zeros(1, dtype=dtype, device=like.device).expand(tuple(shape))


def alone(images: Any, index: Any, name: str) -> Images:
    """The images of a structure, as a callable in front of all ops finds them."""
    if not is_plain((images,)):
        try:
            images = read((images,)).images
        except TypeError as error:
            raise TypeError(
                f"sample: {name} stands first, and what it makes is known in a call alone: {error}"
            ) from None
    if index is not None and isinstance(images, torch.Tensor):
        images = unreal((len(index), *images.shape[1:]), images.dtype, images)
    return images


def behind(params: Params, images: Any, name: str) -> Images:
    """Images such as come out of a pass.

    Raises:
        ValueError: their size is drawn.
    """
    program = params.program
    first = images if isinstance(images, torch.Tensor) else _first(images)
    frames = [] if params.frames is None else [len(frames_of(program, (params.frames,)))]
    ends = [program.at(frozenset({size})) for size in params.sizes]
    sizes = [next(iter(end.out_sizes)) if end and len(end.out_sizes) == 1 else None for end in ends]
    if None in sizes:
        raise ValueError(
            f"sample: the size of what comes out of {name} is drawn, so what is behind it can be drawn in a call "
            "alone; put an op of fixed size there, as Resize((H, W))"
        )
    c, dtype = program.out_channels, program.out_dtype
    if len(set(sizes)) > 1 and not frames:
        return [unreal((c, *size), dtype, first) for size in sizes]
    return unreal((len(sizes), *frames, c, *(sizes or [(1, 1)])[0]), dtype, first)


def _first(images: Any) -> torch.Tensor:
    if type(images) is list and images and isinstance(images[0], torch.Tensor):
        return images[0]
    found = read((images,)).images
    return found[0] if isinstance(found, list) else found


def cropped(item: Item, images: Images) -> Images:
    """Images such as come out of a callable: as they came, unless it is known to cut out crops."""
    size = getattr(item.what, "crops_to", None)
    if size is None:
        return images
    if isinstance(images, list):
        return [unreal((*image.shape[:-2], *size), image.dtype, image) for image in images]
    return unreal((*images.shape[:-2], *size), images.dtype, images)


# --- apply ------------------------------------------------------------------------------------------------------------
def apply(
    chain: Chain,
    images: Any,
    params: StagedParams,
    table: torch.Tensor,
    kinds: Given,
    asked: Asked,
    out: torch.Tensor | None,
    index: Any,
) -> Any:
    """`Compose.apply`."""
    if not isinstance(params, StagedParams):
        raise ValueError("params were drawn by another pipeline, without callables; draw them by sample()")
    if out is not None:
        raise TypeError("out takes pipelines without callables; leave it out")
    given = {name: kinds[name] for name in ORDER if kinds.get(name) is not None}

    def one(view: int, draws: Draws) -> Any:
        tables = iter(params.tables(table if asked.views is None else table[view]))
        parts = iter(params.passes)

        def each(stage: Stage, inputs: tuple, given: Given, draws: Draws, index: Any) -> Any:
            own = drawn_for[id(stage)] if id(stage) in drawn_for else (next(parts), next(tables))
            drawn_for[id(stage)] = own
            part = dataclasses.replace(own[0], table=own[1])
            try:
                return stage.apply(inputs[0], part, **given, index=index)
            except ValueError as error:
                if not draws.barrier:
                    raise
                raise ValueError(
                    f"{draws.barrier} stands in front of {stage.first}, and sample() took it to keep size and "
                    f"channels: {error}"
                ) from None

        drawn_for: dict[int, tuple] = {}
        return chain.run((images,), given, draws, index, each)

    return chain._views((images,), given, asked, None, None, one)


# --- explain ----------------------------------------------------------------------------------------------------------
def explain(chain: Chain, images: Any, verbose: bool) -> str:
    """`Compose.explain`, pass by pass."""
    draws, parts = Draws(chain.pipeline, None, None, 0), []
    known: Images | None = images
    for step in chain.steps:
        if isinstance(step, Item):
            kind = "a random choice among callables, for each image by itself" if is_mixed(step.what) else "a callable"
            parts.append(f"{step.name}: {kind}. The pass in front ends here: its result is stored, and handed over")
            known = known if known is None else cropped(step, alone(known, None, step.name))
            draws.barrier = step.name
            continue
        if known is None:
            parts.append(f"{step.name}: one pass, on what {draws.barrier} gives")
            continue
        try:
            text, params = explained(step, known, draws, verbose)
        except (TypeError, ValueError) as error:
            if not draws.barrier:
                raise
            parts.append(f"{step.name}: one pass, on what {draws.barrier} gives ({error})")
            known = None
            continue
        parts.append(f"{step.name}: {text}")
        try:
            known = behind(params, known, step.name)
        except ValueError:
            known = None
    return "\n\n".join(parts)


def explained(stage: Stage, images: Images, draws: Draws, verbose: bool) -> tuple[str, Params]:
    """What a pass would do, and params of it, in which nothing was drawn. As `drawn`, it tries floats, too."""
    tries = [images]
    if draws.barrier and isinstance(images, torch.Tensor) and images.dtype == torch.uint8:
        tries.append(unreal(images.shape, torch.float32, images))
    for given in tries[:-1]:
        with suppress(TypeError):
            return _explained(stage, given, verbose)
    return _explained(stage, tries[-1], verbose)


def _explained(stage: Stage, images: Any, verbose: bool) -> tuple[str, Params]:
    text = stage.explain(images, verbose=verbose)
    plain = images if is_plain((images,)) else taken(read((images,)), PLAIN)[0]
    _, recipe = stage.take(plain)
    table = torch.empty((*recipe.draws, len(recipe.program.columns)))
    return text, Params(table, recipe.program.columns, recipe.program, recipe.sizes, recipe.clip and recipe.clip[0])
