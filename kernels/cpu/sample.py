"""Sampling of an axis-aligned pass: fill the tile's lines, read from the base image by the axis tables."""

from ..shared import plan as P
from . import frame as F
from .dialect import LANES, f32, fast, i32, i64, u8, xp
from .tables import group_at
from .vector import blend_block_f32, blend_block_u8, tap_block


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
def nearest_lines(frame):
    """An axis-aligned pass without resampling: runs of pixels of source lines, or gathers where runs are short."""
    index, born = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 12 * frame[F.Y_PITCH])
    kind, step_x, n, y0 = frame[F.BASE_KIND], frame[F.BASE_X], frame[F.OW], frame[F.Y]
    for r in range(frame[F.LINES]):
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
def line_taps(frame, y0, offset):
    """List the source lines, from element `offset` on, that lines y0 .. y0 + 7 blend, and their weights."""
    count, pitch = frame[F.TAPS_Y], frame[F.Y_PITCH]
    index, weights = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 4 * count * pitch)
    addresses, blend = i64(frame[F.LINE_TAPS]), f32(frame[F.LINE_TAPS] + 64 * count)
    size = xp.where(frame[F.BASE_KIND] == F.U8, 1, 4)
    for k in range(count):
        for lane in range(LANES):
            y = k * pitch + min(y0 + lane, frame[F.OH] - 1)
            addresses[k * LANES + lane] = frame[F.BASE] + size * (offset + xp.i64(index[y]) * frame[F.BASE_Y])
            blend[k * LANES + lane] = weights[y]


@fast
def blend_lines(frame, n):
    """Blend the listed lines, n neighbouring elements each, into `columns`."""
    count = frame[F.TAPS_Y]
    addresses, blend, columns = i64(frame[F.LINE_TAPS]), f32(frame[F.LINE_TAPS] + 64 * count), f32(frame[F.COLUMNS])
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
    """As `blend_lines` for elements BASE_X apart, or fewer than a vector of them."""
    count, step = frame[F.TAPS_Y], frame[F.BASE_X]
    addresses, blend, columns = i64(frame[F.LINE_TAPS]), f32(frame[F.LINE_TAPS] + 64 * count), f32(frame[F.COLUMNS])
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
    """Sum columns into eight output lines at `out`."""
    count, pitch, n = frame[F.TAPS_X], frame[F.X_PITCH], frame[F.OW]
    index, weights = i32(frame[F.X_TABLE]), f32(frame[F.X_TABLE] + 4 * count * pitch)
    bound = xp.where(frame[F.PARTIAL] != 0, 0.0, group_at(frame, frame[F.SMOOTH])[P.G_BOUND])
    x = 0
    while x < n:
        at = max(min(x, n - LANES), 0)
        tap_block(f32(columns), index, weights, pitch, count, at, f32(out), n, bound)
        x += LANES


@fast
def smooth_lines(frame):
    """An axis-aligned smooth pass: separable, vertical first, by blocks of eight lines."""
    channels, width, y0 = frame[F.CHANNELS], frame[F.LAST] - frame[F.FIRST] + 1, frame[F.Y]
    together = frame[F.TOGETHER] != 0
    plain = (frame[F.BASE_X] == 1) & (width >= LANES)
    for r in range(0, frame[F.LINES], LANES):
        for c in range(channels):
            columns = frame[F.COLUMNS] + xp.where(together, 4 * LANES * c, 0)
            if (together == 0) | (c == 0):
                line_taps(frame, y0 + r, frame[F.FIRST] * frame[F.BASE_X] + c * frame[F.BASE_C])
                if together | plain:
                    blend_lines(frame, width * xp.where(together, channels, 1))
                else:
                    blend_strided(frame, width)
            tap_columns(frame, columns, frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * frame[F.OW]))
