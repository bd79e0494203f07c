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
    for i in range(xp.i64(f32(frame[F.PLAN])[P.N_GROUPS])):
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
    for k in range(xp.i64(f32(frame[F.PLAN])[P.N_STEPS])):
        step = step_at(frame, k)
        if (step[P.S_OP] == pixel.BLUR_X) | (step[P.S_OP] == pixel.BLUR_Y):
            most = xp.maximum(most, step[P.S_ARGUMENTS + 1])
        elif step[P.S_OP] == pixel.JPEG:
            words = max(words, jpeg.memory_words(frame[F.CHANNELS], height, width))
        elif step[P.S_OP] == pixel.ELASTIC:
            words = max(words, elastic.memory_words(step, height, width))
    radius = xp.i64(most)
    return max(words, xp.where(radius < 0, 0, 4 * radius + 1 + width))


@exact
def give(frame, field, at, size):
    """Give a field `size` bytes of work memory at `at`; returns what follows, aligned to cache lines."""
    frame[field] = at
    return at + (size + 63) // 64 * 64


@exact
def divide(frame, height, width):
    """Divide the work memory that a row needs; returns its size in bytes."""
    tall, wide, area, taps_x, taps_y = extents(frame, height, width)
    channels = frame[F.CHANNELS]
    pitch = max(F.TILE_PIXELS, 8 * wide) + 16
    frame[F.PITCH], frame[F.X_PITCH], frame[F.Y_PITCH] = pitch, wide + 8, tall + 8
    frame[F.SCRATCH_BYTES] = (4 * channels * area + 63) // 64 * 64
    at = give(frame, F.TILE, xp.i64(0), 4 * channels * pitch)
    at = give(frame, F.SPARE, at, 4 * channels * pitch)
    at = give(frame, F.STAGING, at, 4 * channels * pitch)
    at = give(frame, F.BIRTH, at, 4 * pitch)
    at = give(frame, F.COLUMNS, at, 32 * channels * (wide + 8))
    at = give(frame, F.X_TABLE, at, 8 * (taps_x + 1) * frame[F.X_PITCH])
    at = give(frame, F.Y_TABLE, at, 8 * (taps_y + 1) * max(frame[F.X_PITCH], frame[F.Y_PITCH]))
    at = give(frame, F.RUN_LIST, at, 32 * wide)
    at = give(frame, F.LINE_TAPS, at, 160 * taps_y)
    at = give(frame, F.STRIP, at, 32 * F.STRIP_COLUMNS * (taps_y + 1))
    at = give(frame, F.POINTS_X, at, 4 * max(tall, wide) + 32)
    at = give(frame, F.POINTS_Y, at, 4 * wide + 32)
    at = give(frame, F.FOUR, at, 16 * frame[F.X_PITCH])
    at = give(frame, F.OFFSETS, at, 8 * wide + 64)
    at = give(frame, F.PLACE_X, at, 4 * pitch)
    at = give(frame, F.PLACE_Y, at, 4 * pitch)
    at = give(frame, F.COUNTS, at, xp.i64(4 * 4 * 3 * 256))
    at = give(frame, F.LEVELS, at, 4 * 3 * 256 * xp.i64(f32(frame[F.PLAN])[P.N_ASKS]))
    at = give(frame, F.NEAR_MEMORY, at, 4 * near_words(frame, tall, wide))
    return give(frame, F.SCRATCH, at, 3 * frame[F.SCRATCH_BYTES])


@exact
def note(frame, passes, state, groups, steps, smooth, sink, k):
    """Append the pass that takes what `state` (base, its size, groups and steps behind it) has to groups and steps.

    It answers ask k, if that is not negative. Returns the state behind it: the same, unless a scratch image is kept.
    """
    p = i64(passes + 8 * F.PASS_WORDS * frame[F.PASSES])
    frame[F.PASSES] += 1
    height, width = state[1], state[2]
    if groups > state[3]:
        g = group_at(frame, groups - 1)
        height, width = xp.i64(g[P.G_OH]), xp.i64(g[P.G_OW])
    p[F.PASS_BASE], p[F.PASS_BASE_H], p[F.PASS_BASE_W], p[F.PASS_GROUPS], p[F.PASS_STEPS] = state
    p[F.PASS_GROUPS_TO], p[F.PASS_STEPS_TO], p[F.PASS_OH], p[F.PASS_OW] = groups, steps, height, width
    p[F.PASS_SINK], p[F.PASS_ASK], p[F.PASS_SMOOTH] = sink, k, smooth
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
    on_lattice = (frame[F.PACKS] != 0) & (group_at(frame, smooth)[P.G_BOUND] == 255.0)
    for k in range(first, end):
        on_lattice = on_lattice & (xp.i64(step_at(frame, k)[P.S_OP]) != CONVERT)
    return on_lattice & (group_at(frame, cut)[P.G_FILTER] == G.NEAREST)


@exact
def in_front(frame, passes, state, groups, steps, smooth, last):
    """Give the pass that reaches groups and steps a base image that has behind itself what must be done before.

    `smooth` is the story's smooth group, `last` whether another one merges with it behind these groups.
    """
    if (state[3] < groups) & (state[4] < steps):
        if step_at(frame, state[4])[P.S_TRAIT] == P.NEIGHBOURS:
            front = steps_before(frame, state[4] + 1, steps, state[3])
            state = note(frame, passes, state, state[3], front, smooth, free_scratch(state), xp.i64(-1))
    if (smooth < state[3]) | (smooth >= groups):
        return state
    front = steps_before(frame, state[4], steps, smooth)
    if (smooth > state[3]) | (front > state[4]):
        state = note(frame, passes, state, smooth, front, smooth, free_scratch(state), xp.i64(-1))
    cut = smooth
    while cut < groups:
        if turned(frame, cut):
            break
        cut += 1
    if last & (cut > smooth) & (cut < groups):
        front = steps_before(frame, state[4], steps, cut)
        sink = xp.where(packs(frame, smooth, state[4], front, cut), F.PACKED, free_scratch(state))
        state = note(frame, passes, state, cut, front, smooth, sink, xp.i64(-1))
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
    plan = f32(frame[F.PLAN])
    for i in range(k, xp.i64(plan[P.N_ASKS])):
        if ask_at(frame, i)[P.A_KIND] == P.NEIGHBOURS:
            return xp.i64(ask_at(frame, i)[P.A_GROUPS])
    return xp.i64(plan[P.N_GROUPS])


@exact
def schedule_ask(frame, passes, state, k):
    """Write down the passes that answer ask k.

    Where smooth groups on both sides of a statistic are merged, no image may be kept between them: all of it is read
    from the base again.
    """
    a = ask_at(frame, k)
    step, groups, smooth = xp.i64(a[P.A_STEP]), xp.i64(a[P.A_GROUPS]), xp.i64(a[P.A_SMOOTH])
    end = story_end(frame, k)
    merges = (smooth < groups) & smooth_within(frame, groups, end)
    alone = smooth_within(frame, smooth + 1, end) == 0
    state = in_front(frame, passes, state, groups, step, smooth, alone)
    pending = (state[3] < groups) | (state[4] < step)
    if a[P.A_KIND] == P.NEIGHBOURS:
        if pending | (state[0] < 0):
            state = note(frame, passes, state, groups, step, smooth, free_scratch(state), xp.i64(-1))
        return state
    sink = xp.where(pending & (merges == 0), free_scratch(state), F.NOWHERE)
    if (sink >= 0) & (state[0] >= 0) & (state[3] == groups):
        if step_at(frame, state[4])[P.S_TRAIT] != P.NEIGHBOURS:
            sink = state[0]
    return note(frame, passes, state, groups, step, smooth, sink, k)


@exact
def schedule_row(job, row, frame, passes, steps, sink):
    """Write down the passes of a row up to so many steps, into the sink, at the address `passes`."""
    plan, base = f32(frame[F.PLAN]), xp.where(job[F.JOB_SOURCE_KIND] >= F.BF16, F.WIDENED, F.SOURCE)
    frame[F.PASSES] = 0
    state = (base, row[P.ROW_H], row[P.ROW_W], xp.i64(0), xp.i64(0))
    asks = xp.i64(plan[P.N_ASKS])
    for k in range(asks):
        state = schedule_ask(frame, passes, state, k)
    groups, smooth = xp.i64(plan[P.N_GROUPS]), xp.i64(plan[P.SMOOTH])
    alone = smooth_within(frame, smooth + 1, groups) == 0
    state = in_front(frame, passes, state, groups, steps, smooth, alone)
    note(frame, passes, state, groups, steps, smooth, sink, xp.i64(-1))


@exact
def name_of(job, sample):
    """A sample's id, or its number."""
    name = job[F.JOB_COUNTER] + sample
    if job[F.JOB_IDS] != 0:
        name = i64(job[F.JOB_IDS])[sample]
    return name


@exact
def plan_row(job, row, plan, table):
    """Draw or read the row's columns (`table` is its own copy of its table row), and write its plan."""
    columns, fresh = job[F.JOB_COLUMNS], job[F.JOB_FRESH]
    shared = f32(job[F.JOB_TABLE] + 4 * row[P.ROW_TABLE] * columns)
    key = row_key(
        name_of(job, row[P.ROW_SAMPLE]), job[F.JOB_EPOCH], row[P.ROW_VIEW], job[F.JOB_SEED_LOW], job[F.JOB_SEED_HIGH]
    )
    key = with_lead(key, name_of(job, row[P.ROW_LEAD]))
    if fresh != 1:
        for i in range(columns):
            table[i] = shared[i]
    for i in range(job[F.JOB_PLAN_WORDS]):
        f32(plan)[i] = xp.f32(0.0)
    code, config, h, w = i64(job[F.JOB_CODE]), f32(job[F.JOB_CONFIG]), xp.f32(row[P.ROW_H]), xp.f32(row[P.ROW_W])
    entries, channels, groups, steps = job[F.JOB_ENTRIES], job[F.JOB_CHANNELS], job[F.JOB_GROUPS], job[F.JOB_STEPS]
    layer, blends = row[P.ROW_LAYER], job[F.JOB_BLENDS] != 0
    walk(code, entries, config, table, columns, f32(plan), h, w, key, fresh, channels, groups, steps, layer, blends)
    if fresh != 0:
        for i in range(columns):
            shared[i] = table[i]


@exact
def open_row(job, frame, plan):
    """Set the frame to a row's plan, at the address `plan`."""
    channels, groups, steps = job[F.JOB_CHANNELS], job[F.JOB_GROUPS], job[F.JOB_STEPS]
    frame[F.PACKS] = job[F.JOB_PACKS]
    frame[F.PLAN], frame[F.CHANNELS], frame[F.GROUP_WORDS] = plan, channels, group_words(channels)
    frame[F.STEPS_AT], frame[F.STEP_WORDS] = steps_from(channels, groups, 0), step_words(channels)
    frame[F.ASKS_AT] = asks_from(channels, groups, steps, 0)
