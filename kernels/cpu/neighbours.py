"""The first step of a pass that reads neighbours: sharpness, blur along x, blur along y, of a float32 scratch image."""

from ..shared import geometry as G
from ..shared import pixel
from ..shared import plan as P
from .dialect import GEOMETRY, PIXEL, f32, fast, widest, xp
from .steps import eight

fold = GEOMETRY["fold"]
sharpen, sharpen_edge, blur_weight, blurred = (
    PIXEL[name] for name in ("sharpen", "sharpen_edge", "blur_weight", "blurred")
)


@fast
def base_line(frame, c, y):
    """Line y of channel c of the base."""
    return f32(frame.base + 4 * (c * frame.base_c + y * frame.base_y))


@fast
def tile_line(frame, c, r):
    return f32(frame.tile + 4 * (c * frame.tile_pitch + r * frame.ow))


@fast
def sharpen_line(above, line, below, sums, n, p, bound, lattice, out):
    """The inner part of a line that has neighbours on both sides. `sums` takes those of its columns."""
    widest()
    for x in range(n):
        sums[x] = above[x] + line[x] + below[x]
    for x in range(1, n - 1):
        around = sums[x - 1] + (above[x] + below[x]) + sums[x + 1]
        out[x] = sharpen(line[x], around, p, bound, lattice)


@fast
def sharpness(frame, step):
    n, height, bound, lattice = frame.ow, frame.oh, step[P.S_BOUND], step[P.S_LATTICE]
    for c in range(frame.channels):
        p = eight(step, c // 3)
        for r in range(frame.lines):
            y = frame.y + r
            line, out = base_line(frame, c, y), tile_line(frame, c, r)
            between = (y > 0) & (y < height - 1) & (n > 2)
            if between:
                above, below, sums = base_line(frame, c, y - 1), base_line(frame, c, y + 1), f32(frame.spare)
                sharpen_line(above, line, below, sums, n, p, bound, lattice, out)
            for x in range(0, n, xp.where(between, n - 1, 1)):
                out[x] = sharpen_edge(line[x], height, n, bound, lattice)


@fast
def blur_weights(frame, p):
    """The weights of a blur, normalised, at the start of its memory; returns how many lie on each side."""
    weights, radius, total = f32(frame.near_memory), xp.i64(p[1]), xp.f32(0.0)
    for k in range(2 * radius + 1):
        weights[k] = blur_weight(xp.f32(k - radius), p)
        total += weights[k]
    for k in range(2 * radius + 1):
        weights[k] = weights[k] / total
    return radius


@fast
def add_line(out, line, weight, n):
    for x in range(n):
        out[x] += weight * line[x]


@fast
def blur_line(out, n, p, bound, lattice):
    for x in range(n):
        out[x] = blurred(out[x], p, bound, lattice)


@fast
def blur_x(frame, step):
    p, n = eight(step, 0), frame.ow
    radius = blur_weights(frame, p)
    weights, margins = f32(frame.near_memory), frame.near_memory + 4 * (2 * radius + 1)
    wide, last = f32(margins), xp.f32(n - 1)
    for c in range(frame.channels):
        for r in range(frame.lines):
            line, out = base_line(frame, c, frame.y + r), tile_line(frame, c, r)
            for x in range(n):
                wide[radius + x], out[x] = line[x], xp.f32(0.0)
            for k in range(1, radius + 1):
                wide[radius - k] = line[xp.i64(fold(xp.f32(0 - k), 0.0, last, G.REFLECT))]
                wide[radius + n - 1 + k] = line[xp.i64(fold(xp.f32(n - 1 + k), 0.0, last, G.REFLECT))]
            for k in range(2 * radius + 1):
                add_line(out, f32(margins + 4 * k), weights[k], n)
            blur_line(out, n, p, step[P.S_BOUND], step[P.S_LATTICE])


@fast
def blur_y(frame, step):
    p, n, last = eight(step, 0), frame.ow, xp.f32(frame.oh - 1)
    radius = blur_weights(frame, p)
    weights = f32(frame.near_memory)
    for c in range(frame.channels):
        for r in range(frame.lines):
            out = tile_line(frame, c, r)
            for x in range(n):
                out[x] = xp.f32(0.0)
            for k in range(2 * radius + 1):
                y = xp.i64(fold(xp.f32(frame.y + r + k - radius), 0.0, last, G.REFLECT))
                add_line(out, base_line(frame, c, y), weights[k], n)
            blur_line(out, n, p, step[P.S_BOUND], step[P.S_LATTICE])


@fast
def neighbours(frame):
    """Fill the tile with what the pass's first step makes of the base."""
    step = f32(frame.near)
    opcode = xp.i64(step[P.S_OP])
    if opcode == pixel.SHARPNESS:
        sharpness(frame, step)
    elif opcode == pixel.BLUR_X:
        blur_x(frame, step)
    else:
        blur_y(frame, step)
