"""Outputs of several layers: each layer is rendered into the thread's cache, then all are blended tile by tile.

A layer that the outputs a thread takes share is rendered once: the cache has room for as many as one output has, and
forgets the one that was used longest ago.
"""

import ctypes

from ..shared import blend
from ..shared import plan as P
from . import frame as F
from .dialect import BLEND, exact, f32, fast, i64, pointer_to, specialised, u8, widest, xp
from .process import work_memory
from .steps import eight
from .tables import element_bytes, step_at
from .walk import behind, divide, note, open_row, schedule_row
from .write import write_row

SETTLED = BLEND["settled"]
as_frame, as_layers, LAYER_BYTES = pointer_to(F.Frame), pointer_to(F.Layer), ctypes.sizeof(F.Layer)


@fast
def blend_tile(frame):
    """Fill the tile's lines from the layers."""
    widest()
    p, width, layers = eight(f32(frame.blending), 0), frame.ow, as_layers(frame.layers_at)
    for c in range(frame.channels):
        for r in range(frame.lines):
            line, at = f32(frame.tile + 4 * (c * frame.tile_pitch + r * width)), frame.y + r
            offset, y = SIZE * (c * frame.oh + at) * width, xp.f32(at)
            first = POINTER(layers[0].at + offset)
            if frame.n_layers == 1:
                for x in range(width):
                    line[x] = xp.f32(first[x])
            else:
                second = POINTER(layers[1].at + offset)
                for x in range(width):
                    total = FOLD(0, xp.f32(0.0), xp.f32(first[x]), xp.f32(x), y, p)
                    line[x] = FOLD(1, total, xp.f32(second[x]), xp.f32(x), y, p)
                for k in range(2, frame.n_layers):
                    layer = POINTER(layers[k].at + offset)
                    for x in range(width):
                        line[x] = FOLD(k, line[x], xp.f32(layer[x]), xp.f32(x), y, p)
                if p[7] != 0.0:
                    for x in range(width):
                        line[x] = SETTLED(line[x], p)


def blend_loop(opcode, kind):
    """`blend_tile` for one blend and layers of a kind, U8 or F32."""
    scope = {"POINTER": u8 if kind == F.U8 else f32, "SIZE": 1 if kind == F.U8 else 4}
    return specialised(fast, blend_tile, FOLD=BLEND[blend.CASES[opcode]], **scope)


@exact
def plan_at(job, r):
    """The address of a row's plan."""
    return job.plans + 4 * r * job.row_words


@exact
def row_at(job, r):
    return i64(job.rows + 8 * r * P.ROW)


@exact
def found(cache, n, row, output):
    """Which of the cache's n places has the row, -1 for none; it is used by the output now."""
    for k in range(n):
        if cache[k].row == row:
            cache[k].used = output
            return k
    return -1


@exact
def emptied(cache, n, row, output):
    """The place of the row that was used longest ago; another one has it now."""
    place = 0
    for k in range(n):
        if cache[k].used < cache[place].used:
            place = k
    cache[place].row, cache[place].used = row, output
    return place


@exact
def cached_bytes(job, plan):
    """The size of the cache's words, and of a layer."""
    area = xp.i64(f32(plan)[P.OUT_H]) * xp.i64(f32(plan)[P.OUT_W])
    size = element_bytes(job.layer_kind) * job.channels * area
    return behind(0, LAYER_BYTES * job.layers), behind(0, size)


@exact
def work_bytes(job, frame, layers):
    """The work memory that an output's layers need, the most of any."""
    need = xp.i64(0)
    for k in range(job.layers):
        if layers[k] >= 0:
            row = row_at(job, layers[k])
            open_row(job, frame, plan_at(job, layers[k]))
            need = max(need, divide(frame, row[P.ROW_H], row[P.ROW_W], 0))
    return need


@exact
def write_row_to(job, r, frame, memory, front, sink):
    """Write a row as it is in front of the blend, if `front`, else with all its steps, in the work memory."""
    row, plan = row_at(job, r), plan_at(job, r)
    open_row(job, frame, plan)
    divide(frame, row[P.ROW_H], row[P.ROW_W], memory)
    steps = xp.i64(f32(plan)[xp.where(front, P.FRONT, P.N_STEPS)])
    schedule_row(job, row, frame, steps, xp.i64(sink))
    write_row(job, row, frame)


@exact
def write_blended(job, r, frame, memory, cache, n):
    """Blend the n layers that lie as the address `cache` says, and write the steps of row r behind its blend."""
    row, plan = row_at(job, r), f32(plan_at(job, r))
    open_row(job, frame, plan_at(job, r))
    divide(frame, row[P.ROW_H], row[P.ROW_W], memory)
    groups, steps, front = xp.i64(plan[P.N_GROUPS]), xp.i64(plan[P.N_STEPS]), xp.i64(plan[P.FRONT]) + 1
    state = (xp.i64(F.LAYERS), xp.i64(plan[P.OUT_H]), xp.i64(plan[P.OUT_W]), groups, front)
    frame.n_passes, frame.layers_at, frame.n_layers = 0, cache, n
    note(frame, state, groups, steps, xp.i64(-1), xp.i64(F.OUT), xp.i64(-1))
    write_row(job, row, frame)


@exact
def write_output(job, thread, o, forgets):
    """Write output o; `forgets` the layers that the cache has. Returns 0, or how many bytes could not be had."""
    layers, places = i64(job.outputs + 8 * o * job.layers), job.layers
    own, before = layers[0], thread.bytes
    frame, plan = as_frame(job.records + own * job.record_bytes), f32(plan_at(job, own))
    front = xp.i64(plan[P.FRONT])
    head, size = cached_bytes(job, plan_at(job, own))
    need = head + places * size + work_bytes(job, frame, layers)
    at = work_memory(thread, need)
    if at == 0:
        return need
    cache, memory = as_layers(at), at + head + places * size
    if forgets | (thread.bytes != before):
        for k in range(places):
            cache[k].row, cache[k].used = -1, -1
    open_row(job, frame, plan_at(job, own))
    blends = front < xp.i64(plan[P.N_STEPS])
    if blends:
        blends = step_at(frame, front)[P.S_TRAIT] == P.BLEND
    if not blends:
        write_row_to(job, own, frame, memory, False, F.OUT)
        return 0
    for k in range(places):
        found(cache, places, layers[k], o)  # before any gives way to another
    n = xp.i64(0)
    for k in range(places):
        if layers[k] >= 0:
            place = found(cache, places, layers[k], o)
            if place < 0:
                place = emptied(cache, places, layers[k], o)
                frame.layer_at = at + head + place * size
                write_row_to(job, layers[k], frame, memory, True, F.LAYER)
            cache[n].at = at + head + place * size
            n += 1
    write_blended(job, own, frame, memory, at, n)
    return 0
