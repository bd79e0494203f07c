"""A pixel's story on Triton: walk back through the row's geometry, gather, walk forward through its pixel steps.

Coordinates and colours are tiles. What differs between the rows of a batch is read from the plan, a scalar for the
whole tile, so that a branch on it is uniform. Colours come in triples of channels, `r, g, b`. `b_birth` holds, for a
pixel born on the way back, the offset of its group in the plan, else 0. `CAN` says at compile time what the rows of a
program can meet, so that nothing else is compiled.
"""

import sys
from dataclasses import dataclass

import triton.language as tl

from . import triton_dialect
from .draw import half_even
from .geometry import DROP, FILL, NEAREST, REFLECT, SYMMETRIC, fold, reach, snap, weight
from .plan import (
    G_BORDER,
    G_BOUND,
    G_FILL,
    G_FILTER,
    G_PROJECTIVE,
    G_SLOT,
    G_WIDTH,
    G_WINDOW,
    HEADER,
    S_ARGUMENTS,
    S_BOUND,
    S_LATTICE,
    S_OP,
    S_SLOT,
    SMOOTH,
)
from .triton_dialect import pixel_switch

MIXED = -1


@dataclass(frozen=True)
class Can:
    """What the rows of a program can meet: no sizes, and nothing that is drawn.

    Attributes:
        channels: of the images.
        ops: the opcodes of `pixel` that occur, as the bits of one integer.
        project: divide by a third coordinate.
        fill, fold, drop: leave a window whose border answers so.
        filter: the one filter of all smooth groups, MIXED for several, NEAREST for no such groups.
        groups_before, steps_before: have geometry groups, or pixel steps, in front of the smooth group.
    """

    channels: int
    ops: int
    project: bool
    fill: bool
    fold: bool
    drop: bool
    filter: int
    groups_before: bool
    steps_before: bool


def through(plan, o_group, x, y, CAN: tl.constexpr):
    """(x, y) <- M (x, y, 1), divided by the third coordinate where the group is projective."""
    o_matrix = plan + o_group
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
    if CAN.fold and (border == REFLECT) | (border == SYMMETRIC):
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


def walk_back(plan, x, y, b_birth, i_last, i_first, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """Take output coordinates back through groups i_last, ..., i_first."""
    i_group = i_last
    while i_group >= i_first:
        o_group = HEADER + i_group * (G_FILL + CAN.channels)
        x, y = through(plan, o_group, x, y, CAN)
        x, y, b_birth = enter(plan, o_group, x, y, b_birth, LOOSE, CAN)
        i_group -= 1
    return x, y, b_birth


def second_third(i_channel, CAN: tl.constexpr):
    """The other two channels of a triple; the last one again where there are fewer."""
    return tl.minimum(i_channel + 1, CAN.channels - 1), tl.minimum(i_channel + 2, CAN.channels - 1)


def gather(image, x, y, m_pixel, i_channel, CAN: tl.constexpr):
    """The colour of source pixels; `image` is pointer and strides (C, Y, X) in elements."""
    source, stride_c, stride_y, stride_x = image
    o_pixel = source + (y.to(tl.int32).to(tl.int64) * stride_y + x.to(tl.int32).to(tl.int64) * stride_x)
    r = tl.load(o_pixel + i_channel * stride_c, mask=m_pixel, other=0).to(tl.float32)
    g, b = r, r
    if CAN.channels > 1:
        i_second, i_third = second_third(i_channel, CAN)
        g = tl.load(o_pixel + i_second * stride_c, mask=m_pixel, other=0).to(tl.float32)
        b = tl.load(o_pixel + i_third * stride_c, mask=m_pixel, other=0).to(tl.float32)
    return r, g, b


def paint(plan, b_birth, r, g, b, i_channel, CAN: tl.constexpr):
    """The fill colour where a pixel was born, else its own."""
    m_born = b_birth > 0
    o_fill = plan + b_birth + G_FILL
    r = tl.load(o_fill + i_channel, mask=m_born, other=r)
    if CAN.channels > 1:
        i_second, i_third = second_third(i_channel, CAN)
        g = tl.load(o_fill + i_second, mask=m_born, other=g)
        b = tl.load(o_fill + i_third, mask=m_born, other=b)
    else:
        g, b = r, r
    return r, g, b


def walk_forward(plan, rgb, b_birth, span, counts, i_channel, CAN: tl.constexpr):
    """The pixel steps whose slot lies strictly inside `span`, on pixels born before them.

    `counts`: groups, steps, and where in the plan the steps begin.
    """
    r, g, b = rgb
    low, high = span
    _, n_steps, o_steps = counts
    if CAN.fill:
        b_slot = tl.load(plan + b_birth + G_SLOT, mask=b_birth > 0, other=-1.0)
    i_step = n_steps * 0
    while i_step < n_steps:
        o_step = plan + o_steps + i_step * (S_ARGUMENTS + (CAN.channels + 2) // 3 * 8)
        o_p = o_step + S_ARGUMENTS + i_channel // 3 * 8
        slot = tl.load(o_step + S_SLOT)
        if (slot > low) & (slot < high):
            p = (
                tl.load(o_p),
                tl.load(o_p + 1),
                tl.load(o_p + 2),
                tl.load(o_p + 3),
                tl.load(o_p + 4),
                tl.load(o_p + 5),
                tl.load(o_p + 6),
                tl.load(o_p + 7),
            )
            op = tl.load(o_step + S_OP).to(tl.int32)
            bound, lattice = tl.load(o_step + S_BOUND), tl.load(o_step + S_LATTICE)
            nr, ng, nb = pixel_switch(op, r, g, b, p, bound, lattice, CAN.channels, CAN.ops)
            if CAN.fill:
                m_on = slot > b_slot
                nr, ng, nb = tl.where(m_on, nr, r), tl.where(m_on, ng, g), tl.where(m_on, nb, b)
            r, g, b = nr, ng, nb
        i_step += 1
    return r, g, b


def resample(image, plan, x, y, m_pixel, i_group, counts, i_channel, CAN: tl.constexpr):
    """The sum of weight times colour over the taps of smooth group `i_group`, over the sum of weights.

    Each tap walks back through the groups in front of it and forward through the pixel steps in front of it.
    """
    o_group = HEADER + i_group * (G_FILL + CAN.channels)
    x_low, x_high, y_low, y_high, border = window(plan, o_group)
    span = (-1.0, tl.load(plan + o_group + G_SLOT))
    if CAN.filter == MIXED:
        kind = tl.load(plan + o_group + G_FILTER)
    else:
        kind = CAN.filter
    wide_x, wide_y = tl.load(plan + o_group + G_WIDTH), tl.load(plan + o_group + G_WIDTH + 1)
    support_x, support_y = reach(kind) * wide_x, reach(kind) * wide_y
    n_x, n_y = tl.ceil(support_x + support_x).to(tl.int32), tl.ceil(support_y + support_y).to(tl.int32)
    cx, cy = through(plan, o_group, x, y, CAN)
    x_start, y_start = tl.floor(cx - support_x) + 1.0, tl.floor(cy - support_y) + 1.0
    sum_r, sum_w = cx * 0.0, cx * 0.0
    sum_g, sum_b = sum_r, sum_r
    i_y = 0
    while i_y < n_y:
        ky = y_start + i_y.to(tl.float32)
        wy = weight((ky - cy) / wide_y, kind)
        m_y = (ky >= y_low) & (ky <= y_high)
        qy = inside(ky, y_low, y_high, border, CAN)
        i_x = i_y * 0
        while i_x < n_x:
            kx = x_start + i_x.to(tl.float32)
            w = wy * weight((kx - cx) / wide_x, kind)
            m_out = (m_y & (kx >= x_low) & (kx <= x_high)) == 0
            if CAN.drop and border == DROP:
                w = tl.where(m_out, 0.0, w)
            tx, ty = inside(kx, x_low, x_high, border, CAN), qy
            b_birth = tl.full(x.shape, 0, tl.int32)
            if CAN.fill and border == FILL:
                b_birth = tl.where(m_out, o_group, b_birth)
            if CAN.groups_before:
                tx, ty, b_birth = walk_back(plan, tx, ty, b_birth, i_group - 1, 0, False, CAN)
            r, g, b = gather(image, tx, ty, m_pixel & (b_birth == 0), i_channel, CAN)
            if CAN.fill:
                r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
            if CAN.steps_before:
                r, g, b = walk_forward(plan, (r, g, b), b_birth, span, counts, i_channel, CAN)
            sum_r += w * r
            sum_g += w * g
            sum_b += w * b
            sum_w += w
            i_x += 1
        i_y += 1
    sum_w = tl.where(sum_w == 0.0, 1.0, sum_w)
    return settle_sum(plan, o_group, sum_r / sum_w, sum_g / sum_w, sum_b / sum_w)


def settle_sum(plan, o_group, r, g, b):
    """Round and clamp a resampled colour, where it returns to the lattice."""
    bound = tl.load(plan + o_group + G_BOUND)
    if bound > 0.0:
        r = tl.minimum(tl.maximum(half_even(r), 0.0), bound)
        g = tl.minimum(tl.maximum(half_even(g), 0.0), bound)
        b = tl.minimum(tl.maximum(half_even(b), 0.0), bound)
    return r, g, b


def story(image, plan, x, y, m_pixel, counts, i_channel, CAN: tl.constexpr):
    """The colour (r, g, b) of the pixels (x, y) behind the first `counts[0]` groups and `counts[1]` steps of a row's
    plan."""
    n_groups = counts[0]
    i_smooth = tl.load(plan + SMOOTH).to(tl.int32)
    i_first = tl.where(i_smooth < n_groups, i_smooth + 1, 0)
    b_birth = tl.full(x.shape, 0, tl.int32)
    x, y, b_birth = walk_back(plan, x, y, b_birth, n_groups - 1, i_first, CAN.filter != NEAREST, CAN)
    m_pixel = m_pixel & (b_birth == 0)
    done = tl.full((), -1.0, tl.float32)
    if CAN.filter != NEAREST:
        if i_smooth < n_groups:
            done = tl.load(plan + HEADER + i_smooth * (G_FILL + CAN.channels) + G_SLOT)
            r, g, b = resample(image, plan, x, y, m_pixel, i_smooth, counts, i_channel, CAN)
        else:
            r, g, b = gather(image, x, y, m_pixel, i_channel, CAN)
    else:
        r, g, b = gather(image, x, y, m_pixel, i_channel, CAN)
    if CAN.fill:
        r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
    span = (done, float("inf"))
    return walk_forward(plan, (r, g, b), b_birth, span, counts, i_channel, CAN)


STORY = triton_dialect.bind_module(
    sys.modules[__name__],
    MIXED=tl.constexpr(MIXED),
    half_even=triton_dialect.DRAW["half_even"],
    pixel_switch=pixel_switch,
    **{n: triton_dialect.GEOMETRY[n] for n in ("fold", "reach", "snap", "weight")},
)
