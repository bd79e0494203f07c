"""Sampling of any other pass, pixel by pixel: walk a line of points back to the base image, and gather.

uint8 of three channels is packed first, four bytes a pixel, if it is resampled: a tap is one load then.
"""

from ..shared import geometry as G
from ..shared import plan as P
from . import frame as F
from .bits import three_bytes
from .dialect import GEOMETRY, LANES, exact, f32, fast, i32, i64, int32, u8, widest, xp
from .sample import gather
from .tables import clamp, group_at, weigh
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
    n, i = frame[F.OW], frame[F.GROUPS_TO] - 1
    if (i >= until) & (i != frame[F.SMOOTH]) & clamps(group_at(frame, i)):
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
        if i != frame[F.SMOOTH]:
            check_line(g, g[P.G_FILTER] != G.NEAREST, xp.f32(i), xs, ys, birth, n)
        i -= 1


@fast
def places(frame):
    """Where the pixels of the tile lie in the canvas of the step being run, which groups may stand behind."""
    until, n = xp.i64(f32(frame[F.STEP])[P.S_GROUPS]), frame[F.OW]
    for r in range(frame[F.LINES]):
        xs, ys, y = f32(frame[F.PLACE_X] + 4 * r * n), f32(frame[F.PLACE_Y] + 4 * r * n), frame[F.Y] + r
        if until < frame[F.GROUPS_TO]:
            trace_line(frame, y, until, xs, ys, f32(frame[F.STAGING]))
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
    base, step, pitch = frame[F.BASE], frame[F.BASE_C], 4 * frame[F.TILE_PITCH]
    r, g, b = f32(out), f32(out + pitch), f32(out + 2 * pitch)
    if frame[F.PACKED_BASE] != 0:
        for i in range(n, LANES):
            offsets[i] = offsets[0]
        for x in range(0, n, LANES):
            take_block_packed(base, offsets, max(min(x, n - LANES), 0), r, frame[F.TILE_PITCH])
    elif frame[F.BASE_KIND] == F.U8:
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
    xs, ys, offsets, n = f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), i64(frame[F.OFFSETS]), frame[F.OW]
    x_high, y_high = xp.f32(frame[F.BASE_W] - 1), xp.f32(frame[F.BASE_H] - 1)
    step_x, step_y, short = frame[F.BASE_X], frame[F.BASE_Y], i32(frame[F.OFFSETS])
    if frame[F.PACKED_BASE] != 0:
        step_x, step_y = 1, frame[F.BASE_W]
    near = (frame[F.BASE_H] * abs(step_y) + frame[F.BASE_W] * abs(step_x)) < EXACT
    if near:
        point_offsets(xs, ys, x_high, y_high, xp.f32(step_x), xp.f32(step_y), n, short)
        if frame[F.CHANNELS] == 3:
            gather_colours(frame, short, n, frame[F.TILE] + 4 * r * n)
            return
    else:
        for i in range(n):
            column, line = xp.i64(clamp(xs[i], 0.0, x_high)), xp.i64(clamp(ys[i], 0.0, y_high))
            offsets[i] = line * frame[F.BASE_Y] + column * frame[F.BASE_X]
    for c in range(frame[F.CHANNELS]):
        out = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n))
        if near:
            gather(frame[F.BASE_KIND], frame[F.BASE], c * frame[F.BASE_C], short, n, out)
        else:
            gather(frame[F.BASE_KIND], frame[F.BASE], c * frame[F.BASE_C], offsets, n, out)


@fast
def bilinear_taps(frame, g, n):
    """Offsets of the upper left taps of a line's points, and the weights [4, X_PITCH] of their four taps.

    The taps are held inside the window; what would lie outside of it has the weight 0 there, unless the border repeats
    the edge, which the point is then led back to.
    """
    xs, ys, offsets, weights = f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), i64(frame[F.OFFSETS]), f32(frame[F.FOUR])
    step_x, step_y, pitch = frame[F.BASE_X], frame[F.BASE_Y], frame[F.X_PITCH]
    if frame[F.PACKED_BASE] != 0:
        step_x, step_y = 1, frame[F.BASE_W]
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
    n, step_x, step_y, pitch = frame[F.OW], frame[F.BASE_X], frame[F.BASE_Y], frame[F.X_PITCH]
    offsets, weights = i64(frame[F.OFFSETS]), f32(frame[F.FOUR])
    bilinear_taps(frame, g, n)
    for c in range(frame[F.CHANNELS]):
        out = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n))
        start, fill = c * frame[F.BASE_C], g[P.G_FILL + c]
        if frame[F.BASE_KIND] == F.F32:
            bilinear(f32(frame[F.BASE] + 4 * start), offsets, step_x, step_y, weights, pitch, fill, n, out)
        else:
            bilinear(u8(frame[F.BASE] + start), offsets, step_x, step_y, weights, pitch, fill, n, out)


@fast
def point_taps(frame, g, axis):
    """Fill the axis's table with the taps of a line's points, in elements along x; its pitch is X_PITCH."""
    n, count, pitch, table = max(frame[F.OW], LANES), frame[F.TAPS_X + axis], frame[F.X_PITCH], frame[F.X_TABLE + axis]
    centres, step = f32(frame[F.POINTS_X + axis]), xp.where(frame[F.PACKED_BASE] != 0, 1, frame[F.BASE_X])
    for i in range(frame[F.OW], n):
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
    taps_x, taps_y, pitch = frame[F.TAPS_X], frame[F.TAPS_Y], frame[F.X_PITCH]
    index_x, weights_x = i32(frame[F.X_TABLE]), f32(frame[F.X_TABLE] + 4 * taps_x * pitch)
    index_y, weights_y = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 4 * taps_y * pitch)
    taps = (index_x, index_y, weights_x, weights_y, pitch, taps_x, taps_y)
    base, step_c, step_y = frame[F.BASE], frame[F.BASE_C], frame[F.BASE_Y]
    if frame[F.PACKED_BASE] != 0:
        gather_block_packed(base, frame[F.BASE_W], *taps, x, out, frame[F.TILE_PITCH])
    elif frame[F.BASE_KIND] == F.U8:
        gather_block_u8(base + c * step_c, step_y, *taps, x, out, 0)
    else:
        gather_block_f32(base + 4 * c * step_c, step_y, *taps, x, out, 0)


@fast
def bilinear_packed(frame, r, g):
    """As `bilinear_points` for a base of packed bytes, all three channels at once."""
    n, pitch, tile = frame[F.OW], frame[F.X_PITCH], frame[F.TILE] + 4 * r * frame[F.OW]
    offsets, weights, missing = i64(frame[F.OFFSETS]), f32(frame[F.FOUR]), f32(frame[F.POINTS_X])
    bilinear_taps(frame, g, n)
    for i in range(n, LANES):
        offsets[i] = offsets[0]
    for x in range(0, n, LANES):
        at = max(min(x, n - LANES), 0)
        four_block_packed(frame[F.BASE], frame[F.BASE_W], offsets, weights, pitch, at, f32(tile), frame[F.TILE_PITCH])
    for i in range(n):
        missing[i] = 1.0 - (weights[i] + weights[pitch + i] + weights[2 * pitch + i] + weights[3 * pitch + i])
    for c in range(3):
        out, fill = f32(tile + 4 * c * frame[F.TILE_PITCH]), g[P.G_FILL + c]
        for i in range(n):
            out[i] += fill * missing[i]


@fast
def smooth_points(frame, g, r):
    """A line of any smooth pass: the sum over each pixel's taps, and the fill that the missing ones stand for."""
    n, pitch, tile = frame[F.OW], 4 * frame[F.TILE_PITCH], frame[F.TILE] + 4 * r * frame[F.OW]
    point_taps(frame, g, 0)
    point_taps(frame, g, 1)
    inside_x = f32(frame[F.X_TABLE] + 8 * frame[F.TAPS_X] * frame[F.X_PITCH])
    inside_y = f32(frame[F.Y_TABLE] + 8 * frame[F.TAPS_Y] * frame[F.X_PITCH])
    for c in range(0, frame[F.CHANNELS], xp.where(frame[F.PACKED_BASE] != 0, 3, 1)):
        for x in range(0, n, LANES):
            gather_taps(frame, max(min(x, n - LANES), 0), c, f32(tile + c * pitch))
    for c in range(frame[F.CHANNELS]):
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
    g, width, step = group_at(frame, frame[F.GROUPS]), frame[F.BASE_W], frame[F.BASE_X]
    x, right = max(xp.i64(g[P.G_WINDOW]), 0), min(xp.i64(g[P.G_WINDOW + 1]) + 1, width)
    y, bottom = max(xp.i64(g[P.G_WINDOW + 2]), 0), min(xp.i64(g[P.G_WINDOW + 3]) + 1, frame[F.BASE_H])
    packed_base = frame[F.SCRATCH] + F.WIDENED * frame[F.SCRATCH_BYTES]
    for i in range(y, bottom):
        at, out = frame[F.BASE] + i * frame[F.BASE_Y] + x * step, i32(packed_base + 4 * (i * width + x))
        r, g, b = u8(at), u8(at + frame[F.BASE_C]), u8(at + 2 * frame[F.BASE_C])
        if step == 1:
            pack_run(r, g, b, 1, right - x, out)
        else:
            pack_run(r, g, b, step, right - x, out)
    frame[F.BASE], frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = packed_base, 1, 4 * width, 4
    frame[F.PACKED_BASE] = 1


@fast
def points(frame):
    """Lines of a pass that is not axis-aligned; births go to the birth tile."""
    wide = (frame[F.SMOOTH] >= 0) and not plainly_bilinear(group_at(frame, frame[F.SMOOTH]))
    if (frame[F.SMOOTH] >= 0) & (frame[F.BASE_KIND] == F.U8) & (frame[F.CHANNELS] == 3) & (frame[F.PACKED_BASE] == 0):
        pack(frame)
    for r in range(frame[F.LINES]):
        birth = f32(frame[F.BIRTH] + 4 * r * frame[F.OW])
        trace_line(frame, frame[F.Y] + r, frame[F.GROUPS], f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), birth)
        if frame[F.SMOOTH] < 0:
            nearest_points(frame, r)
        else:
            g = group_at(frame, frame[F.SMOOTH])
            if wide:
                smooth_points(frame, g, r)
            elif frame[F.PACKED_BASE] != 0:
                bilinear_packed(frame, r, g)
            else:
                bilinear_points(frame, g, r)
