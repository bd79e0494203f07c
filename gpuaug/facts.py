"""What holds for every row of a program, folded from its tree: the backends, `explain` and `describe` read it here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence, Set
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from .kernels.shared import blend, draw, geometry, pixel, plan
from .kernels.torch import dialect as torch_dialect
from .kernels.torch.layout import Ask, Layout, Stage
from .tree import Canvas, Canvases, Choice, Entry, Nodes, follow

if TYPE_CHECKING:
    from .program import Program

REMAP_CANVAS = (2, 1024)  # remap takes pixels to [-1, 1] and back in float32: at 1024 that costs 1e-4 of a pixel
REACH = [int(torch_dialect.GEOMETRY["reach"](kind)) for kind in range(geometry.LANCZOS + 1)]  # of each filter
RADIUS = 1  # which argument of a blur it is
BLURS = (pixel.BLUR_X, pixel.BLUR_Y)
T = TypeVar("T", bound=Hashable)


class Facts:
    """What holds for every row of a program, whatever the size of the inputs.

    Attributes:
        slots: each slot, in the order of the pipeline.
        moves, paints, blends: the geometry slots, the pixel slots but those that blend, those that do; blend_ops: what
            these are called.
        smooth: the geometry slots that read between pixels.
        tail: the pixel slots that every row ends with, which need nothing beside the pixel.
        needs: traits of the pixel slots (`plan.MEAN`, ...).
        near: opcodes of those that need neighbours.
        borders: of the geometry slots that may leave their canvas.
        axis_aligned: no slot mixes x and y.
        projective: a coordinate may need a division.
    """

    def __init__(self, program: Program):
        self.nodes, self.asks = program.nodes, program.asks
        self.lengths = {name: getattr(program, name) for name in ("channels", "out_channels", "groups", "steps")}
        self.slots = [entry for entry in program.entries if entry.kind != plan.KIND_GATE]
        self.moves = [slot for slot in self.slots if slot.moves]
        self.paints = [slot for slot in self.slots if slot.paints and not slot.blends]
        self.blends = [slot for slot in self.slots if slot.blends]
        self.blend_ops = {blend.CASES[slot.op] for slot in self.blends}
        self.smooth = [slot for slot in self.moves if slot.smooth]
        drawn = [slot for slot in self.slots if slot.kind != plan.KIND_NONE]
        self.tail = list(itertools.takewhile(_ends, reversed(drawn)))[::-1]
        self.needs = {slot.trait for slot in self.paints}
        self.near = {slot.op for slot in self.paints if slot.trait == plan.NEIGHBOURS}
        self.borders = {slot.border for slot in self.moves if not slot.trait}
        maps = {geometry.CASES[slot.op] for slot in self.moves}
        self.axis_aligned, self.projective = maps <= geometry.AXIS_ALIGNED, bool(maps & geometry.PROJECTIVE)

    @cached_property
    def of_plans(self) -> dict[str, Any]:
        """The fields of `layout`."""
        smooth, zero = self.smooth, frozenset({0})
        groups = reached(self.nodes, zero, lambda n, slot: {n + slot.moves})
        steps = reached(self.nodes, zero, lambda n, slot: {n + slot.paints})
        asks = reached(self.nodes, zero, lambda n, slot: {n + slot.asks})
        last = max((slot.number for slot in self.moves), default=-1)
        first = min((slot.number for slot in self.paints if slot.asks), default=math.inf)
        blend = min((slot.number for slot in self.blends), default=math.inf)
        opening = next((slot for slot in self.slots if slot.paints or (slot.moves and not slot.trait)), None)
        here = [[slot for slot in self.paints if j in steps[slot.number]] for j in range(self.lengths["steps"])]
        asking = [[slot for slot in self.paints if slot.asks and k in asks[slot.number]] for k in range(self.asks)]
        return self.lengths | dict(
            separable=self.axis_aligned,
            projective=self.projective,
            smooth=bool(smooth),
            front=bool(smooth) and not (opening.smooth and opening.gate_at < 0),
            fills=geometry.FILL in self.borders,
            edges=bool(self.borders - {geometry.FILL}),
            folds=any(map(geometry.folds, self.borders)),
            rounds={0: "none", len(smooth): "all"}.get(sum(slot.lattice for slot in smooth), "some"),
            inline=last < first,
            resumes=not smooth or smooth[-1].number < first,
            asks=tuple(
                Ask(_stages(slots, lambda slot: (slot.trait, slot.op)), _most(groups, slots), _most(steps, slots))
                for slots in asking
            ),
            step_ops=tuple(_stages(slots, lambda slot: slot.op) for slots in here),
            fixed_steps=tuple(
                len(s) == 1 and s[0].gate_at < 0 and len(steps[s[0].number]) == 1 and s[0].number < blend for s in here
            ),
            moved_steps=tuple(any(slot.trait == plan.PLACE and slot.number < last for slot in s) for s in here),
            needs={slot.op: slot.trait for slot in self.paints},
            blends=tuple(sorted({slot.op for slot in self.blends})),
            bytes=all(slot.lattice for slot in self.blends),
        )


class Sizes:
    """What holds for every row of inputs of a program's sizes, worked out where it is asked for."""

    def __init__(self, program: Program):
        self.nodes, self.config, self.inputs = program.nodes, program.config, program.canvases
        self.moves = program.facts.moves

    @cached_property
    def canvases(self) -> dict[int, dict[Canvas, Canvases]]:
        """The canvases (H, W) that may stand in front of each slot, by its number, and what it may make of them."""
        return reached(self.nodes, self.inputs, lambda canvas, slot: slot.after(canvas) if slot.moves else {canvas})

    @cached_property
    def largest(self) -> Canvas:
        """The largest height and the largest width of any stage, the inputs included."""
        seen = self.inputs.union(*itertools.chain.from_iterable(made.values() for made in self.canvases.values()))
        return max(h for h, _ in seen), max(w for _, w in seen)

    @cached_property
    def taps(self) -> int:
        """The most taps that a row needs along an axis.

        A smooth slot behind another is merged into it: the first one stretches the filter of the second
        (`plan.stretch`). So what is followed is the product of the antialiased filters' widths, that of the stretches
        of all smooth slots but the last, and the last one's.
        """

        def advance(now: tuple[float, float, float], slot: Entry) -> tuple[float, float, float]:
            if not slot.smooth:
                return now
            made = self.canvases[slot.number]
            ratio = max(1.0, *(a[axis] / b[axis] for a, after in made.items() for b in after for axis in (0, 1)))
            antialias = geometry.CASES[slot.op].startswith("resize") and slot.arguments[6] > 0
            last = 1.0 if antialias else _stretch(self.config, slot, ratio)
            return now[0] * (ratio if antialias else 1.0), now[1] * now[2], last

        widest = follow(self.nodes, (1.0, 1.0, 1.0), advance, lambda ways: tuple(map(max, *ways, ways[0])))
        reach = max((REACH[slot.filter] for slot in self.moves if slot.smooth), default=1)
        return math.ceil(2 * reach * (widest[0] * widest[1] if widest[0] > 1.0 else 1.0))


def _ends(slot: Entry) -> bool:
    return slot.paints and slot.trait == plan.POINTWISE and slot.gate_at < 0


def reached(nodes: Nodes, start: frozenset[T], after: Callable[[T, Entry], Set[T]]) -> dict[int, dict[T, Set[T]]]:
    """The values that may stand in front of each slot, by its number, and what it may make of each.

    Args:
        start: those in front of all.
        after: (value, slot) -> the values that may stand behind it.
    """
    found: dict[int, dict[T, Set[T]]] = {}

    def advance(before: frozenset[T], slot: Entry) -> frozenset[T]:
        made = found[slot.number] = {value: after(value, slot) for value in before}
        return frozenset().union(*made.values())

    follow(nodes, start, advance, lambda ways: frozenset().union(*ways))
    return found


def counts(nodes: Nodes) -> tuple[int, int, int]:
    """The most geometry groups, pixel steps and asks that a row can meet.

    Of a gate's choices a row takes one number's, at all positions; of an order each child's, at one; of a count all.
    """
    total, choices = [0, 0, 0], {}
    for node in nodes:
        if isinstance(node, Choice):
            _, ways = choices.setdefault(node.gate.number, (node.gate.trait, {}))
            for number, way in node.ways:
                ways.setdefault(number, []).append(counts(way))
        elif node.moves:
            total[0] += 1
        elif node.paints:
            total[1] += 1
            total[2] += node.asks
    for trait, ways in choices.values():
        of_number = [_each(max if trait > 0 else sum, way) for way in ways.values()]
        one = trait in (0, plan.LAYER)  # a row takes one way
        total = _each(sum, [total, _each(max if one else sum, of_number)])
    return tuple(total)


def _each(fold: Callable, counted: list) -> Sequence[int]:
    return counted[0] if len(counted) == 1 else list(map(fold, zip(*counted, strict=True)))


# --- plans ------------------------------------------------------------------------------------------------------------
def layout(program: Program) -> Layout:
    """What the host knows about every plan of a program."""
    canvas, taps = program.sizes.largest, program.sizes.taps
    remaps = REMAP_CANVAS[0] <= min(canvas) and max(canvas) <= REMAP_CANVAS[1]
    ways = {(slot.filter, slot.border) for slot in program.facts.smooth}
    bilinear = ways == {(geometry.LINEAR, geometry.FILL)} and taps == 2 and remaps
    radii = _radii(program, canvas)
    return Layout(
        **program.facts.of_plans,
        canvas=canvas,
        taps=taps,
        lanczos=geometry.LANCZOS in {slot.filter for slot in program.facts.smooth},
        bilinear=bilinear,
        radii=radii,
        elastic=_elastic(program),
    )


def _stages(slots: Sequence[Entry], key: Callable[[Entry], Hashable]) -> dict[Hashable, Stage | None]:
    """The (bound, lattice, channels) of the slots of each key, or None where they differ."""
    found: dict[Hashable, Stage | None] = {}
    for slot in slots:
        stage = Stage(float(slot.bound), float(slot.lattice), float(slot.stage_channels))
        found[key(slot)] = stage if found.get(key(slot), stage) == stage else None
    return found


def _most(numbers: dict[int, dict[int, Set[int]]], slots: Sequence[Entry]) -> int:
    return max((n for slot in slots for n in numbers[slot.number]), default=0)


def _radii(program: Program, canvas: Canvas) -> dict[int, int]:
    """The most that each blur reaches; as far as reflection can, if it is drawn."""
    radii: dict[int, int] = {}
    for slot in program.facts.paints:
        if slot.op not in BLURS:
            continue
        radius = canvas[1 if slot.op == pixel.BLUR_X else 0] - 1
        if slot.columns <= RADIUS:
            radius = program.config[RADIUS + (slot.channels if slot.channels >= 0 else slot.config)]
        radii[slot.op] = max(radii.get(slot.op, 0), int(radius))
    return radii


def _elastic(program: Program) -> tuple[int, int]:
    """The most that the blurs of elastic transforms reach, and the most taps that these take along an axis."""
    reach, taps = 0, 2
    for slot in program.facts.paints:
        if slot.op == pixel.ELASTIC:
            _, _, *sigmas, kind = program.config[slot.channels : slot.channels + 5]
            reach = max(reach, *(int(torch_dialect.ELASTIC["blur_radius"](sigma)) for sigma in sigmas))
            taps = max(taps, 4 if kind == geometry.CUBIC else 2)
    return reach, taps


def _stretch(config: Sequence[float], slot: Entry, ratio: float) -> float:
    """A bound of `plan.stretch` for a smooth slot without antialias, whose canvases shrink by at most `ratio`."""
    name = geometry.CASES[slot.op]
    if name in ("rotate", "rotate_expand", "translate_x", "translate_y"):
        return 1.0
    if name.startswith("resize"):
        return min(ratio, plan.STRETCH)
    if name.startswith("shear"):
        lean = _largest(config, slot)
        return plan.STRETCH if lean is None else min(1.01 * _norm(1.0, lean, 0.0, 1.0), plan.STRETCH)
    if name != "affine" or not slot.draw:
        return plan.STRETCH
    *_, scale, _, x0, x1, y0, y1 = config[slot.config + 12 :][:12]
    norms = []
    for shear_x, shear_y in itertools.product((x0, 0.0, x1), (y0, 0.0, y1)):
        m = torch_dialect.GEOMETRY["affine"]((0.0, 0.0, 0.0, scale, shear_x, shear_y, *[0.0] * 6), 1.0, 1.0)
        norms.append(_norm(m[0], m[1], m[3], m[4]))
    return min(1.01 * max(norms), plan.STRETCH)


def _norm(a: float, b: float, c: float, d: float) -> float:
    """The largest singular value of a 2 x 2 matrix."""
    squares, det = a**2 + b**2 + c**2 + d**2, a * d - b * c
    return math.sqrt((squares + math.sqrt(max(squares**2 - 4 * det**2, 0.0))) / 2)


def _largest(config: Sequence[float], slot: Entry) -> float | None:
    """The largest magnitude of an op's first argument; None where it is not known."""
    if not slot.columns:
        return abs(config[slot.config])
    c = config[slot.config + 12 :][:12]
    match draw.CASES.get(slot.draw):
        case "draw_uniform":
            return max(abs(c[0]), abs(c[1]))
        case "draw_level":
            return abs(c[10]) + abs(c[11]) * max(abs(c[0]), abs(c[1])) if c[9] != 1.0 and not c[2] else None
        case "draw_noisy_level":
            return max(abs(c[7]), abs(c[8])) * abs(c[9]) if c[11] == 0.0 and c[10] == 0.0 else None
    return None
