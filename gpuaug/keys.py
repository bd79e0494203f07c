"""What a pipeline's draws are keyed by, beside op and column: seed, epoch, sample ids, or a counter in their place."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import multiprocessing.context
import multiprocessing.sharedctypes
import operator
import os
import threading
from typing import Any

import numpy as np
import torch

from .inputs import moved
from .kernels.shared import draw, plan
from .kernels.torch import dialect as torch_dialect
from .messages import shown

CPU = torch.device("cpu")
LOCKS: dict[int, threading.Lock] = {}  # of a process's counters
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOCKS.clear)  # a process that ended may have had the child's number
DISTRIBUTED = torch.distributed.is_available()
NO_EPOCH = -1
EPOCHS = 2**32  # a key has 32 bits for the epoch
VIEWS = 4096  # and 12 for the view
SEEDS = 2**64
SAVED = 3  # words of a saved state: seed (as a signed number), epoch, counter
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def whole(name: str, value: Any, end: int) -> int:
    """A whole number 0 .. end - 1 of any integer type.

    Raises:
        TypeError: no whole number.
        ValueError: one outside, which could not be kept apart from one inside.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if not 0 <= number < end:
        raise ValueError(f"{name} must lie in 0 .. 2^{end.bit_length() - 1} - 1, got {number}")
    return number


def as_ids(ids: Any, device: torch.device, b: int) -> torch.Tensor:
    """`b` sample ids, given as a tensor or a sequence of whole numbers, as int64 on the device."""
    if not isinstance(ids, torch.Tensor):
        ids = _on_host("ids", ids)
    if ids.dtype == torch.int64 and ids.shape == (b,) and ids.device == device:
        return ids.contiguous()
    if ids.dtype not in INTEGERS:
        raise TypeError(f"ids must be whole numbers, int64 [B], got {ids.dtype}")
    if ids.numel() != b:
        raise ValueError(f"ids must hold one id for each of {b} samples, got {ids.numel()}")
    return moved(ids.reshape(-1), device, torch.int64).contiguous()


def as_index(op: str, index: Any, images: torch.Tensor, check: bool) -> torch.Tensor:
    """Which images of a resident data set to take, int64 [B] on its device.

    Args:
        check: look at values on a device, too.

    Raises:
        TypeError: not whole numbers.
        ValueError: another shape.
        IndexError: a value outside of the data set, as far as it was looked at.
    """
    given = index if isinstance(index, torch.Tensor) else _on_host("index", index)
    if given.dtype not in INTEGERS:
        raise TypeError(f"{op}: index must hold whole numbers, int64 [B], got {given.dtype}")
    if given.dim() != 1:
        raise ValueError(f"{op}: index must be int64 [B], got the shape {tuple(given.shape)}")
    if given.numel() and (given.device.type == "cpu" or check):
        low, high = (int(v) for v in torch.aminmax(given))
        if low < 0 or high >= len(images):
            worst = low if low < 0 else high
            raise IndexError(f"{op}: index must lie in 0 .. {len(images) - 1}, got {worst}")
    return moved(given, images.device, torch.int64)


def _on_host(name: str, values: Any) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values, device=CPU)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name} must be whole numbers, int64 [B], got {shown(values)}") from None
    return tensor if tensor.numel() else tensor.to(torch.int64)  # an empty list is a float tensor


def _process(forked_from: int | None) -> tuple[int, int, tuple]:
    """What tells this process from others: DataLoader worker and its loader's seed, or 0, 0; and what tells it from
    others that come from the process where the pipeline was made, () for that one.

    A process of `multiprocessing` has a number that is the same in each run, any other fork only its pid. The workers
    of a DataLoader are told apart by their own number and seed: what counts is the process that they work for.
    """
    worker, identity, pid = torch.utils.data.get_worker_info(), multiprocessing.current_process()._identity, os.getpid()
    number, loader = 0, 0
    if worker is not None:
        number, loader, identity, pid = worker.id + 1, worker.seed & draw.WORD, identity[:-1], os.getppid()
    forked = not identity and forked_from is not None and pid != forked_from
    return number, loader, ("pid", pid) if forked else identity


class Keys:
    """Seed, epoch and counter of one pipeline.

    The epoch lives in memory that DataLoader workers share, forked or spawned: they follow the process that made the
    pipeline. A process that sets an epoch of its own no longer follows. The counter of each kind of key lives in a
    small tensor on its device, which is never replaced: a captured CUDA graph goes on reading it.
    """

    def __init__(self, seed: int):
        self._seed, self._counter = whole("seed", seed, SEEDS), 0
        self._follow(NO_EPOCH)
        self._forked_from: int | None = os.getpid()
        self._pid, self._origin = 0, (0, 0, 0, ())
        self._states: dict[torch.device | tuple, torch.Tensor] = {}
        self._streams: dict[torch.device, Any] = {}

    def _follow(self, epoch: int) -> None:
        """Have an epoch of this process, which those that it forks or spawns follow."""
        self._epoch, self._owner = multiprocessing.sharedctypes.RawValue(ctypes.c_int64, epoch), os.getpid()

    @property
    def seed(self) -> int:
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = whole("seed", seed, SEEDS)
        self._rekey(None)

    @property
    def epoch(self) -> int | None:
        epoch = self._epoch.value
        return None if epoch == NO_EPOCH else epoch

    @epoch.setter
    def epoch(self, epoch: int | None) -> None:
        word = NO_EPOCH if epoch is None else whole("epoch", epoch, EPOCHS)
        if self._owner == os.getpid():
            self._epoch.value = word
        else:
            self._follow(word)
        for state in list(self._states.values()):
            state[plan.STATE_EPOCH].fill_(epoch or 0)  # assigned by an index, a GPU would be waited for

    def epoch_on(self, device: torch.device) -> int:
        """The epoch of a key (`engine.Key`) on the device: in a CUDA graph that is being captured the state's."""
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return NO_EPOCH
        return self.epoch or 0

    def of_ids(self, device: torch.device) -> torch.Tensor:
        """The state int64 [STATE] of draws with ids."""
        return self._state(device)

    def of_counted(self, device: torch.device) -> torch.Tensor:
        """The state int64 [STATE] of draws without ids: rank, DataLoader worker and process are part of its seed."""
        if self._pid != os.getpid():
            self._pid, self._origin = os.getpid(), (0, *_process(self._forked_from))
        key = (device, *self._origin)
        if DISTRIBUTED and torch.distributed.is_initialized():
            key = (device, torch.distributed.get_rank(), *self._origin[1:3], ())
        if device != CPU:
            self._in_stream_order(device)
        return self._state(key)

    def numbers(self, device: torch.device, n: int) -> torch.Tensor:
        """The numbers int64 [n] of the samples of a call without ids, which are counted by it."""
        return advanced(self.of_counted(device), n) + torch.arange(n, device=device)

    def _state(self, key: torch.device | tuple) -> torch.Tensor:
        """The state of a device's draws with ids, or of those without: device, rank, worker, its seed, process."""
        state = self._states.get(key)
        if state is None:  # setdefault: threads that arrive together share one
            device = key[0] if isinstance(key, tuple) else key
            state = self._states.setdefault(key, new_state(*self._words(key), self._counter, device, self.epoch or 0))
        return state

    def _words(self, key: torch.device | tuple) -> tuple[int, int]:
        """The two seed words of a state."""
        low, high = self._seed & draw.WORD, self._seed >> 32
        if not isinstance(key, tuple):
            return low, high
        device, rank, worker, loader, process = key
        philox = torch_dialect.DRAW["philox"]
        if process:
            digest = int.from_bytes(hashlib.sha256(repr(process).encode()).digest()[:8], "little")
            low, high, _, _ = philox(digest & draw.WORD, digest >> 32, 0, 0, low, high)
        low, high, _, _ = philox(rank, worker, loader, (device.index or 0) + 1, low, high)
        return low, high

    def _in_stream_order(self, device: torch.device) -> None:
        """Have the current stream wait for the one that counted last: the counter moves in the order of the calls.

        What a graph captures is left alone: its replays must not overlap with others that count.
        """
        if device.type != "cuda":
            return
        stream, last = torch.cuda.current_stream(device), self._streams.get(device)
        if last is None or stream != last:  # a stream and None are never told apart by !=
            if last is not None and _capturing(stream) == _capturing(last):
                stream.wait_stream(last)
            self._streams[device] = stream

    def _rekey(self, counter: int | None) -> None:
        """Write seed words, and a counter if one is given, into the states that there are."""
        for key, state in self._states.items():
            low, high = self._words(key)
            counted = int(state[plan.STATE_COUNTER]) if counter is None else counter
            state.copy_(new_state(low, high, counted, CPU, self.epoch or 0))

    @property
    def counter(self) -> int:
        """The number of samples counted so far: the most of any device, rank or worker. Waits for the device."""
        counted = [int(s[plan.STATE_COUNTER]) for key, s in self._states.items() if isinstance(key, tuple)]
        return max([self._counter, *counted])

    def saved(self) -> torch.Tensor:
        """What a resumed run needs, int64 [SAVED]."""
        seed = self._seed - SEEDS if self._seed >= SEEDS // 2 else self._seed
        return torch.tensor([seed, self._epoch.value, self.counter], dtype=torch.int64, device="cpu")

    def resume(self, state: Any) -> None:
        """Go on from `saved`, or from the dict that earlier versions saved."""
        if isinstance(state, dict):
            seed, epoch, counter = state["seed"] % SEEDS, state["epoch"], state["counter"]
        elif isinstance(state, torch.Tensor) and state.dtype == torch.int64 and state.shape == (SAVED,):
            seed, epoch, counter = state.tolist()
            seed, epoch = seed % SEEDS, None if epoch == NO_EPOCH else epoch
        else:
            raise ValueError(f"a pipeline's saved state is an int64 tensor [{SAVED}], got {shown(state)}")
        self._seed, self.epoch, self._counter = seed, epoch, counter
        self._rekey(counter)

    def __getstate__(self) -> dict:
        """For a process being spawned the shared epoch itself, else its value."""
        spawning = multiprocessing.context.get_spawning_popen() is not None
        shared = (self._epoch, self._owner) if spawning else None
        return {"seed": self._seed, "epoch": self.epoch, "counter": self.counter, "shared": shared}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["seed"])
        self._counter, self._forked_from = state["counter"], None
        if state["shared"] is not None:
            self._epoch, self._owner = state["shared"]
        else:
            self.epoch = state["epoch"]


def advanced(state: torch.Tensor, n: int | torch.Tensor) -> torch.Tensor:
    """The counter of a state, int64 [], which is moved on by n; threads take turns."""
    with LOCKS.setdefault(os.getpid(), threading.Lock()):  # a forked worker takes its own, however the parent's stood
        start = state[plan.STATE_COUNTER].clone()
        state[plan.STATE_COUNTER].add_(n)
    return start


def _capturing(stream) -> bool:
    with torch.cuda.stream(stream):
        return torch.cuda.is_current_stream_capturing()


def new_state(seed_low: int, seed_high: int, counter: int, device: torch.device, epoch: int = 0) -> torch.Tensor:
    """The state tensor (`kernels.shared.plan.STATE_*`) of a stream of draws."""
    with torch.inference_mode(False):  # it may be written to outside of that mode, too
        state = torch.zeros(plan.STATE, dtype=torch.int64, device="cpu")
        state[plan.STATE_SEED_LOW], state[plan.STATE_SEED_HIGH] = seed_low, seed_high
        state[plan.STATE_COUNTER], state[plan.STATE_EPOCH] = counter, epoch
        return state.to(device)
