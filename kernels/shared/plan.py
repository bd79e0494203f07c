"""The walk over a program's slots, once for each row: draw, compose geometry, list what the pixels meet.

`walk` turns a program (data: `code`, `config`) and one output image's row into its entries of two tables:

- `table` [P]: what was drawn, a column each;
- `plan`: the row's own short program, identity slots gone and neighbouring geometry merged into one matrix, which the
  write kernels interpret: a header, then geometry groups, pixel steps and asks, in the order of the pipeline.

Memory is reached by `xp.load` and `xp.store` alone, so that the same text serves one row at a time (Triton, Numba) and
all rows at once under masks (torch).
"""

# Fields of an entry of `code` (int32).
KIND = 0  # GATE, GEOMETRY or PIXEL
OP = 1  # which function of `geometry` or `pixel`
DRAW = 2  # which function of `draw`, 0 for none
STREAM = 3  # the slot's number in the counter of its draws
GATE_AT = 4  # the entry of the gate in front, -1 for none
WANT = 5  # what that gate must have drawn, see `lets_through`
COLUMN = 6  # first table column
COLUMNS = 7  # how many
CONFIG = 8  # offset of the arguments (12 floats) and the draw's configuration (12) in `config`
SLOT = 9  # its number in the pipeline
BOUND = 10  # largest value of the stage: 255 or 1
LATTICE = 11  # 1 on uint8's lattice
TRAIT = 12  # GEOMETRY: 1 for an integer map that never leaves its canvas. GATE: see `lets_through`. PIXEL: see below
BORDER = 13
FILTER = 14
CHANNELS = 15  # offset in `config` of values by channel (fill; mean and std), -1 for none
STAGE_CHANNELS = 16  # of the stage; of an image of one channel, all channels of the engine are the same
SHARED = 17  # 1 if the row's lead keys its draw
ENTRY = 18
KIND_GATE = 0
KIND_GEOMETRY = 1
KIND_PIXEL = 2
KIND_NONE = 3  # nothing but its draws: a pixel slot, for a mask

# Traits of a pixel entry: what its step needs beside the pixel.
POINTWISE = 0
MEAN = 1  # the image's mean grey, in argument 7
EXTREMES = 2  # least and greatest value of each channel, in arguments 0 .. 5
HISTOGRAM = 3  # a table of 256 levels a channel; argument 7 is the number of the ask that makes it
NEIGHBOURS = 4  # the image as it stands in front of the step
PLACE = 5  # its place in the canvas; argument 7 is the triple of channels
BLEND = 6  # the colours of the output's layers (`blend`)

LAYER = -2  # trait of a gate that draws nothing: its number is the row's layer

# Fields of `rows` (int64), one output image each.
ROW_SOURCE = 0  # offset of its source, in elements
ROW_H = 1
ROW_W = 2
ROW_STRIDE_C = 3
ROW_STRIDE_Y = 4
ROW_STRIDE_X = 5
ROW_OUT = 6  # offset in the output, in elements
ROW_SAMPLE = 7  # index into the sample ids, or what is added to the counter
ROW_VIEW = 8
ROW_TABLE = 9  # its row of the table
ROW_LEAD = 10  # as ROW_SAMPLE: the sample that keys draws which several samples share
ROW_LAYER = 11  # which layer of its output it is
ROW_OUT_C = 12  # strides in the output, where each has its own
ROW_OUT_Y = 13
ROW_OUT_X = 14
ROW = 16

# Fields of the state (int64) that lives on the device.
STATE_SEED_LOW = 0
STATE_SEED_HIGH = 1
STATE_COUNTER = 2
STATE_TICKET = 3  # and the word behind it
STATE_EPOCH = 5  # for draws whose key has none of its own, as in a CUDA graph
STATE = 8

# Header of a plan.
N_GROUPS = 0
N_STEPS = 1
N_ASKS = 2
SMOOTH = 3  # behind the base, the first group that resamples smoothly; N_GROUPS for none
OUT_H = 4
OUT_W = 5
SPARE = 6  # for a backend's own use
BASE = 7  # the last ask for NEIGHBOURS, -1 for none: the story begins there, not at the source
FRONT = 8  # of a program with a blend: how many steps stand in front of it; what those leave is the row as a layer
HEADER = 9

MOST_DRAWN = 16777216.0  # of a gate: what float32 counts to
STRETCH = 4.0  # the most that a smooth group other than an antialiased resize widens the filter of one merged into it
MOST_WIDTH = 64.0  # of a filter that merging has widened

# A geometry group: matrix (9), window (4), filter widths (2), then
G_WINDOW = 9
G_WIDTH = 13
G_BORDER = 15
G_FILTER = 16
G_SLOT = 17
G_BOUND = 18  # 255 where a smooth result is rounded back onto the lattice, else 0
G_OH = 19
G_OW = 20
G_PROJECTIVE = 21
G_FILL = 22  # one float a channel

# A pixel step, then eight arguments for each three channels.
S_OP = 0
S_SLOT = 1
S_BOUND = 2
S_LATTICE = 3
S_CHANNELS = 4
S_GROUPS = 5  # groups in front of it, for a step with a trait
S_TRAIT = 6
S_ARGUMENTS = 8

# An ask: what a row must know of a whole image before it goes on, in the order of its steps.
A_STEP = 0  # pixel step that asks
A_GROUPS = 1  # groups in front of it
A_H = 2  # canvas
A_W = 3
A_KIND = 4  # trait of the step
A_SMOOTH = 5  # as SMOOTH and BASE, for the story up to here
A_BASE = 6
ASK = 8


def group_words(channels):
    """Length of a geometry group."""
    return G_FILL + channels


def step_words(channels):
    """Length of a pixel step."""
    return S_ARGUMENTS + (channels + 2) // 3 * 8


def group_at(channels, i):
    """Where a plan's group i begins; behind the last one, the steps."""
    return HEADER + i * group_words(channels)


def step_at(channels, groups, i):
    """Where step i begins in plans of so many groups; behind the last one, the asks."""
    return group_at(channels, groups) + i * step_words(channels)


def ask_at(channels, groups, steps, i):
    """Where ask i begins in plans of so many groups and steps."""
    return step_at(channels, groups, steps) + i * ASK


def lets_through(drawn, want, trait):
    """Whether a gate that drew the whole number `drawn` lets through what wants `want`.

    Its trait says how they compare. 0, LAYER: equal. n > 0, a permutation of n children: want = child * 16 + position.
    -1, a count: greater.
    """
    through = drawn == want
    if trait > 0:
        through = position(drawn, want // 16, trait) == want % 16
    elif trait == -1:
        through = drawn > want
    return through


def entry_active(code, table, at, h, layer, blends):
    """Whether every gate in front of an entry lets it through: of those that draw, and of all. What one layer alone
    does is drawn for all of them, as they share a table row."""
    on = h > 0.0
    here = on
    gate = xp.load(code, at + GATE_AT)
    want = xp.load(code, at + WANT)
    while gate >= 0:
        up = gate * ENTRY
        trait = xp.load(code, up + TRAIT)
        drawn = xp.i32(clamp(xp.load(table, xp.load(code, up + COLUMN)), 0.0, MOST_DRAWN))
        through = lets_through(drawn, want, trait)
        if blends:
            of_layer = trait == LAYER
            here = here & xp.where(of_layer, want == layer, through)
            through = through | of_layer
        on = on & through
        want = xp.load(code, up + WANT)
        gate = xp.load(code, up + GATE_AT)
    if not blends:
        here = on
    return on, here


def twelve(config, at):
    """Twelve floats of `config`."""
    return (
        xp.load(config, at),
        xp.load(config, at + 1),
        xp.load(config, at + 2),
        xp.load(config, at + 3),
        xp.load(config, at + 4),
        xp.load(config, at + 5),
        xp.load(config, at + 6),
        xp.load(config, at + 7),
        xp.load(config, at + 8),
        xp.load(config, at + 9),
        xp.load(config, at + 10),
        xp.load(config, at + 11),
    )


def column(table, at, i, n, otherwise):
    """The table's value for an op's i-th argument, if the op draws that many."""
    value = xp.f32(otherwise)
    if i < n:
        value = xp.load(table, at + i)
    return value


def from_table(table, at, n, a):
    """An op's arguments `a`, the first n replaced by what the table holds."""
    return (
        column(table, at, 0, n, a[0]),
        column(table, at, 1, n, a[1]),
        column(table, at, 2, n, a[2]),
        column(table, at, 3, n, a[3]),
        column(table, at, 4, n, a[4]),
        column(table, at, 5, n, a[5]),
        column(table, at, 6, n, a[6]),
        column(table, at, 7, n, a[7]),
        a[8],
        a[9],
        a[10],
        a[11],
    )


def draw_columns(code, config, table, at, on, key, h, w):
    """Draw an entry's columns into the table, where it is active (a gate: always)."""
    draw = xp.load(code, at + DRAW)
    c = twelve(config, xp.load(code, at + CONFIG) + 12)
    stream = key[3] + xp.load(code, at + STREAM) * 256
    shared = xp.load(code, at + SHARED) > 0
    low, high = xp.where(shared, key[6], key[0]), xp.where(shared, key[7], key[1])
    d = draw_switch(draw, (low, high, key[2], stream, key[4], key[5]), c, h, w)
    first = xp.load(code, at + COLUMN)
    n = xp.load(code, at + COLUMNS)
    for i in xp.static_range(8):
        xp.store(table, first + i, d[i], on & (n > i))
    xp.fence()


def fresh_group(h, w):
    """The identity on a canvas, of no slot (-1): what geometry is composed into. Last come checked, used."""
    zero = h * 0.0
    one = zero + 1.0
    right, bottom = w - 1.0, h - 1.0
    matrix = (one, zero, zero, zero, one, zero, zero, zero, one)
    canvas = (zero, right, zero, bottom, one, one, zero, zero, zero - 1.0, zero, h, w)
    return matrix + canvas + (zero, zero - 1.0, zero, zero)


CHECKED = 23
USED = 24


def product(m, n):
    """The matrix m n of two row-by-row 3 x 3 matrices."""
    return (
        m[0] * n[0] + m[1] * n[3] + m[2] * n[6],
        m[0] * n[1] + m[1] * n[4] + m[2] * n[7],
        m[0] * n[2] + m[1] * n[5] + m[2] * n[8],
        m[3] * n[0] + m[4] * n[3] + m[5] * n[6],
        m[3] * n[1] + m[4] * n[4] + m[5] * n[7],
        m[3] * n[2] + m[4] * n[5] + m[5] * n[8],
        m[6] * n[0] + m[7] * n[3] + m[8] * n[6],
        m[6] * n[1] + m[7] * n[4] + m[8] * n[7],
        m[6] * n[2] + m[7] * n[5] + m[8] * n[8],
    )


def append_exact(g, t):
    """Group g followed by an integer map t inside its canvas: the matrix and the output canvas change, nothing else."""
    one = g[0] * 0.0 + 1.0
    return product(g, t) + (
        (g[9], g[10], g[11], g[12], g[13], g[14], g[15], g[16], g[17], g[18], t[15], t[16], g[21], g[22], g[23], one)
    )


def append_checked(g, t, slot, border, kind, bound, fill):
    """Integer maps g followed by t, whose window is carried to g's input: flips swap its ends."""
    one = g[0] * 0.0 + 1.0
    xa, xb = g[0] * t[9] + g[2], g[0] * t[10] + g[2]
    ya, yb = g[4] * t[11] + g[5], g[4] * t[12] + g[5]
    window = (xp.minimum(xa, xb), xp.maximum(xa, xb), xp.minimum(ya, yb), xp.maximum(ya, yb))
    projective = xp.f32(xp.where((t[6] == 0.0) & (t[7] == 0.0), 0, 1))
    rounding = xp.where(kind > 0.0, bound, 0.0)
    tail = (t[13], t[14], border, kind, slot, rounding, t[15], t[16], projective, fill, one, one)
    return product(g, t) + window + tail


def stretch(g):
    """The derivative (x by x, x by y, y by x, y by y) of group g's map at the middle of its output canvas.

    Held to STRETCH times the group's own filter, so that a horizon near the canvas blurs nothing without end.
    """
    x, y = (g[G_OW] - 1.0) * 0.5, (g[G_OH] - 1.0) * 0.5
    depth = g[6] * x + g[7] * y + g[8]
    u, v = (g[0] * x + g[1] * y + g[2]) / depth, (g[3] * x + g[4] * y + g[5]) / depth
    a, b = (g[0] - u * g[6]) / depth, (g[1] - u * g[7]) / depth
    c, d = (g[3] - v * g[6]) / depth, (g[4] - v * g[7]) / depth
    size = xp.hypot(xp.hypot(a, b), xp.hypot(c, d))
    most = xp.maximum(g[13], g[14]) * STRETCH
    known = size < 1e9
    part = xp.where(size > most, most / xp.where(known, size, 1.0), 1.0)
    return (
        xp.where(known, a * part, 1.0),
        xp.where(known, b * part, 0.0),
        xp.where(known, c * part, 0.0),
        xp.where(known, d * part, 1.0),
    )


def flush(config, plan, g, on, n_groups, smooth, channels):
    """Write group g to the plan where `on` and where it does anything.

    `smooth` describes the first smooth group so far: number (-1 for none), its stretch and two filter widths. A smooth
    group behind it is merged into it: the first one's filter widens by the second's, and the second only moves
    coordinates.
    """
    on = on & (g[USED] > 0.0)
    base = group_at(channels, n_groups)
    for i in xp.static_range(22):
        xp.store(plan, base + i, g[i], on)
    fill = xp.i32(g[22])
    i_channel = 0
    while i_channel < channels:
        xp.store(plan, base + G_FILL + i_channel, xp.gather(config, fill + i_channel, fill >= 0), on)
        i_channel += 1
    is_smooth = on & (g[G_FILTER] > 0.0)
    first = is_smooth & (smooth[0] < 0.0)
    later = is_smooth & (smooth[0] >= 0.0)
    widens = later & ((g[13] > 1.0) | (g[14] > 1.0) | (smooth[5] > 1.0) | (smooth[6] > 1.0))
    a, b, c, d = stretch(g)
    wide_x = xp.hypot(smooth[1] * g[13], smooth[2] * g[14])
    wide_y = xp.hypot(smooth[3] * g[13], smooth[4] * g[14])
    fx = xp.where(widens, xp.maximum(xp.minimum(wide_x, MOST_WIDTH), smooth[5]), smooth[5])
    fy = xp.where(widens, xp.maximum(xp.minimum(wide_y, MOST_WIDTH), smooth[6]), smooth[6])
    at = group_at(channels, xp.i32(xp.maximum(smooth[0], 0.0))) + G_WIDTH
    xp.store(plan, at, fx, later)
    xp.store(plan, at + 1, fy, later)
    number = xp.f32(n_groups)
    here = (number, a, b, c, d, g[13], g[14])
    top = smooth[1] * a + smooth[2] * c, smooth[1] * b + smooth[2] * d
    bottom = smooth[3] * a + smooth[4] * c, smooth[3] * b + smooth[4] * d
    merged = (smooth[0], top[0], top[1], bottom[0], bottom[1], fx, fy)
    smooth = xp.choose(first, here, xp.choose(later, merged, smooth))
    return n_groups + xp.i32(on), smooth


def pixel_step(code, config, plan, base, at, on, a, n_groups, n_asks, channels):
    """Append a pixel step at `base` where `on`."""
    trait = xp.load(code, at + TRAIT)
    xp.store(plan, base + S_OP, xp.f32(xp.load(code, at + OP)), on)
    xp.store(plan, base + S_SLOT, xp.f32(xp.load(code, at + SLOT)), on)
    xp.store(plan, base + S_BOUND, xp.f32(xp.load(code, at + BOUND)), on)
    xp.store(plan, base + S_LATTICE, xp.f32(xp.load(code, at + LATTICE)), on)
    xp.store(plan, base + S_CHANNELS, xp.f32(xp.load(code, at + STAGE_CHANNELS)), on)
    xp.store(plan, base + S_GROUPS, xp.f32(n_groups), on)
    xp.store(plan, base + S_TRAIT, xp.f32(trait), on)
    by_channel, drawn = xp.load(code, at + CHANNELS), xp.load(code, at + COLUMNS)
    t = 0
    while t < (channels + 2) // 3:
        for i in xp.static_range(8):
            value = xp.f32(a[i])
            if (by_channel >= 0) & (i >= drawn):
                value = xp.f32(xp.load(config, by_channel + t * 8 + i))
            xp.store(plan, base + S_ARGUMENTS + t * 8 + i, value, on)
        if trait == HISTOGRAM:
            xp.store(plan, base + S_ARGUMENTS + t * 8 + 7, xp.f32(n_asks), on)
        elif trait == PLACE:
            xp.store(plan, base + S_ARGUMENTS + t * 8 + 7, xp.f32(t), on)
        t += 1


def geometry_step(code, config, plan, at, on, a, g, h, w, n_groups, smooth, channels):
    """Compose a geometry entry into the open group g, or close that group and open the next.

    A flip merges with a smooth neighbour, but where rounding to the nearest pixel lies between, a mirrored tie would
    fall to the other side. What moves nothing is left out: a Pad of a list that this image does not need.
    """
    trait = xp.load(code, at + TRAIT)
    kind = xp.f32(xp.load(code, at + FILTER))
    t = geometry_switch(xp.load(code, at + OP), a, h, w)
    on = on & (stays(t, kind, h, w) == 0)
    flipped = (g[0] < 0.0) | (g[4] < 0.0)
    mirrors = (t[0] < 0.0) | (t[4] < 0.0)
    snapped = (g[CHECKED] > 0.0) & (g[G_FILTER] == 0.0) & ((g[0] != 1.0) | (g[4] != 1.0))
    before = (trait == 0) & ((g[CHECKED] > 0.0) | (flipped & (kind == 0.0)))
    cut = on & (before | ((trait == 1) & mirrors & snapped))
    n_groups, smooth = flush(config, plan, g, cut, n_groups, smooth, channels)
    g = xp.choose(cut, fresh_group(h, w), g)
    if trait == 1:
        g = xp.choose(on, append_exact(g, t), g)
    else:
        border, slot = xp.f32(xp.load(code, at + BORDER)), xp.f32(xp.load(code, at + SLOT))
        bound = xp.f32(xp.load(code, at + BOUND)) * xp.f32(xp.load(code, at + LATTICE))
        fill = xp.f32(xp.load(code, at + CHANNELS))
        g = xp.choose(on, append_checked(g, t, slot, border, kind, bound, fill), g)
    return g, n_groups, smooth, xp.where(on, t[15], h), xp.where(on, t[16], w)


def ask(plan, at, on, kind, smooth, base, n_steps, n_groups, h, w):
    """Note what pixel step `n_steps` needs to know of the canvas h x w behind `n_groups` groups."""
    xp.store(plan, at + A_STEP, xp.f32(n_steps), on)
    xp.store(plan, at + A_GROUPS, xp.f32(n_groups), on)
    xp.store(plan, at + A_H, h, on)
    xp.store(plan, at + A_W, w, on)
    xp.store(plan, at + A_KIND, xp.f32(kind), on)
    xp.store(plan, at + A_SMOOTH, xp.where(smooth[0] < 0.0, xp.f32(n_groups), smooth[0]), on)
    xp.store(plan, at + A_BASE, base, on)


def clear(table, n_columns, h):
    """Zero a table row: what does not act holds 0."""
    i = 0
    while i < n_columns:
        xp.store(table, i, h * 0.0, h > 0.0)
        i += 1
    xp.fence()


def walk(code, n_entries, config, table, n_columns, plan, h, w, key, fresh, channels, groups, steps, layer, blends):
    """Draw a row's columns and write its plan.

    `fresh` is 1 to draw all columns; 2 to draw onto a table, in which entries that have columns, and no draw function,
    keep what they hold; 0 to read it.
    `groups` and `steps` are the program's largest counts, which fix the layout; `h, w` the source canvas as float32;
    `key` the six integers of `draw` without the slot's number, and the two of the lead's id; `layer` which layer of its
    output the row is, where the program `blends`.
    """
    first_step, first_ask = step_at(channels, groups, 0), ask_at(channels, groups, steps, 0)
    zero = h * 0.0
    n_groups, n_steps, n_asks, base = xp.i32(zero), xp.i32(zero), xp.i32(zero), zero - 1.0
    none = (zero - 1.0, zero, zero, zero, zero, zero, zero)
    smooth = none
    g = fresh_group(h, w)
    front, blended = n_steps, h < 0.0
    if fresh == 1:
        clear(table, n_columns, h)
    e = 0
    while e < n_entries:
        at = e * ENTRY
        kind = xp.load(code, at + KIND)
        drawn, on = entry_active(code, table, at, h, layer, blends)
        if blends:
            if (kind == KIND_PIXEL) & (xp.load(code, at + TRAIT) == BLEND):
                front, blended = xp.where(blended, front, n_steps), blended | on
        if xp.some(drawn):
            columns = xp.load(code, at + COLUMNS)
            keeps = (fresh == 2) & (xp.load(code, at + DRAW) == 0)
            if (fresh > 0) & (columns > 0) & (keeps == 0):
                draw_columns(code, config, table, at, drawn, key, h, w)
            a = twelve(config, xp.load(code, at + CONFIG))
            a = from_table(table, xp.load(code, at + COLUMN), columns, a)
            if kind == KIND_GEOMETRY:
                g, n_groups, smooth, h, w = geometry_step(
                    code, config, plan, at, on, a, g, h, w, n_groups, smooth, channels
                )
            elif kind == KIND_PIXEL:
                trait = xp.load(code, at + TRAIT)
                if trait > POINTWISE:
                    n_groups, smooth = flush(config, plan, g, on, n_groups, smooth, channels)
                    g = xp.choose(on, fresh_group(h, w), g)
                o_step = first_step + n_steps * step_words(channels)
                pixel_step(code, config, plan, o_step, at, on, a, n_groups, n_asks, channels)
                if (trait > POINTWISE) & (trait < PLACE):
                    ask(plan, first_ask + n_asks * ASK, on, trait, smooth, base, n_steps, n_groups, h, w)
                    if trait == NEIGHBOURS:
                        smooth, base = xp.choose(on, none, smooth), xp.where(on, xp.f32(n_asks), base)
                    n_asks = n_asks + xp.i32(on)
                n_steps = n_steps + xp.i32(on)
        e += 1
    always = h > 0.0
    n_groups, smooth = flush(config, plan, g, always, n_groups, smooth, channels)
    xp.store(plan, N_GROUPS, xp.f32(n_groups), always)
    xp.store(plan, N_STEPS, xp.f32(n_steps), always)
    xp.store(plan, N_ASKS, xp.f32(n_asks), always)
    xp.store(plan, SMOOTH, xp.where(smooth[0] < 0.0, xp.f32(n_groups), smooth[0]), always)
    xp.store(plan, OUT_H, h, always)
    xp.store(plan, OUT_W, w, always)
    xp.store(plan, BASE, base, always)
    if blends:
        xp.store(plan, FRONT, xp.f32(front), always)
