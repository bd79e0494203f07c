"""A pixel's story on Triton: walk back through the row's geometry, gather, walk forward through its pixel steps.

Coordinates and colours are tiles. What differs between the rows of a batch is read from the plan, a scalar for the
whole tile, so that a branch on it is uniform. Colours come in triples of channels, `r, g, b`. `b_birth` holds, for a
pixel born on the way back, the offset of its group in the plan, else 0. `CAN` says at compile time what the rows of a
program can meet, so that nothing else is compiled.

- `image`: where the story begins: the source (pointer, strides C, Y, X), and the row's scratch image (pointer, h, w)
  with the offset in the plan of the step that reads it, -1 to begin at the source.
- `part`: what is told: first group, groups, first step, steps, the first smooth group (any that is not below `groups`:
  none), and where in the plan the steps begin and where the tables.
"""

import functools
import sys
from dataclasses import dataclass

import triton.language as tl

from . import triton_dialect
from .elementary import half_even
from .geometry import DROP, FILL, NEAREST, REFLECT, SYMMETRIC, fold, reach, snap, weight
from .pixel import BLUR_X, BLUR_Y, EQUALIZE, SHARPNESS, blur_weight, blurred, level_of, of_level, sharpen, sharpen_edge
from .plan import (
    A_BASE,
    A_GROUPS,
    A_H,
    A_STEP,
    A_W,
    ASK,
    G_BORDER,
    G_BOUND,
    G_FILL,
    G_FILTER,
    G_PROJECTIVE,
    G_SLOT,
    G_WIDTH,
    G_WINDOW,
    HEADER,
    PLACE,
    S_ARGUMENTS,
    S_BOUND,
    S_CHANNELS,
    S_GROUPS,
    S_LATTICE,
    S_OP,
    S_SLOT,
    S_TRAIT,
)
from .triton_dialect import pixel_switch

MIXED = -1
LEVELS = 256


@dataclass(frozen=True)
class Can:
    """What the rows of a program can meet: no sizes, and nothing that is drawn.

    Attributes:
        channels: of the engine.
        ops: the opcodes of `pixel` that occur, as the bits of one integer.
        project: divide by a third coordinate.
        fill, fold, drop: leave a window whose border answers so.
        filter: the one filter of all smooth groups, MIXED for several, NEAREST for no such groups.
        groups_before, steps_before: have geometry groups, or pixel steps, in front of the smooth group.
        mean, extremes, histogram, neighbours, place: have a pixel step that needs so.
        blur: need neighbours for more than sharpness.
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
    mean: bool
    extremes: bool
    histogram: bool
    neighbours: bool
    place: bool
    blur: bool


def group_words(CAN: tl.constexpr):
    """Length of a geometry group."""
    return G_FILL + CAN.channels


def step_words(CAN: tl.constexpr):
    """Length of a pixel step."""
    return S_ARGUMENTS + (CAN.channels + 2) // 3 * 8


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
        o_group = HEADER + i_group * group_words(CAN)
        x, y = through(plan, o_group, x, y, CAN)
        x, y, b_birth = enter(plan, o_group, x, y, b_birth, LOOSE, CAN)
        i_group -= 1
    return x, y, b_birth


def second_third(i_channel, CAN: tl.constexpr):
    """The other two channels of a triple; the last one again where there are fewer."""
    return tl.minimum(i_channel + 1, CAN.channels - 1), tl.minimum(i_channel + 2, CAN.channels - 1)


def colour(o_pixel, stride_c, m_pixel, i_channel, CAN: tl.constexpr):
    """The channels of the pixels at the pointers `o_pixel`."""
    r = tl.load(o_pixel + i_channel * stride_c, mask=m_pixel, other=0).to(tl.float32)
    g, b = r, r
    if CAN.channels > 1:
        i_second, i_third = second_third(i_channel, CAN)
        g = tl.load(o_pixel + i_second * stride_c, mask=m_pixel, other=0).to(tl.float32)
        b = tl.load(o_pixel + i_third * stride_c, mask=m_pixel, other=0).to(tl.float32)
    return r, g, b


def gather(image, plan, x, y, m_pixel, i_channel, CAN: tl.constexpr):
    """The colour of pixels of the image where the story begins."""
    source, stride_c, stride_y, stride_x, _, _, _, o_step = image
    i_x, i_y = x.to(tl.int32), y.to(tl.int32)
    if CAN.neighbours:
        if o_step < 0:
            o_pixel = source + (i_y.to(tl.int64) * stride_y + i_x.to(tl.int64) * stride_x)
            r, g, b = colour(o_pixel, stride_c, m_pixel, i_channel, CAN)
        else:
            r, g, b = neighbourhood(image, plan, i_x, i_y, m_pixel, i_channel, CAN)
    else:
        o_pixel = source + (i_y.to(tl.int64) * stride_y + i_x.to(tl.int64) * stride_x)
        r, g, b = colour(o_pixel, stride_c, m_pixel, i_channel, CAN)
    return r, g, b


def mirrored(i, n):
    """The pixel of 0 .. n - 1 that stands for pixel i, less than n away: the border is not repeated."""
    return tl.maximum(n - 1 - tl.abs(n - 1 - tl.abs(i)), 0)


def tap(op, i_tap, p, CAN: tl.constexpr):
    """How far a neighbourhood's tap lies from its centre, x and y, and its weight; the sharpness's centre has none."""
    dx, dy, w = i_tap % 3 - 1, i_tap // 3 - 1, tl.where(i_tap == 4, 0.0, 1.0)
    if CAN.blur:
        if op != SHARPNESS:
            k = i_tap - p[1].to(tl.int32)
            dx, dy, w = tl.where(op == BLUR_X, k, 0), tl.where(op == BLUR_Y, k, 0), blur_weight(k.to(tl.float32), p)
    return dx, dy, w


def neighbourhood(image, plan, i_x, i_y, m_pixel, i_channel, CAN: tl.constexpr):
    """What the step in front of the story makes of pixels of the scratch image and their neighbours."""
    _, _, _, _, scratch, h, w, o_step = image
    op, bound, lattice, _ = stage(plan + o_step)
    p = arguments(plan + o_step + S_ARGUMENTS + i_channel // 3 * 8)
    area = h.to(tl.int64) * w
    n_taps = tl.where(op == SHARPNESS, 9, 2 * p[1].to(tl.int32) + 1)
    sum_r = i_x.to(tl.float32) * 0.0
    sum_g, sum_b, sum_w = sum_r, sum_r, p[0] * 0.0
    i_tap = n_taps * 0
    while i_tap < n_taps:
        dx, dy, k = tap(op, i_tap, p, CAN)
        o_pixel = scratch + (mirrored(i_y + dy, h).to(tl.int64) * w + mirrored(i_x + dx, w))
        r, g, b = colour(o_pixel, area, m_pixel, i_channel, CAN)
        sum_r += k * r
        sum_g += k * g
        sum_b += k * b
        sum_w += k
        i_tap += 1
    if op == SHARPNESS:
        r, g, b = colour(scratch + (i_y.to(tl.int64) * w + i_x), area, m_pixel, i_channel, CAN)
        m_inner = (i_x > 0) & (i_x < w - 1) & (i_y > 0) & (i_y < h - 1)
        r = tl.where(m_inner, sharpen(r, sum_r, p, bound, lattice), sharpen_edge(r, h, w, bound, lattice))
        g = tl.where(m_inner, sharpen(g, sum_g, p, bound, lattice), sharpen_edge(g, h, w, bound, lattice))
        b = tl.where(m_inner, sharpen(b, sum_b, p, bound, lattice), sharpen_edge(b, h, w, bound, lattice))
    else:
        r = blurred(sum_r / sum_w, p, bound, lattice)
        g = blurred(sum_g / sum_w, p, bound, lattice)
        b = blurred(sum_b / sum_w, p, bound, lattice)
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


def stage(o_step):
    """A step's opcode, and the bound, lattice and channels of its stage."""
    op = tl.load(o_step + S_OP).to(tl.int32)
    return op, tl.load(o_step + S_BOUND), tl.load(o_step + S_LATTICE), tl.load(o_step + S_CHANNELS)


def arguments(o_p):
    """Eight arguments."""
    return (
        tl.load(o_p),
        tl.load(o_p + 1),
        tl.load(o_p + 2),
        tl.load(o_p + 3),
        tl.load(o_p + 4),
        tl.load(o_p + 5),
        tl.load(o_p + 6),
        tl.load(o_p + 7),
    )


def look_up(o_table, v, lattice):
    """What a table of levels makes of a channel."""
    i_level = tl.minimum(tl.maximum(level_of(v, lattice), 0.0), 255.0).to(tl.int32)
    return of_level(tl.load(o_table + i_level), lattice)


def equalize(o_tables, r, g, b, i_ask, lattice, CAN: tl.constexpr):
    """A colour behind the tables of ask number `i_ask`, one a channel."""
    o_table = o_tables + i_ask * (CAN.channels * LEVELS)
    r = look_up(o_table, r, lattice)
    if CAN.channels > 1:
        g = look_up(o_table + LEVELS, g, lattice)
        b = look_up(o_table + (CAN.channels - 1) * LEVELS, b, lattice)
    else:
        g, b = r, r
    return r, g, b


def placed(plan, o_step, x, y, n_groups, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """Where the pixels (x, y) behind `n_groups` groups lie in the canvas in front of a step."""
    if tl.load(plan + o_step + S_TRAIT) == PLACE:
        i_first = tl.load(plan + o_step + S_GROUPS).to(tl.int32)
        x, y, _ = walk_back(plan, x, y, tl.full(x.shape, 0, tl.int32), n_groups - 1, i_first, LOOSE, CAN)
        x, y = snap(x), snap(y)
    return x, y


def walk_forward(plan, rgb, b_birth, xy, span, part, i_channel, LOOSE: tl.constexpr, CAN: tl.constexpr):
    """The pixel steps whose slot lies strictly inside `span`, on pixels born before them.

    `xy`: the pixels' column and row behind the part's groups.
    """
    r, g, b = rgb
    low, high = span
    _, n_groups, i_step, n_steps, _, o_steps, o_tables = part
    if CAN.fill:
        b_slot = tl.load(plan + b_birth + G_SLOT, mask=b_birth > 0, other=-1.0)
    while i_step < n_steps:
        o_step = o_steps + i_step * step_words(CAN)
        slot = tl.load(plan + o_step + S_SLOT)
        if (slot > low) & (slot < high):
            p = arguments(plan + o_step + S_ARGUMENTS + i_channel // 3 * 8)
            op, bound, lattice, channels = stage(plan + o_step)
            x, y = xy
            if CAN.place:
                x, y = placed(plan, o_step, x, y, n_groups, LOOSE, CAN)
            nr, ng, nb = pixel_switch(op, r, g, b, x, y, p, bound, lattice, channels, CAN.ops)
            if CAN.histogram:
                if op == EQUALIZE:
                    nr, ng, nb = equalize(plan + o_tables, r, g, b, p[7].to(tl.int32), lattice, CAN)
            if CAN.fill:
                m_on = slot > b_slot
                nr, ng, nb = tl.where(m_on, nr, r), tl.where(m_on, ng, g), tl.where(m_on, nb, b)
            r, g, b = nr, ng, nb
        i_step += 1
    return r, g, b


def resample(image, plan, x, y, m_pixel, part, i_channel, CAN: tl.constexpr):
    """The sum of weight times colour over the taps of the part's first smooth group, over the sum of weights.

    Each tap walks back through the groups in front of it and forward through the pixel steps in front of it.
    """
    first_group, _, first_step, n_steps, i_group, o_steps, o_tables = part
    before = (first_group, i_group, first_step, n_steps, i_group, o_steps, o_tables)
    o_group = HEADER + i_group * group_words(CAN)
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
            qx = inside(kx, x_low, x_high, border, CAN)
            tx, ty = qx, qy
            b_birth = tl.full(x.shape, 0, tl.int32)
            if CAN.fill and border == FILL:
                b_birth = tl.where(m_out, o_group, b_birth)
            if CAN.groups_before:
                tx, ty, b_birth = walk_back(plan, tx, ty, b_birth, i_group - 1, first_group, False, CAN)
            r, g, b = gather(image, plan, tx, ty, m_pixel & (b_birth == 0), i_channel, CAN)
            if CAN.fill:
                r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
            if CAN.steps_before:
                r, g, b = walk_forward(plan, (r, g, b), b_birth, (qx, qy), span, before, i_channel, False, CAN)
            sum_r = tl.fma(w, r, sum_r)
            sum_g = tl.fma(w, g, sum_g)
            sum_b = tl.fma(w, b, sum_b)
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


def story(image, plan, x, y, m_pixel, part, i_channel, CAN: tl.constexpr):
    """The colour (r, g, b) of the pixels (x, y) at the end of a part of a row's plan."""
    first_group, n_groups, _, _, i_smooth, _, _ = part
    xy = (x, y)
    i_first = tl.where(i_smooth < n_groups, i_smooth + 1, first_group)
    b_birth = tl.full(x.shape, 0, tl.int32)
    x, y, b_birth = walk_back(plan, x, y, b_birth, n_groups - 1, i_first, CAN.filter != NEAREST, CAN)
    m_pixel = m_pixel & (b_birth == 0)
    done = tl.full((), -1.0, tl.float32)
    if CAN.filter != NEAREST:
        if i_smooth < n_groups:
            done = tl.load(plan + HEADER + i_smooth * group_words(CAN) + G_SLOT)
            r, g, b = resample(image, plan, x, y, m_pixel, part, i_channel, CAN)
        else:
            r, g, b = gather(image, plan, x, y, m_pixel, i_channel, CAN)
    else:
        r, g, b = gather(image, plan, x, y, m_pixel, i_channel, CAN)
    if CAN.fill:
        r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
    span = (done, float("inf"))
    return walk_forward(plan, (r, g, b), b_birth, xy, span, part, i_channel, CAN.filter != NEAREST, CAN)


def part_behind(plan, i_base, n_groups, n_steps, i_smooth, layout, CAN: tl.constexpr):
    """The part of a plan behind ask `i_base` (-1: from the start) up to `n_groups` groups and `n_steps` steps.

    `layout`: where in the plan the steps, the asks and the tables begin.
    """
    o_steps, o_asks, o_tables = layout
    first_group, first_step = n_groups * 0, n_steps * 0
    if CAN.neighbours:
        if i_base >= 0:
            o_ask = plan + o_asks + i_base * ASK
            first_group, first_step = tl.load(o_ask + A_GROUPS).to(tl.int32), tl.load(o_ask + A_STEP).to(tl.int32) + 1
    return first_group, n_groups, first_step, n_steps, i_smooth, o_steps, o_tables


def scratch_number(plan, o_asks, i_ask):
    """Which of a row's two scratch images holds what ask `i_ask` kept: never the one that its own story begins at."""
    number = i_ask * 0
    i_base = tl.load(plan + o_asks + i_ask * ASK + A_BASE).to(tl.int32)
    while i_base >= 0:
        number = 1 - number
        i_base = tl.load(plan + o_asks + i_base * ASK + A_BASE).to(tl.int32)
    return number


def image_behind(plan, i_base, source, scratch, scratch_size, layout, CAN: tl.constexpr):
    """The image at which a story behind ask `i_base` begins; `source`: pointer and strides."""
    h, w, o_step = i_base * 0, i_base * 0, i_base * 0 - 1
    if CAN.neighbours:
        if i_base >= 0:
            o_steps, o_asks, _ = layout
            o_ask = plan + o_asks + i_base * ASK
            h, w = tl.load(o_ask + A_H).to(tl.int32), tl.load(o_ask + A_W).to(tl.int32)
            o_step = o_steps + tl.load(o_ask + A_STEP).to(tl.int32) * step_words(CAN)
            scratch += scratch_number(plan, o_asks, i_base) * scratch_size
    return source[0], source[1], source[2], source[3], scratch, h, w, o_step


@functools.cache
def story_for(users: tuple[int, ...] = ()) -> dict:
    """The functions of this module, where users' formulas, by their opcodes, are pixel steps too."""
    return triton_dialect.bind_module(
        sys.modules[__name__],
        MIXED=tl.constexpr(MIXED),
        LEVELS=tl.constexpr(LEVELS),
        half_even=triton_dialect.ELEMENTARY["half_even"],
        pixel_switch=triton_dialect.pixel_switch(users),
        **{n: triton_dialect.GEOMETRY[n] for n in ("fold", "reach", "snap", "weight")},
        **{
            n: triton_dialect.PIXEL[n]
            for n in ("blur_weight", "blurred", "level_of", "of_level", "sharpen", "sharpen_edge")
        },
    )
