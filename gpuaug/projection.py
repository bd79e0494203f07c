"""What becomes of a program for what is not an image: the same table, the same geometry, read otherwise."""

from __future__ import annotations

from dataclasses import replace

import torch

from .kernels.shared import geometry, pixel, plan
from .program import Program
from .tree import Choice, Nodes


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
