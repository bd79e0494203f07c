"""The first step of a pass that puts its base through JPEG: all blocks before the first tile, colours tile by tile.

The DCT's sums are whole numbers below 2^53 in float64: exact in any order.
"""

import numpy as np

from ..shared import jpeg
from ..shared import plan as P
from ..shared.jpeg import BACK_COLUMNS_SHIFT, BACK_LINES_SHIFT, BLOCK, COLUMNS_SHIFT, LINES_SHIFT, MCU, NARROW
from .dialect import JPEG, PIXEL, exact, f32, f64, fast, inlined, widest, xp
from .neighbours import base_line, tile_line
from .steps import eight

scale_of, divisor, quantised, luma_of, blue_of, red_of, colour_of, mean_of_four, upsampled, restored = (
    JPEG[name]
    for name in ("scale_of", "divisor", "quantised", "luma_of", "blue_of", "red_of", "colour_of")
    + ("mean_of_four", "upsampled", "restored")
)
level_of, of_level = PIXEL["level_of"], PIXEL["of_level"]
BASIS = np.array(jpeg.BASIS, np.float64).reshape(BLOCK, BLOCK)
TABLES = np.array([jpeg.LUMA, jpeg.CHROMA], np.float32)
ENTRIES = BLOCK * BLOCK
SHIFTS = tuple(np.float64(2.0**-n) for n in (LINES_SHIFT, COLUMNS_SHIFT, BACK_COLUMNS_SHIFT, BACK_LINES_SHIFT))
HALF = np.float64(0.5)


@exact
def up_to(n, unit):
    """n, rounded up to a multiple."""
    return (n + unit - 1) // unit * unit


@exact
def memory_words(channels, height, width):
    """The floats of work memory: planes of luma and chroma; two lines of each chroma; lines of a block, twice, in
    float64; the divisors."""
    tall, wide = up_to(height, MCU), up_to(width, MCU)
    return xp.where(channels > 1, 3, 2) * tall * wide // 2 + (4 + 4 * BLOCK) * wide + 2 * ENTRIES


@inlined
def dot(k, a, b, c, d):
    return BASIS[k, 0] * a + BASIS[k, 1] * b + BASIS[k, 2] * c + BASIS[k, 3] * d


@inlined
def rounded(total, part):
    return xp.floor(total * part + HALF)


@fast
def forth(source, to, n, part):
    """to[k, x] = the sum over i of the basis's [k, i] times source[i, x], times `part`, rounded half up, for n columns.

    Even lines of the basis are symmetric, odd ones antisymmetric.
    """
    widest()
    for x in range(n):
        v0, v1, v2, v3 = source[x], source[n + x], source[2 * n + x], source[3 * n + x]
        v7, v6, v5, v4 = source[7 * n + x], source[6 * n + x], source[5 * n + x], source[4 * n + x]
        for k in range(0, BLOCK, 2):
            to[k * n + x] = rounded(dot(k, v0 + v7, v1 + v6, v2 + v5, v3 + v4), part)
            to[(k + 1) * n + x] = rounded(dot(k + 1, v0 - v7, v1 - v6, v2 - v5, v3 - v4), part)


@fast
def back(source, to, n, part):
    """to[i, x] = the sum over k of the basis's [k, i] times source[k, x], as `forth`."""
    widest()
    for x in range(n):
        c0, c2, c4, c6 = source[x], source[2 * n + x], source[4 * n + x], source[6 * n + x]
        c1, c3, c5, c7 = source[n + x], source[3 * n + x], source[5 * n + x], source[7 * n + x]
        for i in range(BLOCK // 2):
            even = BASIS[0, i] * c0 + BASIS[2, i] * c2 + BASIS[4, i] * c4 + BASIS[6, i] * c6
            odd = BASIS[1, i] * c1 + BASIS[3, i] * c3 + BASIS[5, i] * c5 + BASIS[7, i] * c7
            to[i * n + x] = rounded(even + odd, part)
            to[(BLOCK - 1 - i) * n + x] = rounded(even - odd, part)


@fast
def quantise(values, n, divisors):
    """Quantise n blocks, and take them back: values[u, v, block], u the frequency along the lines."""
    widest()
    for u in range(BLOCK):
        for v in range(BLOCK):
            q, at = divisors[BLOCK * v + u], (BLOCK * u + v) * n
            for i in range(n):
                values[at + i] = xp.f64(quantised(xp.f32(values[at + i]), q))


@fast
def blocks(plane, n, divisors, a, b):
    """Put n blocks, eight lines of levels, through the DCT, the divisors, and the inverse DCT.

    In work memory they are apart: column, line, block, so that blocks are the lanes of vectors.
    """
    values = f64(a)
    for y in range(BLOCK):
        for x in range(BLOCK):
            for i in range(n):
                values[(BLOCK * x + y) * n + i] = xp.f64(plane[(y * n + i) * BLOCK + x] - jpeg.MIDDLE)
    forth(values, f64(b), BLOCK * n, SHIFTS[0])
    for u in range(BLOCK):
        forth(f64(b + 8 * BLOCK * n * u), f64(a + 8 * BLOCK * n * u), n, SHIFTS[1])
    quantise(values, n, divisors)
    for u in range(BLOCK):
        back(f64(a + 8 * BLOCK * n * u), f64(b + 8 * BLOCK * n * u), n, SHIFTS[2])
    back(f64(b), values, BLOCK * n, SHIFTS[3])
    for y in range(BLOCK):
        for x in range(BLOCK):
            for i in range(n):
                plane[(y * n + i) * BLOCK + x] = restored(xp.f32(values[(BLOCK * x + y) * n + i]))


@fast
def repeat(line, n, wide):
    """Fill a line of n pixels up with its last one."""
    for x in range(n, wide):
        line[x] = line[n - 1]


@fast
def copy(line, to, n):
    for x in range(n):
        to[x] = line[x]


@fast
def to_luma(frame, y, lattice, luma):
    """The luma of a line, which is the grey of one of one channel."""
    r = base_line(frame, 0, y)
    for x in range(frame.ow):
        luma[x] = level_of(r[x], lattice)


@fast
def to_lines(frame, y, lattice, luma, blue, red):
    """Luma and chroma of a line."""
    r, g, b = base_line(frame, 0, y), base_line(frame, 1, y), base_line(frame, 2, y)
    for x in range(frame.ow):
        u, v, w = level_of(r[x], lattice), level_of(g[x], lattice), level_of(b[x], lattice)
        luma[x], blue[x], red[x] = luma_of(u, v, w), blue_of(u, v, w), red_of(u, v, w)


@fast
def halve(above, below, n, to):
    """A line of n / 2 pixels, of two of n."""
    for x in range(0, n // 2, 2):
        even = above[2 * x] + above[2 * x + 1] + (below[2 * x] + below[2 * x + 1])
        odd = above[2 * x + 2] + above[2 * x + 3] + (below[2 * x + 2] + below[2 * x + 3])
        to[x], to[x + 1] = mean_of_four(even, 0.0), mean_of_four(odd, 1.0)


@fast
def planes(frame):
    """Addresses of the planes of luma, blue and red chroma, and of what lies behind them; and the luma's width."""
    tall, wide, at = up_to(frame.oh, MCU), up_to(frame.ow, MCU), frame.near_memory
    quarter = xp.where(frame.channels > 1, tall * wide, 0)
    return at, at + 4 * tall * wide, at + 4 * tall * wide + quarter, at + 4 * tall * wide + 2 * quarter, wide


@fast
def fill_planes(frame, colour, lattice):
    """Luma and chroma of the base, the chroma at half the resolution; what is missing in the last blocks repeats the
    last line and column of each."""
    luma, blue, red, lines, wide = planes(frame)
    n, height = frame.ow, frame.oh
    for y in range(up_to(height, 2)):
        line, half = f32(luma + 4 * y * wide), 4 * wide * (y % 2)
        if colour:
            blues, reds = f32(lines + half), f32(lines + 8 * wide + half)
            to_lines(frame, min(y, height - 1), lattice, line, blues, reds)
            repeat(blues, n, wide)
            repeat(reds, n, wide)
            if y % 2 == 1:
                halve(f32(lines), blues, wide, f32(blue + wide * (y - 1)))
                halve(f32(lines + 8 * wide), reds, wide, f32(red + wide * (y - 1)))
        else:
            to_luma(frame, min(y, height - 1), lattice, line)
        repeat(line, n, wide)
    for y in range(up_to(height, 2), up_to(height, MCU)):
        copy(f32(luma + 4 * wide * (height - 1)), f32(luma + 4 * wide * y), wide)
        if colour & (y % 2 == 0):
            last = wide * (up_to(height, 2) - 2)
            copy(f32(blue + last), f32(blue + wide * y), wide // 2)
            copy(f32(red + last), f32(red + wide * y), wide // 2)


@fast
def compress(frame, colour, p, lattice):
    """Make the planes, and put them through JPEG."""
    fill_planes(frame, colour, lattice)
    luma, blue, red, rest, wide = planes(frame)
    tall, a, b = up_to(frame.oh, MCU), rest + 16 * wide, rest + (16 + 8 * BLOCK) * wide
    divisors, scale = f32(rest + (16 + 16 * BLOCK) * wide), scale_of(p[0])
    for t in range(2):
        for i in range(ENTRIES):
            divisors[ENTRIES * t + i] = divisor(TABLES[t, i], scale)
    for y in range(0, tall, BLOCK):
        blocks(f32(luma + 4 * wide * y), wide // BLOCK, divisors, a, b)
    if colour:
        chroma = f32(rest + (16 + 16 * BLOCK) * wide + 4 * ENTRIES)
        for y in range(0, tall // 2, BLOCK):
            blocks(f32(blue + 2 * wide * y), wide // MCU, chroma, a, b)
            blocks(f32(red + 2 * wide * y), wide // MCU, chroma, a, b)


@fast
def nearest_chroma(near, n, to):
    for x in range(n):
        to[x] = near[x // 2]


@fast
def smooth_chroma(near, far, n, sums, to):
    """The chroma of a line of n pixels, of the nearest two."""
    last = (n + 1) // 2 - 1
    for x in range(last + 1):
        sums[x] = 3.0 * near[x] + far[x]
    to[0] = upsampled(sums[0], sums[0], 0.0)
    for x in range(last):
        to[2 * x + 1] = upsampled(sums[x], sums[x + 1], 1.0)
        to[2 * x + 2] = upsampled(sums[x + 1], sums[x], 0.0)
    if n % 2 == 0:
        to[n - 1] = upsampled(sums[last], sums[last], 1.0)


@fast
def chroma_line(plane, wide, y, height, n, sums, to):
    """Line y of a chroma at the full resolution."""
    last, near = (height + 1) // 2 - 1, y // 2
    far = min(max(near + xp.where(y % 2 == 1, 1, -1), 0), last)
    if (n + 1) // 2 <= NARROW:
        nearest_chroma(f32(plane + 2 * wide * near), n, to)
    else:
        smooth_chroma(f32(plane + 2 * wide * near), f32(plane + 2 * wide * far), n, sums, to)


@fast
def to_colours(luma, blues, reds, n, lattice, r, g, b):
    for x in range(n):
        u, v, w = colour_of(luma[x], blues[x], reds[x])
        r[x], g[x], b[x] = of_level(u, lattice), of_level(v, lattice), of_level(w, lattice)


@fast
def to_grey(luma, n, lattice, out):
    for x in range(n):
        out[x] = of_level(luma[x], lattice)


@fast
def jpeg_lines(frame):
    """Fill the tile with what JPEG makes of the base."""
    step, n, height = f32(frame.near), frame.ow, frame.oh
    colour, lattice = step[P.S_CHANNELS] > 1.0, step[P.S_LATTICE]
    if frame.y == 0:
        compress(frame, colour, eight(step, 0), lattice)
    luma, blue, red, lines, wide = planes(frame)
    blues, reds, sums = f32(lines), f32(lines + 4 * wide), f32(lines + 8 * wide)
    for r in range(frame.lines):
        y = frame.y + r
        line = f32(luma + 4 * wide * y)
        if colour:
            chroma_line(blue, wide, y, height, n, sums, blues)
            chroma_line(red, wide, y, height, n, sums, reds)
            out = tile_line(frame, 0, r), tile_line(frame, 1, r), tile_line(frame, 2, r)
            to_colours(line, blues, reds, n, lattice, out[0], out[1], out[2])
        else:
            for c in range(frame.channels):
                to_grey(line, n, lattice, tile_line(frame, c, r))
