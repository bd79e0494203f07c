"""The kernels that read pixels: `write` stores each output pixel once, `ask` looks at a whole image for those behind.

Offsets are int64. Nothing specialises on sizes, strides or seeds: the compile-time parameters are those of
`triton_story`.
"""

import functools
import sys

import triton.language as tl

from . import triton_dialect
from .pixel import equalized, level_of, luma
from .plan import (
    A_BASE,
    A_GROUPS,
    A_H,
    A_KIND,
    A_SMOOTH,
    A_STEP,
    A_W,
    ASK,
    BASE,
    EXTREMES,
    HEADER,
    HISTOGRAM,
    MEAN,
    N_ASKS,
    N_GROUPS,
    N_STEPS,
    NEIGHBOURS,
    ROW,
    ROW_OUT,
    ROW_SOURCE,
    ROW_STRIDE_C,
    ROW_STRIDE_X,
    ROW_STRIDE_Y,
    S_ARGUMENTS,
    SMOOTH,
)
from .triton_plan import TICKET
from .triton_story import (
    LEVELS,
    group_words,
    image_behind,
    part_behind,
    scratch_number,
    stage,
    step_words,
    story,
    story_for,
)

PARTIALS = 6  # numbers that a chunk leaves: a sum, or the least and the greatest of three channels


def image_of(source, o_row):
    """A row's source: pointer and strides (C, Y, X)."""
    stride_c, stride_y = tl.load(o_row + ROW_STRIDE_C), tl.load(o_row + ROW_STRIDE_Y)
    return source + tl.load(o_row + ROW_SOURCE), stride_c, stride_y, tl.load(o_row + ROW_STRIDE_X)


def layout_of(groups, steps, tables_at, CAN: tl.constexpr):
    """Where in a plan the steps, the asks and the tables begin."""
    o_steps = HEADER + groups * group_words(CAN)
    return o_steps, o_steps + steps * step_words(CAN), tables_at


def put(out, o_out, v, m_pixel):
    """Store one channel, cast once."""
    if out.dtype.element_ty == tl.uint8:
        v = tl.minimum(tl.maximum(v, 0.0), 255.0)
    tl.store(out + o_out, v.to(out.dtype.element_ty), mask=m_pixel)


def write_kernel(
    source,
    rows,
    plan,
    scratch,
    out,
    image_size,
    out_n,
    out_c,
    out_y,
    out_x,
    out_h,
    out_w,
    scratch_size,
    scratch_images,
    plan_stride,
    groups,
    steps,
    tables_at,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    OUT_C: tl.constexpr,
    CAN: tl.constexpr,
):
    """out[row, c, y, x] = story(x, y), OUT_C channels. Grid: (rows * tiles * triples of channels,), the triples
    fastest.

    A tile is one-dimensional to the compiler: a warp takes 32 neighbours in x, whatever it guesses about strides. An
    offset of the output counts as if images of `image_size` elements lay back to back; they lie `out_n` apart.
    """
    TRIPLES: tl.constexpr = (OUT_C + 2) // 3
    tiles_x = (out_w + TILE_W - 1) // TILE_W
    tiles = tiles_x * ((out_h + TILE_H - 1) // TILE_H)
    i_program = tl.program_id(0)
    i_channel = i_program % TRIPLES * 3
    i_tile = i_program // TRIPLES % tiles
    i_row = (i_program // TRIPLES // tiles).to(tl.int64)
    i_y = i_tile // tiles_x * TILE_H + tl.arange(0, TILE_H * TILE_W) // TILE_W
    i_x = i_tile % tiles_x * TILE_W + tl.arange(0, TILE_H * TILE_W) % TILE_W
    m_pixel = (i_y < out_h) & (i_x < out_w)
    o_row = rows + i_row * ROW
    o_plan = plan + i_row * plan_stride
    layout = layout_of(groups, steps, tables_at, CAN)
    n_groups, n_steps = tl.load(o_plan + N_GROUPS).to(tl.int32), tl.load(o_plan + N_STEPS).to(tl.int32)
    i_smooth, i_base = tl.load(o_plan + SMOOTH).to(tl.int32), tl.load(o_plan + BASE).to(tl.int32)
    part = part_behind(o_plan, i_base, n_groups, n_steps, i_smooth, layout, CAN)
    o_scratch = scratch + i_row * scratch_images * scratch_size
    image = image_behind(o_plan, i_base, image_of(source, o_row), o_scratch, scratch_size, layout, CAN)
    r, g, b = story(image, o_plan, i_x.to(tl.float32), i_y.to(tl.float32), m_pixel, part, i_channel, CAN)
    o_image = tl.load(o_row + ROW_OUT)
    if out_n != image_size:
        o_image = o_image // image_size * out_n
    o_out = o_image + i_channel * out_c + i_y * out_y + i_x * out_x
    put(out, o_out, r, m_pixel)
    if OUT_C > 1:
        if i_channel + 1 < OUT_C:
            put(out, o_out + out_c, g, m_pixel)
        if i_channel + 2 < OUT_C:
            put(out, o_out + 2 * out_c, b, m_pixel)


def keep(scratch, area, i_pixel, rgb, m_pixel, i_channel, CAN: tl.constexpr):
    """Store a colour in a dense image [C, H, W] of `area` pixels a channel."""
    r, g, b = rgb
    o_pixel = i_channel * area + i_pixel
    put(scratch, o_pixel, r, m_pixel)
    if CAN.channels > 1:
        if i_channel + 1 < CAN.channels:
            put(scratch, o_pixel + area, g, m_pixel)
        if i_channel + 2 < CAN.channels:
            put(scratch, o_pixel + 2 * area, b, m_pixel)


def counts_of(v, lattice, m_pixel):
    """How many pixels have each level."""
    i_level = tl.minimum(tl.maximum(level_of(v, lattice), 0.0), 255.0).to(tl.int32)
    return tl.histogram(i_level, LEVELS, mask=m_pixel).to(tl.float32)


def gathered(found, kind, rgb, o_step, m_pixel, CAN: tl.constexpr):
    """What a chunk knows so far, six tiles, and one more block of pixels: sums by lane, extremes by lane, or counts by
    level."""
    r, g, b = rgb
    _, _, lattice, channels = stage(o_step)
    a0, a1, a2, a3, a4, a5 = found
    if CAN.mean:
        if kind == MEAN:
            a0 += tl.where(m_pixel, luma(r, g, b, lattice, channels), 0.0)
    if CAN.extremes:
        if kind == EXTREMES:
            a0, a3 = tl.where(m_pixel, tl.minimum(a0, r), a0), tl.where(m_pixel, tl.maximum(a3, r), a3)
            a1, a4 = tl.where(m_pixel, tl.minimum(a1, g), a1), tl.where(m_pixel, tl.maximum(a4, g), a4)
            a2, a5 = tl.where(m_pixel, tl.minimum(a2, b), a2), tl.where(m_pixel, tl.maximum(a5, b), a5)
    if CAN.histogram:
        if kind == HISTOGRAM:
            a0 += counts_of(r, lattice, m_pixel)
            if CAN.channels > 1:
                a1 += counts_of(g, lattice, m_pixel)
                a2 += counts_of(b, lattice, m_pixel)
    return a0, a1, a2, a3, a4, a5


def leave(found, kind, o_partials, o_counts, i_chunk, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Hand over what a chunk found: partial results in its own words, or counts added up as integers."""
    a0, a1, a2, a3, a4, a5 = found
    if CAN.mean:
        if kind == MEAN:
            tl.store(o_partials + i_chunk, tl.sum(a0, axis=0))
    if CAN.extremes:
        if kind == EXTREMES:
            tl.store(o_partials + i_chunk, tl.min(a0, axis=0))
            tl.store(o_partials + CHUNKS + i_chunk, tl.min(a1, axis=0))
            tl.store(o_partials + 2 * CHUNKS + i_chunk, tl.min(a2, axis=0))
            tl.store(o_partials + 3 * CHUNKS + i_chunk, tl.max(a3, axis=0))
            tl.store(o_partials + 4 * CHUNKS + i_chunk, tl.max(a4, axis=0))
            tl.store(o_partials + 5 * CHUNKS + i_chunk, tl.max(a5, axis=0))
    if CAN.histogram:
        if kind == HISTOGRAM:
            o_level = o_counts + tl.arange(0, LEVELS)
            tl.atomic_add(o_level, a0.to(tl.int32), mask=a0 > 0.0, sem="relaxed")
            if CAN.channels > 1:
                tl.atomic_add(o_level + LEVELS, a1.to(tl.int32), mask=a1 > 0.0, sem="relaxed")
                tl.atomic_add(o_level + 2 * LEVELS, a2.to(tl.int32), mask=a2 > 0.0, sem="relaxed")


def tabulate(o_counts, o_table, n_pixels):
    """Replace the counts of a channel by what equalize makes of each level."""
    i_level = tl.arange(0, LEVELS)
    b_count = tl.load(o_counts + i_level, cache_modifier=".cg")
    b_below = tl.cumsum(b_count, axis=0) - b_count
    i_last = tl.max(tl.where(b_count > 0, i_level, 0), axis=0)
    n_last = tl.sum(tl.where(i_level == i_last, b_count, 0), axis=0)
    b_table = equalized(i_level, b_below, (n_pixels - n_last) // 255)
    tl.debug_barrier()
    tl.store(o_table + i_level, b_table.to(tl.float32))


def conclude(kind, o_partials, o_counts, o_table, o_p, n_pixels, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Make a row's answer of what its chunks handed over: arguments of the asking step, or tables."""
    if CAN.mean:
        if kind == MEAN:
            total = tl.sum(tl.load(o_partials + tl.arange(0, CHUNKS), cache_modifier=".cg"), axis=0)
            tl.store(o_p + 7, tl.div_rn(total, n_pixels.to(tl.float32)))
    if CAN.extremes:
        if kind == EXTREMES:
            for k in tl.static_range(3):
                b_low = tl.load(o_partials + k * CHUNKS + tl.arange(0, CHUNKS), cache_modifier=".cg")
                b_high = tl.load(o_partials + (k + 3) * CHUNKS + tl.arange(0, CHUNKS), cache_modifier=".cg")
                tl.store(o_p + k, tl.min(b_low, axis=0))
                tl.store(o_p + k + 3, tl.max(b_high, axis=0))
    if CAN.histogram:
        if kind == HISTOGRAM:
            i_channel = 0
            while i_channel < CAN.channels:
                tabulate(o_counts + i_channel * LEVELS, o_table + i_channel * LEVELS, n_pixels)
                i_channel += 1


def ask_at(o_ask):
    """An ask: its step, groups, canvas h, w, kind, first smooth group, base."""
    n_steps, n_groups = tl.load(o_ask + A_STEP).to(tl.int32), tl.load(o_ask + A_GROUPS).to(tl.int32)
    h, w = tl.load(o_ask + A_H).to(tl.int32), tl.load(o_ask + A_W).to(tl.int32)
    kind, i_smooth = tl.load(o_ask + A_KIND).to(tl.int32), tl.load(o_ask + A_SMOOTH).to(tl.int32)
    return n_steps, n_groups, h, w, kind, i_smooth, tl.load(o_ask + A_BASE).to(tl.int32)


def answer(found, kind, o_plan, o_step, o_tables, o_partials, i_chunk, area, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Hand over what a chunk found; the last one of a row to do so answers the ask of the step at `o_step`."""
    o_counts = o_tables.to(tl.pointer_type(tl.int32))
    leave(found, kind, o_partials, o_counts, i_chunk, CHUNKS, CAN)
    tl.debug_barrier()
    ticket = (o_plan + TICKET).to(tl.pointer_type(tl.int32))
    if tl.atomic_add(ticket, 1) == CHUNKS - 1:
        conclude(kind, o_partials, o_counts, o_tables, o_step + S_ARGUMENTS, area.to(tl.int32), CHUNKS, CAN)
        tl.store(ticket, 0)


def chunk(area, i_chunk, CHUNKS: tl.constexpr):
    """A canvas's part number `i_chunk`: first pixel, and how many."""
    length = (area + CHUNKS - 1) // CHUNKS
    i_first = i_chunk * length
    return i_first, tl.minimum(length, area - i_first).to(tl.int32)


def ask_kernel(
    source,
    rows,
    plan,
    scratch,
    i_ask,
    scratch_size,
    scratch_images,
    plan_stride,
    groups,
    steps,
    tables_at,
    BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
    CAN: tl.constexpr,
):
    """Answer ask number `i_ask` of each row that has one. Grid: (rows * CHUNKS * triples of channels,).

    MEAN and EXTREMES become arguments of the asking step, HISTOGRAM tables; for NEIGHBOURS the image is kept as it is.
    A chunk is the same part of the canvas whatever the batch, and is reduced in a fixed order; so are the chunks, by
    the row's last program, and counts are integers: the same image gives the same bits. The partial results lie at the
    end of the plan row. BLOCK = LEVELS: one set of tiles serves sums by lane and counts by level.
    """
    TRIPLES: tl.constexpr = (CAN.channels + 2) // 3
    i_channel = tl.program_id(0) % TRIPLES * 3
    i_chunk = tl.program_id(0) // TRIPLES % CHUNKS
    i_row = (tl.program_id(0) // TRIPLES // CHUNKS).to(tl.int64)
    o_plan = plan + i_row * plan_stride
    if i_ask < tl.load(o_plan + N_ASKS).to(tl.int32):
        layout = layout_of(groups, steps, tables_at, CAN)
        n_steps, n_groups, h, w, kind, i_smooth, i_base = ask_at(o_plan + layout[1] + i_ask * ASK)
        part = part_behind(o_plan, i_base, n_groups, n_steps, i_smooth, layout, CAN)
        o_scratch = scratch + i_row * scratch_images * scratch_size
        image = image_behind(o_plan, i_base, image_of(source, rows + i_row * ROW), o_scratch, scratch_size, layout, CAN)
        o_step = o_plan + layout[0] + n_steps * step_words(CAN)
        area = h.to(tl.int64) * w
        i_pixel, n_left = chunk(area, i_chunk, CHUNKS)
        x_first, y_first = (i_pixel % w).to(tl.int32), (i_pixel // w).to(tl.int32)
        b_low = tl.zeros((BLOCK,), tl.float32) + tl.where(kind == EXTREMES, float("inf"), 0.0)
        found = (b_low, b_low, b_low, 0.0 - b_low, 0.0 - b_low, 0.0 - b_low)
        while n_left > 0:
            i_x = x_first + tl.arange(0, BLOCK)
            x, y = (i_x % w).to(tl.float32), (y_first + i_x // w).to(tl.float32)
            m_pixel = tl.arange(0, BLOCK) < n_left
            rgb = story(image, o_plan, x, y, m_pixel, part, i_channel, CAN)
            if CAN.neighbours:
                if kind == NEIGHBOURS:
                    o_kept = o_scratch + scratch_number(o_plan, layout[1], i_ask) * scratch_size
                    keep(o_kept, area, i_pixel + tl.arange(0, BLOCK), rgb, m_pixel, i_channel, CAN)
            found = gathered(found, kind, rgb, o_step, m_pixel, CAN)
            n_left -= BLOCK
            i_pixel += BLOCK
            y_first += (x_first + BLOCK) // w
            x_first = (x_first + BLOCK) % w
        if (CAN.mean or CAN.extremes) or CAN.histogram:
            if (kind != NEIGHBOURS) & (i_channel == 0):
                o_tables = o_plan + tables_at + i_ask * (CAN.channels * LEVELS)
                o_partials = o_plan + plan_stride - PARTIALS * CHUNKS
                answer(found, kind, o_plan, o_step, o_tables, o_partials, i_chunk, area, CHUNKS, CAN)


@functools.cache
def kernels_for(users: tuple[int, ...] = ()) -> dict:
    """The kernels, where users' formulas, by their opcodes, are pixel steps too."""
    told = story_for(users)
    names = ("group_words", "image_behind", "part_behind", "scratch_number", "stage", "step_words", "story")
    return triton_dialect.bind_module(
        sys.modules[__name__],
        TICKET=tl.constexpr(TICKET),
        LEVELS=tl.constexpr(LEVELS),
        PARTIALS=tl.constexpr(PARTIALS),
        **{n: told[n] for n in names},
        **{n: triton_dialect.PIXEL[n] for n in ("equalized", "level_of", "luma")},
    )
