"""Carrying the boxes and keypoints of a batch through the plans of their rows, by each renderer.

Each takes a trail, the walk's name (`kernels.shared.points`), the states float32 [M, POINT], which it changes, and
int64 [M] each: the rows, and the groups first .. last - 1 to go through.
"""

from __future__ import annotations

import ctypes

import torch

from ..kernels.cpu import engine
from ..kernels.cpu import frame as F
from ..kernels.torch import dialect as torch_dialect


def carry(trail, walk: str, state: torch.Tensor, rows: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> None:
    """By the renderer of the trail."""
    if len(rows):
        {"cpu": _on_cpu, "triton": _by_triton, "kornia": _by_torch}[trail.backend](
            trail, walk, state, rows, first, last
        )


def _by_torch(trail, walk: str, state, rows, first, last) -> None:
    program = trail.program
    events = trail.event_words.flatten().expand(len(rows), -1)
    lengths = program.channels, program.groups, trail.flags
    torch_dialect.POINTS[walk](trail.words[rows], events, state, first, last, *lengths)


def _on_cpu(trail, walk: str, state, rows, first, last) -> None:
    program, words, events = trail.program, trail.words, trail.event_words
    held = [tensor.contiguous() for tensor in (rows, first, last)]
    job = F.CarryJob(n=len(rows), state=state.data_ptr(), flags=trail.flags)
    job.rows, job.first, job.last = (tensor.data_ptr() for tensor in held)
    job.plans, job.stride, job.events = words.data_ptr(), words.stride(0), events.data_ptr()
    job.channels, job.groups = program.channels, program.groups
    engine.get(walk).call(ctypes.addressof(job))


def _by_triton(trail, walk: str, state, rows, first, last) -> None:
    from ..kernels.triton.launch import INTERPRETED, launch, pointer
    from ..kernels.triton.points import kernel_of

    device = state.device
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            return _by_triton(trail, walk, state, rows, first, last)
    words = trail.words.contiguous() if INTERPRETED else trail.words
    held = [tensor.contiguous() for tensor in (trail.event_words, state, rows, first, last)]
    kernel = kernel_of(walk, trail.program.channels, trail.flags)
    arguments = pointer(words), words.stride(0), *map(pointer, held), trail.program.groups
    launch(kernel, device.index)((len(rows), 1, 1), *arguments)
