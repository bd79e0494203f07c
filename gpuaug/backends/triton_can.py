"""What the rows of a program can meet, read from its entries: the Triton kernels compile nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from ..kernels.shared import geometry, pixel, plan
from ..kernels.triton.dialect import bits
from ..kernels.triton.walk import MIXED, Can, TailStep
from ..program import Program
from ..tree import Entry

MIRRORS = {"flip_horizontal", "flip_vertical"}
BLURS = {pixel.BLUR_X, pixel.BLUR_Y}


def _tail_step(slot: Entry) -> TailStep:
    zeros = bits(i for i in range(slot.columns, 8) if slot.channels < 0 and slot.arguments[i] == 0.0)
    return TailStep(slot.op, slot.lattice, slot.stage_channels, zeros)


def _common(values: Iterable[int]) -> int:
    values = set(values)
    return MIXED if len(values) > 1 else next(iter(values), 0)


def always_smooth(program: Program) -> bool:
    """Whether a smooth group stands in every story, the program's and those of its asks."""
    first = next((slot for slot in program.facts.slots if slot.asks or (slot.smooth and slot.gate_at < 0)), None)
    return first is not None and first.smooth and plan.NEIGHBOURS not in program.facts.needs


def one_group(program: Program) -> bool:
    """Whether a row has one geometry group at the most: what is merged by `plan.geometry_step`, in the worst case."""
    checked, mirrored, closed = None, False, False
    for slot in program.facts.slots:
        closed |= slot.paints and slot.trait != plan.POINTWISE
        if not slot.moves:
            continue
        if closed:
            return False
        mirrors = geometry.CASES[slot.op] in MIRRORS
        if slot.trait:
            if mirrors and checked and not checked.smooth and geometry.CASES[checked.op] != "pad":
                return False
            mirrored |= mirrors
        else:
            if checked or (mirrored and not slot.smooth):
                return False
            checked = slot
    return True


def before_smooth(program: Program) -> tuple[bool, bool]:
    """Whether geometry groups, and pixel steps, may stand in front of the first smooth group of a story.

    An integer map that never leaves its canvas merges into the smooth group, unless a pixel step with a trait parts
    them. A step that needs neighbours begins a new story.
    """
    groups = steps = False
    group = step = merging = False
    first = True  # the next smooth group can be a story's first
    for slot in program.facts.slots:
        if slot.paints and slot.trait == plan.NEIGHBOURS:
            if slot.gate_at < 0 or not first:
                group, step, merging, first = False, False, False, True
            else:
                group |= merging
        elif slot.paints:
            step = True
            group |= merging and slot.trait != plan.POINTWISE
        elif slot.moves:
            if first and slot.smooth:
                groups, steps, first = groups or group, steps or step, slot.gate_at >= 0
            group |= slot.trait == 0
            merging = True
    return groups, steps


def _before_tail(program: Program) -> list[Entry]:
    facts = program.facts
    return facts.paints[: len(facts.paints) - len(facts.tail)]


def behind(program: Program, meets: Can) -> Can:
    """What they can meet between the blend and the tail."""
    first = min(slot.number for slot in program.facts.blends)
    pixels = [slot for slot in _before_tail(program) if slot.number > first]
    return replace(
        meets,
        ops=bits(slot.op for slot in pixels if slot.trait in (plan.POINTWISE, plan.PLACE)),
        lattice=_common(slot.lattice for slot in pixels),
        stage_channels=_common(slot.stage_channels for slot in pixels),
        fill=False,
        steps_before=False,
        histogram=False,
    )


def can(program: Program) -> Can:
    """What the rows of a program can meet; in front of its blend, if it has one, and in its tail."""
    facts = program.facts
    checked = [slot for slot in facts.moves if not slot.trait]
    smooth = [slot for slot in checked if slot.smooth]
    last = max((slot.number for slot in facts.blends), default=math.inf)
    pixels = [slot for slot in _before_tail(program) if slot.number < last]
    groups, steps = before_smooth(program)
    return Can(
        channels=program.channels,
        ops=bits(slot.op for slot in pixels),
        tail=tuple(_tail_step(slot) for slot in facts.tail),
        lattice=_common(slot.lattice for slot in pixels),
        stage_channels=_common(slot.stage_channels for slot in pixels),
        project=facts.projective,
        axes=facts.axis_aligned,
        one_group=one_group(program),
        snap=len(smooth) > 1 or len(smooth) < len(checked),
        smooth_border=_common(slot.border for slot in smooth),
        always_smooth=always_smooth(program) and not (groups or steps),
        wide=False,
        ragged=False,
        fill=geometry.FILL in facts.borders,
        fold=any(map(geometry.folds, facts.borders)),
        drop=geometry.DROP in facts.borders,
        filter=_common(slot.filter for slot in smooth),
        lanczos=geometry.LANCZOS in {slot.filter for slot in smooth},
        groups_before=groups,
        steps_before=steps,
        mean=plan.MEAN in facts.needs,
        extremes=plan.EXTREMES in facts.needs,
        histogram=plan.HISTOGRAM in facts.needs,
        neighbours=plan.NEIGHBOURS in facts.needs,
        place=plan.PLACE in facts.needs,
        blur=bool(facts.near & BLURS),
        jpeg=pixel.JPEG in facts.near,
        elastic=pixel.ELASTIC in facts.near,
        sums=bool(facts.near & (BLURS | {pixel.SHARPNESS})),
    )
