"""Write the image of a row that was walked: pass by pass, tile by tile, stage by stage."""

from . import cpu_frame as F
from . import plan as P
from .cpu_dialect import call, exact, f64, i64, xp
from .cpu_tables import element_bytes, step_at
from .cpu_vector import drain


@exact
def open_source(frame, job, row):
    """Make the row's source the base image."""
    kind = job[F.JOB_SOURCE_KIND]
    frame[F.BASE_KIND], frame[F.BASE] = kind, job[F.JOB_SOURCE] + element_bytes(kind) * row[P.ROW_SOURCE]
    frame[F.BASE_H], frame[F.BASE_W] = row[P.ROW_H], row[P.ROW_W]
    frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = row[P.ROW_STRIDE_C], row[P.ROW_STRIDE_Y], row[P.ROW_STRIDE_X]


@exact
def open_pass(frame, job, row, p):
    """Set the frame to a pass: base, sink, plan."""
    frame[F.GROUPS], frame[F.GROUPS_TO] = p[F.PASS_GROUPS], p[F.PASS_GROUPS_TO]
    frame[F.STEPS], frame[F.STEPS_TO] = p[F.PASS_STEPS], p[F.PASS_STEPS_TO]
    frame[F.STATISTIC], frame[F.OH], frame[F.OW] = p[F.PASS_STATISTIC], p[F.PASS_OH], p[F.PASS_OW]
    height, width = p[F.PASS_BASE_H], p[F.PASS_BASE_W]
    frame[F.BASE_H], frame[F.BASE_W] = height, width
    if p[F.PASS_BASE] == F.SOURCE:
        open_source(frame, job, row)
    else:
        frame[F.BASE_KIND], frame[F.BASE] = F.F32, frame[F.SCRATCH] + p[F.PASS_BASE] * frame[F.SCRATCH_BYTES]
        frame[F.BASE_C], frame[F.BASE_Y], frame[F.BASE_X] = height * width, width, 1
    height, width = p[F.PASS_OH], p[F.PASS_OW]
    if p[F.PASS_SINK] == F.OUT:
        kind = job[F.JOB_OUT_KIND]
        image = row[P.ROW_OUT] // (frame[F.CHANNELS] * height * width)
        frame[F.SINK_KIND], frame[F.SINK] = kind, job[F.JOB_OUT] + element_bytes(kind) * image * job[F.JOB_OUT_B]
        frame[F.SINK_C], frame[F.SINK_Y], frame[F.SINK_X] = job[F.JOB_OUT_C], job[F.JOB_OUT_Y], job[F.JOB_OUT_X]
        frame[F.STREAMS] = job[F.JOB_STREAMS]
    else:
        frame[F.SINK_KIND] = xp.where(p[F.PASS_SINK] == F.NOWHERE, F.NONE, F.F32)
        frame[F.SINK] = frame[F.SCRATCH] + p[F.PASS_SINK] * frame[F.SCRATCH_BYTES]
        frame[F.SINK_C], frame[F.SINK_Y], frame[F.SINK_X] = height * width, width, 1
        frame[F.STREAMS] = 0


@exact
def write_row(job, row, record, memory):
    """All passes of the row whose frame and passes lie at the address `record`; work memory lies at `memory`."""
    frame, stages = i64(record), i64(job[F.JOB_STAGES])
    for field in range(F.TILE, F.SCRATCH + 1):
        frame[field] += memory
    if job[F.JOB_SOURCE_KIND] >= F.BF16:
        open_source(frame, job, row)
        call(stages[F.WIDEN], record)
    for k in range(frame[F.PASSES]):
        open_pass(frame, job, row, i64(record + 8 * (F.FRAME_WORDS + k * F.PASS_WORDS)))
        call(stages[F.PREPARE], record)
        rows = xp.where(frame[F.SMOOTH] < 0, F.NEAREST_ROWS, F.SMOOTH_ROWS)
        sample = stages[xp.where(frame[F.ALIGNED] != 0, rows, F.POINTS)]
        height, width = frame[F.OH], frame[F.OW]
        block = 8 * max(1, F.TILE_PIXELS // (8 * width))
        total = f64(record + 8 * F.TOTAL)
        total[0] = 0.0
        for y in range(0, height, block):
            frame[F.Y], frame[F.ROWS] = y, min(block, height - y)
            call(sample, record)
            call(stages[F.FINISH], record)
        if frame[F.STATISTIC] >= 0:
            step_at(frame, frame[F.STATISTIC])[P.S_ARGUMENTS + 7] = xp.f32(total[0] / xp.f64(height * width))
    drain()
