"""Boxes and keypoints of a batch through the plans of their rows: the loop around `shared.points`."""

from ..shared.points import POINT
from .dialect import POINTS, exact, f32, i64, specialised


@exact
def carry(job):
    """A walk for all boxes, or keypoints, of a job."""
    events, rows, first, last = f32(job.events), i64(job.rows), i64(job.first), i64(job.last)
    channels, groups, flags = job.channels, job.groups, job.flags
    for k in range(job.n):
        state, plan = f32(job.state + 4 * POINT * k), f32(job.plans + 4 * job.stride * rows[k])
        WALK(plan, events, state, first[k], last[k], channels, groups, flags)


carry_boxes = specialised(exact, carry, WALK=POINTS["box_walk"])
carry_points = specialised(exact, carry, WALK=POINTS["point_walk"])
