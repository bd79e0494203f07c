"""Which implementation augments a batch of tokens, and how each is called."""

from __future__ import annotations

import torch

from ..backends import cpu_helpers, missing
from ..kernels.cpu import engine
from ..kernels.cpu import frame as F
from ..kernels.shared import plan
from ..kernels.shared import text as X
from ..kernels.torch import dialect
from ..kernels.torch import text as torch_text
from ..messages import meant, warn
from .program import Program

NAMES = ("auto", "triton", "cpu", "torch")
SMALL_WORK = 1 << 13  # tokens times ops below which waking another thread costs more than it brings
MOST_WIDE = 2048  # tokens that a program of the Triton kernel holds; more take minutes to compile
CHUNK = 8  # rows that a thread takes at once
_warned: set[str] = set()


def checked(backend: str) -> str:
    """A backend's name."""
    if backend not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {backend!r}{meant(backend, NAMES)}")
    return backend


def reason_against(backend: str, device: torch.device, width: int) -> str | None:
    """None if a backend can run on a device for rows of `width` tokens, else why not."""
    if backend == "torch":
        return None
    if lacks := engine.lacks() if backend == "cpu" else missing("triton"):
        return lacks
    if backend == "cpu":
        return None if device.type == "cpu" else f"it runs on CPU tensors, and these are on {device}"
    from ..kernels.triton.launch import INTERPRETED

    if width > MOST_WIDE:
        return f"its kernel takes rows of up to {MOST_WIDE} tokens, and these may have {width}"
    if device.type == "cuda" or (device.type == "cpu" and INTERPRETED):
        return None
    return f"its kernels run on CUDA tensors, and these are on {device}"


def select(backend: str, device: torch.device, width: int) -> str:
    """The backend to run on a device; "auto" takes the fastest, and says why where that is the slowest.

    Raises:
        RuntimeError: the named one cannot.
    """
    if backend != "auto":
        if reason := reason_against(backend, device, width):
            raise RuntimeError(f"the {backend} backend cannot augment tokens: {reason}")
        return backend
    wanted = {"cuda": "triton", "cpu": "cpu"}.get(device.type, "torch")
    reason = reason_against(wanted, device, width)
    if reason is None:
        return wanted
    if reason not in _warned:
        _warned.add(reason)
        warn(f"gpuaug.text falls back to the torch backend. {wanted} cannot run: {reason}")
    return "torch"


def run(
    backend: str,
    program: Program,
    input_ids: torch.Tensor,
    mask: torch.Tensor,
    ids: torch.Tensor,
    epoch: int,
    state: torch.Tensor,
    width: int,
    sources: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The augmented tokens and mask [B, width], of the dtypes given, and if asked for, their sources int32 [B, width].

    Args:
        backend: of `select`. input_ids: int64 or int32 [B, T]. mask: bool, uint8, int32 or int64 [B, T].
        ids: int64 [B], of the samples. epoch: -1 for the state's. state: int64 [STATE].
        width: of the output, at least T.
    """
    call = {"cpu": on_cpu, "torch": by_torch, "triton": by_triton}[backend]
    return call(program, input_ids.contiguous(), mask.contiguous(), ids, epoch, state, width, sources)


def by_torch(program, input_ids, mask, ids, epoch, state, width, sources):
    if epoch < 0:
        epoch = state[plan.STATE_EPOCH]
    _, memory = program.on(input_ids.device)
    key = dialect.DRAW["row_key"](ids, epoch, 0, state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH])
    left, pad = program.vocabulary.left, program.vocabulary.pad
    tokens, source = torch_text.augment(
        program.ops, memory, program.special, input_ids.long(), mask != 0, key, width, left, pad
    )
    return tokens.to(input_ids.dtype), (source != X.NONE).to(mask.dtype), source.int() if sources else None


def outputs(input_ids, mask, width, sources):
    """What a kernel writes."""
    shape, device = (input_ids.shape[0], width), input_ids.device
    tokens, out_mask = (torch.empty(shape, dtype=x.dtype, device=device) for x in (input_ids, mask))
    return tokens, out_mask, torch.empty(shape, dtype=torch.int32, device=device) if sources else None


def on_cpu(program, input_ids, mask, ids, epoch, state, width, sources):
    found = tokens, out_mask, source = outputs(input_ids, mask, width, sources)
    ops, memory = program.on(input_ids.device)
    b, length = input_ids.shape
    job, words = F.TextJob(n=b, chunk=CHUNK, length=length, width=width, epoch=epoch), state.tolist()
    job.program, job.ops, job.memory = ops.data_ptr(), len(ops), memory.data_ptr()
    job.special, job.known = program.special
    job.ids, job.seed_low, job.seed_high = ids.data_ptr(), words[plan.STATE_SEED_LOW], words[plan.STATE_SEED_HIGH]
    job.tokens, job.token_bytes = input_ids.data_ptr(), input_ids.element_size()
    job.mask, job.mask_bytes = mask.data_ptr(), mask.element_size()
    job.out, job.out_mask = tokens.data_ptr(), out_mask.data_ptr()
    job.sources = 0 if source is None else source.data_ptr()
    job.left, job.pad = program.vocabulary.left, program.vocabulary.pad
    work = b * length * max(len(ops), 1)
    threads = min(torch.get_num_threads(), -(-b // CHUNK)) if work >= SMALL_WORK else 1
    if lacks := cpu_helpers.run(engine.get("run_texts").call, job, threads):
        raise MemoryError(f"rows of {width} tokens take {lacks} bytes of work memory for each thread: none can be had")
    return found


def by_triton(program, input_ids, mask, ids, epoch, state, width, sources):
    from ..kernels.triton import text as kernels

    device = input_ids.device
    if device.type == "cuda" and torch.cuda.current_device() != device.index:
        with torch.cuda.device(device):
            return by_triton(program, input_ids, mask, ids, epoch, state, width, sources)
    found = tokens, out_mask, source = outputs(input_ids, mask, width, True)
    ops, memory = program.on(device)
    if len(tokens):
        mask = mask.view(torch.uint8) if mask.dtype == torch.bool else mask
        target = out_mask.view(torch.uint8) if out_mask.dtype == torch.bool else out_mask
        special, side = program.special, (program.vocabulary.left, program.vocabulary.pad)
        kernels.call(ops, memory, special, input_ids, mask, ids, epoch, state, tokens, target, source, *side)
    return found if sources else (tokens, out_mask, None)
