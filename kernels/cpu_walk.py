"""Walk a row, and lay down in which passes its image is written.

A pass reads one base image through the geometry of the plan, tile by tile, runs pixel steps on the tile while it lies
in the cache, and stores it. A row has one pass, unless something has to be known or done before a resampling: pixel
steps or nearest geometry in front of a smooth group, or a statistic. What those see is then kept as a float32 scratch
image, from which the rest goes on.
"""

from . import cpu_frame as F
from . import geometry as G
from . import plan as P
from .cpu_dialect import exact, f32, i32, i64, walk, xp
from .cpu_tables import group_at, step_at, tap_count

MASK = 0xFFFFFFFF


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
    at = give(frame, F.Y_TABLE, at, 8 * (taps_y + 1) * frame[F.Y_PITCH])
    at = give(frame, F.RUN_LIST, at, 32 * wide)
    at = give(frame, F.ROW_TAPS, at, 96 * taps_y)
    at = give(frame, F.POINTS_X, at, 4 * max(tall, wide) + 32)
    at = give(frame, F.POINTS_Y, at, 4 * wide)
    at = give(frame, F.FOUR, at, 16 * frame[F.X_PITCH])
    at = give(frame, F.OFFSETS, at, 8 * wide)
    return give(frame, F.SCRATCH, at, 3 * frame[F.SCRATCH_BYTES])


@exact
def note(frame, passes, state, groups, steps, height, width, sink, statistic):
    """Append the pass that takes what `state` (base, its size, groups and steps behind it) has to groups and steps."""
    p = i64(passes + 8 * F.PASS_WORDS * frame[F.PASSES])
    frame[F.PASSES] += 1
    p[F.PASS_BASE], p[F.PASS_BASE_H], p[F.PASS_BASE_W], p[F.PASS_GROUPS], p[F.PASS_STEPS] = state
    p[F.PASS_GROUPS_TO], p[F.PASS_STEPS_TO], p[F.PASS_OH], p[F.PASS_OW] = groups, steps, height, width
    p[F.PASS_SINK], p[F.PASS_STATISTIC] = sink, statistic
    if sink < 0:
        return state
    return sink, height, width, groups, steps


@exact
def in_front(frame, passes, state, groups, steps):
    """Give a smooth group below `groups` a base image that has all in front of it behind itself."""
    smooth, front = xp.i64(f32(frame[F.PLAN])[P.SMOOTH]), state[4]
    if (smooth < state[3]) | (smooth >= groups):
        return state
    while front < steps:
        if step_at(frame, front)[P.S_SLOT] >= group_at(frame, smooth)[P.G_SLOT]:
            break
        front += 1
    if (smooth == state[3]) & (front == state[4]):
        return state
    height, width = state[1], state[2]
    if smooth > state[3]:
        g = group_at(frame, smooth - 1)
        height, width = xp.i64(g[P.G_OH]), xp.i64(g[P.G_OW])
    sink = xp.where(state[0] == 0, 1, 0)
    return note(frame, passes, state, smooth, front, height, width, sink, xp.i64(-1))


@exact
def smooth_behind(frame, groups):
    """Whether a group from `groups` on resamples smoothly."""
    found = False
    for i in range(groups, xp.i64(f32(frame[F.PLAN])[P.N_GROUPS])):
        found = found | (group_at(frame, i)[P.G_FILTER] != G.NEAREST)
    return found


@exact
def schedule_row(job, row, frame, passes):
    """Write down the passes of a row at the address `passes`."""
    plan, base = f32(frame[F.PLAN]), xp.where(job[F.JOB_SOURCE_KIND] >= F.BF16, F.WIDENED, F.SOURCE)
    stats = frame[F.PLAN] + 4 * (frame[F.STEPS_AT] + job[F.JOB_STEPS] * frame[F.STEP_WORDS])
    frame[F.PASSES] = 0
    state = (base, row[P.ROW_H], row[P.ROW_W], xp.i64(0), xp.i64(0))
    for k in range(xp.i64(plan[P.N_STATS])):
        stat = f32(stats + 4 * k * P.STAT)
        step, groups, h, w = xp.i64(stat[0]), xp.i64(stat[1]), xp.i64(stat[2]), xp.i64(stat[3])
        state = in_front(frame, passes, state, groups, step)
        merges = (xp.i64(plan[P.SMOOTH]) < groups) & smooth_behind(frame, groups)
        pending = (state[3] < groups) | (state[4] < step)
        sink = xp.where(pending & (merges == 0), xp.where(state[0] == 0, 1, 0), F.NOWHERE)
        state = note(frame, passes, state, groups, step, h, w, sink, step)
    groups, steps = xp.i64(plan[P.N_GROUPS]), xp.i64(plan[P.N_STEPS])
    state = in_front(frame, passes, state, groups, steps)
    note(frame, passes, state, groups, steps, job[F.JOB_OH], job[F.JOB_OW], xp.i64(F.OUT), xp.i64(-1))


@exact
def plan_row(job, row, frame, plan, table):
    """Draw or read the row's columns (`table` is its own copy of its table row), and write its plan."""
    columns, fresh = job[F.JOB_COLUMNS], job[F.JOB_FRESH] != 0
    shared = f32(job[F.JOB_TABLE] + 4 * row[P.ROW_TABLE] * columns)
    name = job[F.JOB_COUNTER] + row[P.ROW_SAMPLE]
    if job[F.JOB_IDS] != 0:
        name = i64(job[F.JOB_IDS])[row[P.ROW_SAMPLE]]
    epoch, view = job[F.JOB_EPOCH] & MASK, row[P.ROW_VIEW] << 20
    key = (name & MASK, (name >> 32) & MASK, epoch, view, job[F.JOB_SEED_LOW], job[F.JOB_SEED_HIGH])
    if not fresh:
        for i in range(columns):
            table[i] = shared[i]
    code, config, h, w = i32(job[F.JOB_CODE]), f32(job[F.JOB_CONFIG]), xp.f32(row[P.ROW_H]), xp.f32(row[P.ROW_W])
    entries, channels, groups, steps = job[F.JOB_ENTRIES], job[F.JOB_CHANNELS], job[F.JOB_GROUPS], job[F.JOB_STEPS]
    walk(code, entries, config, table, columns, f32(plan), h, w, key, fresh, channels, groups, steps)
    if fresh:
        for i in range(columns):
            shared[i] = table[i]
    frame[F.PLAN], frame[F.CHANNELS], frame[F.GROUP_WORDS] = plan, channels, P.G_FILL + channels
    frame[F.STEPS_AT] = P.HEADER + groups * (P.G_FILL + channels)
    frame[F.STEP_WORDS] = P.S_ARGUMENTS + (channels + 2) // 3 * 8
