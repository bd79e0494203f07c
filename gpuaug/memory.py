"""Outputs that no memory holds, told before or after the attempt."""

from __future__ import annotations

import math
import os

import torch

from .program import Canvas, Program


def no_memory(program: Program, count: int, more: str = "") -> MemoryError:
    """The error for the output of `count` images, which names the op that gives them their size."""
    canvases = program.sizes.canvases
    resized = [slot.name for slot in program.facts.moves if any({a} != b for a, b in canvases[slot.number].items())]
    shape = (count, program.out_channels, *_largest(program))
    size = math.prod(shape) * program.out_dtype.itemsize / 2**30
    told = f"the output {list(shape)} of {program.out_dtype} takes {size:,.1f} GiB{more}; make it smaller"
    return MemoryError(f"{resized[-1] if resized else 'Compose'}: {told}")


def check_memory(program: Program, count: int, device: torch.device) -> None:
    """Raise where the output of `count` images takes more than all of the device's memory."""
    total = _memory(device)
    need = count * program.out_channels * math.prod(_largest(program)) * program.out_dtype.itemsize
    if total is not None and need > total:
        raise no_memory(program, count, f", {device} has {total / 2**30:,.1f}")


def _largest(program: Program) -> Canvas:
    return max(program.out_sizes, key=math.prod)


def _memory(device: torch.device) -> float | None:
    """Bytes of all the device's memory, where that is known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu" or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages if pages > 0 else math.inf
