"""Outputs of several layers: each layer is rendered into the thread's cache, then all are blended tile by tile.

A layer that the outputs a thread takes share is rendered once: the cache has room for as many as one output has, and
forgets the one that was used longest ago.
"""

from ..shared import blend
from ..shared import plan as P
from . import frame as F
from .dialect import BLEND, exact, f32, fast, i64, specialised, u8, widest, xp
from .process import work_memory
from .steps import eight
from .tables import element_bytes, step_at
from .walk import divide, note, open_row, schedule_row
from .write import write_row

SETTLED = BLEND["settled"]


@fast
def blend_tile(frame):
    """Fill the tile's lines from the layers."""
    widest()
    p, width = eight(f32(frame[F.BLENDING]), 0), frame[F.OW]
    for c in range(frame[F.CHANNELS]):
        for r in range(frame[F.LINES]):
            line, at = f32(frame[F.TILE] + 4 * (c * frame[F.TILE_PITCH] + r * width)), frame[F.Y] + r
            offset, y = SIZE * (c * frame[F.OH] + at) * width, xp.f32(at)
            first = POINTER(i64(frame[F.LAYERS_AT])[F.CACHE_AT] + offset)
            if frame[F.N_LAYERS] == 1:
                for x in range(width):
                    line[x] = xp.f32(first[x])
            else:
                second = POINTER(i64(frame[F.LAYERS_AT])[F.CACHE_WORDS + F.CACHE_AT] + offset)
                for x in range(width):
                    total = FOLD(0, xp.f32(0.0), xp.f32(first[x]), xp.f32(x), y, p)
                    line[x] = FOLD(1, total, xp.f32(second[x]), xp.f32(x), y, p)
                for k in range(2, frame[F.N_LAYERS]):
                    layer = POINTER(i64(frame[F.LAYERS_AT])[F.CACHE_WORDS * k + F.CACHE_AT] + offset)
                    for x in range(width):
                        line[x] = FOLD(k, line[x], xp.f32(layer[x]), xp.f32(x), y, p)
                if p[7] != 0.0:
                    for x in range(width):
                        line[x] = SETTLED(line[x], p)


def blend_loop(opcode, kind):
    """`blend_tile` for one blend and layers of a kind, U8 or F32."""
    scope = {"POINTER": u8 if kind == F.U8 else f32, "SIZE": 1 if kind == F.U8 else 4}
    return specialised(fast, blend_tile, f"blend_{opcode}_{kind}", FOLD=BLEND[blend.CASES[opcode]], **scope)


@exact
def plan_at(job, r):
    """The address of a row's plan."""
    return job[F.JOB_PLANS] + 4 * r * job[F.JOB_ROW_WORDS]


@exact
def row_at(job, r):
    return i64(job[F.JOB_ROWS] + 8 * r * P.ROW)


@exact
def found(cache, n, row, output):
    """Which of the cache's n places has the row, -1 for none; it is used by the output now."""
    for k in range(n):
        if cache[F.CACHE_WORDS * k + F.CACHE_ROW] == row:
            cache[F.CACHE_WORDS * k + F.CACHE_USED] = output
            return k
    return -1


@exact
def emptied(cache, n, row, output):
    """The place of the row that was used longest ago; another one has it now."""
    place = 0
    for k in range(n):
        if cache[F.CACHE_WORDS * k + F.CACHE_USED] < cache[F.CACHE_WORDS * place + F.CACHE_USED]:
            place = k
    cache[F.CACHE_WORDS * place + F.CACHE_ROW], cache[F.CACHE_WORDS * place + F.CACHE_USED] = row, output
    return place


@exact
def cached_bytes(job, plan):
    """The size of the cache's words, and of a layer."""
    area = xp.i64(f32(plan)[P.OUT_H]) * xp.i64(f32(plan)[P.OUT_W])
    size = element_bytes(job[F.JOB_LAYER_KIND]) * job[F.JOB_CHANNELS] * area
    return (8 * F.CACHE_WORDS * job[F.JOB_LAYERS] + 63) // 64 * 64, (size + 63) // 64 * 64


@exact
def work_bytes(job, frame, layers):
    """The work memory that an output's layers need, the most of any."""
    need = xp.i64(0)
    for k in range(job[F.JOB_LAYERS]):
        if layers[k] >= 0:
            row = row_at(job, layers[k])
            open_row(job, frame, plan_at(job, layers[k]))
            need = max(need, divide(frame, row[P.ROW_H], row[P.ROW_W]))
    return need


@exact
def write_row_to(job, r, record, memory, behind, sink):
    """Write a row as it is in front of the blend, if `behind` is 0, else with all its steps, in the work memory."""
    row, frame, plan = row_at(job, r), i64(record), plan_at(job, r)
    open_row(job, frame, plan)
    divide(frame, row[P.ROW_H], row[P.ROW_W])
    steps = xp.i64(f32(plan)[xp.where(behind != 0, P.N_STEPS, P.FRONT)])
    schedule_row(job, row, frame, record + 8 * F.FRAME_WORDS, steps, xp.i64(sink))
    write_row(job, row, record, memory)


@exact
def write_blended(job, r, record, memory, cache, n):
    """Blend the n layers that the cache names, and write the steps of row r behind its blend."""
    row, frame, plan = row_at(job, r), i64(record), f32(plan_at(job, r))
    open_row(job, frame, plan_at(job, r))
    divide(frame, row[P.ROW_H], row[P.ROW_W])
    groups, steps, front = xp.i64(plan[P.N_GROUPS]), xp.i64(plan[P.N_STEPS]), xp.i64(plan[P.FRONT]) + 1
    state = (xp.i64(F.LAYERS), xp.i64(plan[P.OUT_H]), xp.i64(plan[P.OUT_W]), groups, front)
    frame[F.PASSES], frame[F.LAYERS_AT], frame[F.N_LAYERS] = 0, cache, n
    note(frame, record + 8 * F.FRAME_WORDS, state, groups, steps, xp.i64(-1), xp.i64(F.OUT), xp.i64(-1))
    write_row(job, row, record, memory)


@exact
def write_output(job, thread, o, forgets):
    """Write output o; `forgets` the layers that the cache has. Returns 0, or how many bytes could not be had."""
    layers, places = i64(job[F.JOB_OUTPUTS] + 8 * o * job[F.JOB_LAYERS]), job[F.JOB_LAYERS]
    own, before = layers[0], thread[F.OWN_BYTES]
    record, plan = job[F.JOB_RECORDS] + own * job[F.JOB_RECORD_BYTES], f32(plan_at(job, own))
    frame, front = i64(record), xp.i64(plan[P.FRONT])
    head, size = cached_bytes(job, plan_at(job, own))
    need = head + places * size + work_bytes(job, frame, layers)
    at = work_memory(thread, need)
    if at == 0:
        return need
    cache, memory = i64(at), at + head + places * size
    if forgets | (thread[F.OWN_BYTES] != before):
        for k in range(places):
            cache[F.CACHE_WORDS * k + F.CACHE_ROW], cache[F.CACHE_WORDS * k + F.CACHE_USED] = -1, -1
    open_row(job, frame, plan_at(job, own))
    blends = front < xp.i64(plan[P.N_STEPS])
    if blends:
        blends = step_at(frame, front)[P.S_TRAIT] == P.BLEND
    if not blends:
        write_row_to(job, own, record, memory, 1, F.OUT)
        return 0
    for k in range(places):
        found(cache, places, layers[k], o)  # before any gives way to another
    n = xp.i64(0)
    for k in range(places):
        if layers[k] >= 0:
            place = found(cache, places, layers[k], o)
            if place < 0:
                place = emptied(cache, places, layers[k], o)
                frame[F.LAYER_AT] = at + head + place * size
                write_row_to(job, layers[k], record, memory, 0, F.LAYER)
            cache[F.CACHE_WORDS * n + F.CACHE_AT] = at + head + place * size
            n += 1
    write_blended(job, own, record, memory, at, n)
    return 0
