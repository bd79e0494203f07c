"""A pixel's story on Triton: walk back through the row's geometry, gather, walk forward through its pixel steps.

Coordinates and colours are tiles. What differs between the rows of a batch is read from the plan, a scalar for the
whole tile, so that a branch on it is uniform. Colours come in triples of channels, `r, g, b`. `CAN` says at compile
time what the rows of a program can meet, so that nothing else is compiled.

- `image`: where the story begins: the source (pointer; strides C, Y, X), and the row's scratch image (pointer, h, w)
  with the offset in the plan of the step that reads it, -1 to begin at the source.
- `part`: what is told: first group, groups, first step, steps, the first smooth group (any that is not below `groups`:
  none), and where in the plan the steps begin and where the tables.
"""

import functools
import sys

import triton.language as tl

from ..shared.elementary import clamp
from ..shared.geometry import (
    DROP,
    FILL,
    LANCZOS,
    LINEAR,
    NEAREST,
    first_tap,
    reach,
    snap,
    tap_count,
    weight,
    windowed,
)
from ..shared.pixel import (
    BLUR_X,
    BLUR_Y,
    ELASTIC,
    ELASTIC_NOISE,
    EQUALIZE,
    JPEG,
    SHARPNESS,
    blur_weight,
    blurred,
    level_of,
    of_level,
    sharpen,
    sharpen_edge,
)
from ..shared.plan import (
    A_BASE,
    A_GROUPS,
    A_H,
    A_STEP,
    A_W,
    ASK,
    G_BOUND,
    G_FILL,
    G_FILTER,
    G_SLOT,
    G_WIDTH,
    PLACE,
    S_ARGUMENTS,
    S_BOUND,
    S_CHANNELS,
    S_GROUPS,
    S_LATTICE,
    S_OP,
    S_SLOT,
    S_TRAIT,
    group_at,
    step_words,
)
from . import dialect
from .dialect import level_half_even, pixel_switch
from .elastic import elastic_colour
from .jpeg import jpeg_colour
from .pixels import mirrored, read, second_third
from .walk import MIXED, inside, through, walk_back, window

LEVELS = 256


def gather(image, plan, x, y, i_channel, CAN: tl.constexpr):
    """The colour of pixels of the image where the story begins."""
    source, strides, _, _, _, o_step = image
    i_x, i_y = x.to(tl.int32), y.to(tl.int32)
    if CAN.neighbours:
        if o_step < 0:
            r, g, b = read(source, strides, i_x, i_y, i_channel, CAN)
        else:
            r, g, b = neighbourhood(image, plan, i_x, i_y, i_channel, CAN)
    else:
        r, g, b = read(source, strides, i_x, i_y, i_channel, CAN)
    return r, g, b


def tap(op, i_tap, p, CAN: tl.constexpr):
    """How far a neighbourhood's tap lies from its centre, x and y, and its weight; the sharpness's centre has none."""
    dx, dy, w = i_tap % 3 - 1, i_tap // 3 - 1, tl.where(i_tap == 4, 0.0, 1.0)
    if CAN.blur:
        if op != SHARPNESS:
            k = i_tap - p[1].to(tl.int32)
            dx, dy, w = tl.where(op == BLUR_X, k, 0), tl.where(op == BLUR_Y, k, 0), blur_weight(k.to(tl.float32), p)
    return dx, dy, w


def neighbourhood(image, plan, i_x, i_y, i_channel, CAN: tl.constexpr):
    """What the step in front of the story makes of pixels of the scratch image and their neighbours."""
    _, _, scratch, h, w, o_step = image
    op, bound, lattice, channels = stage(plan + o_step, CAN)
    r = i_x.to(tl.float32) * 0.0
    g, b = r, r
    if CAN.jpeg:
        if op == JPEG:
            r, g, b = jpeg_colour(scratch, i_x, i_y, h, w, lattice, channels, CAN)
    if CAN.elastic:
        if op == ELASTIC_NOISE:
            strides = (h.to(tl.int64) * w, w, tl.full((), 1, tl.int32))
            r, g, b = read(scratch, strides, i_x, i_y, i_channel, CAN)
        if op == ELASTIC:
            p = arguments(plan + o_step + S_ARGUMENTS + i_channel // 3 * 8, 0)
            r, g, b = elastic_colour(scratch, i_x, i_y, h, w, p, bound, lattice, i_channel, CAN)
    if CAN.sums:
        if CAN.jpeg or CAN.elastic:
            if (op == SHARPNESS) | (op == BLUR_X) | (op == BLUR_Y):
                r, g, b = sums(image, plan, i_x, i_y, i_channel, CAN)
        else:
            r, g, b = sums(image, plan, i_x, i_y, i_channel, CAN)
    return r, g, b


def sums(image, plan, i_x, i_y, i_channel, CAN: tl.constexpr):
    """What sharpness or a blur makes of pixels, a sum over their neighbours."""
    _, _, scratch, h, w, o_step = image
    op, bound, lattice, _ = stage(plan + o_step, CAN)
    p = arguments(plan + o_step + S_ARGUMENTS + i_channel // 3 * 8, 0)
    strides = (h.to(tl.int64) * w, w, tl.full((), 1, tl.int32))
    n_taps = tl.where(op == SHARPNESS, 9, 2 * p[1].to(tl.int32) + 1)
    sum_r = i_x.to(tl.float32) * 0.0
    sum_g, sum_b, sum_w = sum_r, sum_r, p[0] * 0.0
    i_tap = n_taps * 0
    while i_tap < n_taps:
        dx, dy, k = tap(op, i_tap, p, CAN)
        r, g, b = read(scratch, strides, mirrored(i_x + dx, w), mirrored(i_y + dy, h), i_channel, CAN)
        sum_r += k * r
        sum_g += k * g
        sum_b += k * b
        sum_w += k
        i_tap += 1
    if op == SHARPNESS:
        r, g, b = read(scratch, strides, i_x, i_y, i_channel, CAN)
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


def known(LATTICE: tl.constexpr, CHANNELS: tl.constexpr):
    """Bound, lattice and channels of a stage that is the same for all rows."""
    bound = tl.full((), 255.0 if LATTICE else 1.0, tl.float32)
    return bound, tl.full((), LATTICE, tl.float32), tl.full((), CHANNELS, tl.float32)


def stage(o_step, CAN: tl.constexpr):
    """The opcode of a step in front of the tail, and the bound, lattice and channels of its stage."""
    op = tl.load(o_step + S_OP).to(tl.int32)
    bound, lattice, channels = known(CAN.lattice == 1, CAN.stage_channels)
    if CAN.lattice == MIXED:
        bound, lattice = tl.load(o_step + S_BOUND), tl.load(o_step + S_LATTICE)
    if CAN.stage_channels == MIXED:
        channels = tl.load(o_step + S_CHANNELS)
    return op, bound, lattice, channels


def argument(o_p, K: tl.constexpr, ZEROS: tl.constexpr):
    """Argument number K, unless it is known to be 0."""
    if (ZEROS >> K) & 1:
        value = tl.full((), 0.0, tl.float32)
    else:
        value = tl.load(o_p + K)
    return value


def arguments(o_p, ZEROS: tl.constexpr):
    """Eight arguments, of which those in ZEROS are known to be 0."""
    return (
        argument(o_p, 0, ZEROS),
        argument(o_p, 1, ZEROS),
        argument(o_p, 2, ZEROS),
        argument(o_p, 3, ZEROS),
        argument(o_p, 4, ZEROS),
        argument(o_p, 5, ZEROS),
        argument(o_p, 6, ZEROS),
        argument(o_p, 7, ZEROS),
    )


def look_up(o_table, v, lattice):
    """What a table of levels makes of a channel."""
    i_level = level_of(v, lattice).to(tl.int32)
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
        o_step = o_steps + i_step * step_words(CAN.channels)
        slot = tl.load(plan + o_step + S_SLOT)
        on = True
        if CAN.steps_before:
            on = (slot > low) & (slot < high)
        if on:
            p = arguments(plan + o_step + S_ARGUMENTS + i_channel // 3 * 8, 0)
            op, bound, lattice, channels = stage(plan + o_step, CAN)
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


def finish(plan, o_step, rgb, x, y, i_channel, CAN: tl.constexpr):
    """The steps of the tail, the first of which lies at `o_step`."""
    r, g, b = rgb
    for i in tl.static_range(len(CAN.tail)):
        bound, lattice, channels = known(CAN.tail[i].lattice, CAN.tail[i].channels)
        o_p = plan + o_step + i * step_words(CAN.channels) + S_ARGUMENTS + i_channel // 3 * 8
        p = arguments(o_p, CAN.tail[i].zeros)
        r, g, b = pixel_switch(CAN.tail[i].op, r, g, b, x, y, p, bound, lattice, channels, 1 << CAN.tail[i].op)
    return r, g, b


def along(i_tap, start, centre, narrow, low, high, border, kind, DROPS: tl.constexpr, CAN: tl.constexpr):
    """One axis of a tap: its weight, the window pixel that stands for it, and whether it lies in the window."""
    k = start + i_tap
    if CAN.filter == LANCZOS:
        w = windowed((k - centre) * narrow)
    else:
        w = weight((k - centre) * narrow, kind)
        if CAN.lanczos:
            w = tl.where(kind == LANCZOS, windowed((k - centre) * narrow), w)
    m_in = (k >= low) & (k <= high)
    if DROPS:
        if border == DROP:
            w = tl.where(m_in, w, 0.0)
    return w, inside(k, low, high, border, CAN), m_in


def at_tap(image, plan, qx, qy, m_in, border, part, i_channel, CAN: tl.constexpr):
    """The colour of a tap: back through the groups in front of the part's first smooth one, and forward through the
    pixel steps in front of it."""
    first_group, _, first_step, n_steps, i_group, o_steps, o_tables = part
    o_group = group_at(CAN.channels, i_group)
    tx, ty = qx, qy
    b_birth = tl.full(m_in.shape, 0, tl.int32)
    if CAN.fill and border == FILL:
        b_birth = tl.where(m_in, b_birth, o_group)
    if CAN.groups_before:
        tx, ty, b_birth = walk_back(plan, tx, ty, b_birth, i_group - 1, first_group, False, CAN)
    r, g, b = gather(image, plan, tx, ty, i_channel, CAN)
    if CAN.fill:
        r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
    if CAN.steps_before:
        before = (first_group, i_group, first_step, n_steps, i_group, o_steps, o_tables)
        span = (-1.0, tl.load(plan + o_group + G_SLOT))
        r, g, b = walk_forward(plan, (r, g, b), b_birth, (qx, qy), span, before, i_channel, False, CAN)
    return r, g, b


def four_taps(image, plan, axis_x, axis_y, border, kind, part, i_channel, CAN: tl.constexpr):
    """The mean colour of two by two taps of a filter of width 1, whose weights sum up to 1: to drop a tap and to let
    the other one stand for it is the same."""
    wx0, qx0, m_x0 = along(0.0, *axis_x, border, kind, False, CAN)
    wx1, qx1, m_x1 = along(1.0, *axis_x, border, kind, False, CAN)
    wy0, qy0, m_y0 = along(0.0, *axis_y, border, kind, False, CAN)
    wy1, qy1, m_y1 = along(1.0, *axis_y, border, kind, False, CAN)
    r0, g0, b0 = at_tap(image, plan, qx0, qy0, m_x0 & m_y0, border, part, i_channel, CAN)
    r1, g1, b1 = at_tap(image, plan, qx1, qy0, m_x1 & m_y0, border, part, i_channel, CAN)
    r2, g2, b2 = at_tap(image, plan, qx0, qy1, m_x0 & m_y1, border, part, i_channel, CAN)
    r3, g3, b3 = at_tap(image, plan, qx1, qy1, m_x1 & m_y1, border, part, i_channel, CAN)
    w0, w1, w2, w3 = wx0 * wy0, wx1 * wy0, wx0 * wy1, wx1 * wy1
    r = tl.fma(w3, r3, tl.fma(w2, r2, tl.fma(w1, r1, w0 * r0)))
    g = tl.fma(w3, g3, tl.fma(w2, g2, tl.fma(w1, g1, w0 * g0)))
    b = tl.fma(w3, b3, tl.fma(w2, b2, tl.fma(w1, b1, w0 * b0)))
    return r, g, b


def many_taps(image, plan, axis_x, axis_y, n_x, n_y, border, kind, part, i_channel, CAN: tl.constexpr):
    """The sum of weight times colour over n_x by n_y taps, over the sum of weights."""
    sum_r = (axis_x[1] + axis_y[1]) * 0.0
    sum_g, sum_b, sum_w = sum_r, sum_r, sum_r
    i_y = 0
    while i_y < n_y:
        wy, qy, m_y = along(i_y.to(tl.float32), *axis_y, border, kind, CAN.drop, CAN)
        i_x = i_y * 0
        while i_x < n_x:
            wx, qx, m_x = along(i_x.to(tl.float32), *axis_x, border, kind, CAN.drop, CAN)
            r, g, b = at_tap(image, plan, qx, qy, m_x & m_y, border, part, i_channel, CAN)
            w = wx * wy
            sum_r = tl.fma(w, r, sum_r)
            sum_g = tl.fma(w, g, sum_g)
            sum_b = tl.fma(w, b, sum_b)
            sum_w += w
            i_x += 1
        i_y += 1
    over = 1.0 / tl.where(sum_w == 0.0, 1.0, sum_w)
    return sum_r * over, sum_g * over, sum_b * over


def resample(image, plan, x, y, part, i_channel, CAN: tl.constexpr):
    """The colour that the part's first smooth group makes of the taps around a pixel."""
    i_group = part[4]
    o_group = group_at(CAN.channels, i_group)
    x_low, x_high, y_low, y_high, border = window(plan, o_group)
    if CAN.smooth_border != MIXED:
        border = tl.full((), CAN.smooth_border, tl.float32)
    if CAN.filter == MIXED:
        kind = tl.load(plan + o_group + G_FILTER)
    else:
        kind = CAN.filter
    wide_x, wide_y = tl.load(plan + o_group + G_WIDTH), tl.load(plan + o_group + G_WIDTH + 1)
    support_x, support_y = reach(kind) * wide_x, reach(kind) * wide_y
    n_x, n_y = tap_count(wide_x, kind), tap_count(wide_y, kind)
    cx, cy = through(plan, o_group, x, y, CAN)
    if not CAN.axes:  # what is no number, or has no distance, lies outside
        cx = clamp(cx, x_low - support_x - 2.0, x_high + support_x + 2.0)
        cy = clamp(cy, y_low - support_y - 2.0, y_high + support_y + 2.0)
    axis_x = (first_tap(cx, support_x), cx, tl.div_rn(1.0, wide_x), x_low, x_high)
    axis_y = (first_tap(cy, support_y), cy, tl.div_rn(1.0, wide_y), y_low, y_high)
    if (CAN.filter == LINEAR) and not (CAN.groups_before or CAN.steps_before or CAN.neighbours):
        if (wide_x == 1.0) & (wide_y == 1.0):
            one = tl.full((), 1.0, tl.float32)
            axis_x = (tl.floor(cx), cx, one, x_low, x_high)
            axis_y = (tl.floor(cy), cy, one, y_low, y_high)
            r, g, b = four_taps(image, plan, axis_x, axis_y, border, kind, part, i_channel, CAN)
        else:
            r, g, b = many_taps(image, plan, axis_x, axis_y, n_x, n_y, border, kind, part, i_channel, CAN)
    else:
        r, g, b = many_taps(image, plan, axis_x, axis_y, n_x, n_y, border, kind, part, i_channel, CAN)
    return round_sum(plan, o_group, r, g, b)


def round_sum(plan, o_group, r, g, b):
    """Round and clamp a resampled colour, where it returns to the lattice."""
    bound = tl.load(plan + o_group + G_BOUND)
    if bound > 0.0:
        r = tl.minimum(tl.maximum(level_half_even(r), 0.0), bound)
        g = tl.minimum(tl.maximum(level_half_even(g), 0.0), bound)
        b = tl.minimum(tl.maximum(level_half_even(b), 0.0), bound)
    return r, g, b


def story(image, plan, x, y, part, i_channel, CAN: tl.constexpr):
    """The colour (r, g, b) of the pixels (x, y) at the end of a part of a row's plan."""
    first_group, n_groups, _, _, i_smooth, _, _ = part
    xy = (x, y)
    i_first = tl.where(i_smooth < n_groups, i_smooth + 1, first_group)
    b_birth = tl.full(x.shape, 0, tl.int32)
    x, y, b_birth = walk_back(plan, x, y, b_birth, n_groups - 1, i_first, CAN.filter != NEAREST, CAN)
    done = tl.full((), -1.0, tl.float32)
    if CAN.always_smooth:
        r, g, b = resample(image, plan, x, y, part, i_channel, CAN)
    elif CAN.filter != NEAREST:
        if i_smooth < n_groups:
            done = tl.load(plan + group_at(CAN.channels, i_smooth) + G_SLOT)
            r, g, b = resample(image, plan, x, y, part, i_channel, CAN)
        else:
            r, g, b = gather(image, plan, x, y, i_channel, CAN)
    else:
        r, g, b = gather(image, plan, x, y, i_channel, CAN)
    if CAN.fill:
        r, g, b = paint(plan, b_birth, r, g, b, i_channel, CAN)
    if CAN.ops > 0:
        span = (done, float("inf"))
        r, g, b = walk_forward(plan, (r, g, b), b_birth, xy, span, part, i_channel, CAN.filter != NEAREST, CAN)
    return r, g, b


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
    """The image at which a story behind ask `i_base` begins; `source`: pointer; strides."""
    h, w, o_step = i_base * 0, i_base * 0, i_base * 0 - 1
    if CAN.neighbours:
        if i_base >= 0:
            o_steps, o_asks, _ = layout
            o_ask = plan + o_asks + i_base * ASK
            h, w = tl.load(o_ask + A_H).to(tl.int32), tl.load(o_ask + A_W).to(tl.int32)
            o_step = o_steps + tl.load(o_ask + A_STEP).to(tl.int32) * step_words(CAN.channels)
            scratch += scratch_number(plan, o_asks, i_base) * scratch_size
    return source[0], source[1], scratch, h, w, o_step


@functools.cache
def story_for(users: tuple[int, ...] = ()) -> dict:
    """The functions of this module, where users' formulas, by their opcodes, are pixel steps too."""
    switch = dialect.pixel_switch(users)
    return dialect.bind_module(sys.modules[__name__], level_half_even=dialect.level_half_even, pixel_switch=switch)
