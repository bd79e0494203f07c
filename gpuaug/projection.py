"""What becomes of a program for what is not an image: the same table, the same geometry, read otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from .facts import counts
from .kernels.shared import geometry, pixel, plan
from .program import Program
from .tree import Choice, Entry, Nodes

ELASTIC = (pixel.ELASTIC_NOISE, pixel.ELASTIC)


def project_mask(program: Program, dtype: torch.dtype = torch.uint8, blends: bool = False) -> Program:
    """The program for masks beside the images: the same table, no pixel slots, read nearest by torchvision's rules.

    A mask of any dtype is an image whose channels are the bytes of its elements, uint8, so that whatever it holds comes
    through. A resize follows the legacy rule of `geometry.resized_crop`, unless a `Resize` says nearest-exact; an
    elastic transform moves masks along.

    Args:
        blends: they are blended as their images are, element by element; else a mosaic's layers are laid out alone.

    Raises:
        ValueError: an op whose fill says nothing of masks, or what `dtype` does not hold.
    """
    config = list(program.config)
    keeps = Keeps(dtype, config, layers=program.tiles, blends=blends)
    nodes = _for_masks(program.nodes, keeps, False)
    groups, steps, asks = counts(nodes)
    n, byte = dtype.itemsize, torch.uint8
    kind = dict(channels=n, in_channels=n, out_channels=n, in_dtype=byte, out_dtype=byte)
    sizes = dict(groups=max(groups, 1), steps=max(steps, 1), asks=asks)
    return replace(
        program,
        nodes=nodes,
        config=tuple(config),
        **kind,
        **sizes,
        mix=program.mix if blends or program.tiles else None,
    )


class Keeps(NamedTuple):
    """What masks of a dtype keep of a program.

    Attributes:
        config: where constants go.
        layers: the geometry of layers beside an output's own.
    """

    dtype: torch.dtype
    config: list[float]
    layers: bool
    blends: bool


def _for_masks(nodes: Nodes, keeps: Keeps, of_layer: bool) -> Nodes:
    """`of_layer`: of a layer that masks have not."""
    projected = []
    for node in nodes:
        if isinstance(node, Choice):
            alone = of_layer or (node.gate.trait == plan.LAYER and not keeps.layers)
            ways = tuple((number, _for_masks(way, keeps, alone)) for number, way in node.ways)
            projected.append(replace(node, ways=ways))
        elif node.kind == plan.KIND_GATE:
            projected.append(node)
        elif node.blends and keeps.blends:
            projected.append(node.changed(bound=255, lattice=1, stage_channels=keeps.dtype.itemsize))
        elif of_layer or not (node.moves or (node.paints and node.op in ELASTIC)):
            projected.append(replace(node.changed(kind=plan.KIND_NONE), frames=None))
        elif node.moves:
            projected.append(_moved(node, keeps.config, keeps.dtype))
        else:
            projected.append(_elastic(node, keeps.config, keeps.dtype))
    return tuple(projected)


def _moved(node: Entry, config: list[float], dtype: torch.dtype) -> Entry:
    op, rule = geometry.CASES[node.op], node.config + 7
    if op == "resized_crop" or (op.startswith("resize") and config[rule] != 2.0):
        config[rule - 1 : rule + 1] = 0.0, 1.0
    border, fill = node.border, -1
    if border == geometry.DROP:
        border = geometry.EDGE
    elif border == geometry.FILL and node.channels >= 0:
        config += fill_bytes(node, dtype)
        fill = len(config) - dtype.itemsize
    return node.changed(filter=geometry.NEAREST, border=border, channels=fill)


def _elastic(node: Entry, config: list[float], dtype: torch.dtype) -> Entry:
    """An elastic transform's two steps, on bytes."""
    words = dict(bound=255, lattice=1, stage_channels=dtype.itemsize)
    if node.op == pixel.ELASTIC_NOISE:
        return node.changed(**words)
    fill = [*fill_bytes(node, dtype), 0.0, 0.0]
    moved = [*config[node.channels : node.channels + 4], float(geometry.NEAREST)]
    blocks = [v for first in range(0, dtype.itemsize, 3) for v in moved + fill[first : first + 3]]
    config += blocks
    return node.changed(**words, channels=len(config) - len(blocks))


def fill_bytes(node: Entry, dtype: torch.dtype) -> Sequence[float]:
    """What a slot fills masks with, byte by byte."""
    if node.mask_fill is None:
        raise ValueError(f"{node.name}: fill says nothing of masks; add 'mask' or 'others' to it")
    value = torch.tensor(node.mask_fill, dtype=torch.float64)
    if not dtype.is_floating_point:
        value = value.trunc()
    if dtype != torch.bool and value.to(dtype).double() != value and not dtype.is_floating_point:
        raise ValueError(f"{node.name}: masks of {dtype} are filled with {node.mask_fill}, which that cannot hold")
    return [float(v) for v in value.to(dtype).view(1).view(torch.uint8).tolist()]
