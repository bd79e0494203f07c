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
    kind = job.source_kind
    frame.base_kind, frame.base = kind, job.source + element_bytes(kind) * row[P.ROW_SOURCE]
    frame.base_h, frame.base_w = row[P.ROW_H], row[P.ROW_W]
    frame.base_c, frame.base_y, frame.base_x = row[P.ROW_STRIDE_C], row[P.ROW_STRIDE_Y], row[P.ROW_STRIDE_X]


@exact
def scratch_at(frame, number):
    """Where a scratch image lies."""
    return frame.scratch + xp.where(number == F.PACKED, F.WIDENED, number) * frame.scratch_bytes


@exact
def open_sink(frame, job, row, sink):
    """Make the output or a scratch image, or nothing, what a pass writes."""
    height, width, channels = frame.oh, frame.ow, frame.channels
    frame.sink_channels = channels
    if sink == F.OUT:
        kind, channels = job.out_kind, job.out_channels
        frame.sink_c, frame.sink_y, frame.sink_x = job.out_strides[1], job.out_strides[2], job.out_strides[3]
        at = row[P.ROW_OUT]
        if job.ragged != 0:
            frame.sink_c, frame.sink_y, frame.sink_x = row[P.ROW_OUT_C], row[P.ROW_OUT_Y], row[P.ROW_OUT_X]
        else:
            at = at // (channels * height * width) * job.out_strides[0]
        frame.sink = job.out + element_bytes(kind) * at
        frame.sink_store = F.STORE_OUT + xp.where(frame.sink_x == 1, 0, 1)
        frame.streams, frame.sink_channels = job.streams, channels
        frame.copies = (kind == F.U8) & (frame.base_kind == F.U8) & (job.tail == 0)
        frame.steps_to -= job.tail
    else:
        keeps = xp.where(sink == F.PACKED, F.KEEP_PACKED, xp.where(sink == F.LAYER, F.KEEP_LAYER, F.KEEP))
        frame.sink_store = xp.where(sink == F.NOWHERE, F.NONE, keeps)
        frame.sink = xp.where(sink == F.LAYER, frame.layer_at, scratch_at(frame, sink))
        frame.sink_c, frame.sink_y, frame.sink_x = height * width, width, 1
        frame.streams = frame.copies = 0


@exact
def open_pass(frame, job, row, p):
    """Set the frame to a pass: base, sink, plan."""
    frame.groups, frame.groups_to = p.groups, p.groups_to
    frame.steps, frame.steps_to = p.steps, p.steps_to
    frame.smooth, frame.oh, frame.ow = p.smooth, p.oh, p.ow
    height, width = p.base_h, p.base_w
    frame.base_h, frame.base_w = height, width
    base = p.base
    frame.packed_base = xp.where(base == F.PACKED, 1, 0)
    blending = frame.plan + 4 * (frame.steps_at + (frame.steps - 1) * frame.step_words)
    frame.blending = xp.where(base == F.LAYERS, blending, 0)
    if base == F.SOURCE:
        open_source(frame, job, row)
    elif base == F.PACKED:
        frame.base_kind, frame.base = F.U8, scratch_at(frame, base)
        frame.base_c, frame.base_y, frame.base_x = 1, 4 * width, 4
    elif base != F.LAYERS:
        frame.base_kind, frame.base = F.F32, scratch_at(frame, base)
        frame.base_c, frame.base_y, frame.base_x = height * width, width, 1
    open_sink(frame, job, row, p.sink)
    kept = (p.sink != F.NOWHERE) | (frame.steps == frame.steps_to)
    frame.in_place = xp.where((base >= 0) & (frame.groups == frame.groups_to) & kept, 1, 0)


@exact
def near_phase(opcode):
    """The phase of a step that reads neighbours."""
    moves = (opcode == pixel.ELASTIC_NOISE) | (opcode == pixel.ELASTIC)
    return xp.where(opcode == pixel.JPEG, F.JPEG, xp.where(moves, F.ELASTIC, F.NEIGHBOURS))


@exact
def begin(frame):
    """Prepare a pass; returns the address of the phase that samples its tiles."""
    phases = i64(frame.phases)
    if frame.blending != 0:
        frame.copies = 0
        frame.smooth, frame.born = -1, 0
        return phases[loop_index(xp.i64(f32(frame.blending)[P.S_OP]), 0, 0)]
    if frame.steps < frame.steps_to:
        step = frame.plan + 4 * (frame.steps_at + frame.steps * frame.step_words)
        if step_at(frame, frame.steps)[P.S_TRAIT] == P.NEIGHBOURS:
            frame.near, frame.smooth, frame.born, frame.in_place = step, -1, 0, 0
            frame.copies = 0
            frame.steps += 1
            return phases[near_phase(xp.i64(f32(step)[P.S_OP]))]
    if frame.in_place != 0:
        frame.smooth, frame.born, frame.copies = -1, 0, 0
        return xp.i64(0)
    call(phases[F.PREPARE], frame)
    if (phases[F.COPY_LINES] != 0) & (width_of(frame) != 0):
        return phases[F.COPY_LINES]
    frame.copies = 0
    lines = xp.where(frame.smooth < 0, F.NEAREST_LINES, F.SMOOTH_LINES)
    return phases[xp.where(frame.aligned != 0, lines, F.POINTS)]


@exact
def write_tiles(frame, sample, keeps, tile):
    """The tiles of a pass, which lie in the work memory `tile`, or in the scratch image that is read or written; what
    only moves bytes has none.

    Sampling writes whole blocks of eight lines and columns: where that would not fit, it needs the work memory.
    """
    if frame.copies != 0:
        call(sample, frame)
        return
    height, width, finish = frame.oh, frame.ow, i64(frame.phases)[F.FINISH]
    block = 8 * max(1, F.TILE_PIXELS // (8 * width))
    for y in range(0, height, block):
        frame.y, frame.lines = y, min(block, height - y)
        fits = (keeps != 0) & (width >= 8) & (frame.lines == block)
        frame.tile, frame.tile_pitch = tile, frame.pitch
        if frame.in_place != 0:
            frame.tile, frame.tile_pitch = frame.base + 4 * y * width, height * width
        elif fits:
            frame.tile, frame.tile_pitch = frame.sink + 4 * y * width, height * width
        lies_there = (frame.sink_store == F.KEEP) & (frame.tile == frame.sink + 4 * y * width)
        frame.in_sink = xp.where(lies_there, 1, 0)
        if frame.in_place == 0:
            call(sample, frame)
        call(finish, frame)


@exact
def write_row(job, row, frame):
    """All passes of the row that the frame was opened for."""
    frame.phases, frame.tail = job.phases, job.tail
    if frame.passes[0].base == F.WIDENED:
        open_source(frame, job, row)
        call(i64(frame.phases)[F.WIDEN], frame)
    tile = frame.tile
    for k in range(frame.n_passes):
        p = frame.passes[k]
        open_pass(frame, job, row, p)
        open_ask(frame, p.ask)
        sample = begin(frame)
        write_tiles(frame, sample, xp.where((p.sink == 0) | (p.sink == 1), 1, 0), tile)
        if frame.ask >= 0:
            close_ask(frame)
    drain()
