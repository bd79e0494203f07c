"""The first steps of the two passes of an elastic transform: one draws noise, the other blurs it and moves pixels."""

from ..shared import geometry as G
from ..shared import pixel
from ..shared import plan as P
from .dialect import ELASTIC, GEOMETRY, exact, f32, fast, i32, int32, widest, xp
from .neighbours import add_line, base_line, tile_line
from .steps import eight

drift, blur_radius, cut_weight, landing, smooth_kind, settled = (
    ELASTIC[name] for name in ("drift", "blur_radius", "cut_weight", "landing", "smooth_kind", "settled")
)
fold, reach, first_tap, weight = (GEOMETRY[name] for name in ("fold", "reach", "first_tap", "weight"))
TAPS = 4


@exact
def memory_words(step, height, width):
    """The floats of work memory: the noise; weights, and a line with margins; two lines of displacements; each axis's
    taps of a line, and how much of them the image covers."""
    p = eight(step, 0)
    wide = 2 * xp.i64(xp.maximum(blur_radius(p[2]), blur_radius(p[3]))) + 1
    return 2 * height * width + 3 * wide + width + (2 + 4 * TAPS + 1) * width


@fast
def copy_line(line, out, n):
    for x in range(n):
        out[x] = line[x]


@exact
def noise_line(first, second, y, n, p):
    widest()
    for x in range(n):
        first[x], second[x] = drift(xp.f32(x), y, p)


@fast
def weigh(weights, sigma, radius, wide):
    """The weights of a blur, normalised, for neighbours up to `wide` away."""
    total = xp.f32(0.0)
    for k in range(2 * wide + 1):
        weights[k] = cut_weight(xp.f32(k - wide), sigma, radius)
        total += weights[k]
    for k in range(2 * wide + 1):
        weights[k] = weights[k] / total


@fast
def blur_plane(plane, height, n, weights, wide, margins):
    """Blur the lines of a plane along x, where they lie."""
    line, last = f32(margins), xp.f32(n - 1)
    for y in range(height):
        out = f32(plane + 4 * n * y)
        for x in range(n):
            line[wide + x], out[x] = out[x], xp.f32(0.0)
        for k in range(1, wide + 1):
            line[wide - k] = line[wide + xp.i64(fold(xp.f32(0 - k), 0.0, last, G.REFLECT))]
            line[wide + n - 1 + k] = line[wide + xp.i64(fold(xp.f32(n - 1 + k), 0.0, last, G.REFLECT))]
        for k in range(2 * wide + 1):
            if weights[k] != 0.0:
                add_line(out, f32(margins + 4 * k), weights[k], n)


@fast
def blur_across(plane, y, height, n, weights, wide, out):
    """A line of a plane, blurred along y."""
    for x in range(n):
        out[x] = xp.f32(0.0)
    for k in range(2 * wide + 1):
        if weights[k] != 0.0:
            at = xp.i64(fold(xp.f32(y + k - wide), 0.0, xp.f32(height - 1), G.REFLECT))
            add_line(out, f32(plane + 4 * n * at), weights[k], n)


@fast
def tap_line(moved, start, step, alpha, size, kind, n, pitch, table):
    """The taps of a line's pixels along an axis, the first of which lies at `start`, the others each a `step` further:
    offsets, in lines of `pitch` pixels, then weights."""
    smooth = smooth_kind(kind)
    for t in range(TAPS):
        index, weights = i32(table + 4 * t * n), f32(table + 4 * (TAPS + t) * n)
        for x in range(n):
            c = landing(start + step * xp.f32(int32(x)), moved[x], alpha, size, kind)
            tap = first_tap(c, reach(smooth)) + xp.f32(t)
            inside = (tap >= 0.0) & (tap < size)
            index[x] = int32(xp.where(inside, tap, 0.0) * pitch)
            weights[x] = xp.where(inside, weight(tap - c, smooth), 0.0)


@fast
def add_taps(line, columns, lines, wx, wy, n, out):
    for x in range(n):
        out[x] += wx[x] * wy[x] * line[xp.i64(columns[x]) + xp.i64(lines[x])]


@fast
def add_cover(wx, wy, n, cover):
    for x in range(n):
        cover[x] += wx[x] * wy[x]


@fast
def settle_line(out, cover, fill, n, bound, lattice):
    for x in range(n):
        out[x] = settled(out[x] + fill * (1.0 - cover[x]), bound, lattice)


@fast
def move_line(frame, step, r, table):
    """A line of the tile, of the base at the taps of `tap_line`, along x and then along y."""
    n, cover = frame.ow, f32(table + 16 * TAPS * frame.ow)
    taps = xp.where(eight(step, 0)[4] == G.CUBIC, TAPS, 2)
    for x in range(n):
        cover[x] = xp.f32(0.0)
    for ty in range(taps):
        for tx in range(taps):
            add_cover(f32(table + 4 * (TAPS + tx) * n), f32(table + 4 * (3 * TAPS + ty) * n), n, cover)
    for c in range(frame.channels):
        out, base = tile_line(frame, c, r), base_line(frame, c, 0)
        for x in range(n):
            out[x] = xp.f32(0.0)
        for ty in range(taps):
            lines, wy = i32(table + 4 * (2 * TAPS + ty) * n), f32(table + 4 * (3 * TAPS + ty) * n)
            for tx in range(taps):
                columns, wx = i32(table + 4 * tx * n), f32(table + 4 * (TAPS + tx) * n)
                add_taps(base, columns, lines, wx, wy, n, out)
        settle_line(out, cover, eight(step, c // 3)[5 + c % 3], n, step[P.S_BOUND], step[P.S_LATTICE])


@fast
def elastic(frame, step):
    """Fill the tile with the base's pixels, moved by the noise in the work memory."""
    p, n, height = eight(step, 0), frame.ow, frame.oh
    across, down = blur_radius(p[2]), blur_radius(p[3])
    wide = xp.i64(xp.maximum(across, down))
    planes, size = frame.near_memory, 4 * n * height
    weights = planes + 2 * size
    margins, lines = weights + 8 * (2 * wide + 1), weights + 12 * (2 * wide + 1) + 4 * n
    for axis in range(2):
        radius, kernel = xp.where(axis == 0, across, down), f32(weights + 4 * axis * (2 * wide + 1))
        if frame.y == 0:
            weigh(kernel, p[2], radius, wide)
            blur_plane(planes + axis * size, height, n, kernel, wide, margins)
        weigh(kernel, p[3], radius, wide)
    table = lines + 8 * n
    for r in range(frame.lines):
        y = frame.y + r
        for axis in range(2):
            kernel = f32(weights + 4 * axis * (2 * wide + 1))
            blur_across(planes + axis * size, y, height, n, kernel, wide, f32(lines + 4 * axis * n))
        tap_line(f32(lines), 0.0, 1.0, p[0], xp.f32(n), p[4], n, 1.0, table)
        tap_line(f32(lines + 4 * n), xp.f32(y), 0.0, p[1], xp.f32(height), p[4], n, xp.f32(n), table + 8 * TAPS * n)
        move_line(frame, step, r, table)


@fast
def elastic_lines(frame):
    """The first step of either pass."""
    step, n = f32(frame.near), frame.ow
    if xp.i64(step[P.S_OP]) == pixel.ELASTIC:
        elastic(frame, step)
        return
    plane = 4 * n * frame.oh
    for r in range(frame.lines):
        at = frame.near_memory + 4 * n * (frame.y + r)
        noise_line(f32(at), f32(at + plane), xp.f32(frame.y + r), n, eight(step, 0))
        for c in range(frame.channels):
            copy_line(base_line(frame, c, frame.y + r), tile_line(frame, c, r), n)
