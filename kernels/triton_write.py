"""The kernels that read pixels: `write` stores each output pixel once, `statistic` reduces the story up to a slot.

Offsets are int64. Nothing specialises on sizes, strides or seeds: the compile-time parameters are those of
`triton_story`.
"""

import sys

import triton.language as tl

from . import triton_dialect
from .pixel import luma
from .plan import (
    G_FILL,
    HEADER,
    N_GROUPS,
    N_STATS,
    N_STEPS,
    ROW,
    ROW_OUT,
    ROW_SOURCE,
    ROW_STRIDE_C,
    ROW_STRIDE_X,
    ROW_STRIDE_Y,
    S_ARGUMENTS,
    S_LATTICE,
    STAT,
)
from .triton_plan import TICKET
from .triton_story import STORY, story


def image_of(source, o_row):
    """A row's source: pointer and strides (C, Y, X)."""
    stride_c, stride_y = tl.load(o_row + ROW_STRIDE_C), tl.load(o_row + ROW_STRIDE_Y)
    return source + tl.load(o_row + ROW_SOURCE), stride_c, stride_y, tl.load(o_row + ROW_STRIDE_X)


def steps_at(groups, CAN: tl.constexpr):
    """Where in a plan the pixel steps begin."""
    return HEADER + groups * (G_FILL + CAN.channels)


def put(out, o_out, v, m_pixel):
    """Store one channel, cast once."""
    if out.dtype.element_ty == tl.uint8:
        v = tl.minimum(tl.maximum(v, 0.0), 255.0)
    tl.store(out + o_out, v.to(out.dtype.element_ty), mask=m_pixel)


def write_kernel(
    source,
    rows,
    plan,
    out,
    image_size,
    out_n,
    out_c,
    out_y,
    out_x,
    out_h,
    out_w,
    plan_stride,
    groups,
    steps,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CAN: tl.constexpr,
):
    """out[row, c, y, x] = story(x, y). Grid: (rows * tiles * triples of channels,), the triples fastest.

    A tile is one-dimensional to the compiler: a warp takes 32 neighbours in x, whatever it guesses about strides. An
    offset of the output counts as if images of `image_size` elements lay back to back; they lie `out_n` apart.
    """
    TRIPLES: tl.constexpr = (CAN.channels + 2) // 3
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
    counts = (tl.load(o_plan + N_GROUPS).to(tl.int32), tl.load(o_plan + N_STEPS).to(tl.int32), steps_at(groups, CAN))
    image, x, y = image_of(source, o_row), i_x.to(tl.float32), i_y.to(tl.float32)
    r, g, b = story(image, o_plan, x, y, m_pixel, counts, i_channel, CAN)
    o_image = tl.load(o_row + ROW_OUT)
    if out_n != image_size:
        o_image = o_image // image_size * out_n
    o_out = o_image + i_channel * out_c + i_y * out_y + i_x * out_x
    put(out, o_out, r, m_pixel)
    if CAN.channels > 1:
        if i_channel + 1 < CAN.channels:
            put(out, o_out + out_c, g, m_pixel)
        if i_channel + 2 < CAN.channels:
            put(out, o_out + 2 * out_c, b, m_pixel)


def statistic_kernel(
    source, rows, plan, i_stat, plan_stride, groups, steps, BLOCK: tl.constexpr, CHUNKS: tl.constexpr, CAN: tl.constexpr
):
    """Argument 7 of the asking step = the mean grey of the canvas as it stands at that step. Grid: (rows * CHUNKS,).

    A chunk is the same part of the canvas whatever the batch, and is summed in a fixed order; so are the chunks, by the
    row's last program: the same image gives the same bits. The partial sums lie at the end of the plan row.
    """
    i_chunk = tl.program_id(0) % CHUNKS
    i_row = (tl.program_id(0) // CHUNKS).to(tl.int64)
    o_plan = plan + i_row * plan_stride
    if i_stat < tl.load(o_plan + N_STATS).to(tl.int32):
        o_steps = steps_at(groups, CAN)
        o_stat = o_plan + o_steps + steps * (S_ARGUMENTS + 8) + i_stat * STAT
        i_step, n_groups = tl.load(o_stat).to(tl.int32), tl.load(o_stat + 1).to(tl.int32)
        area = tl.load(o_stat + 2).to(tl.int64) * tl.load(o_stat + 3).to(tl.int64)
        w = tl.load(o_stat + 3).to(tl.int32)
        o_step = o_plan + o_steps + i_step * (S_ARGUMENTS + 8)
        counts = (n_groups, i_step, o_steps)
        image = image_of(source, rows + i_row * ROW)
        length = (area + CHUNKS - 1) // CHUNKS
        i_first = i_chunk * length
        n_left = tl.minimum(length, area - i_first).to(tl.int32)
        x_first, y_first = (i_first % w).to(tl.int32), (i_first // w).to(tl.int32)
        b_sum = tl.zeros((BLOCK,), tl.float32)
        while n_left > 0:
            i_x = x_first + tl.arange(0, BLOCK)
            x, y = (i_x % w).to(tl.float32), (y_first + i_x // w).to(tl.float32)
            m_pixel = tl.arange(0, BLOCK) < n_left
            r, g, b = story(image, o_plan, x, y, m_pixel, counts, 0, CAN)
            b_sum += tl.where(m_pixel, luma(r, g, b, tl.load(o_step + S_LATTICE), CAN.channels), 0.0)
            n_left -= BLOCK
            y_first += (x_first + BLOCK) // w
            x_first = (x_first + BLOCK) % w
        o_partials = o_plan + plan_stride - CHUNKS
        tl.store(o_partials + i_chunk, tl.sum(b_sum, axis=0))
        tl.debug_barrier()
        ticket = (o_plan + TICKET).to(tl.pointer_type(tl.int32))
        if tl.atomic_add(ticket, 1) == CHUNKS - 1:
            total = tl.sum(tl.load(o_partials + tl.arange(0, CHUNKS), cache_modifier=".cg"), axis=0)
            tl.store(o_step + S_ARGUMENTS + 7, tl.div_rn(total, tl.load(o_stat + 2) * tl.load(o_stat + 3)))
            tl.store(ticket, 0)


KERNELS = triton_dialect.bind_module(
    sys.modules[__name__],
    TICKET=tl.constexpr(TICKET),
    story=STORY["story"],
    luma=triton_dialect.PIXEL["luma"],
)
