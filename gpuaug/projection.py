"""What becomes of a program for what is not an image: the same table, the same geometry, read otherwise."""

from __future__ import annotations

from dataclasses import replace

import torch

from .facts import counts
from .kernels.shared import geometry, pixel, plan, points
from .opcodes import GEOMETRY
from .program import Program
from .tree import Choice, Entry, Event, Nodes

ELASTIC = (pixel.ELASTIC_NOISE, pixel.ELASTIC)
CLASSES = {"flip_horizontal": points.FLIP_X, "flip_vertical": points.FLIP_Y, "pad": points.PAD}
CLASSES |= {"crop": points.CROP, "center_crop": points.CROP, "resized_crop": points.WINDOW}
CLASSES |= {name: points.RESIZE for name in GEOMETRY if name.startswith("resize_") or name == "resize"}
CLASSES |= {"rotate_expand": points.EXPAND}  # all others are points.WARP


def project_mask(program: Program, channels: int = 1, dtype: torch.dtype = torch.uint8) -> Program:
    """The same geometry for masks beside the images, the same table: read nearest, filled with 0, no pixel slots.

    As torchvision resizes masks: by the legacy rule of `geometry.resized_crop`, unless a `Resize` says nearest-exact.

    Raises:
        ValueError: an op that moves pixels otherwise than as geometry, which masks would not follow.
    """
    for slot in program.facts.paints:
        if slot.op == pixel.ELASTIC:
            raise ValueError(f"{slot.name} moves pixels, and masks do not follow it yet; leave it out beside masks")
    config = list(program.config)
    for slot in program.facts.moves:
        op, rule = geometry.CASES[slot.op], slot.config + 7
        if op == "resized_crop" or (op.startswith("resize") and config[rule] != 2.0):
            config[rule - 1 : rule + 1] = 0.0, 1.0
    kind = dict(channels=channels, in_channels=channels, out_channels=channels, in_dtype=dtype, out_dtype=dtype)
    return replace(program, nodes=_for_masks(program.nodes), config=tuple(config), **kind, steps=1, asks=0, mix=None)


def _for_masks(nodes: Nodes, of_layer: bool = False) -> Nodes:
    """`of_layer`: of a layer beside an output's own, which masks have not."""
    projected = []
    for node in nodes:
        if isinstance(node, Choice):
            alone = of_layer or node.gate.trait == plan.LAYER
            node = replace(node, ways=tuple((number, _for_masks(way, alone)) for number, way in node.ways))
        else:
            kind = plan.KIND_NONE if node.paints or (of_layer and node.moves) else node.kind
            border = geometry.EDGE if node.border == geometry.DROP else node.border
            node = node.changed(kind=kind, filter=geometry.NEAREST, border=border, channels=-1)
        projected.append(node)
    return tuple(projected)


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
    nodes = _for_points(program.nodes, numbers)
    groups, steps, asks = counts(nodes)
    kind = dict(channels=1, in_channels=1, out_channels=1, in_dtype=torch.uint8, out_dtype=torch.uint8, mix=None)
    lengths = dict(groups=max(groups, 1), steps=max(steps, 1), asks=asks)
    return replace(program, nodes=nodes, config=tuple(config), **kind, **lengths)


def events_of(program: Program) -> tuple[Event, ...]:
    """What befalls points in a program, each once; a group's border word counts them."""
    return tuple(dict.fromkeys(entry.event for entry in program.entries if entry.event is not None))


def _for_points(nodes: Nodes, numbers: dict[Event, int], of_layer: bool = False) -> Nodes:
    """`of_layer` as in `_for_masks`."""
    projected = []
    for node in nodes:
        if isinstance(node, Choice):
            alone = of_layer or node.gate.trait == plan.LAYER
            ways = tuple((number, _for_points(way, numbers, alone)) for number, way in node.ways)
            projected.append(replace(node, ways=ways))
        else:
            projected.append(_entry_for_points(node, numbers, of_layer))
    return tuple(projected)


def _entry_for_points(node: Entry, numbers: dict[Event, int], of_layer: bool) -> Entry:
    one = dict(trait=0, filter=geometry.LINEAR, channels=-1, bound=0, lattice=0, stage_channels=1)
    if node.kind == plan.KIND_GATE or (node.paints and node.op in ELASTIC and not of_layer):
        return node
    if of_layer or node.paints or (node.event is None and not node.moves):
        return node.changed(kind=plan.KIND_NONE)
    if not node.moves:  # an event: a shift by nothing
        kind = dict(kind=plan.KIND_GEOMETRY, op=GEOMETRY["translate_x"], border=points.EVENT + numbers[node.event])
        return node.changed(**kind, **one)
    border = CLASSES.get(geometry.CASES[node.op], points.WARP)
    if node.event is not None:
        border = points.CENTRES
    elif border == points.PAD and node.arguments[6] > 0.0:
        border = points.SHIFT  # CenterCrop's, which torchvision's boxes do not stop at
    return node.changed(border=border, **one)
