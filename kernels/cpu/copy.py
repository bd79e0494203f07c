"""A pass that moves bytes and changes none: axis-aligned, without resampling or pixel steps, from bytes onto bytes.

Where a pixel's bytes are neighbours in both images, and 2, 4 or 8 of them, they are moved as one element; else the
channels are planes of bytes, one by one.
"""

from ..shared import plan as P
from .bits import u8_of
from .dialect import exact, f32, fast, i32, i64, specialised, u8, u16, xp
from .tables import group_at


@exact
def width_of(frame):
    """How many bytes an element of such a pass has, 0 where it is none."""
    n, alone = frame.channels, (frame.base_x == 1) & (frame.sink_x == 1)
    together = (frame.base_c == 1) & (frame.sink_c == 1) & (frame.base_x == n) & (frame.sink_x == n)
    together = together & ((n == 2) | (n == 4) | (n == 8))
    moves = (frame.copies != 0) & (frame.steps == frame.steps_to) & (frame.ask < 0)
    moves = moves & (frame.aligned != 0) & (frame.smooth < 0) & (frame.sink_channels == n)
    return xp.where(moves, xp.where(together, n, xp.where(alone, 1, 0)), 0)


@fast
def fill_elements(frame, number, c, n, to):
    """n elements of the fill of group `number` at the address `to`; the first byte is channel c's."""
    g = group_at(frame, number)
    for k in range(SIZE):
        out, value = u8(to + k), u8_of(g[P.G_FILL + c + k])
        for x in range(n):
            out[SIZE * x] = value


@fast
def copy_elements(source, out, n):
    for x in range(n):
        out[x] = source[x]


@fast
def take_line(frame, index, source, first, end, out):
    """The pixels first .. end - 1 of a line, by runs of the column table, or one by one where runs are short."""
    if frame.runs == 0:
        for x in range(first, end):
            out[x] = source[index[x]]
    for k in range(frame.runs):
        run = i64(frame.run_list + 32 * k)
        start, length, at, step = run[0], run[1] - run[0], run[2], run[3]
        if step == 1:
            for x in range(length):
                out[start + x] = source[at + x]
        elif step == -1:
            for x in range(length):
                out[start + x] = source[at - x]
        else:
            for x in range(length):
                out[start + x] = source[at + x * step]


@fast
def copy_plane(frame, c, base, sink):
    """All lines of the elements that begin with channel c, at the addresses `base` and `sink`."""
    index, born_x = i32(frame.x_table), f32(frame.x_table + 12 * frame.x_pitch)
    lines, born_y = i32(frame.y_table), f32(frame.y_table + 12 * frame.y_pitch)
    n, fills, low = frame.ow, frame.spare, 0
    while (low < n) & (born_x[min(low, n - 1)] >= 0.0):
        low += 1
    high = n
    while (high > low) & (born_x[max(high - 1, 0)] >= 0.0):
        high -= 1
    holes = 0
    for x in range(n):
        if born_x[x] >= 0.0:
            fill_elements(frame, xp.i64(born_x[x]), c, 1, fills + SIZE * x)
            holes |= (x >= low) & (x < high)
    spare, before = POINTER(fills), -1
    for y in range(frame.oh):
        to, born, line = sink + y * frame.sink_y, born_y[y], xp.i64(lines[y])
        out = POINTER(to)
        if born >= 0.0:
            fill_elements(frame, xp.i64(born), c, n, to)
            for x in range(n):
                if born_x[x] > born:
                    out[x] = spare[x]
            before = -1
        elif line == before:
            copy_elements(POINTER(to - frame.sink_y), out, n)
        else:
            take_line(frame, index, POINTER(base + line * frame.base_y), low, high, out)
            copy_elements(spare, out, low)
            copy_elements(POINTER(fills + SIZE * high), POINTER(to + SIZE * high), n - high)
            if holes:
                for x in range(low, high):
                    if born_x[x] >= 0.0:
                        out[x] = spare[x]
            before = line


def plane_of(size, pointer):
    """`copy_plane` for elements of so many bytes."""
    scope = {"SIZE": size, "POINTER": pointer}
    fill = specialised(fast, fill_elements, **scope)
    return specialised(fast, copy_plane, fill_elements=fill, **scope)


ONE, TWO, FOUR, EIGHT = plane_of(1, u8), plane_of(2, u16), plane_of(4, i32), plane_of(8, i64)


@fast
def copy_lines(frame):
    """The whole pass."""
    base, sink, width = frame.base, frame.sink, width_of(frame)
    if width == 2:
        TWO(frame, 0, base, sink)
    elif width == 4:
        FOUR(frame, 0, base, sink)
    elif width == 8:
        EIGHT(frame, 0, base, sink)
    else:
        for c in range(frame.channels):
            ONE(frame, c, base + c * frame.base_c, sink + c * frame.sink_c)
