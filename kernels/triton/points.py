"""Boxes and keypoints of a batch through the plans of their rows: a program each."""

import functools
import sys

import triton.language as tl

from ..shared.points import POINT, box_walk, point_walk
from . import dialect
from .launch import Kernel

TYPES = dict(plan="*fp32", plan_stride="i32", events="*fp32", state="*fp32", rows="*i64", first="*i64", last="*i64")
TYPES |= dict(groups="i32")


def box_kernel(plan, plan_stride, events, state, rows, first, last, groups, C: tl.constexpr, FLAGS: tl.constexpr):
    """state = box_walk(plan of its row, state). Grid: (boxes,)."""
    i_box = tl.program_id(0).to(tl.int64)
    o_plan = plan + tl.load(rows + i_box) * plan_stride
    i_first, i_last = tl.load(first + i_box).to(tl.int32), tl.load(last + i_box).to(tl.int32)
    box_walk(o_plan, events, state + i_box * POINT, i_first, i_last, C, groups, FLAGS)


def point_kernel(plan, plan_stride, events, state, rows, first, last, groups, C: tl.constexpr, FLAGS: tl.constexpr):
    """state = point_walk(plan of its row, state). Grid: (keypoints,)."""
    i_point = tl.program_id(0).to(tl.int64)
    o_plan = plan + tl.load(rows + i_point) * plan_stride
    i_first, i_last = tl.load(first + i_point).to(tl.int32), tl.load(last + i_point).to(tl.int32)
    point_walk(o_plan, events, state + i_point * POINT, i_first, i_last, C, groups, FLAGS)


@functools.cache
def _functions():
    bound = dialect.bind_module(sys.modules[__name__])
    return {"box_walk": bound["box_kernel"], "point_walk": bound["point_kernel"]}


def kernel_of(walk, channels, flags):
    """The kernel around a walk of `shared.points`, for what a program's slots can ask of it."""
    constants = ("C", channels), ("FLAGS", flags)
    return Kernel(_functions()[walk], tuple(TYPES.items()), constants, 1, (("enable_fp_fusion", False),))
