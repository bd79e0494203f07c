"""The kernel of programs with a blend: an output pixel is blended of the same pixel of several rows, then stored once.

The story stands in it once, in a loop over the layers.
"""

import functools
import sys

import triton.language as tl

from ..shared import blend
from ..shared.blend import settled
from ..shared.plan import BLEND, FRONT, N_GROUPS, N_STEPS, ROW, ROW_OUT, S_ARGUMENTS, S_OP, S_TRAIT, step_words
from . import dialect
from .dialect import blend_switch
from .story import arguments, finish, story_for, walk_forward
from .write import apart, kernels_for, layout_of, put_tile, row_story, tile_place

CUTMIX, MOSAIC = (next(opcode for opcode, name in blend.CASES.items() if name == op) for op in ("cutmix", "mosaic"))


def wanted(op, k, p, x_tile, y_tile, x_end, y_end):
    """Whether layer k is seen anywhere in a tile."""
    on = k >= 0
    if op == CUTMIX:
        left, right, top, bottom = p[1], p[1] + p[3], p[0], p[0] + p[2]
        whole = (x_tile >= left) & (x_end <= right) & (y_tile >= top) & (y_end <= bottom)
        part = (x_tile < right) & (x_end > left) & (y_tile < bottom) & (y_end > top)
        on = ((k == 0) & (whole == 0)) | ((k > 0) & part)
    if op == MOSAIC:
        across = tl.where(k % 2 == 0, x_tile < p[0], x_end > p[0])
        on = across & tl.where(k < 2, y_tile < p[1], y_end > p[1])
    return on


def blend_kernel(
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
    i_first,
    scratch_size,
    scratch_images,
    plan_stride,
    groups,
    steps,
    tables_at,
    outputs,
    n_layers,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    OUT_C: tl.constexpr,
    QUADS: tl.constexpr,
    CAN: tl.constexpr,
    BEHIND: tl.constexpr,
    BLENDS: tl.constexpr,
):
    """out[output, c, y, x] = the blend of row_story(x, y) of its rows `outputs` [.., n_layers], from output i_first on;
    then the steps of its own row behind the blend. As `write_kernel` for the rest.

    CAN is what stands in front of the blend and the tail, BEHIND what stands between the two, BLENDS has the bits of
    the opcodes.
    """
    place = tile_place(out_h, out_w, TILE_H, TILE_W, OUT_C, QUADS)
    i_channel, x_tile, y_tile, i_x, i_y, _ = place
    o_layers = outputs + (i_first + tl.program_id(2).to(tl.int64)) * n_layers
    i_own = tl.load(o_layers)
    o_plan, layout = plan + i_own * plan_stride, layout_of(groups, steps, tables_at, CAN)
    front, n_steps = tl.load(o_plan + FRONT).to(tl.int32), tl.load(o_plan + N_STEPS).to(tl.int32)
    o_step = o_plan + layout[0] + tl.minimum(front, steps - 1) * step_words(CAN.channels)
    blends = (front < n_steps) & (tl.load(o_step + S_TRAIT) == BLEND)
    n_own = n_layers * 0 + 1
    several = n_own < 0
    if n_layers > 1:
        several = blends & (tl.load(o_layers + 1) >= 0)
    op, p = tl.load(o_step + S_OP).to(tl.int32), arguments(o_step + S_ARGUMENTS, 0)
    x, y = i_x.to(tl.float32), i_y.to(tl.float32)
    x_end, y_end = tl.minimum(x_tile + TILE_W, out_w), tl.minimum(y_tile + TILE_H, out_h)
    kept = (scratch, scratch_images, scratch_size)
    r = x * 0.0
    g, b = r, r
    k = n_own * 0
    while k < tl.where(several, n_layers, 1):
        i_row = tl.load(o_layers + k)
        on = i_row >= 0
        if several:
            on = on & wanted(op, k, p, x_tile, y_tile, x_end, y_end)
        if on:
            o_layer = plan + i_row * plan_stride
            n_front = tl.load(o_layer + FRONT).to(tl.int32)
            nr, ng, nb = row_story(
                source, rows + i_row * ROW, o_layer, kept, i_row, n_front, layout, x, y, i_channel, CAN
            )
            if several:
                nr, ng, nb = blend_switch(op, k, r, g, b, nr, ng, nb, x, y, p, BLENDS)
            r, g, b = nr, ng, nb
        k += 1
    if several:
        if p[7] > 0.0:
            r, g, b = settled(r, p), settled(g, p), settled(b, p)
    n_steps -= len(CAN.tail)
    if BEHIND.ops > 0:
        n_groups, first = tl.load(o_plan + N_GROUPS).to(tl.int32), front + blends.to(tl.int32)
        part = (n_groups, n_groups, first, n_steps, n_groups, layout[0], layout[2])
        b_birth = tl.full(x.shape, 0, tl.int32)
        r, g, b = walk_forward(o_plan, (r, g, b), b_birth, (x, y), (-1.0, float("inf")), part, i_channel, False, BEHIND)
    rgb = finish(o_plan, layout[0] + n_steps * step_words(CAN.channels), (r, g, b), x, y, i_channel, CAN)
    o_image = apart(tl.load(rows + i_own * ROW + ROW_OUT), image_size, out_n)
    put_tile(out, o_image, (out_c, out_y, out_x, out_h, out_w), place, rgb, TILE_H, TILE_W, OUT_C, QUADS)


@functools.cache
def blend_kernel_for(users: tuple[int, ...] = ()):
    """The kernel, where users' formulas, by their opcodes, are pixel steps too."""
    functions = story_for(users) | kernels_for(users)
    return dialect.bind_module(sys.modules[__name__], **functions, blend_switch=dialect.blend_switch)["blend_kernel"]
