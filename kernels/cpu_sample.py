"""Sampling: fill the tile with output rows y0 .. y0 + rows - 1 of a pass, read from the base image."""

from . import cpu_frame as F
from . import geometry as G
from . import plan as P
from .cpu_bits import byte_0, byte_1, byte_2, byte_3, packed, two_bytes
from .cpu_dialect import GEOMETRY, LANES, exact, f32, fast, i32, i64, int32, u8, widest, xp
from .cpu_tables import clamp, group_at, weigh
from .cpu_vector import blend_block_f32, blend_block_u8, tap_block

EXACT = 1 << 24  # whole numbers below are exact in float32
fold, snap, reach = GEOMETRY["fold"], GEOMETRY["snap"], GEOMETRY["reach"]


@fast
def value(frame, offset):
    """One value of the base image, whatever its kind."""
    if frame[F.BASE_KIND] == F.U8:
        return xp.f32(u8(frame[F.BASE])[offset])
    return f32(frame[F.BASE])[offset]


@fast
def copy_run(source, step, n, out):
    """out[i] = source[i * step]: a run of pixels; steps of 1 and 3, forwards and backwards, by vectors."""
    if step == 1:
        for i in range(n):
            out[i] = xp.f32(source[i])
    elif step == -1:
        for i in range(n):
            out[i] = xp.f32(source[0 - i])
    elif step == 3:
        for i in range(n):
            out[i] = xp.f32(source[3 * i])
    elif step == -3:
        for i in range(n):
            out[i] = xp.f32(source[0 - 3 * i])
    else:
        for i in range(n):
            out[i] = xp.f32(source[i * step])


@fast
def gather(kind, base, start, offsets, n, out):
    """out[i] = base[start + offsets[i]], for a base image of that kind; offsets of 64 bits, or, faster, of 32."""
    if kind == F.U8:
        source = u8(base + start)
        for i in range(n):
            out[i] = xp.f32(source[offsets[i]])
    else:
        floats = f32(base + 4 * start)
        for i in range(n):
            out[i] = floats[offsets[i]]


@fast
def nearest_rows(frame):
    """An axis-aligned pass without resampling: runs of pixels of source rows, or gathers where runs are short."""
    index, born = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 12 * frame[F.Y_PITCH])
    kind, step_x, n, y0 = frame[F.BASE_KIND], frame[F.BASE_X], frame[F.OW], frame[F.Y]
    for r in range(frame[F.ROWS]):
        for c in range(xp.where(born[y0 + r] < 0.0, frame[F.CHANNELS], 0)):
            start = xp.i64(index[y0 + r]) * frame[F.BASE_Y] + c * frame[F.BASE_C]
            out = frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n)
            if frame[F.RUNS] == 0:
                gather(kind, frame[F.BASE], start, i64(frame[F.OFFSETS]), n, f32(out))
            for k in range(frame[F.RUNS]):
                run = i64(frame[F.RUN_LIST] + 32 * k)
                length, step, offset = run[1] - run[0], run[3] * step_x, start + run[2] * step_x
                if kind == F.U8:
                    copy_run(u8(frame[F.BASE] + offset), step, length, f32(out + 4 * run[0]))
                else:
                    copy_run(f32(frame[F.BASE] + 4 * offset), step, length, f32(out + 4 * run[0]))


@fast
def row_taps(frame, y0, offset):
    """List the source rows, from element `offset` on, that rows y0 .. y0 + 7 blend, and their weights."""
    count, pitch = frame[F.TAPS_Y], frame[F.Y_PITCH]
    index, weights = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 4 * count * pitch)
    addresses, blend = i64(frame[F.ROW_TAPS]), f32(frame[F.ROW_TAPS] + 64 * count)
    size = xp.where(frame[F.BASE_KIND] == F.U8, 1, 4)
    for k in range(count):
        for lane in range(LANES):
            y = k * pitch + min(y0 + lane, frame[F.OH] - 1)
            addresses[k * LANES + lane] = frame[F.BASE] + size * (offset + xp.i64(index[y]) * frame[F.BASE_Y])
            blend[k * LANES + lane] = weights[y]


@fast
def blend_rows(frame, n):
    """Blend the listed rows, n neighbouring elements each, into `columns`."""
    count = frame[F.TAPS_Y]
    addresses, blend, columns = i64(frame[F.ROW_TAPS]), f32(frame[F.ROW_TAPS] + 64 * count), f32(frame[F.COLUMNS])
    i = 0
    if frame[F.BASE_KIND] == F.U8:
        while i < n:
            blend_block_u8(addresses, blend, count, min(i, n - LANES), columns)
            i += LANES
    else:
        while i < n:
            blend_block_f32(addresses, blend, count, min(i, n - LANES), columns)
            i += LANES


@fast
def blend_strided(frame, n):
    """As `blend_rows` for elements BASE_X apart, or fewer than a vector of them."""
    count, step = frame[F.TAPS_Y], frame[F.BASE_X]
    addresses, blend, columns = i64(frame[F.ROW_TAPS]), f32(frame[F.ROW_TAPS] + 64 * count), f32(frame[F.COLUMNS])
    for lane in range(LANES):
        for i in range(n):
            total = xp.f32(0.0)
            for k in range(count):
                address = addresses[k * LANES + lane]
                if frame[F.BASE_KIND] == F.U8:
                    total += blend[k * LANES + lane] * xp.f32(u8(address)[i * step])
                else:
                    total += blend[k * LANES + lane] * f32(address)[i * step]
            columns[i * LANES + lane] = total


@fast
def tap_columns(frame, columns, out):
    """Sum columns into eight output rows at `out`."""
    count, pitch, n = frame[F.TAPS_X], frame[F.X_PITCH], frame[F.OW]
    index, weights = i32(frame[F.X_TABLE]), f32(frame[F.X_TABLE] + 4 * count * pitch)
    bound = xp.where(frame[F.PARTIAL] != 0, 0.0, group_at(frame, frame[F.SMOOTH])[P.G_BOUND])
    x = 0
    while x < n:
        at = max(min(x, n - LANES), 0)
        tap_block(f32(columns), index, weights, pitch, count, at, f32(out), n, bound)
        x += LANES


@fast
def smooth_rows(frame):
    """An axis-aligned smooth pass: separable, vertical first, by blocks of eight rows."""
    channels, width, y0 = frame[F.CHANNELS], frame[F.LAST] - frame[F.FIRST] + 1, frame[F.Y]
    together = frame[F.TOGETHER] != 0
    plain = (frame[F.BASE_X] == 1) & (width >= LANES)
    for r in range(0, frame[F.ROWS], LANES):
        for c in range(channels):
            columns = frame[F.COLUMNS] + xp.where(together, 4 * LANES * c, 0)
            if (together == 0) | (c == 0):
                row_taps(frame, y0 + r, frame[F.FIRST] * frame[F.BASE_X] + c * frame[F.BASE_C])
                if together | plain:
                    blend_rows(frame, width * xp.where(together, channels, 1))
                else:
                    blend_strided(frame, width)
            tap_columns(frame, columns, frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * frame[F.OW]))


@exact
def check_row(g, keeps, number, xs, ys, birth, n):
    """Hold a row's coordinates against a group's window: snap (unless `keeps`), note births, lead the rest back in."""
    x_low, x_high, y_low, y_high = g[P.G_WINDOW], g[P.G_WINDOW + 1], g[P.G_WINDOW + 2], g[P.G_WINDOW + 3]
    border = g[P.G_BORDER]
    if (border == G.REFLECT) | (border == G.SYMMETRIC):
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
    return (g[P.G_PROJECTIVE] == 0.0) & (g[P.G_BORDER] != G.REFLECT) & (g[P.G_BORDER] != G.SYMMETRIC)


@exact
def trace_first(g, number, y, xs, ys, birth, n):
    """What `trace_row` does from its beginning to the end of a group that `clamps`, in one pass."""
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
def trace_row(frame, y, until, xs, ys, birth):
    """Walk an output row back through the groups of the pass from `until` on: coordinates, and the groups of birth."""
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
            check_row(g, g[P.G_FILTER] != G.NEAREST, xp.f32(i), xs, ys, birth, n)
        i -= 1


@fast
def places(frame):
    """Where the pixels of the tile lie in the canvas of the step being run, which groups may stand behind."""
    until, n = xp.i64(f32(frame[F.STEP])[P.S_GROUPS]), frame[F.OW]
    for r in range(frame[F.ROWS]):
        xs, ys, y = f32(frame[F.PLACE_X] + 4 * r * n), f32(frame[F.PLACE_Y] + 4 * r * n), frame[F.Y] + r
        if until < frame[F.GROUPS_TO]:
            trace_row(frame, y, until, xs, ys, f32(frame[F.STAGING]))
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
        words = i32(base)
        for i in range(n):
            word = words[offsets[i]]
            r[i], g[i], b[i] = byte_0(word), byte_1(word), byte_2(word)
    elif frame[F.BASE_KIND] == F.U8:
        three_from(u8(base), u8(base + step), u8(base + 2 * step), offsets, n, r, g, b)
    else:
        three_from(f32(base), f32(base + 4 * step), f32(base + 8 * step), offsets, n, r, g, b)


@fast
def nearest_points(frame, r):
    """A row of any pass without resampling."""
    xs, ys, offsets, n = f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), i64(frame[F.OFFSETS]), frame[F.OW]
    x_high, y_high = xp.f32(frame[F.BASE_W] - 1), xp.f32(frame[F.BASE_H] - 1)
    step_x, step_y, short = frame[F.BASE_X], frame[F.BASE_Y], i32(frame[F.OFFSETS])
    if frame[F.PACKED_BASE] != 0:
        step_x, step_y = 1, frame[F.BASE_W]
    near = (frame[F.BASE_H] * abs(step_y) + frame[F.BASE_W] * abs(step_x)) < EXACT
    if near:
        row_step, column_step = xp.f32(step_y), xp.f32(step_x)
        for i in range(n):
            column, row = clamp(xs[i], 0.0, x_high), clamp(ys[i], 0.0, y_high)
            short[i] = int32(row * row_step + column * column_step)
        if frame[F.CHANNELS] == 3:
            gather_colours(frame, short, n, frame[F.TILE] + 4 * r * n)
            return
    else:
        for i in range(n):
            column, row = xp.i64(clamp(xs[i], 0.0, x_high)), xp.i64(clamp(ys[i], 0.0, y_high))
            offsets[i] = row * step_y + column * step_x
    for c in range(frame[F.CHANNELS]):
        out = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n))
        if near:
            gather(frame[F.BASE_KIND], frame[F.BASE], c * frame[F.BASE_C], short, n, out)
        else:
            gather(frame[F.BASE_KIND], frame[F.BASE], c * frame[F.BASE_C], offsets, n, out)


@fast
def bilinear_taps(frame, g, n):
    """Offsets of the upper left taps of a row's points, and the weights [4, X_PITCH] of their four taps.

    The taps are held inside the window; what would lie outside of it has the weight 0 there, unless the border repeats
    the edge, which the point is then led back to.
    """
    xs, ys, offsets, weights = f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), i64(frame[F.OFFSETS]), f32(frame[F.FOUR])
    step_x, step_y, pitch = frame[F.BASE_X], frame[F.BASE_Y], frame[F.X_PITCH]
    x_low, x_high, y_low, y_high = g[P.G_WINDOW], g[P.G_WINDOW + 1], g[P.G_WINDOW + 2], g[P.G_WINDOW + 3]
    margin = xp.where(g[P.G_BORDER] == G.FILL, 2.0, 0.0)
    for i in range(n):
        x, y = clamp(xs[i], x_low - margin, x_high + margin), clamp(ys[i], y_low - margin, y_high + margin)
        column, row = clamp(xp.floor(x), x_low, x_high - 1.0), clamp(xp.floor(y), y_low, y_high - 1.0)
        offsets[i] = xp.i64(row) * step_y + xp.i64(column) * step_x
        left, right = xp.maximum(1.0 - xp.abs(x - column), 0.0), xp.maximum(1.0 - xp.abs(x - column - 1.0), 0.0)
        above, below = xp.maximum(1.0 - xp.abs(y - row), 0.0), xp.maximum(1.0 - xp.abs(y - row - 1.0), 0.0)
        weights[i], weights[pitch + i] = left * above, right * above
        weights[2 * pitch + i], weights[3 * pitch + i] = left * below, right * below


@fast
def bilinear_bytes(source, offsets, step_y, weights, pitch, fill, words, n, out):
    """Four taps a pixel of a uint8 row whose columns are neighbours: two loads of two bytes."""
    for i in range(n):
        at = source + offsets[i]
        words[i] = packed(two_bytes(at), two_bytes(at + step_y))
    for i in range(n):
        a, b, c, d = weights[i], weights[pitch + i], weights[2 * pitch + i], weights[3 * pitch + i]
        t = words[i]
        out[i] = a * byte_0(t) + b * byte_1(t) + c * byte_2(t) + d * byte_3(t) + fill * (1.0 - (a + b + c + d))


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
def point(frame, g, x, y, out):
    """One pixel by any filter and border: the sum over its taps; out[c * TILE_PITCH] takes channel c."""
    count_x, count_y, pitch_x, pitch_y = frame[F.TAPS_X], frame[F.TAPS_Y], frame[F.X_PITCH], frame[F.Y_PITCH]
    index_x, index_y, inside = i32(frame[F.X_TABLE]), i32(frame[F.Y_TABLE]), xp.f32(1.0)
    weights_x, weights_y = f32(frame[F.X_TABLE] + 4 * count_x * pitch_x), f32(frame[F.Y_TABLE] + 4 * count_y * pitch_y)
    for axis in range(2):
        table, count, pitch = frame[F.X_TABLE + axis], frame[F.TAPS_X + axis], frame[F.X_PITCH + axis]
        centre, share = f32(frame[F.FOUR]), f32(table + 8 * count * pitch)
        centre[0] = xp.where(axis == 0, x, y)
        weigh(g, axis, centre, 1, count, i32(table), f32(table + 4 * count * pitch), share, pitch)
        inside *= share[0]
    for c in range(frame[F.CHANNELS]):
        total = g[P.G_FILL + c] * (1.0 - inside)
        for j in range(count_y):
            start = c * frame[F.BASE_C] + xp.i64(index_y[j * pitch_y]) * frame[F.BASE_Y]
            row = xp.f32(0.0)
            for k in range(count_x):
                row += weights_x[k * pitch_x] * value(frame, start + xp.i64(index_x[k * pitch_x]) * frame[F.BASE_X])
            total += weights_y[j * pitch_y] * row
        out[c * frame[F.TILE_PITCH]] = total


@fast
def bilinear_points(frame, g, r):
    """A row of a bilinear pass."""
    n, step_x, step_y, pitch = frame[F.OW], frame[F.BASE_X], frame[F.BASE_Y], frame[F.X_PITCH]
    offsets, weights = i64(frame[F.OFFSETS]), f32(frame[F.FOUR])
    bilinear_taps(frame, g, n)
    for c in range(frame[F.CHANNELS]):
        out = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n))
        start, fill = c * frame[F.BASE_C], g[P.G_FILL + c]
        if frame[F.BASE_KIND] == F.F32:
            bilinear(f32(frame[F.BASE] + 4 * start), offsets, step_x, step_y, weights, pitch, fill, n, out)
        elif step_x == 1:
            words = i32(frame[F.POINTS_X])
            bilinear_bytes(frame[F.BASE] + start, offsets, step_y, weights, pitch, fill, words, n, out)
        else:
            bilinear(u8(frame[F.BASE] + start), offsets, step_x, step_y, weights, pitch, fill, n, out)


@fast
def smooth_points(frame, g, r, birth):
    """A row of any smooth pass, pixel by pixel."""
    xs, ys, tile = f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), frame[F.TILE] + 4 * r * frame[F.OW]
    beyond_x, beyond_y = reach(g[P.G_FILTER]) * g[P.G_WIDTH], reach(g[P.G_FILTER]) * g[P.G_WIDTH + 1]
    for i in range(frame[F.OW]):
        far = (xs[i] <= g[P.G_WINDOW] - beyond_x) | (xs[i] >= g[P.G_WINDOW + 1] + beyond_x)
        far = far | (ys[i] <= g[P.G_WINDOW + 2] - beyond_y) | (ys[i] >= g[P.G_WINDOW + 3] + beyond_y)
        if far & (g[P.G_BORDER] == G.FILL):
            for c in range(frame[F.CHANNELS]):
                f32(tile)[c * frame[F.TILE_PITCH] + i] = g[P.G_FILL + c]
        elif birth[i] < 0.0:
            point(frame, g, xs[i], ys[i], f32(tile + 4 * i))


@fast
def plainly_bilinear(g):
    """Whether a smooth group takes two taps along each axis, and what lies outside is fill or edge."""
    plain = (g[P.G_FILTER] == G.LINEAR) & (g[P.G_WIDTH] == 1.0) & (g[P.G_WIDTH + 1] == 1.0)
    plain = plain & (g[P.G_BORDER] != G.REFLECT) & (g[P.G_BORDER] != G.SYMMETRIC)
    return plain & (g[P.G_WINDOW + 1] > g[P.G_WINDOW]) & (g[P.G_WINDOW + 3] > g[P.G_WINDOW + 2])


@fast
def points(frame):
    """Rows of a pass that is not axis-aligned; births go to the birth tile."""
    for r in range(frame[F.ROWS]):
        birth = f32(frame[F.BIRTH] + 4 * r * frame[F.OW])
        trace_row(frame, frame[F.Y] + r, frame[F.GROUPS], f32(frame[F.POINTS_X]), f32(frame[F.POINTS_Y]), birth)
        if frame[F.SMOOTH] < 0:
            nearest_points(frame, r)
        else:
            g = group_at(frame, frame[F.SMOOTH])
            if plainly_bilinear(g):
                bilinear_points(frame, g, r)
            else:
                smooth_points(frame, g, r, birth)
