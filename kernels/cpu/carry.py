"""Boxes and keypoints of a batch through the plans of their rows: the loop around `shared.points`."""

from ..shared.points import POINT
from .dialect import POINTS, exact, f32, i64, specialised

JOB_N = 0  # boxes, or keypoints
JOB_STATE = 1  # addresses: float32 [N, POINT], int64 [N] rows, first and last groups
JOB_ROWS = 2
JOB_FIRST = 3
JOB_LAST = 4
JOB_PLANS = 5  # float32, JOB_STRIDE from row to row
JOB_STRIDE = 6
JOB_EVENTS = 7
JOB_CHANNELS = 8
JOB_GROUPS = 9
JOB_FLAGS = 10
JOB = 11


@exact
def carry(job):
    """A walk for all boxes, or keypoints, of a job."""
    events, rows, first, last = f32(job[JOB_EVENTS]), i64(job[JOB_ROWS]), i64(job[JOB_FIRST]), i64(job[JOB_LAST])
    channels, groups, flags = job[JOB_CHANNELS], job[JOB_GROUPS], job[JOB_FLAGS]
    for k in range(job[JOB_N]):
        state, plan = f32(job[JOB_STATE] + 4 * POINT * k), f32(job[JOB_PLANS] + 4 * job[JOB_STRIDE] * rows[k])
        WALK(plan, events, state, first[k], last[k], channels, groups, flags)


carry_boxes = specialised(exact, carry, "carry_boxes", WALK=POINTS["box_walk"])
carry_points = specialised(exact, carry, "carry_points", WALK=POINTS["point_walk"])
