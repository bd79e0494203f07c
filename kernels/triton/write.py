"""The kernels that read pixels: `write` stores each output pixel once, `ask` looks at a whole image for those behind.

An image's own offset is int64; offsets in a channel are int32, unless the program is compiled `wide`. Nothing
specialises on sizes, strides or seeds, but for how quads of the output can be stored (QUADS) and `wide`; the other
compile-time parameters are those of `story`.
"""

import functools
import sys

import triton.language as tl

from ..shared.pixel import JPEG
from ..shared.plan import (
    A_BASE,
    A_GROUPS,
    A_H,
    A_KIND,
    A_SMOOTH,
    A_STEP,
    A_W,
    ASK,
    BASE,
    N_ASKS,
    N_GROUPS,
    N_STEPS,
    NEIGHBOURS,
    OUT_H,
    OUT_W,
    ROW,
    ROW_OUT,
    ROW_OUT_C,
    ROW_OUT_X,
    ROW_OUT_Y,
    ROW_SOURCE,
    ROW_STRIDE_C,
    ROW_STRIDE_X,
    ROW_STRIDE_Y,
    S_ARGUMENTS,
    S_OP,
    SMOOTH,
    ask_at,
    step_at,
    step_words,
)
from . import asks, dialect
from .asks import PARTIALS, answer, gathered, nothing
from .elastic import keep_drift
from .jpeg import keep_jpeg
from .story import (
    LEVELS,
    arguments,
    finish,
    image_behind,
    part_behind,
    scratch_number,
    stage,
    story,
    story_for,
)

PLANES, INTERLEAVED = 1, 3  # quads of a line from one to the next: one channel's, or three channels in turns


def stride(o_row, WORD: tl.constexpr, CAN: tl.constexpr):
    """A row's stride in y or x, in 32 bits where it fits."""
    if CAN.wide:
        value = tl.load(o_row + WORD)
    else:
        value = tl.load((o_row + WORD).to(tl.pointer_type(tl.int32)))
    return value


def image_of(source, o_row, CAN: tl.constexpr):
    """A row's source: pointer; strides (C, Y, X)."""
    stride_y, stride_x = stride(o_row, ROW_STRIDE_Y, CAN), stride(o_row, ROW_STRIDE_X, CAN)
    return source + tl.load(o_row + ROW_SOURCE), (tl.load(o_row + ROW_STRIDE_C), stride_y, stride_x)


def layout_of(groups, steps, tables_at, CAN: tl.constexpr):
    """Where in a plan the steps, the asks and the tables begin."""
    return step_at(CAN.channels, groups, 0), ask_at(CAN.channels, groups, steps, 0), tables_at


def pixels_of(TILE_H: tl.constexpr, TILE_W: tl.constexpr, QUADS: tl.constexpr):
    """Columns and lines of a tile's pixels: a warp takes neighbours in x or, with QUADS, each thread takes four."""
    PIXELS: tl.constexpr = TILE_H * TILE_W
    i_pixel = tl.arange(0, PIXELS)
    if QUADS == 0:
        i_x, i_y = i_pixel % TILE_W, i_pixel // TILE_W
    else:
        i_quad = i_pixel % (PIXELS // 4)
        i_x, i_y = i_quad % (TILE_W // 4) * 4 + i_pixel // (PIXELS // 4), i_quad // (TILE_W // 4)
    return i_x, i_y


def quads_of(TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Columns and lines of a tile's quads."""
    i_quad = tl.arange(0, TILE_H * TILE_W // 4)
    return i_quad % (TILE_W // 4), i_quad // (TILE_W // 4)


def as_quads(v):
    """A tile in the order of `pixels_of` as quads [n, 4]."""
    return tl.permute(tl.reshape(v, (4, v.shape[0] // 4)), (1, 0))


def four_of(v):
    """The four pixels of each quad."""
    even, odd = tl.split(tl.reshape(as_quads(v), (v.shape[0] // 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


def quad(a, b, c, d):
    """Four tiles [n] as one [n, 4]."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (a.shape[0], 4))


def put_quads(out, o_out, v, m_quad):
    """Store four numbers at a time; `o_out` counts such quads, so that the compiler sees them whole."""
    tl.store(out + ((o_out * 4)[:, None] + tl.arange(0, 4)[None, :]), v, mask=m_quad[:, None])


def cast(v, out):
    """A channel in the output's dtype."""
    if out.dtype.element_ty == tl.uint8:
        v = tl.minimum(tl.maximum(v, 0.0), 255.0)
    return v.to(out.dtype.element_ty)


def put_interleaved(out, o_quad, r, g, b, m_quad):
    """Store pixels whose three channels lie side by side, and neighbours too: four pixels are twelve numbers.

    As three quads and one that is left out, of which neighbouring threads take neighbouring ones: what they store
    together is one piece of memory.
    """
    r0, r1, r2, r3 = four_of(cast(r, out))
    g0, g1, g2, g3 = four_of(cast(g, out))
    b0, b1, b2, b3 = four_of(cast(b, out))
    first, second, third = quad(r0, g0, b0, r1), quad(g1, b1, r2, g2), quad(b2, r3, g3, b3)
    v = tl.permute(tl.join(tl.join(first, third), tl.join(second, third)), (0, 2, 3, 1))
    v = tl.reshape(v, (v.shape[0], 4, 4))
    i_quad = tl.arange(0, 4)
    o_v = ((o_quad[:, None] + i_quad[None, :]) * 4)[:, :, None] + tl.arange(0, 4)[None, None, :]
    m_v = m_quad[:, None] & (i_quad < 3)[None, :]
    tl.store(out + o_v, v, mask=m_v[:, :, None])


def put_planes(out, o_out, out_c, rgb, i_channel, m_out, OUT_C: tl.constexpr, QUADS: tl.constexpr):
    """Store up to three channels, `out_c` apart."""
    for k in tl.static_range(3):
        if k < OUT_C:
            if i_channel + k < OUT_C:
                v = cast(rgb[k], out)
                if QUADS == 0:
                    tl.store(out + (o_out + k * out_c), v, mask=m_out)
                else:
                    put_quads(out, o_out + k * out_c, as_quads(v), m_out)


def put(out, o_out, out_c, out_x, rgb, i_channel, m_out, OUT_C: tl.constexpr, QUADS: tl.constexpr):
    """Store up to three channels, as `out_x` says where quads are stored."""
    if QUADS and OUT_C == 3:
        if out_x == INTERLEAVED:
            put_interleaved(out, o_out, rgb[0], rgb[1], rgb[2], m_out)
        else:
            put_planes(out, o_out, out_c, rgb, i_channel, m_out, OUT_C, QUADS)
    else:
        put_planes(out, o_out, out_c, rgb, i_channel, m_out, OUT_C, QUADS)


def own_place(o_row, o_plan, CAN: tl.constexpr):
    """A row's own strides (C, Y, X) in the output, and its size (OH, OW)."""
    out_y, out_x = stride(o_row, ROW_OUT_Y, CAN), stride(o_row, ROW_OUT_X, CAN)
    out_h, out_w = tl.load(o_plan + OUT_H).to(tl.int32), tl.load(o_plan + OUT_W).to(tl.int32)
    return tl.load(o_row + ROW_OUT_C), out_y, out_x, out_h, out_w


def apart(o_image, image_size, out_n):
    """The offset of an image where images of `image_size` elements lie `out_n` apart."""
    if out_n != image_size:
        o_image = o_image // image_size * out_n
    return o_image


def tile_place(out_h, out_w, TILE_H: tl.constexpr, TILE_W: tl.constexpr, OUT_C: tl.constexpr, QUADS: tl.constexpr):
    """A program's tile: first channel, column and line; columns and lines of its pixels, and which lie in the image."""
    TRIPLES: tl.constexpr = (OUT_C + 2) // 3
    i_channel = tl.program_id(0) % TRIPLES * 3
    x_tile, y_tile = tl.program_id(0) // TRIPLES * TILE_W, tl.program_id(1) * TILE_H
    i_x, i_y = pixels_of(TILE_H, TILE_W, QUADS)
    m_pixel = (y_tile + i_y < out_h) & (x_tile + i_x < out_w)
    i_x, i_y = tl.minimum(x_tile + i_x, out_w - 1), tl.minimum(y_tile + i_y, out_h - 1)
    return i_channel, x_tile, y_tile, i_x, i_y, m_pixel


def row_story(source, o_row, o_plan, kept, i_row, n_steps, layout, x, y, i_channel, CAN: tl.constexpr):
    """The colour of a row's pixels behind all of its geometry and `n_steps` steps; `kept`: the scratch images, how many
    a row has, and their size."""
    scratch, scratch_images, scratch_size = kept
    n_groups = tl.load(o_plan + N_GROUPS).to(tl.int32)
    i_smooth, i_base = tl.load(o_plan + SMOOTH).to(tl.int32), tl.load(o_plan + BASE).to(tl.int32)
    part = part_behind(o_plan, i_base, n_groups, n_steps, i_smooth, layout, CAN)
    o_scratch = scratch + i_row * scratch_images * scratch_size
    image = image_behind(o_plan, i_base, image_of(source, o_row, CAN), o_scratch, scratch_size, layout, CAN)
    return story(image, o_plan, x, y, part, i_channel, CAN)


def put_tile(
    out,
    o_image,
    shape,
    place,
    rgb,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    OUT_C: tl.constexpr,
    QUADS: tl.constexpr,
):
    """Store a tile of an image; `shape`: the output's strides (C, Y, X), height and width as in `write_kernel`."""
    out_c, out_y, out_x, out_h, out_w = shape
    i_channel, x_tile, y_tile, i_x, i_y, m_pixel = place
    if QUADS != 0:
        i_x, i_y = quads_of(TILE_H, TILE_W)
        i_x, i_y = x_tile // 4 + i_x, y_tile + i_y
        m_pixel = (i_y < out_h) & (i_x < out_w // 4)
        o_image = o_image >> 2
    o_out = o_image + i_channel * out_c + i_y.to(tl.int64) * out_y + i_x * out_x
    put(out, o_out, out_c, out_x, rgb, i_channel, m_pixel, OUT_C, QUADS)


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
    i_first,
    scratch_size,
    scratch_images,
    plan_stride,
    groups,
    steps,
    tables_at,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    OUT_C: tl.constexpr,
    QUADS: tl.constexpr,
    CAN: tl.constexpr,
):
    """out[row, c, y, x] = story(x, y), from row i_first on. Grid: (tiles in x * triples of channels, tiles in y, rows).

    A tile is one-dimensional to the compiler, so that `pixels_of` says which thread has which pixels, whatever the
    compiler guesses about strides. An offset of the output counts as if images of `image_size` elements lay back to
    back; they lie `out_n` apart, unless each row has a place of its own. QUADS: each four neighbours in x lie side by
    side, or their twelve numbers. Then OW and all strides are multiples of four and counted in fours, and `out_x` is
    PLANES or INTERLEAVED.
    """
    i_row = i_first + tl.program_id(2).to(tl.int64)
    if CAN.ragged:
        out_c, out_y, out_x, out_h, out_w = own_place(rows + i_row * ROW, plan + i_row * plan_stride, CAN)
    place = tile_place(out_h, out_w, TILE_H, TILE_W, OUT_C, QUADS)
    i_channel, x_tile, y_tile, i_x, i_y, _ = place
    if CAN.ragged:
        if (x_tile >= out_w) | (y_tile >= out_h):
            return
    layout = layout_of(groups, steps, tables_at, CAN)
    o_plan = plan + i_row * plan_stride
    n_steps = tl.load(o_plan + N_STEPS).to(tl.int32) - len(CAN.tail)
    kept = (scratch, scratch_images, scratch_size)
    x, y = i_x.to(tl.float32), i_y.to(tl.float32)
    rgb = row_story(source, rows + i_row * ROW, o_plan, kept, i_row, n_steps, layout, x, y, i_channel, CAN)
    rgb = finish(o_plan, layout[0] + n_steps * step_words(CAN.channels), rgb, x, y, i_channel, CAN)
    o_image = tl.load(rows + i_row * ROW + ROW_OUT)
    if not CAN.ragged:
        o_image = apart(o_image, image_size, out_n)
    put_tile(out, o_image, (out_c, out_y, out_x, out_h, out_w), place, rgb, TILE_H, TILE_W, OUT_C, QUADS)


def ask_words(o_ask):
    """An ask: its step, groups, canvas h, w, kind, first smooth group, base."""
    n_steps, n_groups = tl.load(o_ask + A_STEP).to(tl.int32), tl.load(o_ask + A_GROUPS).to(tl.int32)
    h, w = tl.load(o_ask + A_H).to(tl.int32), tl.load(o_ask + A_W).to(tl.int32)
    kind, i_smooth = tl.load(o_ask + A_KIND).to(tl.int32), tl.load(o_ask + A_SMOOTH).to(tl.int32)
    return n_steps, n_groups, h, w, kind, i_smooth, tl.load(o_ask + A_BASE).to(tl.int32)


def keep(
    o_kept,
    image,
    rgb,
    o_step,
    at,
    i_channel,
    m_pixel,
    h,
    w,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CAN: tl.constexpr,
):
    """Keep a tile of an image h x w, whose story began at `image`, for the step at `o_step`; `at`: the tile's corner,
    then its pixels."""
    x_tile, y_tile, i_x, i_y = at
    area = h.to(tl.int64) * w
    o_pixel = i_channel * area + i_y.to(tl.int64) * w + i_x
    if CAN.jpeg:
        op, _, lattice, channels = stage(o_step, CAN)
        if op == JPEG:
            quality = tl.load(o_step + S_ARGUMENTS)
            keep_jpeg(o_kept, rgb, quality, (x_tile, y_tile), (h, w), lattice, channels, TILE_H, TILE_W, CAN)
        else:
            put_planes(o_kept, o_pixel, area, rgb, i_channel, m_pixel, CAN.channels, 0)
    else:
        put_planes(o_kept, o_pixel, area, rgb, i_channel, m_pixel, CAN.channels, 0)
    if CAN.elastic:
        if i_channel == 0:
            op = tl.load(o_step + S_OP).to(tl.int32)
            keep_drift(o_kept, image[2], op, arguments(o_step + S_ARGUMENTS, 0), i_x, i_y, h, w, m_pixel, CAN)


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
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CHUNKS: tl.constexpr,
    CAN: tl.constexpr,
):
    """Answer ask number `i_ask` of each row that has one. Grid: (rows * CHUNKS * triples of channels,).

    MEAN and EXTREMES become arguments of the asking step, HISTOGRAM tables; for NEIGHBOURS the image is kept as it is.
    A chunk is the same tiles of the canvas whatever the batch, reduced in a fixed order; so are the chunks, by a row's
    last program, and counts are integers: the same bits. The partial results lie at the end of the plan row.
    """
    TRIPLES: tl.constexpr = (CAN.channels + 2) // 3
    i_channel = tl.program_id(0) % TRIPLES * 3
    i_chunk = tl.program_id(0) // TRIPLES % CHUNKS
    i_row = (tl.program_id(0) // TRIPLES // CHUNKS).to(tl.int64)
    o_row, o_plan = rows + i_row * ROW, plan + i_row * plan_stride
    if i_ask < tl.load(o_plan + N_ASKS).to(tl.int32):
        layout = layout_of(groups, steps, tables_at, CAN)
        n_steps, n_groups, h, w, kind, i_smooth, i_base = ask_words(o_plan + layout[1] + i_ask * ASK)
        part = part_behind(o_plan, i_base, n_groups, n_steps, i_smooth, layout, CAN)
        o_scratch = scratch + i_row * scratch_images * scratch_size
        image = image_behind(o_plan, i_base, image_of(source, o_row, CAN), o_scratch, scratch_size, layout, CAN)
        o_step = o_plan + layout[0] + n_steps * step_words(CAN.channels)
        area = h.to(tl.int64) * w
        tiles_x, tiles_y = (w + TILE_W - 1) // TILE_W, (h + TILE_H - 1) // TILE_H
        n_tiles = (tiles_x * tiles_y + CHUNKS - 1) // CHUNKS
        x_tile, y_tile = i_chunk * n_tiles % tiles_x * TILE_W, i_chunk * n_tiles // tiles_x * TILE_H
        found = nothing(kind)
        dx, dy = pixels_of(TILE_H, TILE_W, 0)
        while (n_tiles > 0) & (y_tile < h):
            m_pixel = (x_tile + dx < w) & (y_tile + dy < h)
            i_x, i_y = tl.minimum(x_tile + dx, w - 1), tl.minimum(y_tile + dy, h - 1)
            rgb = story(image, o_plan, i_x.to(tl.float32), i_y.to(tl.float32), part, i_channel, CAN)
            if CAN.neighbours:
                if kind == NEIGHBOURS:
                    o_kept = o_scratch + scratch_number(o_plan, layout[1], i_ask) * scratch_size
                    at = (x_tile, y_tile, i_x, i_y)
                    keep(o_kept, image, rgb, o_step, at, i_channel, m_pixel, h, w, TILE_H, TILE_W, CAN)
            found = gathered(found, kind, rgb, o_step, m_pixel, CAN)
            n_tiles -= 1
            x_tile += TILE_W
            if x_tile >= w:
                x_tile, y_tile = x_tile * 0, y_tile + TILE_H
        if (CAN.mean or CAN.extremes) or CAN.histogram:
            if (kind != NEIGHBOURS) & (i_channel == 0):
                o_tables = o_plan + tables_at + i_ask * (CAN.channels * LEVELS)
                o_partials = o_plan + plan_stride - PARTIALS * CHUNKS
                answer(found, kind, o_plan, o_step, o_tables, o_partials, i_chunk, area, CHUNKS, CAN)


@functools.cache
def kernels_for(users: tuple[int, ...] = ()) -> dict:
    """The kernels, where users' formulas, by their opcodes, are pixel steps too."""
    told = story_for(users)
    return dialect.bind_module(sys.modules[__name__], **told, **dialect.bind_module(asks, **told))
