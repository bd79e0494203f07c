"""Walk a row, and lay down in which passes its image is written.

A pass reads one base image through the geometry of the plan, tile by tile, runs pixel steps on the tile while it lies
in the cache, and stores it. A row has one pass, unless something has to be known or done before the rest: a statistic,
the image for a step that reads neighbours, pixel steps or nearest geometry in front of a smooth group, a smooth group
by lines and columns in front of turned ones. What those see is then kept as a float32 scratch image, from which the
rest goes on.
"""

from ..shared import geometry as G
from ..shared import pixel
from ..shared import plan as P
from . import elastic, jpeg
from . import frame as F
from .dialect import DRAW, PLAN, exact, f32, i64, xp
from .tables import ask_at, group_at, step_at, tap_count

row_key, with_lead = DRAW["row_key"], DRAW["with_lead"]
walk, group_words, step_words, steps_from, asks_from = (
    PLAN[name] for name in ("walk", "group_words", "step_words", "step_at", "ask_at")
)
CONVERT = next(opcode for opcode, name in pixel.CASES.items() if name == "convert")


@exact
def extents(frame, height, width):
    """Largest height, width and area of the row's canvases, and most taps along x and y."""
    tall, wide, area, taps_x, taps_y = height, width, height * width, xp.i64(1), xp.i64(1)
    for i in range(xp.i64(f32(frame.plan)[P.N_GROUPS])):
        g = group_at(frame, i)
        h, w = xp.i64(g[P.G_OH]), xp.i64(g[P.G_OW])
        tall, wide, area = max(tall, h), max(wide, w), max(area, h * w)
        if g[P.G_FILTER] != G.NEAREST:
            taps_x = max(taps_x, tap_count(g[P.G_WIDTH], g[P.G_FILTER]))
            taps_y = max(taps_y, tap_count(g[P.G_WIDTH + 1], g[P.G_FILTER]))
    return tall, wide, area, taps_x, taps_y


@exact
def near_words(frame, height, width):
    """The floats that a step which reads neighbours needs, of a row whose canvases are at most so large: the weights
    of the widest blur, and a line with margins; or what JPEG or an elastic transform does."""
    most, words = xp.f32(-1.0), xp.i64(0)
    for k in range(xp.i64(f32(frame.plan)[P.N_STEPS])):
        step = step_at(frame, k)
        if (step[P.S_OP] == pixel.BLUR_X) | (step[P.S_OP] == pixel.BLUR_Y):
            most = xp.maximum(most, step[P.S_ARGUMENTS + 1])
        elif step[P.S_OP] == pixel.JPEG:
            words = max(words, jpeg.memory_words(frame.channels, height, width))
        elif step[P.S_OP] == pixel.ELASTIC:
            words = max(words, elastic.memory_words(step, height, width))
    radius = xp.i64(most)
    return max(words, xp.where(radius < 0, 0, 4 * radius + 1 + width))


@exact
def behind(at, size):
    """The address behind so many bytes, at a cache line."""
    return at + (size + F.CACHE_LINE - 1) // F.CACHE_LINE * F.CACHE_LINE


@exact
def divide(frame, height, width, at):
    """Divide the work memory that a row needs, from the address `at` on; returns its end."""
    tall, wide, area, taps_x, taps_y = extents(frame, height, width)
    channels, pitch = frame.channels, max(F.TILE_PIXELS, 8 * wide) + 16
    x_pitch, y_pitch = wide + 8, tall + 8
    frame.pitch, frame.x_pitch, frame.y_pitch = pitch, x_pitch, y_pitch
    frame.scratch_bytes = behind(0, 4 * channels * area)
    frame.tile, at = at, behind(at, 4 * channels * pitch)
    frame.spare, at = at, behind(at, 4 * channels * pitch)
    frame.staging, at = at, behind(at, 4 * channels * pitch)
    frame.birth, at = at, behind(at, 4 * pitch)
    frame.columns, at = at, behind(at, 32 * channels * x_pitch)
    frame.x_table, at = at, behind(at, 8 * (taps_x + 1) * x_pitch)
    frame.y_table, at = at, behind(at, 8 * (taps_y + 1) * max(x_pitch, y_pitch))
    frame.run_list, at = at, behind(at, 32 * wide)
    frame.line_taps, at = at, behind(at, 160 * taps_y)
    frame.strip, at = at, behind(at, 32 * F.STRIP_COLUMNS * (taps_y + 1))
    frame.points_x, at = at, behind(at, 4 * max(tall, wide) + 32)
    frame.points_y, at = at, behind(at, 4 * wide + 32)
    frame.four, at = at, behind(at, 16 * x_pitch)
    frame.offsets, at = at, behind(at, 8 * wide + 64)
    frame.place_x, at = at, behind(at, 4 * pitch)
    frame.place_y, at = at, behind(at, 4 * pitch)
    frame.counts, at = at, behind(at, 4 * 4 * 3 * 256)
    frame.levels, at = at, behind(at, 4 * 3 * 256 * xp.i64(f32(frame.plan)[P.N_ASKS]))
    frame.near_memory, at = at, behind(at, 4 * near_words(frame, tall, wide))
    frame.scratch = at
    return behind(at, 3 * frame.scratch_bytes)


@exact
def note(frame, state, groups, steps, smooth, sink, k):
    """Append the pass that takes what `state` (base, its size, groups and steps behind it) has to groups and steps.

    It answers ask k, if that is not negative. Returns the state behind it: the same, unless a scratch image is kept.
    """
    p = frame.passes[frame.n_passes]
    frame.n_passes += 1
    height, width = state[1], state[2]
    if groups > state[3]:
        g = group_at(frame, groups - 1)
        height, width = xp.i64(g[P.G_OH]), xp.i64(g[P.G_OW])
    p.base, p.base_h, p.base_w, p.groups, p.steps = state
    p.groups_to, p.steps_to, p.oh, p.ow = groups, steps, height, width
    p.sink, p.ask, p.smooth = sink, k, smooth
    if sink < 0:
        return state
    return sink, height, width, groups, steps


@exact
def free_scratch(state):
    """A scratch image that is not the base."""
    return xp.where(state[0] == 0, 1, 0)


@exact
def steps_before(frame, first, steps, group):
    """The first step from `first` on, below `steps`, that stands behind the group."""
    slot = group_at(frame, group)[P.G_SLOT]
    while first < steps:
        if step_at(frame, first)[P.S_SLOT] >= slot:
            break
        first += 1
    return first


@exact
def turned(frame, i):
    """Whether group i mixes x and y."""
    g = group_at(frame, i)
    return (g[1] != 0.0) | (g[3] != 0.0) | (g[P.G_PROJECTIVE] != 0.0)


@exact
def packs(frame, smooth, first, end, cut):
    """Whether what smooth group `smooth` and the steps first .. end - 1 leave is on the lattice, and group `cut`, which
    reads it, takes each pixel from one."""
    on_lattice = (frame.packs != 0) & (group_at(frame, smooth)[P.G_BOUND] == 255.0)
    for k in range(first, end):
        on_lattice = on_lattice & (xp.i64(step_at(frame, k)[P.S_OP]) != CONVERT)
    return on_lattice & (group_at(frame, cut)[P.G_FILTER] == G.NEAREST)


@exact
def in_front(frame, state, groups, steps, smooth, last):
    """Give the pass that reaches groups and steps a base image that has behind itself what must be done before.

    `smooth` is the story's smooth group, `last` whether another one merges with it behind these groups.
    """
    if (state[3] < groups) & (state[4] < steps):
        if step_at(frame, state[4])[P.S_TRAIT] == P.NEIGHBOURS:
            front = steps_before(frame, state[4] + 1, steps, state[3])
            state = note(frame, state, state[3], front, smooth, free_scratch(state), xp.i64(-1))
    if (smooth < state[3]) | (smooth >= groups):
        return state
    front = steps_before(frame, state[4], steps, smooth)
    if (smooth > state[3]) | (front > state[4]):
        state = note(frame, state, smooth, front, smooth, free_scratch(state), xp.i64(-1))
    cut = smooth
    while cut < groups:
        if turned(frame, cut):
            break
        cut += 1
    if last & (cut > smooth) & (cut < groups):
        front = steps_before(frame, state[4], steps, cut)
        sink = xp.where(packs(frame, smooth, state[4], front, cut), F.PACKED, free_scratch(state))
        state = note(frame, state, cut, front, smooth, sink, xp.i64(-1))
    return state


@exact
def smooth_within(frame, groups, end):
    """Whether a group from `groups` to `end` resamples smoothly."""
    found = False
    for i in range(groups, end):
        found = found | (group_at(frame, i)[P.G_FILTER] != G.NEAREST)
    return found


@exact
def story_end(frame, k):
    """The groups in front of the next step, from ask k on, that reads neighbours; all groups where there is none."""
    plan = f32(frame.plan)
    for i in range(k, xp.i64(plan[P.N_ASKS])):
        if ask_at(frame, i)[P.A_KIND] == P.NEIGHBOURS:
            return xp.i64(ask_at(frame, i)[P.A_GROUPS])
    return xp.i64(plan[P.N_GROUPS])


@exact
def schedule_ask(frame, state, k):
    """Write down the passes that answer ask k.

    Where smooth groups on both sides of a statistic are merged, no image may be kept between them: all of it is read
    from the base again.
    """
    a = ask_at(frame, k)
    step, groups, smooth = xp.i64(a[P.A_STEP]), xp.i64(a[P.A_GROUPS]), xp.i64(a[P.A_SMOOTH])
    end = story_end(frame, k)
    merges = (smooth < groups) & smooth_within(frame, groups, end)
    alone = smooth_within(frame, smooth + 1, end) == 0
    state = in_front(frame, state, groups, step, smooth, alone)
    pending = (state[3] < groups) | (state[4] < step)
    if a[P.A_KIND] == P.NEIGHBOURS:
        if pending | (state[0] < 0):
            state = note(frame, state, groups, step, smooth, free_scratch(state), xp.i64(-1))
        return state
    sink = xp.where(pending & (merges == 0), free_scratch(state), F.NOWHERE)
    if (sink >= 0) & (state[0] >= 0) & (state[3] == groups):
        if step_at(frame, state[4])[P.S_TRAIT] != P.NEIGHBOURS:
            sink = state[0]
    return note(frame, state, groups, step, smooth, sink, k)


@exact
def schedule_row(job, row, frame, steps, sink):
    """Write down the passes of a row up to so many steps, into the sink."""
    plan, base = f32(frame.plan), xp.where(job.source_kind >= F.BF16, F.WIDENED, F.SOURCE)
    frame.n_passes = 0
    state = (base, row[P.ROW_H], row[P.ROW_W], xp.i64(0), xp.i64(0))
    asks = xp.i64(plan[P.N_ASKS])
    for k in range(asks):
        state = schedule_ask(frame, state, k)
    groups, smooth = xp.i64(plan[P.N_GROUPS]), xp.i64(plan[P.SMOOTH])
    alone = smooth_within(frame, smooth + 1, groups) == 0
    state = in_front(frame, state, groups, steps, smooth, alone)
    note(frame, state, groups, steps, smooth, sink, xp.i64(-1))


@exact
def name_of(job, sample):
    """A sample's id, or its number."""
    name = job.counter + sample
    if job.ids != 0:
        name = i64(job.ids)[sample]
    return name


@exact
def plan_row(job, row, plan, table):
    """Draw or read the row's columns (`table` is its own copy of its table row), and write its plan."""
    columns, fresh = job.columns, job.fresh
    shared = f32(job.table + 4 * row[P.ROW_TABLE] * columns)
    key = row_key(name_of(job, row[P.ROW_SAMPLE]), job.epoch, row[P.ROW_VIEW], job.seed_low, job.seed_high)
    key = with_lead(key, name_of(job, row[P.ROW_LEAD]))
    if fresh != 1:
        for i in range(columns):
            table[i] = shared[i]
    for i in range(job.plan_words):
        f32(plan)[i] = xp.f32(0.0)
    code, config, h, w = i64(job.code), f32(job.config), xp.f32(row[P.ROW_H]), xp.f32(row[P.ROW_W])
    entries, channels, groups, steps = job.entries, job.channels, job.groups, job.steps
    layer, blends = row[P.ROW_LAYER], job.blends != 0
    walk(code, entries, config, table, columns, f32(plan), h, w, key, fresh, channels, groups, steps, layer, blends)
    if fresh != 0:
        for i in range(columns):
            shared[i] = table[i]


@exact
def open_row(job, frame, plan):
    """Set the frame to a row's plan, at the address `plan`."""
    channels, groups, steps = job.channels, job.groups, job.steps
    frame.packs = job.packs
    frame.plan, frame.channels, frame.group_words = plan, channels, group_words(channels)
    frame.steps_at, frame.step_words = steps_from(channels, groups, 0), step_words(channels)
    frame.asks_at = asks_from(channels, groups, steps, 0)
