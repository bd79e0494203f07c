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
    tap_one,
    tap_three,
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
    index, born = i32(frame.y_table), f32(frame.y_table + 12 * frame.y_pitch)
    kind, step_x, n, y0 = frame.base_kind, frame.base_x, frame.ow, frame.y
    for r in range(frame.lines):
        for c in range(xp.where(born[y0 + r] < 0.0, frame.channels, 0)):
            start = xp.i64(index[y0 + r]) * frame.base_y + c * frame.base_c
            out = frame.tile + 4 * (c * frame.tile_pitch + r * n)
            if frame.runs == 0:
                gather(kind, frame.base, start, i64(frame.offsets), n, f32(out))
            for k in range(frame.runs):
                run = i64(frame.run_list + 32 * k)
                length, step, offset = run[1] - run[0], run[3] * step_x, start + run[2] * step_x
                if kind == F.U8:
                    copy_run(u8(frame.base + offset), step, length, f32(out + 4 * run[0]))
                else:
                    copy_run(f32(frame.base + 4 * offset), step, length, f32(out + 4 * run[0]))


@fast
def spanned(frame, y0):
    """The first and the last source line that output lines y0 .. y0 + 7 blend; none behind the last output line."""
    index, pitch = i32(frame.y_table), frame.y_pitch
    first, last = frame.base_h, xp.i64(-1)
    for k in range(frame.taps_y):
        for y in range(y0, min(y0 + LANES, frame.oh)):
            line = xp.i64(index[k * pitch + y])
            first, last = min(first, line), max(last, line)
    return first, last


@fast
def list_lines(frame, y0):
    """List the source lines that output lines y0 .. y0 + 7 blend, and for each of these where its own lie in the strip
    and what they weigh; returns the first source line, and how many are listed.

    Those between the first and the last are listed once each; or one for each tap, where that is less.
    """
    count, pitch = frame.taps_y, frame.y_pitch
    index, table = i32(frame.y_table), f32(frame.y_table + 4 * count * pitch)
    lines, taps = i64(frame.line_taps), i64(frame.line_taps + 64 * count)
    weights = f32(frame.line_taps + 128 * count)
    first, last = spanned(frame, y0)
    once = last - first < LANES * count
    for lane in range(LANES):
        for k in range(count):
            y, tap = k * pitch + min(y0 + lane, frame.oh - 1), lane * count + k
            listed = xp.where(once, xp.i64(index[y]) - first, tap)
            lines[listed] = xp.i64(index[y])
            taps[tap], weights[tap] = frame.strip + 4 * F.STRIP_COLUMNS * listed, table[y]
    if once:
        for i in range(last - first + 1):
            lines[i] = first + i
    return first, xp.where(once, last - first + 1, LANES * count)


@fast
def lines_ahead(frame, y0, first, listed):
    """The source lines that the block behind that of line y0 blends, and that one's, `listed` lines from `first` on,
    does not: the first, and how many; 0 where most of them are left out, or where pixels are far apart."""
    next_first, next_last = spanned(frame, y0 + LANES)
    if next_first >= first:
        next_first = max(next_first, first + listed)
    else:
        next_last = min(next_last, first - 1)
    lines = max(next_last - next_first + 1, 0)
    near = (lines <= LANES * frame.taps_y) & (frame.base_x <= F.CACHE_LINE // 4)
    return next_first, xp.where(near, lines, 0)


@fast
def take_run(source, step, n, out):
    """As `copy_run`, in one loop, which compiles sooner."""
    for i in range(n):
        out[i] = xp.f32(source[i * step])


@fast
def take_strip(frame, start, n, listed):
    """Bring n columns of the listed lines, the first at element `start`, into the strip, as float32."""
    lines, step = i64(frame.line_taps), xp.where(frame.together != 0, 1, frame.base_x)
    base, step_y, strip, kind = frame.base, frame.base_y, frame.strip, frame.base_kind
    for k in range(listed):
        at, out = start + lines[k] * step_y, f32(strip + 4 * F.STRIP_COLUMNS * k)
        if (kind == F.U8) & (step == 1) & (n >= WIDE):
            for i in range(0, n, WIDE):
                float_block(u8(base + at), min(i, n - WIDE), out)
        elif kind == F.U8:
            take_run(u8(base + at), step, n, out)
        else:
            take_run(f32(base + 4 * at), step, n, out)
        for i in range(n, (n + WIDE - 1) // WIDE * WIDE):
            out[i] = xp.f32(0.0)


@fast
def blend_line(taps, weights, count, n, out):
    """Blend the first n columns of lines of the strip into one."""
    i = 0
    while n - i >= 4 * WIDE:
        blend_four_blocks(taps, weights, count, i, out)
        i += 4 * WIDE
    while n - i > WIDE:
        blend_two_blocks(taps, weights, count, i, out)
        i += 2 * WIDE
    if i < n:
        blend_block(taps, weights, count, i, out)


@fast
def blend_strip(frame, start, n, listed, columns, ahead, lines):
    """Blend n columns of the listed lines, the first at element `start`, into eight lines, transposed, at `columns`;
    and have as many columns of so many `lines`, the first at the address `ahead`, brought near."""
    widest()
    take_strip(frame, start, n, listed)
    count, line_taps, pitch = frame.taps_y, frame.line_taps, 4 * F.STRIP_COLUMNS
    size = xp.where(frame.base_kind == F.U8, 1, 4)
    step_y, length = size * frame.base_y, size * n * xp.where(frame.together != 0, 1, frame.base_x)
    blended = frame.strip + pitch * LANES * count
    for lane in range(LANES):
        for k in range(lines * lane // LANES, lines * (lane + 1) // LANES):
            for byte in range(0, length, F.CACHE_LINE):
                prefetch(ahead + k * step_y + byte)
        taps, weights = i64(line_taps + 8 * (LANES + lane) * count), f32(line_taps + 4 * (4 * LANES + lane) * count)
        blend_line(taps, weights, count, n, f32(blended + pitch * lane))
    for x in range(0, n, LANES):
        turn_block(f32(blended), F.STRIP_COLUMNS, x, f32(columns + 4 * LANES * x))


@fast
def tap_columns(frame, columns_pitch, r):
    """Sum columns into eight lines of the tile, from its line r on; channels lie `columns_pitch` floats apart."""
    count, pitch, n, tile_pitch = frame.taps_x, frame.x_pitch, frame.ow, frame.tile_pitch
    index, weights = i32(frame.x_table), f32(frame.x_table + 4 * count * pitch)
    bound = xp.where(frame.partial != 0, 0.0, group_at(frame, frame.smooth)[P.G_BOUND])
    taps, c = (index, weights, pitch, count), 0
    while c < frame.channels:
        columns = f32(frame.columns + 4 * c * columns_pitch)
        out = f32(frame.tile + 4 * (c * tile_pitch + r * n))
        if frame.channels - c >= 3:
            for x in range(0, n, LANES // 2):
                tap_three(columns, columns_pitch, *taps, max(min(x, n - LANES // 2), 0), out, n, tile_pitch, bound)
            c += 3
        else:
            for x in range(0, n, LANES):
                tap_one(columns, columns_pitch, *taps, max(min(x, n - LANES), 0), out, n, tile_pitch, bound)
            c += 1


@fast
def smooth_lines(frame):
    """An axis-aligned smooth pass: separable, vertical first, by blocks of eight lines, strip by strip."""
    channels, width, y0 = frame.channels, frame.last - frame.first + 1, frame.y
    together, size = frame.together != 0, xp.where(frame.base_kind == F.U8, 1, 4)
    planes, n = xp.where(together, 1, channels), xp.where(together, channels, 1) * width
    pitch, step = LANES * (width + LANES), xp.where(together, 1, frame.base_x)
    for r in range(0, frame.lines, LANES):
        first, listed = list_lines(frame, y0 + r)
        ahead, lines = lines_ahead(frame, y0 + r, first, listed)
        for c in range(planes):
            for x in range(0, n, F.STRIP_COLUMNS):
                start = frame.first * frame.base_x + c * frame.base_c + x * step
                columns, near = frame.columns + 4 * (c * pitch + LANES * x), start + ahead * frame.base_y
                length = min(n - x, F.STRIP_COLUMNS)
                blend_strip(frame, start, length, listed, columns, frame.base + size * near, lines)
        tap_columns(frame, xp.where(together, LANES, pitch), r)
