"""What becomes of a program for what is not an image: the same table, the same geometry, read otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from .facts import counts
from .kernels.shared import geometry, pixel, plan, points
from .opcodes import GEOMETRY
from .program import Program
from .tree import Choice, Entry, Event, Nodes

ELASTIC = (pixel.ELASTIC_NOISE, pixel.ELASTIC)
CLASSES = {"flip_horizontal": points.FLIP_X, "flip_vertical": points.FLIP_Y, "pad": points.PAD}
CLASSES |= {"crop": points.CROP, "center_crop": points.CROP, "place": points.CROP, "resized_crop": points.WINDOW}
CLASSES |= {name: points.RESIZE for name in GEOMETRY if name.startswith("resize_") or name == "resize"}
CLASSES |= {"rotate_expand": points.EXPAND}  # all others are points.WARP


def sways(node: Entry) -> bool:
    """Whether it is a step of an elastic transform."""
    return node.paints and not node.blends and node.op in ELASTIC


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
        elif of_layer or not (node.moves or sways(node)):
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
    value = torch.tensor(node.mask_fill, dtype=torch.float64, device="cpu")
    if not dtype.is_floating_point:
        value = value.trunc()
    inexact = dtype == torch.bool or dtype.is_floating_point or dtype.is_complex
    if not inexact and value.to(dtype).double() != value:
        raise ValueError(f"{node.name}: masks of {dtype} are filled with {node.mask_fill}, which that cannot hold")
    return [float(v) for v in value.to(dtype).view(1).view(torch.uint8).tolist()]


def project_points(program: Program) -> Program:
    """The same geometry for boxes and keypoints, the same table: each slot, and each event, is a group of its own.

    A group's border word is its class for points, or EVENT and the number of an event (`kernels.shared.points`,
    `events_of`). Resizes take half-pixel centres, whatever rule the images follow. Of the pixel slots, elastic
    transforms stay: a step's S_GROUPS says behind how many groups it acts. `gpuaug.points.Trail` reads the plans.
    """
    config = list(program.config)
    for slot in program.facts.moves:
        if geometry.CASES[slot.op].startswith("resize"):
            config[slot.config + 6 : slot.config + 8] = 0.0, 0.0
    numbers = {event: i for i, event in enumerate(events_of(program))}
    nodes = _for_points(program.nodes, numbers, program.tiles)
    groups, steps, asks = counts(nodes)
    kind = dict(channels=1, in_channels=1, out_channels=1, in_dtype=torch.uint8, out_dtype=torch.uint8)
    kind["mix"] = program.mix if program.tiles else None
    lengths = dict(groups=max(groups, 1), steps=max(steps, 1), asks=asks)
    return replace(program, nodes=nodes, config=tuple(config), **kind, **lengths)


def events_of(program: Program) -> tuple[Event, ...]:
    """What befalls points in a program, each once; a group's border word counts them."""
    events = (
        entry.event for entry in program.entries if entry.event is not None and entry.event.kind != points.LAID_OUT
    )
    return tuple(dict.fromkeys(events))


def _for_points(nodes: Nodes, numbers: dict[Event, int], layers: bool, of_layer: bool = False) -> Nodes:
    """`layers` as `Keeps` has it, `of_layer` as `_for_masks`."""
    projected = []
    for node in nodes:
        if isinstance(node, Choice):
            alone = of_layer or (node.gate.trait == plan.LAYER and not layers)
            ways = tuple((number, _for_points(way, numbers, layers, alone)) for number, way in node.ways)
            projected.append(replace(node, ways=ways))
        else:
            projected.append(_entry_for_points(node, numbers, of_layer))
    return tuple(projected)


def _entry_for_points(node: Entry, numbers: dict[Event, int], of_layer: bool) -> Entry:
    one = dict(trait=0, filter=geometry.LINEAR, channels=-1, bound=0, lattice=0, stage_channels=1)
    if node.kind == plan.KIND_GATE or (sways(node) and not of_layer):
        return node
    if of_layer or node.paints or (node.event is None and not node.moves):
        return node.changed(kind=plan.KIND_NONE)
    if not node.moves:  # an event: a shift by nothing
        kind = dict(kind=plan.KIND_GEOMETRY, op=GEOMETRY["translate_x"], border=points.EVENT + numbers[node.event])
        return node.changed(**kind, **one)
    border = CLASSES.get(geometry.CASES[node.op], points.WARP)
    if geometry.CASES[node.op] == "place" and node.event is not None:
        return node.changed(border=points.LAID, **one | dict(bound=round(1e6 * node.event.values[0]), lattice=1))
    if node.event is not None:
        border = points.CENTRES
    elif border == points.PAD and node.arguments[6] > 0.0:
        border = points.SHIFT  # CenterCrop's, which torchvision's boxes do not stop at
    return node.changed(border=border, **one)
