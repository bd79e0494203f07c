"""How several processes share a run: each has the whole model (DDP), or its part of each tensor (FSDP); what a launcher
may say; and how they agree to stop.

Sharding is torch's own ``fully_shard``, the second generation of FSDP, called here and not by accelerate's ``prepare``,
which ignores ACCELERATE_USE_FSDP where there is no GPU. Whole tensors are kept in files: a run that began with one
way goes on with any other.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from .config import AUTO, Config

UNIT = 100_000  # weights from which on a block of the model is gathered on its own
SECONDS, MOST = 1.0, 100  # between two questions whether to stop, and the most steps that these may be
NOT_HERE = {  # variables of accelerate's launcher: what they may be, and what to do instead
    "ACCELERATE_USE_DEEPSPEED": (("false",), "DeepSpeed is not supported: take DDP or --use_fsdp"),
    "ACCELERATE_USE_MEGATRON_LM": (("false",), "Megatron-LM is not supported: take DDP or --use_fsdp"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (("false",), "tensor and context parallelism are not supported: leave it out"),
    "ACCELERATE_USE_TPU": (("false",), "TPUs are not supported: leave it out"),
    "ACCELERATE_DYNAMO_BACKEND": (("no",), "it would have no effect: leave it out and give the run compile"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (("1",), "it would have no effect: leave it out and give accumulate"),
    "FSDP_OFFLOAD_PARAMS": (("false",), "offloading is not supported: leave it out"),
    "FSDP_ACTIVATION_CHECKPOINTING": (("false",), "recomputed activations are not supported: leave it out"),
}


def _says(name: str) -> str:
    return os.environ.get(name, "").lower()


def asked_to_shard() -> bool:
    """Whether the launcher asks for FSDP: ``accelerate launch --use_fsdp``."""
    return _says("ACCELERATE_USE_FSDP") in ("1", "true", "yes")


def name(accelerator) -> str | None:
    """DDP, FSDP, or None of one process."""
    if accelerator.num_processes == 1:
        return None
    return "FSDP" if asked_to_shard() else "DDP"


def check(config: Config) -> None:
    """Raises ValueError for what a launcher asks for and the runner does not do, or does by an option of its own."""
    for name, (fine, mend) in NOT_HERE.items():
        if _says(name) and _says(name) not in fine:
            raise ValueError(f"{name}={os.environ[name]}: {mend}")
    mixed = _says("ACCELERATE_MIXED_PRECISION") or config.precision
    if mixed not in ("no", config.precision):
        raise ValueError(
            f"ACCELERATE_MIXED_PRECISION={mixed}, but precision={config.precision}: give the run the same precision"
        )
    if asked_to_shard():
        refused = {"precision=fp16": config.precision == "fp16", "l1": config.l1, "compile": config.compile}
        refused["lora"] = config.lora
        refused |= {"swa": config.swa, "augment=auto": config.augment == AUTO, "channels_last": config.channels_last}
        for name, given in refused.items():
            if given:
                raise ValueError(f"{name} does not go with FSDP: leave it out, or launch without --use_fsdp")


# --- the model --------------------------------------------------------------------------------------------------------
def shard(model: nn.Module, accelerator) -> None:
    """Leave this process its part of each parameter, where the launcher asks for FSDP. Large blocks, those that stand
    in a list or a row, are gathered one by one while the model runs."""
    if name(accelerator) != "FSDP":
        return
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    again = _says("FSDP_RESHARD_AFTER_FORWARD") != "false"
    for block in _blocks(model):
        fully_shard(block, mesh=mesh, reshard_after_forward=again)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)  # so that parameters() are the parts between two steps
    model.register_forward_pre_hook(lambda module, inputs: same_buffers(module) if module.training else None)


def _blocks(model: nn.Module) -> list[nn.Module]:
    found = []
    for child in model.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += [one for one in child if sum(p.numel() for p in one.parameters()) >= UNIT]
        else:
            found += _blocks(child)
    return found


def is_sharded(model: nn.Module) -> bool:
    """Whether a model has been given to :func:`shard`, which may have left it whole."""
    return isinstance(model, FSDPModule)


def joined(model: nn.Module, accelerator) -> nn.Module:
    """The model as the processes train it together."""
    if accelerator.num_processes == 1 or is_sharded(model):
        return model
    device = accelerator.device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


@contextlib.contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """While entered, each process adds up gradients of its own; ``model`` is what :func:`joined` gave."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif is_sharded(model):
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


@torch.no_grad()
def same_buffers(model: nn.Module) -> None:
    """Give each process the main process's buffers: batch norms see other images in each."""
    if dist.is_initialized():
        sent = [dist.broadcast(buffer, 0, async_op=True) for buffer in model.buffers() if buffer.is_floating_point()]
        for one in sent:
            one.wait()


def whole(state: Any) -> Any:
    """A state with whole tensors in place of parts. Each process has to ask."""
    if isinstance(state, DTensor):
        return state.detach().full_tensor()
    if isinstance(state, Mapping):
        return {name: whole(value) for name, value in state.items()}
    return [whole(value) for value in state] if isinstance(state, list) else state


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """``model.load_state_dict`` of whole tensors."""
    own = model.state_dict()
    model.load_state_dict({name: _part(value, own.get(name)) for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """``optimizer.load_state_dict`` of whole tensors."""
    optimizer.load_state_dict(state)
    for parameter, found in optimizer.state.items():
        for name, value in found.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                found[name] = _part(value, parameter)


def _part(value: Tensor, like: Tensor | None) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def own_of(sums: Tensor, accelerator) -> Tensor:
    """This process's row of sums [processes, N]; where there are now more or fewer, the main one has all of them."""
    if len(sums) == accelerator.num_processes:
        return sums[accelerator.process_index]
    return sums.sum(0) * accelerator.is_main_process


def short(model: nn.Module, accelerator, feed) -> int:
    """How many batches fewer than the longest this process's pass has, where all have to run equally many, because the
    model's parts are gathered for all at once; else 0."""
    if not is_sharded(model):
        return 0
    own = torch.tensor([len(feed)], device=accelerator.device)
    return int(accelerator.gather(own).max()) - len(feed)  # SYNC: once a part


# --- stopping ---------------------------------------------------------------------------------------------------------
class Agreement:
    """Whether any process was asked to stop, as all of them know it in the same step.

    The hosts talk to each other by a group of their own: no device is waited for, and the answer to a question is read
    with the next one, when it has long arrived. They ask about once in SECONDS; how many steps these are they agree on,
    too, by those of the slowest.
    """

    def __init__(self, processes: int):
        self.group = dist.new_group(backend="gloo") if processes > 1 else None
        self.asking: tuple[Any, Tensor] | None = None
        self.steps, self.done = 1, 0  # between two questions, and since the last one
        self.when = time.perf_counter()

    def soon(self, asked: bool) -> bool:
        """The answer to an earlier question, where it is due. To be called by each process in each step."""
        if self.group is None:
            return asked
        self.done += 1
        if self.done < self.steps:
            return False
        answer = self._answer()
        self._ask(asked)
        return answer

    def now(self, asked: bool) -> bool:
        """The answer, for which all processes wait for each other."""
        if self.group is None:
            return asked
        self._ask(self._answer() or asked)
        return self._answer()

    def _ask(self, asked: bool) -> None:
        now = time.perf_counter()
        told = torch.tensor([float(asked), (now - self.when) / max(self.done, 1)])
        self.asking = dist.all_reduce(told, dist.ReduceOp.MAX, self.group, async_op=True), told
        self.done, self.when = 0, now

    def _answer(self) -> bool:
        if self.asking is None:
            return False
        work, told = self.asking
        work.wait()
        asked, slowest = told.tolist()
        self.asking, self.steps = None, max(1, min(MOST, int(SECONDS / max(slowest, 1e-6))))
        return asked > 0
