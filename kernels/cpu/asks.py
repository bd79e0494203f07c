"""What a pass finds out about its image: mean grey, extremes, histograms. In one order, whatever the batch."""

from ..shared import plan as P
from .dialect import PIXEL, exact, f32, fast, i32, inlined, int32, widest, xp
from .steps import eight
from .tables import ask_at

luma, level_of, of_level, equalized = (PIXEL[n] for n in ("luma", "level_of", "of_level", "equalized"))
LEVELS = 256
COUNTERS = 4  # neighbouring pixels are counted apart: an increment need not wait for the one before
APART = 3 * LEVELS
WIDTH = 64
HUGE = 3.0e38


@exact
def open_ask(frame, k):
    """Begin ask k, -1 for none."""
    frame.ask = k
    if k < 0:
        return
    frame.asking = frame.plan + 4 * (frame.steps_at + xp.i64(ask_at(frame, k)[P.A_STEP]) * frame.step_words)
    kind = xp.i64(ask_at(frame, k)[P.A_KIND])
    if kind == P.MEAN:
        frame.total = 0.0
    elif kind == P.EXTREMES:
        for c in range(3):
            frame.least[c], frame.greatest[c] = HUGE, 0.0 - HUGE
    else:
        counts = i32(frame.counts)
        for i in range(COUNTERS * APART):
            counts[i] = int32(0)


@exact
def close_ask(frame):
    """Give the asking step what the pass has found out."""
    step = f32(frame.asking)
    kind = xp.i64(step[P.S_TRAIT])
    if kind == P.MEAN:
        pixels = xp.f64(frame.oh * frame.ow)
        step[P.S_ARGUMENTS + 7] = xp.f32(frame.total / pixels)
    elif kind == P.EXTREMES:
        for c in range(3):
            step[P.S_ARGUMENTS + c], step[P.S_ARGUMENTS + 3 + c] = frame.least[c], frame.greatest[c]
    else:
        for c in range(min(frame.channels, 3)):
            tabulate(frame, c)


@exact
def tabulate(frame, c):
    """The table that equalizes channel c, from its histogram."""
    counts = i32(frame.counts + 4 * c * LEVELS)
    table = f32(frame.levels + 4 * (frame.ask * 3 + c) * LEVELS)
    lattice = f32(frame.asking)[P.S_LATTICE]
    n, brightest = frame.oh * frame.ow, 0
    for level in range(LEVELS):
        for i in range(1, COUNTERS):
            counts[level] = int32(xp.i64(counts[level]) + xp.i64(counts[i * APART + level]))
        brightest = xp.where(counts[level] > 0, level, brightest)
    step, below = (n - xp.i64(counts[brightest])) // (LEVELS - 1), 0
    for level in range(LEVELS):
        table[level] = of_level(xp.f32(equalized(level, below, step)), lattice)
        below += xp.i64(counts[level])


@fast
def grey_sum(frame):
    """Add the tile's luma: vectors of float32 over a tile, float64 over the image."""
    widest()
    last, pitch, n = frame.channels - 1, frame.tile_pitch, frame.lines * frame.ow
    lattice, channels = f32(frame.asking)[P.S_LATTICE], f32(frame.asking)[P.S_CHANNELS]
    r, g = f32(frame.tile), f32(frame.tile + 4 * min(1, last) * pitch)
    b, total = f32(frame.tile + 4 * min(2, last) * pitch), xp.f32(0.0)
    for i in range(n):
        total += luma(r[i], g[i], b[i], lattice, channels)
    frame.total += xp.f64(total)


@fast
def extremes(frame):
    """Hold the tile against the least and greatest values so far, a vector of columns at a time."""
    n, lows, highs = frame.lines * frame.ow, f32(frame.spare), f32(frame.spare + 4 * WIDTH)
    for c in range(min(frame.channels, 3)):
        plane, low, high = f32(frame.tile + 4 * c * frame.tile_pitch), frame.least[c], frame.greatest[c]
        for j in range(WIDTH):
            lows[j], highs[j] = low, high
        for i in range(0, n - WIDTH + 1, WIDTH):
            for j in range(WIDTH):
                lows[j], highs[j] = xp.minimum(lows[j], plane[i + j]), xp.maximum(highs[j], plane[i + j])
        for i in range(n // WIDTH * WIDTH, n):
            low, high = xp.minimum(low, plane[i]), xp.maximum(high, plane[i])
        for j in range(WIDTH):
            low, high = xp.minimum(low, lows[j]), xp.maximum(high, highs[j])
        frame.least[c], frame.greatest[c] = low, high


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
def histogram(frame):
    """Count the tile's levels; the three channels by turns, as neighbouring pixels."""
    n, channels, pitch = frame.lines * frame.ow, min(frame.channels, 3), 4 * frame.pitch
    counts, whole = i32(frame.counts), xp.where(channels == 3, n // COUNTERS * COUNTERS, 0)
    red, green, blue = i32(frame.spare), i32(frame.spare + pitch), i32(frame.spare + 2 * pitch)
    for c in range(channels):
        plane = f32(frame.tile + 4 * c * frame.tile_pitch)
        level_plane(plane, i32(frame.spare + c * pitch), f32(frame.asking)[P.S_LATTICE], n)
    for i in range(0, whole, COUNTERS):
        for j in range(COUNTERS):
            count(counts, j * APART + xp.i64(red[i + j]))
            count(counts, j * APART + LEVELS + xp.i64(green[i + j]))
            count(counts, j * APART + 2 * LEVELS + xp.i64(blue[i + j]))
    for c in range(channels):
        for i in range(whole, n):
            count(counts, i % COUNTERS * APART + c * LEVELS + xp.i64(i32(frame.spare + c * pitch)[i]))


@fast
def equalize(frame):
    """The step that maps levels by a table."""
    step, n, levels = f32(frame.step), frame.pixels, i32(frame.staging)
    lattice, k = step[P.S_LATTICE], xp.i64(eight(step, 0)[7])
    for c in range(min(frame.channels, 3)):
        plane, table = f32(frame.tile + 4 * c * frame.tile_pitch), f32(frame.levels + 4 * (3 * k + c) * LEVELS)
        level_plane(plane, levels, lattice, n)
        for i in range(n):
            plane[i] = table[levels[i]]
