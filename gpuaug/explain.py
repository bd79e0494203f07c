"""A program in words: what each sample goes through, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from .kernels.shared import geometry, pixel, plan
from .program import Program
from .tree import Choice, Entry, Nodes

_KINDS = {plan.KIND_GATE: "gate", plan.KIND_GEOMETRY: "geometry", plan.KIND_PIXEL: "pixel", plan.KIND_NONE: "beside"}
_NEEDS = {
    plan.POINTWISE: "",
    plan.MEAN: ", after the image's mean",
    plan.EXTREMES: ", after the image's least and greatest values",
    plan.HISTOGRAM: ", after the image's histogram",
    plan.NEIGHBOURS: ", on the image as it stands there",
    plan.PLACE: "",
}
_FILTERS = {
    geometry.NEAREST: "nearest",
    geometry.LINEAR: "bilinear",
    geometry.CUBIC: "bicubic",
    geometry.CUBIC_AA: "bicubic, antialiased",
    geometry.LANCZOS: "lanczos",
}


def _slot(entry: Entry) -> str:
    if entry.kind == plan.KIND_GATE:
        return "order drawn" if entry.trait else "choice drawn"
    if entry.frames is not None:
        return "frames of a clip"
    if entry.kind == plan.KIND_NONE:
        return "boxes and keypoints alone"
    if entry.paints:
        return (pixel.CASES | pixel.LOOPS)[entry.op] + _NEEDS[entry.trait]
    name = geometry.CASES[entry.op]
    return f"{name} (merges into its neighbour)" if entry.trait else f"{name}, {_FILTERS[entry.filter]}"


def _shown(nodes: Nodes) -> Iterator[Entry]:
    """The entries, an order's once."""
    for node in nodes:
        if not isinstance(node, Choice):
            yield node
        elif node.position == 0:
            for _, way in node.ways:
                yield from _shown(way)


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


def explain(program: Program, images: torch.Tensor | list, outputs: int, chosen: str, asked: str) -> str:
    """The slots in order, what is merged, launches, bytes, and the backend."""
    given = f"{tuple(images.shape)}" if isinstance(images, torch.Tensor) else f"list of {len(images)} images"
    first = images if isinstance(images, torch.Tensor) else images[0]
    lines = [f"{given} {first.dtype} on {first.device}, backend {chosen} (asked: {asked})"]
    for entry in _shown(program.nodes):
        drawn = program.columns[entry.column : entry.column + entry.columns]
        names = ", ".join(c.rsplit(".", 1)[-1] for c in drawn)
        draws = f"  draws {names}" if names else ""
        behind = "" if entry.gate_at < 0 else f"  [behind {entry.gate_at}]"
        lines.append(f"  {entry.number:2d} {_KINDS[entry.kind]:8s} {entry.name}: {_slot(entry)}{draws}{behind}")
    if len(program.facts.smooth) > 1:
        names = " and ".join(slot.name for slot in program.facts.smooth)
        lines.append(f"  note: where {names} both act on a sample, they become one resampling, approximately")
    source, output = floor_bytes(program, images, outputs)
    read = source * (1 + program.asks)
    size = " to ".join(
        f"{h}x{w}" for h, w in (min(program.out_sizes), max(program.out_sizes))[: len(program.out_sizes)]
    )
    writes = "writes" if program.out_size else "writes at most"
    lines += [
        f"  launches: draw, {program.asks} to look at whole images, write = {launches(program)}",
        f"  bytes: reads at most {read / 1e6:.2f} MB, {writes} {output / 1e6:.2f} MB; "
        f"at 1 TB/s no less than {(read + output) / 1e6:.1f} us",
        f"  output: {program.out_dtype} {size}, {len(program.columns)} columns drawn",
    ]
    return "\n".join(lines)
