"""The tree of a lowered pipeline, and the two ways to go over it.

A sequence is a tuple of nodes, and a node an entry or a choice: an entry is an op's slot, or a gate, which draws a
number; a choice, somewhere behind its gate, holds sequences of which that number lets one act on a row. So RandomApply
is a gate and a choice of one sequence, RandomOrder a gate and as many choices as it has positions, a count a gate and a
choice for each number that it may exceed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch

from .kernels.shared import geometry, plan
from .kernels.torch import dialect as torch_dialect

KEEP_CANVAS = {"flip_horizontal", "flip_vertical", "affine", "rotate", "perspective", "homography", "shear_x"}
KEEP_CANVAS |= {"shear_y", "translate_x", "translate_y"}
SIZE_AT = {"crop": 2, "place": 2, "center_crop": 0, "resized_crop": 4, "resize": 0}  # where arguments name the canvas

Canvas = tuple[int, int]
Canvases = frozenset[Canvas]
Track = Sequence[Callable[[Canvases], Canvases]]
Call = tuple[str, dict]
State = TypeVar("State")


def _word(at: int) -> property:
    return property(lambda entry: entry.words[at])


class Event(NamedTuple):
    """What befalls points at a place of a pipeline.

    Attributes:
        kind: of `kernels.shared.points`.
        values: two numbers; of FORMAT its name, of ARRIVES what is drawn from (`gpuaug.iou_crop`).
    """

    kind: int
    values: tuple = (0.0, 0.0)


@dataclass(frozen=True)
class Entry:
    """One op's slot, or one gate.

    Attributes:
        number: which line of code it is.
        words: that line, see `kernels.shared.plan`; most have a name here, too.
        arguments: twelve, of which the table replaces the first `columns`.
        call: (drawn values, canvas) -> the functional calls that do the same; of a blend, what its record says.
        sizes: canvas -> the extremes of those that it may become, where that is drawn.
        frames: of an op on clips, which frames it takes, see `program.frames`.
        place: of its op in the pipeline, as it was written.
        path: of its op, "4.0.GaussianBlur", as columns and errors name it.
        mask_fill: what masks get from outside of them; None where the pipeline does not say.
        pastes: it copies objects from image to image, behind all else.
        event: what it does to boxes and keypoints beside its map, or alone.
    """

    name: str
    number: int
    words: tuple[int, ...]
    arguments: tuple[float, ...]
    call: Callable[[Sequence[float], Canvas], Any] | None = field(default=None, compare=False, repr=False)
    sizes: Callable[[Canvas], Canvases] | None = field(default=None, compare=False, repr=False)
    frames: Callable[[torch.Tensor, int], torch.Tensor] | None = field(default=None, compare=False, repr=False)
    place: int = 0
    path: str = field(default="", compare=False, repr=False)
    mask_fill: float | None = 0
    event: Event | None = None
    pastes: bool = False

    kind, op, draw, trait = _word(plan.KIND), _word(plan.OP), _word(plan.DRAW), _word(plan.TRAIT)
    gate_at, want = _word(plan.GATE_AT), _word(plan.WANT)
    column, columns, shared = _word(plan.COLUMN), _word(plan.COLUMNS), _word(plan.SHARED)
    config, channels = _word(plan.CONFIG), _word(plan.CHANNELS)
    bound, lattice, stage_channels = _word(plan.BOUND), _word(plan.LATTICE), _word(plan.STAGE_CHANNELS)
    border, filter = _word(plan.BORDER), _word(plan.FILTER)

    def changed(self, **words: int) -> Entry:
        """The entry with other words."""
        line = list(self.words)
        for name, value in words.items():
            line[getattr(plan, name.upper())] = value
        return replace(self, words=tuple(line))

    @property
    def moves(self) -> bool:
        """Whether it is a geometry slot."""
        return self.words[plan.KIND] == plan.KIND_GEOMETRY

    @property
    def paints(self) -> bool:
        """Whether it is a pixel slot."""
        return self.words[plan.KIND] == plan.KIND_PIXEL

    def after(self, canvas: Canvas) -> Canvases:
        """The canvases that a geometry slot may make of one: the extremes where it is drawn."""
        if self.sizes is not None:
            return self.sizes(canvas)
        return frozenset({canvas_after(self.op, self.arguments, canvas)})

    @property
    def blends(self) -> bool:
        """Whether it is a pixel slot that blends the layers of an output."""
        return self.paints and self.trait == plan.BLEND

    @property
    def smooth(self) -> bool:
        """Whether it is a geometry slot that reads between pixels."""
        return self.moves and self.filter != geometry.NEAREST

    @property
    def asks(self) -> bool:
        """Whether it is a pixel slot that must know of the whole image."""
        return self.paints and plan.POINTWISE < self.trait < plan.PLACE


@dataclass(frozen=True)
class Choice:
    """Sequences of which at most one acts on a row: the one that its gate lets through, see `plan.lets_through`.

    Attributes:
        ways: a number and its sequence each: of a choice what the gate draws, of an order the child, of a count what
            it exceeds.
        position: of an order, which of its positions this is.
    """

    gate: Entry
    ways: tuple[tuple[int, tuple[Entry | Choice, ...]], ...]
    position: int = 0


Nodes = tuple[Entry | Choice, ...]


def entries(nodes: Nodes) -> list[Entry]:
    """All entries, in the order of their numbers."""
    found: list[Entry] = []
    for node in nodes:
        if isinstance(node, Choice):
            for _, way in node.ways:
                found += entries(way)
        else:
            found.append(node)
    return found


def follow(
    nodes: Nodes, state: State, advance: Callable[[State, Entry], State], join: Callable[[list[State]], State]
) -> State:
    """What `state` can be behind a sequence, over every way through its gates.

    Args:
        advance: (state, slot) -> the state behind a slot, for rows on which it acts.
        join: the state of which nothing is known but that it is one of a list.
    """
    for node in nodes:
        if isinstance(node, Choice):
            ends = [follow(way, state, advance, join) for _, way in node.ways]
            state = join(ends if node.gate.trait > 0 else [*ends, state])
        elif node.kind != plan.KIND_GATE:
            state = advance(state, node)
    return state


def tracked(track: Track, canvases: Canvases) -> Canvases:
    """The canvases behind all steps of a track."""
    for step in track:
        canvases = step(canvases)
    return canvases


def canvas_after(op: int, arguments: Sequence[float], canvas: Canvas) -> Canvas:
    """The canvas (H, W) behind geometry opcode `op`; drawn arguments matter where they are its size."""
    name = geometry.CASES[op]
    if name in KEEP_CANVAS:
        return canvas
    if name in SIZE_AT:
        at = SIZE_AT[name]
        return int(arguments[at]), int(arguments[at + 1])
    t = torch_dialect.geometry_switch(op, tuple(arguments), float(canvas[0]), float(canvas[1]))
    return int(t[15]), int(t[16])
