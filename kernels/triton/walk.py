"""The way back on Triton: what the rows of a program can meet, and their geometry groups.

`b_birth` holds, for a pixel born on the way back, the offset of its group in the plan, else 0.
"""

import sys
from dataclasses import dataclass
from typing import NamedTuple

import triton.language as tl

from ..shared.geometry import FILL, NEAREST, fold, folds, snap
from ..shared.plan import G_BORDER, G_FILTER, G_PROJECTIVE, G_WINDOW, HEADER, group_at
from . import dialect

MIXED = -1


class TailStep(NamedTuple):
    """A step that ends every row's story: `zeros` has the bits of the arguments that are known to be 0."""

    op: int
    lattice: int
    channels: int
    zeros: int


@dataclass(frozen=True)
class Can:
    """What the rows of a program can meet: no sizes, and nothing that is drawn.

    Attributes:
        channels: of the engine.
        ops: the opcodes of `pixel` that occur in front of the tail, as the bits of one integer.
        tail: the steps that run straight. No geometry stands behind them.
        lattice, stage_channels: of all steps in front of the tail, MIXED where they differ.
        project: divide by a third coordinate.
        axes: every matrix keeps x and y apart.
        one_group: one geometry group at the most.
        snap: read a pixel that must be rounded to, or lies outside of its window; else nearest groups map pixels of
            their canvas to pixels of their canvas.
        smooth_border: the one border rule of all smooth groups, MIXED for several.
        always_smooth: every story has a smooth group, and no pixel steps in front of it.
        wide: images of which a channel spans 2^31 elements and more.
        ragged: images of which each has a size, a place and strides of its own in the output.
        fill, fold, drop: leave a window whose border answers so.
        filter: the one filter of all smooth groups, MIXED for several, NEAREST for no such groups.
        lanczos: one of them is LANCZOS.
        groups_before, steps_before: have geometry groups, or pixel steps, in front of the smooth group.
        mean, extremes, histogram, neighbours, place: have a pixel step that needs so.
        blur: need neighbours for a blur.
        jpeg, elastic: need them for JPEG, for an elastic transform.
        sums: need them for sharpness or a blur.
    """

    channels: int
    ops: int
    tail: tuple[TailStep, ...]
    lattice: int
    stage_channels: int
    project: bool
    axes: bool
    one_group: bool
    snap: bool
    smooth_border: int
    always_smooth: bool
    wide: bool
    ragged: bool
    fill: bool
    fold: bool
    drop: bool
    filter: int
    lanczos: bool
    groups_before: bool
    steps_before: bool
    mean: bool
    extremes: bool
    histogram: bool
    neighbours: bool
    place: bool
    blur: bool
    jpeg: bool
    elastic: bool
    sums: bool


def through(plan, o_group, x, y, CAN: tl.constexpr):
    """(x, y) <- M (x, y, 1), divided by the third coordinate where the group is projective."""
    o_matrix = plan + o_group
    if CAN.axes:
        u = tl.load(o_matrix) * x + tl.load(o_matrix + 2)
        v = tl.load(o_matrix + 4) * y + tl.load(o_matrix + 5)
    else:
        u = tl.load(o_matrix) * x + tl.load(o_matrix + 1) * y + tl.load(o_matrix + 2)
        v = tl.load(o_matrix + 3) * x + tl.load(o_matrix + 4) * y + tl.load(o_matrix + 5)
    if CAN.project and tl.load(o_matrix + G_PROJECTIVE) > 0.0:
        z = tl.load(o_matrix + 6) * x + tl.load(o_matrix + 7) * y + tl.load(o_matrix + 8)
        u = u / z
        v = v / z
    return u, v


def window(plan, o_group):
    """A group's input window (x low, x high, y low, y high) and its border rule."""
    o_window = plan + o_group + G_WINDOW
    border = tl.load(plan + o_group + G_BORDER)
    return tl.load(o_window), tl.load(o_window + 1), tl.load(o_window + 2), tl.load(o_window + 3), border


def inside(x, low, high, border, CAN: tl.constexpr):
    """The window pixel that stands for pixel x along one axis."""
    moved = tl.minimum(tl.maximum(x, low), high)
    if CAN.fold and folds(border):
        moved = fold(x, low, high, border)
    return moved


def enter(plan, o_group, x, y, b_birth, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """Snap to a group's input pixels, then answer what lies outside of its window: born there, or moved inside.

    With LOOSE a group may be smooth, but behind the first smooth one: its coordinates are checked and not snapped.
    """
    x_low, x_high, y_low, y_high, border = window(plan, o_group)
    px, py = snap(x), snap(y)
    m_x, m_y = (px >= x_low) & (px <= x_high), (py >= y_low) & (py <= y_high)
    qx, qy = inside(px, x_low, x_high, border, CAN), inside(py, y_low, y_high, border, CAN)
    if LOOSE and tl.load(plan + o_group + G_FILTER) != NEAREST:
        qx = tl.where(m_x, x, inside(x, x_low, x_high, border, CAN))
        qy = tl.where(m_y, y, inside(y, y_low, y_high, border, CAN))
    if CAN.fill and border == FILL:
        m_born = ((m_x & m_y) == 0) & (b_birth == 0)
        b_birth = tl.where(m_born, o_group, b_birth)
    return qx, qy, b_birth


def step_back(plan, o_group, x, y, b_birth, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """Take output coordinates back through one group."""
    x, y = through(plan, o_group, x, y, CAN)
    if CAN.snap:
        x, y, b_birth = enter(plan, o_group, x, y, b_birth, LOOSE, CAN)
    return x, y, b_birth


def walk_back(plan, x, y, b_birth, i_last, i_first, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """Take output coordinates back through groups i_last, ..., i_first."""
    if CAN.one_group:
        if i_last >= i_first:
            x, y, b_birth = step_back(plan, HEADER, x, y, b_birth, LOOSE, CAN)
    else:
        i_group = i_last
        while i_group >= i_first:
            x, y, b_birth = step_back(plan, group_at(CAN.channels, i_group), x, y, b_birth, LOOSE, CAN)
            i_group -= 1
    return x, y, b_birth


dialect.bind_module(sys.modules[__name__])  # for those that import it
