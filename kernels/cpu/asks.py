"""What a pass finds out about its image: mean grey, extremes, histograms. In one order, whatever the batch."""

from ..shared import plan as P
from . import frame as F
from .dialect import PIXEL, exact, f32, f64, fast, i32, inlined, int32, widest, xp
from .steps import eight
from .tables import ask_at

luma, level_of, of_level, equalized = (PIXEL[n] for n in ("luma", "level_of", "of_level", "equalized"))
LEVELS = 256
COUNTERS = 4  # neighbouring pixels are counted apart: an increment need not wait for the one before
APART = 3 * LEVELS
WIDTH = 64
HUGE = 3.0e38


@exact
def open_ask(frame, address, k):
    """Begin ask k, -1 for none."""
    frame[F.ASK] = k
    if k < 0:
        return
    frame[F.ASKING] = frame[F.PLAN] + 4 * (frame[F.STEPS_AT] + xp.i64(ask_at(frame, k)[P.A_STEP]) * frame[F.STEP_WORDS])
    kind = xp.i64(ask_at(frame, k)[P.A_KIND])
    if kind == P.MEAN:
        f64(address + 8 * F.TOTAL)[0] = 0.0
    elif kind == P.EXTREMES:
        extremes = f32(address + 8 * F.EXTREMES)
        for c in range(3):
            extremes[c], extremes[3 + c] = HUGE, 0.0 - HUGE
    else:
        counts = i32(frame[F.COUNTS])
        for i in range(COUNTERS * APART):
            counts[i] = int32(0)


@exact
def close_ask(frame, address):
    """Give the asking step what the pass has found out."""
    step = f32(frame[F.ASKING])
    kind = xp.i64(step[P.S_TRAIT])
    if kind == P.MEAN:
        pixels = xp.f64(frame[F.OH] * frame[F.OW])
        step[P.S_ARGUMENTS + 7] = xp.f32(f64(address + 8 * F.TOTAL)[0] / pixels)
    elif kind == P.EXTREMES:
        for i in range(6):
            step[P.S_ARGUMENTS + i] = f32(address + 8 * F.EXTREMES)[i]
    else:
        for c in range(min(frame[F.CHANNELS], 3)):
            tabulate(frame, c)


@exact
def tabulate(frame, c):
    """The table that equalizes channel c, from its histogram."""
    counts = i32(frame[F.COUNTS] + 4 * c * LEVELS)
    table = f32(frame[F.LEVELS] + 4 * (frame[F.ASK] * 3 + c) * LEVELS)
    lattice = f32(frame[F.ASKING])[P.S_LATTICE]
    n, brightest = frame[F.OH] * frame[F.OW], 0
    for level in range(LEVELS):
        for i in range(1, COUNTERS):
            counts[level] = int32(xp.i64(counts[level]) + xp.i64(counts[i * APART + level]))
        brightest = xp.where(counts[level] > 0, level, brightest)
    step, below = (n - xp.i64(counts[brightest])) // (LEVELS - 1), 0
    for level in range(LEVELS):
        table[level] = of_level(xp.f32(equalized(level, below, step)), lattice)
        below += xp.i64(counts[level])


@fast
def grey_sum(frame, address):
    """Add the tile's luma: vectors of float32 over a tile, float64 over the image."""
    widest()
    last, pitch, n = frame[F.CHANNELS] - 1, frame[F.TILE_PITCH], frame[F.LINES] * frame[F.OW]
    lattice, channels = f32(frame[F.ASKING])[P.S_LATTICE], f32(frame[F.ASKING])[P.S_CHANNELS]
    r, g = f32(frame[F.TILE]), f32(frame[F.TILE] + 4 * min(1, last) * pitch)
    b, total = f32(frame[F.TILE] + 4 * min(2, last) * pitch), xp.f32(0.0)
    for i in range(n):
        total += luma(r[i], g[i], b[i], lattice, channels)
    f64(address + 8 * F.TOTAL)[0] += xp.f64(total)


@fast
def extremes(frame, address):
    """Hold the tile against the least and greatest values so far, a vector of columns at a time."""
    n, lows, found = frame[F.LINES] * frame[F.OW], f32(frame[F.SPARE]), f32(address + 8 * F.EXTREMES)
    highs = f32(frame[F.SPARE] + 4 * WIDTH)
    for c in range(min(frame[F.CHANNELS], 3)):
        plane, low, high = f32(frame[F.TILE] + 4 * c * frame[F.TILE_PITCH]), found[c], found[3 + c]
        for j in range(WIDTH):
            lows[j], highs[j] = low, high
        for i in range(0, n - WIDTH + 1, WIDTH):
            for j in range(WIDTH):
                lows[j], highs[j] = xp.minimum(lows[j], plane[i + j]), xp.maximum(highs[j], plane[i + j])
        for i in range(n // WIDTH * WIDTH, n):
            low, high = xp.minimum(low, plane[i]), xp.maximum(high, plane[i])
        for j in range(WIDTH):
            low, high = xp.minimum(low, lows[j]), xp.maximum(high, highs[j])
        found[c], found[3 + c] = low, high


@fast
def level_plane(plane, levels, lattice, n):
    """The levels 0 .. 255 of n values."""
    widest()
    for i in range(n):
        levels[i] = int32(level_of(plane[i], lattice))


@inlined
def count(counts, at):
    counts[at] = int32(xp.i64(counts[at]) + 1)


@fast
def histogram(frame, address):
    """Count the tile's levels; the three channels by turns, as neighbouring pixels."""
    n, channels, pitch = frame[F.LINES] * frame[F.OW], min(frame[F.CHANNELS], 3), 4 * frame[F.PITCH]
    counts, whole = i32(frame[F.COUNTS]), xp.where(channels == 3, n // COUNTERS * COUNTERS, 0)
    red, green, blue = i32(frame[F.SPARE]), i32(frame[F.SPARE] + pitch), i32(frame[F.SPARE] + 2 * pitch)
    for c in range(channels):
        plane = f32(frame[F.TILE] + 4 * c * frame[F.TILE_PITCH])
        level_plane(plane, i32(frame[F.SPARE] + c * pitch), f32(frame[F.ASKING])[P.S_LATTICE], n)
    for i in range(0, whole, COUNTERS):
        for j in range(COUNTERS):
            count(counts, j * APART + xp.i64(red[i + j]))
            count(counts, j * APART + LEVELS + xp.i64(green[i + j]))
            count(counts, j * APART + 2 * LEVELS + xp.i64(blue[i + j]))
    for c in range(channels):
        for i in range(whole, n):
            count(counts, i % COUNTERS * APART + c * LEVELS + xp.i64(i32(frame[F.SPARE] + c * pitch)[i]))


@fast
def equalize(frame):
    """The step that maps levels by a table."""
    step, n, levels = f32(frame[F.STEP]), frame[F.PIXELS], i32(frame[F.STAGING])
    lattice, k = step[P.S_LATTICE], xp.i64(eight(step, 0)[7])
    for c in range(min(frame[F.CHANNELS], 3)):
        plane, table = f32(frame[F.TILE] + 4 * c * frame[F.TILE_PITCH]), f32(frame[F.LEVELS] + 4 * (3 * k + c) * LEVELS)
        level_plane(plane, levels, lattice, n)
        for i in range(n):
            plane[i] = table[levels[i]]
