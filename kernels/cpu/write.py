"""Write the image of a row that was walked: pass by pass, tile by tile, phase by phase."""

from ..shared import pixel
from ..shared import plan as P
from . import frame as F
from .asks import close_ask, open_ask
from .copy import width_of
from .dialect import call, exact, f32, i64, xp
from .steps import loop_index
from .tables import element_bytes, step_at
from .vector import drain


@exact
def open_source(frame, job, row):
    """Make the row's source the base image."""
    kind = job[F.JOB_SOURCE_KIND]
    frame[F.BASE_KIND], frame[F.BASE] = kind, job[F.JOB_SOURCE] + element_bytes(kind) * row[P.ROW_SOURCE]
    frame[F.BASE_H], frame[F.BASE_W] = row[P.ROW_H], row[P.ROW_W]
    frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = row[P.ROW_STRIDE_C], row[P.ROW_STRIDE_Y], row[P.ROW_STRIDE_X]


@exact
def scratch_at(frame, number):
    """Where a scratch image lies."""
    return frame[F.SCRATCH] + xp.where(number == F.PACKED, F.WIDENED, number) * frame[F.SCRATCH_BYTES]


@exact
def open_sink(frame, job, row, sink):
    """Make the output or a scratch image, or nothing, what a pass writes."""
    height, width, channels = frame[F.OH], frame[F.OW], frame[F.CHANNELS]
    frame[F.SINK_CHANNELS] = channels
    if sink == F.OUT:
        kind, channels = job[F.JOB_OUT_KIND], job[F.JOB_OUT_CHANNELS]
        frame[F.SINK_C], frame[F.SINK_Y], frame[F.SINK_X] = job[F.JOB_OUT_C], job[F.JOB_OUT_Y], job[F.JOB_OUT_X]
        at = row[P.ROW_OUT]
        if job[F.JOB_RAGGED] != 0:
            frame[F.SINK_C], frame[F.SINK_Y], frame[F.SINK_X] = row[P.ROW_OUT_C], row[P.ROW_OUT_Y], row[P.ROW_OUT_X]
        else:
            at = at // (channels * height * width) * job[F.JOB_OUT_B]
        frame[F.SINK] = job[F.JOB_OUT] + element_bytes(kind) * at
        frame[F.SINK_STORE] = F.STORE_OUT + xp.where(frame[F.SINK_X] == 1, 0, 1)
        frame[F.STREAMS], frame[F.SINK_CHANNELS] = job[F.JOB_STREAMS], channels
        frame[F.COPIES] = (kind == F.U8) & (frame[F.BASE_KIND] == F.U8) & (job[F.JOB_TAIL] == 0)
        frame[F.STEPS_TO] -= job[F.JOB_TAIL]
    else:
        keeps = xp.where(sink == F.PACKED, F.KEEP_PACKED, xp.where(sink == F.LAYER, F.KEEP_LAYER, F.KEEP))
        frame[F.SINK_STORE] = xp.where(sink == F.NOWHERE, F.NONE, keeps)
        frame[F.SINK] = xp.where(sink == F.LAYER, frame[F.LAYER_AT], scratch_at(frame, sink))
        frame[F.SINK_C], frame[F.SINK_Y], frame[F.SINK_X] = height * width, width, 1
        frame[F.STREAMS] = frame[F.COPIES] = 0


@exact
def open_pass(frame, job, row, p):
    """Set the frame to a pass: base, sink, plan."""
    frame[F.GROUPS], frame[F.GROUPS_TO] = p[F.PASS_GROUPS], p[F.PASS_GROUPS_TO]
    frame[F.STEPS], frame[F.STEPS_TO] = p[F.PASS_STEPS], p[F.PASS_STEPS_TO]
    frame[F.SMOOTH], frame[F.OH], frame[F.OW] = p[F.PASS_SMOOTH], p[F.PASS_OH], p[F.PASS_OW]
    height, width = p[F.PASS_BASE_H], p[F.PASS_BASE_W]
    frame[F.BASE_H], frame[F.BASE_W] = height, width
    base = p[F.PASS_BASE]
    frame[F.PACKED_BASE] = xp.where(base == F.PACKED, 1, 0)
    blending = frame[F.PLAN] + 4 * (frame[F.STEPS_AT] + (frame[F.STEPS] - 1) * frame[F.STEP_WORDS])
    frame[F.BLENDING] = xp.where(base == F.LAYERS, blending, 0)
    if base == F.SOURCE:
        open_source(frame, job, row)
    elif base == F.PACKED:
        frame[F.BASE_KIND], frame[F.BASE] = F.U8, scratch_at(frame, base)
        frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = 1, 4 * width, 4
    elif base != F.LAYERS:
        frame[F.BASE_KIND], frame[F.BASE] = F.F32, scratch_at(frame, base)
        frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = height * width, width, 1
    open_sink(frame, job, row, p[F.PASS_SINK])
    kept = (p[F.PASS_SINK] != F.NOWHERE) | (frame[F.STEPS] == frame[F.STEPS_TO])
    frame[F.IN_PLACE] = xp.where((base >= 0) & (frame[F.GROUPS] == frame[F.GROUPS_TO]) & kept, 1, 0)


@exact
def near_phase(opcode):
    """The phase of a step that reads neighbours."""
    moves = (opcode == pixel.ELASTIC_NOISE) | (opcode == pixel.ELASTIC)
    return xp.where(opcode == pixel.JPEG, F.JPEG, xp.where(moves, F.ELASTIC, F.NEIGHBOURS))


@exact
def begin(frame, record):
    """Prepare a pass; returns the address of the phase that samples its tiles."""
    phases = i64(frame[F.PHASES])
    if frame[F.BLENDING] != 0:
        frame[F.COPIES] = 0
        frame[F.SMOOTH], frame[F.BORN] = -1, 0
        return phases[loop_index(xp.i64(f32(frame[F.BLENDING])[P.S_OP]), 0, 0)]
    if frame[F.STEPS] < frame[F.STEPS_TO]:
        step = frame[F.PLAN] + 4 * (frame[F.STEPS_AT] + frame[F.STEPS] * frame[F.STEP_WORDS])
        if step_at(frame, frame[F.STEPS])[P.S_TRAIT] == P.NEIGHBOURS:
            frame[F.NEAR], frame[F.SMOOTH], frame[F.BORN], frame[F.IN_PLACE] = step, -1, 0, 0
            frame[F.COPIES] = 0
            frame[F.STEPS] += 1
            return phases[near_phase(xp.i64(f32(step)[P.S_OP]))]
    if frame[F.IN_PLACE] != 0:
        frame[F.SMOOTH], frame[F.BORN], frame[F.COPIES] = -1, 0, 0
        return xp.i64(0)
    call(phases[F.PREPARE], record)
    if (phases[F.COPY_LINES] != 0) & (width_of(frame) != 0):
        return phases[F.COPY_LINES]
    frame[F.COPIES] = 0
    lines = xp.where(frame[F.SMOOTH] < 0, F.NEAREST_LINES, F.SMOOTH_LINES)
    return phases[xp.where(frame[F.ALIGNED] != 0, lines, F.POINTS)]


@exact
def write_tiles(frame, record, sample, keeps, tile):
    """The tiles of a pass, which lie in the work memory `tile`, or in the scratch image that is read or written; what
    only moves bytes has none.

    Sampling writes whole blocks of eight lines and columns: where that would not fit, it needs the work memory.
    """
    if frame[F.COPIES] != 0:
        call(sample, record)
        return
    height, width, finish = frame[F.OH], frame[F.OW], i64(frame[F.PHASES])[F.FINISH]
    block = 8 * max(1, F.TILE_PIXELS // (8 * width))
    for y in range(0, height, block):
        frame[F.Y], frame[F.LINES] = y, min(block, height - y)
        fits = (keeps != 0) & (width >= 8) & (frame[F.LINES] == block)
        frame[F.TILE], frame[F.TILE_PITCH] = tile, frame[F.PITCH]
        if frame[F.IN_PLACE] != 0:
            frame[F.TILE], frame[F.TILE_PITCH] = frame[F.BASE] + 4 * y * width, height * width
        elif fits:
            frame[F.TILE], frame[F.TILE_PITCH] = frame[F.SINK] + 4 * y * width, height * width
        lies_there = (frame[F.SINK_STORE] == F.KEEP) & (frame[F.TILE] == frame[F.SINK] + 4 * y * width)
        frame[F.IN_SINK] = xp.where(lies_there, 1, 0)
        if frame[F.IN_PLACE] == 0:
            call(sample, record)
        call(finish, record)


@exact
def write_row(job, row, record, memory):
    """All passes of the row whose frame and passes lie at the address `record`; work memory lies at `memory`."""
    frame = i64(record)
    frame[F.PHASES], frame[F.TAIL] = job[F.JOB_PHASES], job[F.JOB_TAIL]
    for field in range(F.TILE, F.SCRATCH + 1):
        frame[field] += memory
    if i64(record + 8 * F.FRAME_WORDS)[F.PASS_BASE] == F.WIDENED:
        open_source(frame, job, row)
        call(i64(frame[F.PHASES])[F.WIDEN], record)
    tile = frame[F.TILE]
    for k in range(frame[F.PASSES]):
        p = i64(record + 8 * (F.FRAME_WORDS + k * F.PASS_WORDS))
        open_pass(frame, job, row, p)
        open_ask(frame, record, p[F.PASS_ASK])
        sample = begin(frame, record)
        write_tiles(frame, record, sample, xp.where((p[F.PASS_SINK] == 0) | (p[F.PASS_SINK] == 1), 1, 0), tile)
        if frame[F.ASK] >= 0:
            close_ask(frame, record)
    drain()
