"""Sampling of any other pass, pixel by pixel: walk a line of points back to the base image, and gather.

uint8 of three channels is packed first, four bytes a pixel, if it is resampled: a tap is one load then.
"""

from ..shared import geometry as G
from ..shared import plan as P
from . import frame as F
from .bits import three_bytes
from .dialect import GEOMETRY, LANES, exact, f32, fast, i32, i64, int32, u8, widest, xp
from .sample import gather
from .tables import clamp, group_at, table_of, weigh
from .vector import four_block_packed, gather_block_f32, gather_block_packed, gather_block_u8, take_block_packed

EXACT = 1 << 24  # whole numbers below are exact in float32
fold, folds, snap = GEOMETRY["fold"], GEOMETRY["folds"], GEOMETRY["snap"]


@exact
def check_line(g, keeps, number, xs, ys, birth, n):
    """Hold a line's coordinates against a group's window: snap (unless `keeps`), note births, lead the rest back in."""
    x_low, x_high, y_low, y_high = g[P.G_WINDOW], g[P.G_WINDOW + 1], g[P.G_WINDOW + 2], g[P.G_WINDOW + 3]
    border = g[P.G_BORDER]
    if folds(border):
        for x in range(n):
            sx, sy = snap(xs[x]), snap(ys[x])
            keeps_x, keeps_y = keeps & (sx >= x_low) & (sx <= x_high), keeps & (sy >= y_low) & (sy <= y_high)
            xs[x] = xp.where(keeps_x, xs[x], fold(sx, x_low, x_high, border))
            ys[x] = xp.where(keeps_y, ys[x], fold(sy, y_low, y_high, border))
        return
    for x in range(n):
        sx, sy = snap(xs[x]), snap(ys[x])
        inside = (sx >= x_low) & (sx <= x_high) & (sy >= y_low) & (sy <= y_high)
        birth[x] = xp.where((border == G.FILL) & (inside == 0) & (birth[x] < 0.0), number, birth[x])
        cx, cy = xp.where(keeps, xs[x], sx), xp.where(keeps, ys[x], sy)
        xs[x] = xp.where(inside, cx, clamp(cx, x_low, x_high))
        ys[x] = xp.where(inside, cy, clamp(cy, y_low, y_high))


@exact
def clamps(g):
    """Whether a group is affine, and leads what lies outside to the edge, be it for its fill."""
    return (g[P.G_PROJECTIVE] == 0.0) & (folds(g[P.G_BORDER]) == 0)


@exact
def trace_first(g, number, y, xs, ys, birth, n):
    """What `trace_line` does from its beginning to the end of a group that `clamps`, in one pass."""
    widest()
    x_low, x_high, y_low, y_high = g[P.G_WINDOW], g[P.G_WINDOW + 1], g[P.G_WINDOW + 2], g[P.G_WINDOW + 3]
    m0, m1, m2, m3, m4, m5 = g[0], g[1], g[2], g[3], g[4], g[5]
    keeps, otherwise = g[P.G_FILTER] != G.NEAREST, xp.where(g[P.G_BORDER] == G.FILL, number, -1.0)
    for x in range(n):
        u = xp.f32(int32(x))
        cx, cy = m0 * u + m1 * y + m2, m3 * u + m4 * y + m5
        sx, sy = snap(cx), snap(cy)
        inside = (sx >= x_low) & (sx <= x_high) & (sy >= y_low) & (sy <= y_high)
        birth[x] = xp.where(inside, -1.0, otherwise)
        cx, cy = xp.where(keeps, cx, sx), xp.where(keeps, cy, sy)
        xs[x] = xp.where(inside, cx, clamp(cx, x_low, x_high))
        ys[x] = xp.where(inside, cy, clamp(cy, y_low, y_high))


@exact
def trace_line(frame, y, until, xs, ys, birth):
    """Walk an output line back through the groups of the pass from `until` on: coordinates, and the groups of birth."""
    n, i = frame.ow, frame.groups_to - 1
    if (i >= until) & (i != frame.smooth) & clamps(group_at(frame, i)):
        trace_first(group_at(frame, i), xp.f32(i), xp.f32(y), xs, ys, birth, n)
        i -= 1
    else:
        for x in range(n):
            xs[x], ys[x], birth[x] = xp.f32(x), xp.f32(y), xp.f32(-1.0)
    while i >= until:
        g = group_at(frame, i)
        m0, m1, m2, m3, m4, m5, m6, m7, m8 = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]
        if g[P.G_PROJECTIVE] > 0.0:
            for x in range(n):
                u, v = xs[x], ys[x]
                w = 1.0 / (m6 * u + m7 * v + m8)
                xs[x], ys[x] = (m0 * u + m1 * v + m2) * w, (m3 * u + m4 * v + m5) * w
        else:
            for x in range(n):
                u, v = xs[x], ys[x]
                xs[x], ys[x] = m0 * u + m1 * v + m2, m3 * u + m4 * v + m5
        if i != frame.smooth:
            check_line(g, g[P.G_FILTER] != G.NEAREST, xp.f32(i), xs, ys, birth, n)
        i -= 1


@fast
def places(frame):
    """Where the pixels of the tile lie in the canvas of the step being run, which groups may stand behind."""
    until, n = xp.i64(f32(frame.step)[P.S_GROUPS]), frame.ow
    for r in range(frame.lines):
        xs, ys, y = f32(frame.place_x + 4 * r * n), f32(frame.place_y + 4 * r * n), frame.y + r
        if until < frame.groups_to:
            trace_line(frame, y, until, xs, ys, f32(frame.staging))
            for x in range(n):
                xs[x], ys[x] = snap(xs[x]), snap(ys[x])
        else:
            for x in range(n):
                xs[x], ys[x] = xp.f32(x), xp.f32(y)


@fast
def three_from(red, green, blue, offsets, n, r, g, b):
    for i in range(n):
        at = xp.i64(offsets[i])
        r[i], g[i], b[i] = xp.f32(red[at]), xp.f32(green[at]), xp.f32(blue[at])


@fast
def gather_colours(frame, offsets, n, out):
    """As `gather` for three channels, at the addresses `out` + a multiple of the pitch; of packed bytes by words."""
    base, step, pitch = frame.base, frame.base_c, 4 * frame.tile_pitch
    r, g, b = f32(out), f32(out + pitch), f32(out + 2 * pitch)
    if frame.packed_base != 0:
        for i in range(n, LANES):
            offsets[i] = offsets[0]
        for x in range(0, n, LANES):
            take_block_packed(base, offsets, max(min(x, n - LANES), 0), r, frame.tile_pitch)
    elif frame.base_kind == F.U8:
        three_from(u8(base), u8(base + step), u8(base + 2 * step), offsets, n, r, g, b)
    else:
        three_from(f32(base), f32(base + 4 * step), f32(base + 8 * step), offsets, n, r, g, b)


@fast
def point_offsets(xs, ys, x_high, y_high, step_x, step_y, n, offsets):
    """The offsets of a line's points, all steps being exact in float32."""
    widest()
    for i in range(n):
        column, line = clamp(xs[i], 0.0, x_high), clamp(ys[i], 0.0, y_high)
        offsets[i] = int32(line * step_y + column * step_x)


@fast
def nearest_points(frame, r):
    """A line of any pass without resampling."""
    xs, ys, offsets, n = f32(frame.points_x), f32(frame.points_y), i64(frame.offsets), frame.ow
    x_high, y_high = xp.f32(frame.base_w - 1), xp.f32(frame.base_h - 1)
    step_x, step_y, short = frame.base_x, frame.base_y, i32(frame.offsets)
    if frame.packed_base != 0:
        step_x, step_y = 1, frame.base_w
    near = (frame.base_h * abs(step_y) + frame.base_w * abs(step_x)) < EXACT
    if near:
        point_offsets(xs, ys, x_high, y_high, xp.f32(step_x), xp.f32(step_y), n, short)
        if frame.channels == 3:
            gather_colours(frame, short, n, frame.tile + 4 * r * n)
            return
    else:
        for i in range(n):
            column, line = xp.i64(clamp(xs[i], 0.0, x_high)), xp.i64(clamp(ys[i], 0.0, y_high))
            offsets[i] = line * frame.base_y + column * frame.base_x
    for c in range(frame.channels):
        out = f32(frame.tile + 4 * (c * frame.tile_pitch + r * n))
        if near:
            gather(frame.base_kind, frame.base, c * frame.base_c, short, n, out)
        else:
            gather(frame.base_kind, frame.base, c * frame.base_c, offsets, n, out)


@fast
def bilinear_taps(frame, g, n):
    """Offsets of the upper left taps of a line's points, and the weights [4, X_PITCH] of their four taps.

    The taps are held inside the window; what would lie outside of it has the weight 0 there, unless the border repeats
    the edge, which the point is then led back to.
    """
    xs, ys, offsets, weights = f32(frame.points_x), f32(frame.points_y), i64(frame.offsets), f32(frame.four)
    step_x, step_y, pitch = frame.base_x, frame.base_y, frame.x_pitch
    if frame.packed_base != 0:
        step_x, step_y = 1, frame.base_w
    x_low, x_high, y_low, y_high = g[P.G_WINDOW], g[P.G_WINDOW + 1], g[P.G_WINDOW + 2], g[P.G_WINDOW + 3]
    margin = xp.where(g[P.G_BORDER] == G.FILL, 2.0, 0.0)
    for i in range(n):
        x, y = clamp(xs[i], x_low - margin, x_high + margin), clamp(ys[i], y_low - margin, y_high + margin)
        column, line = clamp(xp.floor(x), x_low, x_high - 1.0), clamp(xp.floor(y), y_low, y_high - 1.0)
        offsets[i] = xp.i64(line) * step_y + xp.i64(column) * step_x
        left, right = xp.maximum(1.0 - xp.abs(x - column), 0.0), xp.maximum(1.0 - xp.abs(x - column - 1.0), 0.0)
        above, below = xp.maximum(1.0 - xp.abs(y - line), 0.0), xp.maximum(1.0 - xp.abs(y - line - 1.0), 0.0)
        weights[i], weights[pitch + i] = left * above, right * above
        weights[2 * pitch + i], weights[3 * pitch + i] = left * below, right * below


@fast
def bilinear(source, offsets, step_x, step_y, weights, pitch, fill, n, out):
    """Four taps a pixel, of any kind and strides."""
    for i in range(n):
        a, b, c, d = weights[i], weights[pitch + i], weights[2 * pitch + i], weights[3 * pitch + i]
        at = offsets[i]
        total = a * xp.f32(source[at]) + b * xp.f32(source[at + step_x])
        total += c * xp.f32(source[at + step_y]) + d * xp.f32(source[at + step_y + step_x])
        out[i] = total + fill * (1.0 - (a + b + c + d))


@fast
def bilinear_points(frame, g, r):
    """A line of a bilinear pass."""
    n, step_x, step_y, pitch = frame.ow, frame.base_x, frame.base_y, frame.x_pitch
    offsets, weights = i64(frame.offsets), f32(frame.four)
    bilinear_taps(frame, g, n)
    for c in range(frame.channels):
        out = f32(frame.tile + 4 * (c * frame.tile_pitch + r * n))
        start, fill = c * frame.base_c, g[P.G_FILL + c]
        if frame.base_kind == F.F32:
            bilinear(f32(frame.base + 4 * start), offsets, step_x, step_y, weights, pitch, fill, n, out)
        else:
            bilinear(u8(frame.base + start), offsets, step_x, step_y, weights, pitch, fill, n, out)


@fast
def point_taps(frame, g, axis):
    """Fill the axis's table with the taps of a line's points, in elements along x; its pitch is X_PITCH."""
    n, count, pitch, table = max(frame.ow, LANES), frame.taps_x, frame.x_pitch, table_of(frame, axis)
    centres, step = f32(frame.points_x), xp.where(frame.packed_base != 0, 1, frame.base_x)
    if axis == 1:
        count, centres = frame.taps_y, f32(frame.points_y)
    for i in range(frame.ow, n):
        centres[i] = centres[0]
    index, inside = i32(table), f32(table + 8 * count * pitch)
    weigh(g, axis, centres, n, count, index, f32(table + 4 * count * pitch), inside, pitch)
    if (axis == 0) & (step != 1):
        for k in range(count):
            for i in range(n):
                index[k * pitch + i] = int32(index[k * pitch + i] * step)


@fast
def gather_taps(frame, x, c, out):
    """Eight pixels of a line, of channel c; of all three at once where bytes are packed."""
    taps_x, taps_y, pitch = frame.taps_x, frame.taps_y, frame.x_pitch
    index_x, weights_x = i32(frame.x_table), f32(frame.x_table + 4 * taps_x * pitch)
    index_y, weights_y = i32(frame.y_table), f32(frame.y_table + 4 * taps_y * pitch)
    taps = (index_x, index_y, weights_x, weights_y, pitch, taps_x, taps_y)
    base, step_c, step_y = frame.base, frame.base_c, frame.base_y
    if frame.packed_base != 0:
        gather_block_packed(base, frame.base_w, *taps, x, out, frame.tile_pitch)
    elif frame.base_kind == F.U8:
        gather_block_u8(base + c * step_c, step_y, *taps, x, out, 0)
    else:
        gather_block_f32(base + 4 * c * step_c, step_y, *taps, x, out, 0)


@fast
def bilinear_packed(frame, r, g):
    """As `bilinear_points` for a base of packed bytes, all three channels at once."""
    n, pitch, tile = frame.ow, frame.x_pitch, frame.tile + 4 * r * frame.ow
    offsets, weights, missing = i64(frame.offsets), f32(frame.four), f32(frame.points_x)
    bilinear_taps(frame, g, n)
    for i in range(n, LANES):
        offsets[i] = offsets[0]
    for x in range(0, n, LANES):
        at = max(min(x, n - LANES), 0)
        four_block_packed(frame.base, frame.base_w, offsets, weights, pitch, at, f32(tile), frame.tile_pitch)
    for i in range(n):
        missing[i] = 1.0 - (weights[i] + weights[pitch + i] + weights[2 * pitch + i] + weights[3 * pitch + i])
    for c in range(3):
        out, fill = f32(tile + 4 * c * frame.tile_pitch), g[P.G_FILL + c]
        for i in range(n):
            out[i] += fill * missing[i]


@fast
def smooth_points(frame, g, r):
    """A line of any smooth pass: the sum over each pixel's taps, and the fill that the missing ones stand for."""
    n, pitch, tile = frame.ow, 4 * frame.tile_pitch, frame.tile + 4 * r * frame.ow
    point_taps(frame, g, 0)
    point_taps(frame, g, 1)
    inside_x = f32(frame.x_table + 8 * frame.taps_x * frame.x_pitch)
    inside_y = f32(frame.y_table + 8 * frame.taps_y * frame.x_pitch)
    for c in range(0, frame.channels, xp.where(frame.packed_base != 0, 3, 1)):
        for x in range(0, n, LANES):
            gather_taps(frame, max(min(x, n - LANES), 0), c, f32(tile + c * pitch))
    for c in range(frame.channels):
        out, fill = f32(tile + c * pitch), g[P.G_FILL + c]
        for i in range(n):
            out[i] += fill * (1.0 - inside_x[i] * inside_y[i])


@fast
def plainly_bilinear(g):
    """Whether a smooth group takes two taps along each axis, and what lies outside is fill or edge."""
    plain = (g[P.G_FILTER] == G.LINEAR) & (g[P.G_WIDTH] == 1.0) & (g[P.G_WIDTH + 1] == 1.0)
    plain = plain & (folds(g[P.G_BORDER]) == 0)
    return plain & (g[P.G_WINDOW + 1] > g[P.G_WINDOW]) & (g[P.G_WINDOW + 3] > g[P.G_WINDOW + 2])


@fast
def pack_run(r, g, b, step, n, out):
    for i in range(n):
        out[i] = three_bytes(r[i * step], g[i * step], b[i * step])


@fast
def pack(frame):
    """Make the base, uint8 of three channels, packed bytes: one load takes all channels of a pixel.

    Of the rest of a window no tap is read.
    """
    g, width, step = group_at(frame, frame.groups), frame.base_w, frame.base_x
    x, right = max(xp.i64(g[P.G_WINDOW]), 0), min(xp.i64(g[P.G_WINDOW + 1]) + 1, width)
    y, bottom = max(xp.i64(g[P.G_WINDOW + 2]), 0), min(xp.i64(g[P.G_WINDOW + 3]) + 1, frame.base_h)
    packed_base = frame.scratch + F.WIDENED * frame.scratch_bytes
    for i in range(y, bottom):
        at, out = frame.base + i * frame.base_y + x * step, i32(packed_base + 4 * (i * width + x))
        r, g, b = u8(at), u8(at + frame.base_c), u8(at + 2 * frame.base_c)
        if step == 1:
            pack_run(r, g, b, 1, right - x, out)
        else:
            pack_run(r, g, b, step, right - x, out)
    frame.base, frame.base_c, frame.base_y, frame.base_x = packed_base, 1, 4 * width, 4
    frame.packed_base = 1


@fast
def points(frame):
    """Lines of a pass that is not axis-aligned; births go to the birth tile."""
    wide = (frame.smooth >= 0) and not plainly_bilinear(group_at(frame, frame.smooth))
    if (frame.smooth >= 0) & (frame.base_kind == F.U8) & (frame.channels == 3) & (frame.packed_base == 0):
        pack(frame)
    for r in range(frame.lines):
        birth = f32(frame.birth + 4 * r * frame.ow)
        trace_line(frame, frame.y + r, frame.groups, f32(frame.points_x), f32(frame.points_y), birth)
        if frame.smooth < 0:
            nearest_points(frame, r)
        else:
            g = group_at(frame, frame.smooth)
            if wide:
                smooth_points(frame, g, r)
            elif frame.packed_base != 0:
                bilinear_packed(frame, r, g)
            else:
                bilinear_points(frame, g, r)
