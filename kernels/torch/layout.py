"""What the host knows about every plan of a program.

The torch renderer looks at no value of a plan. What it may skip, and how long its loops are, it knows from a `Layout`.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Stage(NamedTuple):
    """What a pixel formula knows of its stage."""

    bound: float
    lattice: float
    channels: float


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
        resumes: no smooth group stands behind an ask, so that every ask's image can be gone on from.
        asks: what each can be.
        step_ops: the opcodes that can stand at each pixel step, with (bound, lattice, channels), or None where rows
            differ.
        fixed_steps: whether every row has the one opcode at that step, in front of any blend.
        moved_steps: whether geometry can stand behind an op at that step that depends on its place.
        needs: the traits of the opcodes.
        blends: the opcodes that blend layers, and whether those hold bytes.
        radii: the most that each blur reaches, in pixels.
        lanczos: a smooth group may be one of LANCZOS.
        elastic: the most that the blurs of elastic transforms reach, and their taps along an axis.
    """

    channels: int
    out_channels: int
    groups: int
    steps: int
    canvas: tuple[int, int]
    taps: int
    lanczos: bool
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
    resumes: bool
    asks: tuple[Ask, ...]
    step_ops: tuple[dict[int, Stage | None], ...]
    fixed_steps: tuple[bool, ...]
    moved_steps: tuple[bool, ...]
    needs: dict[int, int]
    blends: tuple[int, ...]
    bytes: bool
    radii: dict[int, int]
    elastic: tuple[int, int]
