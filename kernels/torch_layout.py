"""What the host knows about every plan of a program, read from its code.

The torch backend looks at no value of a plan. What it may skip, and how long its loops are, it knows from a `Layout`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import geometry, pixel, plan

FOLDING = (geometry.REFLECT, geometry.SYMMETRIC)
REMAP_CANVAS = (2, 1024)  # remap takes pixels to [-1, 1] and back in float32: at 1024 that costs 1e-4 of a pixel
RADIUS = 1  # which argument of a blur it is
ASKING = (plan.MEAN, plan.EXTREMES, plan.HISTOGRAM, plan.NEIGHBOURS)

Words = Sequence[int]
Stage = tuple[float, float, float]


@dataclass(frozen=True)
class Ask:
    """What the k-th ask of a row can be.

    Attributes:
        ops: each (trait, opcode) with its (bound, lattice, channels), or None where rows differ.
        groups, steps: the most that stand in front of it.
    """

    ops: dict[tuple[int, int], Stage | None]
    groups: int
    steps: int


@dataclass(frozen=True)
class Layout:
    """What the host knows about every plan of a program.

    Attributes:
        canvas: largest height and largest width of any stage.
        separable: x and y never mix.
        front: something may stand in front of a smooth group, or a row may have none.
        bilinear: every smooth group is a plain bilinear one with fill around its canvas, which `remap` can do.
        rounds: smooth results on the lattice: "none", "all" or "some".
        inline: what is asked for lies behind all geometry, so it is known of the very image being written.
        settled: no smooth group stands behind an ask, so that every ask's image can be gone on from.
        asks: what each can be.
        step_ops: the opcodes that can stand at each pixel step, with (bound, lattice, channels), or None where rows
            differ.
        fixed_steps: whether every row has the one opcode at that step.
        moved_steps: whether geometry can stand behind an op at that step that depends on its place.
        needs: the traits of the opcodes.
        radii: the most that each blur reaches, in pixels.
    """

    channels: int
    out_channels: int
    groups: int
    steps: int
    canvas: tuple[int, int]
    taps: int
    separable: bool
    projective: bool
    smooth: bool
    front: bool
    bilinear: bool
    fills: bool
    edges: bool
    folds: bool
    rounds: str
    inline: bool
    settled: bool
    asks: tuple[Ask, ...]
    step_ops: tuple[dict[int, Stage | None], ...]
    fixed_steps: tuple[bool, ...]
    moved_steps: tuple[bool, ...]
    needs: dict[int, int]
    radii: dict[int, int]


def lines(code: Words) -> list[Words]:
    """The entries of a program's code."""
    return [code[at : at + plan.ENTRY] for at in range(0, len(code), plan.ENTRY)]


def axis_aligned(code: Words) -> bool:
    """Whether no slot mixes x and y."""
    return all(geometry.CASES[e[plan.OP]] in geometry.AXIS_ALIGNED for e in lines(code) if _moves(e))


def _moves(e: Words) -> bool:
    return e[plan.KIND] == plan.KIND_GEOMETRY


def _paints(e: Words) -> bool:
    return e[plan.KIND] == plan.KIND_PIXEL


def _asks(e: Words) -> bool:
    return _paints(e) and e[plan.TRAIT] in ASKING


def _stage(e: Words) -> Stage:
    return float(e[plan.BOUND]), float(e[plan.LATTICE]), float(e[plan.STAGE_CHANNELS])


def layout(code: Words, config, channels, out_channels, groups, steps, asks, canvas, taps: int) -> Layout:
    """Read a program's code for what holds in all of its plans."""
    entries = lines(code)
    smooth = [i for i, e in enumerate(entries) if _moves(e) and e[plan.FILTER] != geometry.NEAREST]
    moving = [i for i, e in enumerate(entries) if _moves(e)]
    asking = [i for i, e in enumerate(entries) if _asks(e)]
    pixels = [e for e in entries if _paints(e)]
    borders = {entries[i][plan.BORDER] for i in moving if entries[i][plan.TRAIT] == 0}
    first = asking[0] if asking else len(entries)
    ways = {(entries[i][plan.FILTER], entries[i][plan.BORDER]) for i in smooth}
    numbers = _numbers(entries, _paints)
    step_ops, fixed, moved = _steps(entries, numbers, steps)
    return Layout(
        channels,
        out_channels,
        groups,
        steps,
        canvas,
        taps,
        separable=axis_aligned(code),
        projective=any(geometry.CASES[entries[i][plan.OP]] == "perspective" for i in moving),
        smooth=bool(smooth),
        front=bool(smooth) and not _smooth_comes_first(entries),
        bilinear=ways == {(geometry.LINEAR, geometry.FILL)} and taps == 2 and _remaps(canvas),
        fills=geometry.FILL in borders,
        edges=bool(borders - {geometry.FILL}),
        folds=bool(borders & set(FOLDING)),
        rounds={0: "none", len(smooth): "all"}.get(sum(entries[i][plan.LATTICE] for i in smooth), "some"),
        inline=not moving or moving[-1] < first,
        settled=not smooth or smooth[-1] < first,
        asks=_all_asks(entries, numbers, asks),
        step_ops=step_ops,
        fixed_steps=fixed,
        moved_steps=moved,
        needs={e[plan.OP]: e[plan.TRAIT] for e in pixels},
        radii=_radii(pixels, config, canvas),
    )


def _remaps(canvas: tuple[int, int]) -> bool:
    return REMAP_CANVAS[0] <= min(canvas) and max(canvas) <= REMAP_CANVAS[1]


def _smooth_comes_first(entries: list[Words]) -> bool:
    """Whether every row meets a smooth slot with nothing but merging geometry in front of it."""
    for e in entries:
        if _paints(e):
            return False
        if _moves(e) and e[plan.TRAIT] == 0:
            return e[plan.FILTER] != geometry.NEAREST and e[plan.GATE_AT] < 0
    return False


# --- the ways through the gates ---------------------------------------------------------------------------------------
def follow(entries: list[Words], state, advance: Callable, join: Callable):
    """What `state` can be behind all entries, over every way through the gates.

    Args:
        advance: (state, i) -> the state behind entry i, for rows on which it acts.
        join: the state of which nothing is known but that it is one of a list.
    """
    chains = [_chain(entries, e) for e in entries]
    items = [(i, chain) for i, chain in enumerate(chains) if entries[i][plan.KIND] != plan.KIND_GATE]
    return _follow(entries, items, 0, state, advance, join)


def _chain(entries: list[Words], e: Words) -> list[tuple[int, int]]:
    """An entry's gates and what it wants of them, the outermost first."""
    chain = []
    while e[plan.GATE_AT] >= 0:
        chain.insert(0, (e[plan.GATE_AT], e[plan.WANT]))
        e = entries[e[plan.GATE_AT]]
    return chain


def _follow(entries, items, depth: int, state, advance, join):
    for gate, run in itertools.groupby(items, lambda item: item[1][depth][0] if len(item[1]) > depth else None):
        if gate is None:
            for i, _ in run:
                state = advance(state, i)
            continue
        trait = entries[gate][plan.TRAIT]
        wants = [(item, item[1][depth][1]) for item in run]
        for _, turn in itertools.groupby(wants, lambda pair, trait=trait: _turn(pair[1], trait)):
            children: dict[int, list] = {}
            for item, want in turn:
                children.setdefault(want, []).append(item)
            ends = [_follow(entries, child, depth + 1, state, advance, join) for child in children.values()]
            state = join(ends if len(children) == trait else [*ends, state])
    return state


def _turn(want: int, trait: int) -> int:
    """Of a permutation the place, of a count the number; the children of one turn exclude each other."""
    return want % 16 if trait > 0 else want if trait < 0 else 0


def _numbers(entries: list[Words], counted: Callable[[Words], bool]) -> list[frozenset[int]]:
    """How many of the entries that are counted can stand in front of each."""
    found = [frozenset({0})] * len(entries)

    def advance(before: frozenset[int], i: int) -> frozenset[int]:
        found[i] = before
        return frozenset(n + 1 for n in before) if counted(entries[i]) else before

    follow(entries, frozenset({0}), advance, lambda states: frozenset().union(*states))
    return found


def _steps(entries: list[Words], numbers: list[frozenset[int]], steps: int):
    """`Layout`'s step_ops, fixed_steps and moved_steps."""
    ops: list[dict] = [{} for _ in range(steps)]
    met, fixed, moved = [0] * steps, [False] * steps, [False] * steps
    last = max((i for i, e in enumerate(entries) if _moves(e)), default=-1)
    for i, e in enumerate(entries):
        if not _paints(e):
            continue
        for j in (j for j in numbers[i] if j < steps):
            ops[j][e[plan.OP]] = _merged(ops[j], e[plan.OP], e)
            moved[j] |= e[plan.TRAIT] == plan.PLACE and i < last
            fixed[j] = numbers[i] == {j} and e[plan.GATE_AT] < 0
            met[j] += 1
    return tuple(ops), tuple(f and n == 1 for f, n in zip(fixed, met, strict=True)), tuple(moved)


def _merged(known: dict, key, e: Words) -> Stage | None:
    """An entry's stage, if it is that of the others of its key."""
    return _stage(e) if known.get(key, _stage(e)) == _stage(e) else None


def _all_asks(entries: list[Words], numbers: list[frozenset[int]], asks: int) -> tuple[Ask, ...]:
    places, groups = _numbers(entries, _asks), _numbers(entries, _moves)
    found = []
    for k in range(asks):
        here = [i for i, e in enumerate(entries) if _asks(e) and k in places[i]]
        ops: dict = {}
        for e in (entries[i] for i in here):
            ops[e[plan.TRAIT], e[plan.OP]] = _merged(ops, (e[plan.TRAIT], e[plan.OP]), e)
        most = (max((n for i in here for n in of[i]), default=0) for of in (groups, numbers))
        found.append(Ask(ops, *most))
    return tuple(found)


def _radii(pixels: list[Words], config: Sequence[float], canvas: tuple[int, int]) -> dict[int, int]:
    """The most that each blur reaches; as far as reflection can, if it is drawn."""
    radii: dict[int, int] = {}
    for e in pixels:
        op = e[plan.OP]
        if op not in (pixel.BLUR_X, pixel.BLUR_Y):
            continue
        radius = canvas[1 if op == pixel.BLUR_X else 0] - 1
        if e[plan.COLUMNS] <= RADIUS:
            radius = config[RADIUS + (e[plan.CHANNELS] if e[plan.CHANNELS] >= 0 else e[plan.CONFIG])]
        radii[op] = max(radii.get(op, 0), int(radius))
    return radii
