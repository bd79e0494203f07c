"""Sampling of an axis-aligned pass: fill the tile's lines, read from the base image by the axis tables."""

from ..shared import plan as P
from . import frame as F
from .dialect import LANES, f32, fast, i32, i64, u8, widest, xp
from .tables import group_at
from .vector import (
    WIDE,
    blend_block,
    blend_four_blocks,
    blend_two_blocks,
    float_block,
    prefetch,
    tap_block,
    tap_block_3,
    turn_block,
)


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
def spanned(frame, y0):
    """The first and the last source line that output lines y0 .. y0 + 7 blend; behind the last output line, none."""
    index, pitch = i32(frame[F.Y_TABLE]), frame[F.Y_PITCH]
    first, last = frame[F.BASE_H], xp.i64(-1)
    for k in range(frame[F.TAPS_Y]):
        for y in range(y0, min(y0 + LANES, frame[F.OH])):
            line = xp.i64(index[k * pitch + y])
            first, last = min(first, line), max(last, line)
    return first, last


@fast
def list_lines(frame, y0):
    """List the source lines that output lines y0 .. y0 + 7 blend, and for each of these which of them, as addresses in
    the strip, with what weights; returns the first source line, and how many are listed.

    They are a run of lines, unless that were more than there are taps: then one for each tap.
    """
    count, pitch = frame[F.TAPS_Y], frame[F.Y_PITCH]
    index, weights = i32(frame[F.Y_TABLE]), f32(frame[F.Y_TABLE] + 4 * count * pitch)
    lines, taps = i64(frame[F.LINE_TAPS]), i64(frame[F.LINE_TAPS] + 64 * count)
    blend = f32(frame[F.LINE_TAPS] + 128 * count)
    first, last = spanned(frame, y0)
    run = last - first < LANES * count
    for lane in range(LANES):
        for k in range(count):
            y, tap = k * pitch + min(y0 + lane, frame[F.OH] - 1), lane * count + k
            line = xp.i64(index[y])
            listed = xp.where(run, line - first, tap)
            lines[listed] = line
            taps[tap], blend[tap] = frame[F.STRIP] + 4 * F.STRIP_COLUMNS * listed, weights[y]
    if run:
        for i in range(last - first + 1):
            lines[i] = first + i
    return first, xp.where(run, last - first + 1, LANES * count)


@fast
def call_ahead(frame, y0, first, listed):
    """The source lines that the block behind that of line y0 blends and this one does not: the first, and how many."""
    next_first, next_last = spanned(frame, y0 + LANES)
    if next_first >= first:
        next_first = max(next_first, first + listed)
    else:
        next_last = min(next_last, first - 1)
    lines = next_last - next_first + 1
    return next_first, xp.where(lines > LANES * frame[F.TAPS_Y], 0, lines)


@fast
def take_strip(frame, start, n, listed):
    """Bring n neighbouring columns, the first at element `start`, of the listed lines into the strip, as float32."""
    lines, step = i64(frame[F.LINE_TAPS]), xp.where(frame[F.TOGETHER] != 0, 1, frame[F.BASE_X])
    base, step_y, strip = frame[F.BASE], frame[F.BASE_Y], frame[F.STRIP]
    wide = (frame[F.BASE_KIND] == F.U8) & (step == 1) & (n % WIDE == 0)
    for k in range(listed):
        at, out = start + lines[k] * step_y, f32(strip + 4 * F.STRIP_COLUMNS * k)
        if wide:
            source = u8(base + at)
            for i in range(0, n, WIDE):
                float_block(source, i, out)
        elif frame[F.BASE_KIND] == F.U8:
            copy_run(u8(base + at), step, n, out)
        else:
            copy_run(f32(base + 4 * at), step, n, out)
        for i in range(n, WIDE):
            out[i] = xp.f32(0.0)


@fast
def blend_strip(frame, start, n, listed, columns, ahead, ahead_bytes, ahead_lines):
    """Blend n columns, the first at element `start`, of the listed lines into eight lines, transposed; and have so many
    bytes of so many lines at the address `ahead` brought near."""
    widest()
    take_strip(frame, start, n, listed)
    count, line_taps = frame[F.TAPS_Y], frame[F.LINE_TAPS]
    blended = frame[F.STRIP] + 4 * F.STRIP_COLUMNS * LANES * count
    step_y = frame[F.BASE_Y] * xp.where(frame[F.BASE_KIND] == F.U8, 1, 4)
    for lane in range(LANES):
        for k in range(ahead_lines * lane // LANES, ahead_lines * (lane + 1) // LANES):
            for byte in range(0, ahead_bytes, F.CACHE_LINE):
                prefetch(ahead + k * step_y + byte)
        taps, weights = i64(line_taps + 64 * count + 8 * lane * count), f32(line_taps + 128 * count + 4 * lane * count)
        line, i = f32(blended + 4 * F.STRIP_COLUMNS * lane), 0
        while n - i >= 4 * WIDE:
            blend_four_blocks(taps, weights, count, i, line)
            i += 4 * WIDE
        while n - i >= 2 * WIDE:
            blend_two_blocks(taps, weights, count, i, line)
            i += 2 * WIDE
        while i < n:
            blend_block(taps, weights, count, i, line)
            i += WIDE
    for x in range(0, n, LANES):
        turn_block(f32(blended), F.STRIP_COLUMNS, x, f32(columns + 4 * LANES * x))


@fast
def blend_lines(frame, start, n, listed, out, ahead, ahead_lines):
    """Blend n neighbouring columns, the first at element `start`, of the listed lines into columns at `out`, strip by strip;
    and have as much of so many lines at the address `ahead` brought near."""
    step = xp.where(frame[F.TOGETHER] != 0, 1, frame[F.BASE_X])
    size = xp.where(frame[F.BASE_KIND] == F.U8, 1, 4)
    for i in range(0, n, F.STRIP_COLUMNS):
        length = min((min(n - i, F.STRIP_COLUMNS) + WIDE - 1) // WIDE * WIDE, n)
        at = min(i, n - length)
        columns, near = out + 4 * LANES * at, ahead + size * at * step
        blend_strip(frame, start + at * step, length, listed, columns, near, size * step * length, ahead_lines)


@fast
def tap_columns(frame, columns, columns_pitch, r):
    """Sum columns into eight lines of the tile, from line r on."""
    count, pitch, n, bound = frame[F.TAPS_X], frame[F.X_PITCH], frame[F.OW], xp.f32(0.0)
    index, weights = i32(frame[F.X_TABLE]), f32(frame[F.X_TABLE] + 4 * count * pitch)
    bound = xp.where(frame[F.PARTIAL] != 0, 0.0, group_at(frame, frame[F.SMOOTH])[P.G_BOUND])
    c = 0
    while c < frame[F.CHANNELS]:
        plane, out = f32(columns + 4 * c * columns_pitch), f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * n))
        if frame[F.CHANNELS] - c >= 3:
            for x in range(0, n, 4):
                tap_block_3(plane, columns_pitch, index, weights, pitch, count, max(min(x, n - 4), 0), out, n, frame[F.TILE_PITCH], bound)
            c += 3
        else:
            for x in range(0, n, LANES):
                tap_block(plane, columns_pitch, index, weights, pitch, count, max(min(x, n - LANES), 0), out, n, frame[F.TILE_PITCH], bound)
            c += 1


@fast
def smooth_lines(frame):
    """An axis-aligned smooth pass: separable, vertical first, by blocks of eight lines."""
    channels, width, y0 = frame[F.CHANNELS], frame[F.LAST] - frame[F.FIRST] + 1, frame[F.Y]
    together, size = frame[F.TOGETHER] != 0, xp.where(frame[F.BASE_KIND] == F.U8, 1, 4)
    n, runs, pitch = xp.where(together, width * channels, width), xp.where(together, 1, channels), (width + 15) // 16 * 16 * LANES
    for r in range(0, frame[F.LINES], LANES):
        first, listed = list_lines(frame, y0 + r)
        next_first, ahead_lines = call_ahead(frame, y0 + r, first, listed)
        for c in range(runs):
            start = frame[F.FIRST] * frame[F.BASE_X] + c * frame[F.BASE_C]
            ahead = frame[F.BASE] + size * (start + next_first * frame[F.BASE_Y])
            blend_lines(frame, start, n, listed, frame[F.COLUMNS] + 4 * c * pitch, ahead, ahead_lines)
        tap_columns(frame, frame[F.COLUMNS], xp.where(together, LANES, pitch), r)
