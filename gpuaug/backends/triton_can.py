"""What the rows of a program can meet, read from its entries: the Triton kernels compile nothing else."""

from __future__ import annotations

from ..kernels import geometry, pixel, plan
from ..kernels.triton_dialect import bits
from ..kernels.triton_walk import MIXED, Can
from ..program import Entry, Program

_OPCODES = {name: code for code, name in geometry.CASES.items()}
MIRRORS = {_OPCODES["flip_horizontal"], _OPCODES["flip_vertical"]}


def _tail_word(entry: Entry) -> tuple[int, int, int, int]:
    code = entry.code
    drawn, fixed = code[plan.COLUMNS], code[plan.CHANNELS] < 0
    zeros = bits(i for i in range(drawn, 8) if fixed and entry.arguments[i] == 0.0)
    return code[plan.OP], code[plan.LATTICE], code[plan.STAGE_CHANNELS], zeros


def _common(values) -> int:
    values = set(values)
    return MIXED if len(values) > 1 else next(iter(values), 0)


def always_smooth(program: Program) -> bool:
    """Whether a smooth group stands in every story, the program's and those of its asks."""
    for entry in program.entries:
        code = entry.code
        if code[plan.KIND] == plan.KIND_PIXEL and code[plan.TRAIT] not in (plan.POINTWISE, plan.PLACE):
            return False
        if code[plan.KIND] == plan.KIND_GEOMETRY and code[plan.FILTER] != geometry.NEAREST and code[plan.GATE_AT] < 0:
            return plan.NEIGHBOURS not in program.needs
    return False


def one_group(program: Program) -> bool:
    """Whether a row has one geometry group at the most: what is merged by `plan.place`, in the worst case."""
    checked, mirrored, closed = None, False, False
    for entry in program.entries:
        code = entry.code
        if code[plan.KIND] == plan.KIND_PIXEL and code[plan.TRAIT] != plan.POINTWISE:
            closed = True
        if code[plan.KIND] != plan.KIND_GEOMETRY:
            continue
        nearest, mirrors = code[plan.FILTER] == geometry.NEAREST, code[plan.OP] in MIRRORS
        if closed:
            return False
        if code[plan.TRAIT]:
            if mirrors and checked and checked[plan.FILTER] == geometry.NEAREST and checked[plan.OP] != _OPCODES["pad"]:
                return False
            mirrored |= mirrors
        else:
            if checked or (mirrored and nearest):
                return False
            checked = code
    return True


def before_smooth(program: Program) -> tuple[bool, bool]:
    """Whether geometry groups, and pixel steps, may stand in front of the first smooth group of a story.

    An integer map that never leaves its canvas merges into the smooth group, unless a pixel step with a trait parts
    them. A step that needs neighbours begins a new story.
    """
    groups = steps = False
    group = step = merging = False
    first = True  # the next smooth group can be a story's first
    for entry in program.entries:
        kind, trait, always = entry.code[plan.KIND], entry.code[plan.TRAIT], entry.code[plan.GATE_AT] < 0
        if kind == plan.KIND_PIXEL and trait == plan.NEIGHBOURS:
            if always or not first:
                group, step, merging, first = False, False, False, True
            else:
                group |= merging
        elif kind == plan.KIND_PIXEL:
            step = True
            group |= merging and trait != plan.POINTWISE
        elif kind == plan.KIND_GEOMETRY:
            if first and entry.code[plan.FILTER] != geometry.NEAREST:
                groups, steps, first = groups or group, steps or step, not always
            group |= trait == 0
            merging = True
    return groups, steps


def can(program: Program) -> Can:
    """What the rows of a program can meet."""
    codes = [e.code for e in program.entries if e.code[plan.KIND] == plan.KIND_GEOMETRY and not e.code[plan.TRAIT]]
    borders = {code[plan.BORDER] for code in codes}
    filters = {code[plan.FILTER] for code in codes} - {geometry.NEAREST}
    groups, steps = before_smooth(program)
    pixels = [e.code for e in program.entries if e.code[plan.KIND] == plan.KIND_PIXEL]
    pixels = pixels[: len(pixels) - len(program.tail)]
    smooth = sum(code[plan.FILTER] != geometry.NEAREST for code in codes)
    return Can(
        channels=program.channels,
        ops=bits(code[plan.OP] for code in pixels),
        tail=tuple(_tail_word(entry) for entry in program.tail),
        lattice=_common(code[plan.LATTICE] for code in pixels),
        stage_channels=_common(code[plan.STAGE_CHANNELS] for code in pixels),
        project=program.projective,
        axes=all(geometry.CASES[op] in geometry.AXIS_ALIGNED for op in program.geometry_ops),
        one_group=one_group(program),
        snap=smooth > 1 or smooth < len(codes),
        smooth_border=_common(code[plan.BORDER] for code in codes if code[plan.FILTER] != geometry.NEAREST),
        always_smooth=always_smooth(program) and not (groups or steps),
        wide=False,
        fill=geometry.FILL in borders,
        fold=not borders.isdisjoint({geometry.REFLECT, geometry.SYMMETRIC}),
        drop=geometry.DROP in borders,
        filter=MIXED if len(filters) > 1 else next(iter(filters), geometry.NEAREST),
        groups_before=groups,
        steps_before=steps,
        mean=plan.MEAN in program.needs,
        extremes=plan.EXTREMES in program.needs,
        histogram=plan.HISTOGRAM in program.needs,
        neighbours=plan.NEIGHBOURS in program.needs,
        place=plan.PLACE in program.needs,
        blur=not program.pixel_ops.isdisjoint({pixel.BLUR_X, pixel.BLUR_Y}),
    )
