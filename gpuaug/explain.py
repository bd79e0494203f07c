"""A program in words: what each sample goes through, and what it costs."""

from __future__ import annotations

import torch

from .kernels import geometry, pixel, plan
from .program import Program

_KINDS = {plan.KIND_GATE: "gate", plan.KIND_GEOMETRY: "geometry", plan.KIND_PIXEL: "pixel"}
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
}


def _slot(entry) -> str:
    code = entry.code
    if code[plan.KIND] == plan.KIND_GATE:
        return "order drawn" if code[plan.TRAIT] else "choice drawn"
    if code[plan.KIND] == plan.KIND_PIXEL:
        return (pixel.CASES | pixel.LOOPS)[code[plan.OP]] + _NEEDS[code[plan.TRAIT]]
    name = geometry.CASES[code[plan.OP]]
    return f"{name} (merges into its neighbour)" if code[plan.TRAIT] else f"{name}, {_FILTERS[code[plan.FILTER]]}"


def _is_copy(program: Program, code: tuple[int, ...], hidden: set[int]) -> bool:
    """Whether an entry stands for the same op as an earlier one, at another place of an order that is drawn."""
    gate = code[plan.GATE_AT]
    if gate < 0:
        return False
    permutes = program.entries[gate].code[plan.TRAIT] > 0
    return gate in hidden or (permutes and code[plan.WANT] % 16 > 0)


def launches(program: Program) -> int:
    """Kernel launches of a call: the draw, one for each ask, the write."""
    return 2 + program.asks


def floor_bytes(program: Program, images: torch.Tensor) -> tuple[int, int]:
    """(bytes of the source, bytes of the output): what any implementation must at most read and must write once."""
    b = images.shape[0] if images.dim() == 4 else 1
    h, w = program.out_size
    return images.numel() * images.element_size(), b * program.out_channels * h * w * program.out_dtype.itemsize


def explain(program: Program, images: torch.Tensor, chosen: str, asked: str) -> str:
    """The slots in order, what is merged, launches, bytes, and the backend."""
    lines = [f"{tuple(images.shape)} {images.dtype} on {images.device}, backend {chosen} (asked: {asked})"]
    hidden: set[int] = set()
    for number, entry in enumerate(program.entries):
        code = entry.code
        if _is_copy(program, code, hidden):
            hidden.add(number)
            continue
        drawn = program.columns[code[plan.COLUMN] : code[plan.COLUMN] + code[plan.COLUMNS]]
        names = ", ".join(c.rsplit(".", 1)[-1] for c in drawn)
        behind = "" if code[plan.GATE_AT] < 0 else f"  [behind {code[plan.GATE_AT]}]"
        draws = f"  draws {names}" if names else ""
        kind = _KINDS[code[plan.KIND]]
        lines.append(f"  {number:2d} {kind:8s} {entry.name}: {_slot(entry)}{draws}{behind}")
    smooth = [e for e in program.entries if e.code[plan.KIND] == plan.KIND_GEOMETRY and e.code[plan.FILTER]]
    if len(smooth) > 1:
        names = " and ".join(e.name for e in smooth)
        lines.append(f"  note: where {names} both act on a sample, they become one resampling, approximately")
    source, output = floor_bytes(program, images)
    read = source * (1 + program.asks)
    size = "x".join(str(n) for n in program.out_size)
    lines += [
        f"  launches: draw, {program.asks} to look at whole images, write = {launches(program)}",
        f"  bytes: reads at most {read / 1e6:.2f} MB, writes {output / 1e6:.2f} MB; "
        f"at 1 TB/s no less than {(read + output) / 1e6:.1f} us",
        f"  output: {program.out_dtype} {size}, {len(program.columns)} columns drawn",
    ]
    return "\n".join(lines)
