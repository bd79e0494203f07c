"""A pipeline in words: what each image goes through, how often it is gone over and why, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from .kernels.shared import blend, geometry, pixel, plan
from .program import Program
from .recipe import Recipe
from .tree import Canvases, Choice, Entry, Nodes

_FILTERS = {
    geometry.NEAREST: "nearest",
    geometry.LINEAR: "bilinear",
    geometry.CUBIC: "bicubic",
    geometry.CUBIC_AA: "bicubic, antialiased",
    geometry.LANCZOS: "lanczos",
}
_LOOKS = {
    plan.MEAN: "the image's mean",
    plan.EXTREMES: "the image's extremes",
    plan.HISTOGRAM: "the image's histogram",
    plan.NEIGHBOURS: "neighbouring pixels",
}
_ONE_PASS = "passes over an image: 1, from the source to the output"
_SLOTS = {plan.KIND_GATE: "gate", plan.KIND_GEOMETRY: "geometry", plan.KIND_PIXEL: "pixel", plan.KIND_NONE: "beside"}


@dataclass
class _Line:
    """One op of the pipeline.

    Attributes:
        path: "4.0.GaussianBlur".
        entries: its slots and gates, those of an order once.
        sizes: the images' behind it.
    """

    path: str
    entries: list[Entry] = field(default_factory=list)
    sizes: Canvases = frozenset()


def explain(recipe: Recipe, images: torch.Tensor | list, asked: str, verbose: bool = False) -> str:
    """What `Compose.explain` says of images for which the recipe was made."""
    program = recipe.program
    parts = [_head(recipe, images, asked), "", *_ops(program), "", *_passes(program), *_cost(recipe, images)]
    return "\n".join([*parts, "", *_slots(program)] if verbose else parts)


def _head(recipe: Recipe, images: torch.Tensor | list, asked: str) -> str:
    program, first = recipe.program, images if isinstance(images, torch.Tensor) else images[0]
    came = f"{list(images.shape)}" if isinstance(images, torch.Tensor) else f"a list of {len(images)} images"
    size = _sizes(program.out_sizes)
    went = f"{program.out_channels} channels of {size}"
    chosen = recipe.backend if asked == recipe.backend else f"{recipe.backend} (asked: {asked})"
    return f"{_short(first.dtype)} {came} on {first.device} -> {_short(program.out_dtype)}, {went}; backend {chosen}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    ends = sorted(sizes)
    return " to ".join(f"{h}x{w}" for h, w in dict.fromkeys((ends[0], ends[-1])))


# --- ops --------------------------------------------------------------------------------------------------------------
def _ops(program: Program) -> list[str]:
    """A line for each op, in the order in which they act."""
    lines: dict[str, _Line] = {}
    _follow(program.nodes, program.canvases, lines)
    wide = max((len(path) for path in lines), default=0)
    sized = {path: _sizes(line.sizes) for path, line in lines.items()}
    across = max(map(len, sized.values()), default=0)
    found = []
    for path, line in lines.items():
        names = dict.fromkeys(name.removesuffix("_factor") for entry in line.entries for name in _drawn(program, entry))
        draws = f"; draws {', '.join(names)}" if names else ""
        found.append(f"  {path:{wide}s}  {sized[path]:{across}s}  {_how(line.entries)}{draws}")
    return found or ["  (nothing: the images are copied)"]


def _follow(nodes: Nodes, sizes: Canvases, lines: dict[str, _Line]) -> Canvases:
    """Note the entries of all ops, and the sizes behind each; returns those behind the sequence."""
    for node in nodes:
        if isinstance(node, Choice):
            ends = [_follow(way, sizes, lines) if node.position == 0 else sizes for _, way in node.ways]
            sizes = frozenset().union(*ends, () if node.gate.trait > 0 else sizes)
            if node.gate.path in lines:
                lines[node.gate.path].sizes = sizes
            continue
        line = lines.setdefault(node.path, _Line(node.path))
        line.entries.append(node)
        if node.moves:
            sizes = frozenset().union(*map(node.after, sizes))
        line.sizes = sizes
    return sizes


def _drawn(program: Program, entry: Entry) -> list[str]:
    """The columns that it draws, by their last names."""
    return [name.rsplit(".", 1)[-1] for name in program.columns[entry.column : entry.column + entry.columns]]


def _how(entries: list[Entry]) -> str:
    """What is done for an op."""
    acts = [entry for entry in entries if entry.kind != plan.KIND_GATE]
    if not acts:
        orders = any(entry.trait > 0 for entry in entries)
        return "in an order of its own for each image" if orders else "for each image by itself"
    looks = dict.fromkeys(_LOOKS[entry.trait] for entry in acts if entry.asks)
    after = f", after a look at {', '.join(looks)}" if looks else ""
    return " or ".join(dict.fromkeys(map(_act, acts))) + after


def _act(entry: Entry) -> str:
    if entry.frames is not None:
        return "takes frames, which are read where they lie"
    if entry.pastes:
        return "copies objects from image to image"
    if entry.kind == plan.KIND_NONE and entry.call is not None:
        return "takes one channel as three"
    if entry.kind == plan.KIND_NONE:
        return "boxes and keypoints alone"
    if entry.blends:
        return "mixes images as they are stored"
    if entry.paints:
        return "works on the pixels as they go by"
    return "moves whole pixels" if entry.trait else f"resamples, {_FILTERS[entry.filter]}"


# --- passes and costs -------------------------------------------------------------------------------------------------
def _passes(program: Program) -> list[str]:
    """How often an image is gone over, and why."""
    looks = dict.fromkeys((entry.path, _LOOKS[entry.trait]) for entry in _shown(program.nodes) if entry.asks)
    most = "at most " if any(entry.gate_at >= 0 for entry in program.entries if entry.asks) else ""
    lines = [f"passes over an image: {most}{1 + program.asks}, the last of which writes it" if looks else _ONE_PASS]
    for path in dict.fromkeys(path for path, _ in looks):
        lines.append(f"  {path} looks at {', or '.join(what for of, what in looks if of == path)}")
    if any(what == _LOOKS[plan.NEIGHBOURS] for _, what in looks):
        lines.append("  for neighbouring pixels the image is made as it stands there, alone where an op acts on it")
    smooth = list(dict.fromkeys(slot.path for slot in program.facts.smooth))
    if len(program.facts.smooth) > 1:
        names = " and ".join(smooth) if len(smooth) > 1 else f"several of {smooth[0]}"
        lines.append(f"  where {names} act on one image, they become one resampling, approximately")
    return lines


def launches(program: Program) -> int:
    """Kernel launches of a call: the draw, one for each ask, the write."""
    return 2 + program.asks


def floor_bytes(program: Program, images: torch.Tensor | list, outputs: int | None = None) -> tuple[int, int]:
    """(bytes of the source, bytes of the output): what any implementation must at most read and must write once.

    Args:
        outputs: how many images are written; None for as many as come in. Of sizes that differ the largest counts.
    """
    given = images if isinstance(images, list) else [images]
    if outputs is None:
        outputs = sum(image.numel() // math.prod(image.shape[-3:]) for image in given)
    h, w = max(program.out_sizes, key=math.prod)
    written = outputs * program.out_channels * h * w * program.out_dtype.itemsize
    return sum(image.nbytes for image in given), written


def _cost(recipe: Recipe, images: torch.Tensor | list) -> list[str]:
    program = recipe.program
    source, output = floor_bytes(program, images, len(recipe.rows))
    read = source * (1 + program.asks)
    writes = "writes" if program.out_size else "writes at most"
    return [
        f"bytes: reads at most {read / 1e6:.2f} MB, {writes} {output / 1e6:.2f} MB; "
        f"at 1 TB/s no less than {(read + output) / 1e6:.1f} us",
        f"draws: {len(program.columns)} for each image",
        f"launches on a GPU: draw, {program.asks} to look at whole images, write = {launches(program)}",
    ]


# --- the inner vocabulary ---------------------------------------------------------------------------------------------
def _shown(nodes: Nodes) -> Iterator[Entry]:
    """The entries, an order's once."""
    for node in nodes:
        if not isinstance(node, Choice):
            yield node
        elif node.position == 0:
            for _, way in node.ways:
                yield from _shown(way)


def _slots(program: Program) -> Iterator[str]:
    """The slots of the program, as the kernels walk over them."""
    yield "slots:"
    for entry in _shown(program.nodes):
        names = ", ".join(_drawn(program, entry))
        draws = f"  draws {names}" if names else ""
        behind = "" if entry.gate_at < 0 else f"  [behind {entry.gate_at}]"
        yield f"  {entry.number:2d} {_SLOTS[entry.kind]:8s} {entry.path}: {_slot(entry)}{draws}{behind}"


def _slot(entry: Entry) -> str:
    if entry.kind == plan.KIND_GATE:
        return "order drawn" if entry.trait > 0 else "choice drawn"
    if entry.frames is not None:
        return "frames of a clip"
    if entry.kind == plan.KIND_NONE and entry.call is not None and not entry.pastes:
        return "one channel as three"
    if entry.kind == plan.KIND_NONE:
        return "boxes and keypoints alone"
    if entry.paints:
        names = blend.CASES if entry.blends else pixel.CASES | pixel.LOOPS
        return names[entry.op] + (f", after a look at {_LOOKS[entry.trait]}" if entry.asks else "")
    name = geometry.CASES[entry.op]
    return f"{name} (merges into its neighbour)" if entry.trait else f"{name}, {_FILTERS[entry.filter]}"
