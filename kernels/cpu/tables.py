"""Axis tables: where each column and each line of an axis-aligned pass comes from.

Flips, crops, pads, edge, reflect and resampling are all entries of these tables; the loops over pixels know none of
them. A table holds, for n outputs and K taps, with a pitch P >= n + 8:

    index  int32   [K, P]   source index of each tap; along x of a smooth pass where its column lies, from the first on
    weight float32 [K, P]   its weight, 0 where the tap is dropped or filled; normalised
    inside float32 [P]      the sum of the weights that are not fill
    born   float32 [P]      the group in whose fill the output lies, -1 for none
"""

from ..shared import geometry as G
from ..shared import plan as P
from . import frame as F
from .dialect import ELEMENTARY, GEOMETRY, LANES, exact, f32, i32, i64, int32, xp

clamp = ELEMENTARY["clamp"]
fold, folds, snap = (GEOMETRY[name] for name in ("fold", "folds", "snap"))
weight, windowed = GEOMETRY["weight"], GEOMETRY["windowed"]
first_tap, reach, tap_count = (GEOMETRY[name] for name in ("first_tap", "reach", "tap_count"))


@exact
def group_at(frame, i):
    """The words of group i of the plan."""
    return f32(frame.plan + 4 * (P.HEADER + i * frame.group_words))


@exact
def step_at(frame, k):
    """The words of pixel step k of the plan."""
    return f32(frame.plan + 4 * (frame.steps_at + k * frame.step_words))


@exact
def ask_at(frame, k):
    """The words of ask k of the plan."""
    return f32(frame.plan + 4 * (frame.asks_at + k * P.ASK))


@exact
def table_of(frame, axis):
    """The address of an axis's table."""
    return xp.where(axis == 0, frame.x_table, frame.y_table)


@exact
def element_bytes(kind):
    """The size of an element."""
    return xp.where(kind == F.U8, 1, xp.where(kind == F.F32, 4, 2))


@exact
def trace(frame, axis, v):
    """Walk output index v of one axis back through the groups of the pass: source coordinate, group of birth or -1."""
    c = xp.f32(v)
    i = frame.groups_to - 1
    while i >= frame.groups:
        g = group_at(frame, i)
        c = g[4 * axis] * c + g[2 + 3 * axis]
        if i != frame.smooth:
            low, high = g[P.G_WINDOW + 2 * axis], g[P.G_WINDOW + 2 * axis + 1]
            border = g[P.G_BORDER]
            s = snap(c)
            if g[P.G_FILTER] == G.NEAREST:
                c = s
            if (s < low) | (s > high):
                if border == G.FILL:
                    return c, i
                if folds(border):
                    c = fold(s, low, high, border)
                else:
                    c = clamp(c, low, high)
        i -= 1
    return c, -1


@exact
def nearest_table(frame, axis, table, pitch, n, size):
    """Fill `index` and `born` for a pass without resampling; returns first and last index, whether any is born, 0."""
    index, born = i32(table), f32(table + 4 * (2 * pitch + pitch))
    first, last, any_born = size - 1, 0, 0
    for v in range(n):
        c, group = trace(frame, axis, v)
        born[v] = xp.f32(group)
        at = xp.i64(clamp(c, 0.0, xp.f32(size - 1)))
        index[v] = at
        if group >= 0:
            any_born = 1
        else:
            first, last = xp.minimum(first, at), xp.maximum(last, at)
    return xp.minimum(first, last), last, any_born, 0


@exact
def weigh(g, axis, centres, n, count, index, weights, inside, pitch):
    """Fill a table's taps for n source coordinates of smooth group g: normalised weights, 0 for fill and dropped ones.

    `inside` takes the sum of the weights that are not fill.
    """
    kind, border, width = g[P.G_FILTER], g[P.G_BORDER], g[P.G_WIDTH + axis]
    low, high = g[P.G_WINDOW + 2 * axis], g[P.G_WINDOW + 2 * axis + 1]
    support, narrow, lanczos = reach(kind) * width, 1.0 / width, kind == G.LANCZOS
    for v in range(n):
        centres[v] = clamp(centres[v], low - support - 2.0, high + support + 2.0)
        inside[v] = xp.f32(0.0)
    for k in range(count):
        for v in range(n):
            tap = first_tap(centres[v], support) + xp.f32(k)
            w = windowed((tap - centres[v]) * narrow) if lanczos else weight((tap - centres[v]) * narrow, kind)
            kept = ((tap >= low) & (tap <= high)) | (border != G.DROP)
            index[k * pitch + v] = int32(fold(tap, low, high, border))
            weights[k * pitch + v] = xp.where(kept, w, 0.0)
            inside[v] += weights[k * pitch + v]
    for k in range(count):
        for v in range(n):
            weights[k * pitch + v] = weights[k * pitch + v] / inside[v]
    for v in range(n):
        inside[v] = xp.f32(1.0)
    if border == G.FILL:
        for k in range(count):
            for v in range(n):
                tap = first_tap(centres[v], support) + xp.f32(k)
                missing = xp.where((tap >= low) & (tap <= high), 0.0, weights[k * pitch + v])
                weights[k * pitch + v] -= missing
                inside[v] -= missing


@exact
def smooth_table(frame, axis, table, pitch, n, count):
    """Fill a table for a smooth pass; returns first and last index, whether any is born, whether any tap is fill."""
    g, index, inside = group_at(frame, frame.smooth), i32(table), f32(table + 8 * count * pitch)
    centres, born = f32(frame.points_x), f32(table + 4 * (2 * count * pitch + pitch))
    any_born, partial = 0, 0
    if frame.groups_to - frame.groups == 1:
        scale, shift = g[4 * axis], g[2 + 3 * axis]
        for v in range(n):
            centres[v], born[v] = scale * xp.f32(v) + shift, xp.f32(-1.0)
    else:
        for v in range(n):
            centres[v], group = trace(frame, axis, v)
            born[v] = xp.f32(group)
            any_born |= xp.where(group >= 0, 1, 0)
    for v in range(n, n + 8):
        centres[v], born[v] = centres[n - 1], xp.f32(-1.0)
    weigh(g, axis, centres, n + 8, count, index, f32(table + 4 * count * pitch), inside, pitch)
    if g[P.G_BORDER] == G.FILL:
        for v in range(n):
            partial |= xp.where(inside[v] < 0.999999, 1, 0)
    first, last = index[0], index[0]
    for k in range(count):
        for v in range(n):
            first, last = xp.minimum(first, index[k * pitch + v]), xp.maximum(last, index[k * pitch + v])
    return xp.i64(first), xp.i64(last), any_born, partial


@exact
def find_runs(frame, n):
    """List the runs of constant step in the nearest column table, 0 of them if too short to be worth it; and
    offsets."""
    index, born = i32(frame.x_table), f32(frame.x_table + 12 * frame.x_pitch)
    runs = i64(frame.run_list)
    count, x = 0, 0
    while x < n:
        if born[x] >= 0.0:
            x += 1
            continue
        start, step = x, 1
        x += 1
        if (x < n) & (born[min(x, n - 1)] < 0.0):
            step = xp.i64(index[x] - index[start])
            while x < n:
                if (born[x] >= 0.0) | (xp.i64(index[x]) - xp.i64(index[x - 1]) != step):
                    break
                x += 1
        runs[4 * count], runs[4 * count + 1] = start, x
        runs[4 * count + 2], runs[4 * count + 3] = xp.i64(index[start]), step
        count += 1
    frame.runs = xp.where(count * 8 > n + 16, 0, count)
    offsets, step_x = i64(frame.offsets), frame.base_x
    for x in range(n):
        offsets[x] = xp.i64(index[x]) * step_x


@exact
def prepare(frame):
    """Find out what kind of pass it is (SMOOTH comes as that of its story), and fill both tables of an aligned one."""
    smooth = frame.smooth
    frame.smooth, frame.taps_x, frame.taps_y, frame.born, frame.aligned = -1, 1, 1, 1, 1
    if (smooth >= frame.groups) & (smooth < frame.groups_to):
        g = group_at(frame, smooth)
        frame.smooth = smooth
        frame.taps_x = tap_count(g[P.G_WIDTH], g[P.G_FILTER])
        frame.taps_y = tap_count(g[P.G_WIDTH + 1], g[P.G_FILTER])
    for i in range(frame.groups, frame.groups_to):
        g = group_at(frame, i)
        if (g[1] != 0.0) | (g[3] != 0.0) | (g[P.G_PROJECTIVE] != 0.0):
            frame.aligned = 0
            return
    frame.born = frame.partial = 0
    for axis in range(2):
        table, pitch, taps = table_of(frame, axis), frame.x_pitch, frame.taps_x
        n, size = frame.ow, frame.base_w
        if axis == 1:
            pitch, taps, n, size = frame.y_pitch, frame.taps_y, frame.oh, frame.base_h
        if frame.smooth < 0:
            first, last, born, partial = nearest_table(frame, axis, table, pitch, n, size)
        else:
            first, last, born, partial = smooth_table(frame, axis, table, pitch, n, taps)
        frame.born |= born
        frame.partial |= partial
        if axis == 0:
            frame.first, frame.last = first, last
    if frame.smooth < 0:
        find_runs(frame, frame.ow)
    else:
        step = frame.channels
        together = (frame.base_c == 1) & (frame.base_x == step)
        frame.together = xp.where(together, 1, 0)
        step = LANES * xp.where(together, step, 1)
        index, first = i32(frame.x_table), frame.first
        for k in range(frame.taps_x * frame.x_pitch):
            index[k] = (index[k] - first) * step
