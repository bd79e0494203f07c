"""Where an epoch's time goes, and a look at the device's numbers, without waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch


class StepClock:
    """The shares of an epoch's time: waiting for data, augmentation, model.

    On a CPU by the wall clock. On CUDA between events on the model's stream, read once at the end: the augmentation's
    share is how long the model's stream stood still for it, which is nothing where it runs ahead on a stream of its
    own. Elsewhere there are no shares: asynchronous work cannot be timed without waiting for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.kind = device.type
        self.marks: list = []
        self.spent = 0.0
        self.wall = time.perf_counter()
        self.begin = self._now()

    def _now(self) -> Any:
        if self.kind == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        return time.perf_counter()

    def timed(self, batches: Iterable) -> Iterator:
        """The batches; what passes until each is there counts as fetching."""
        iterator = iter(batches)
        try:
            while True:
                mark = self._now()
                batch = next(iterator, None)
                if self.kind == "cuda":
                    self.marks.append((mark, self._now()))
                else:
                    self.spent += time.perf_counter() - mark
                if batch is None:
                    return
                yield batch
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def elapsed(self) -> float:
        """Seconds since the epoch began, or went on."""
        return time.perf_counter() - self.wall

    def shares(self, waited: float) -> dict[str, float] | None:
        """So far, on a CPU; ``waited``: seconds of the fetching in which nothing was decoded yet."""
        return self._shares(self.spent, self.elapsed(), waited) if self.kind == "cpu" else None

    def finish(self, waited: float) -> tuple[float, dict[str, float] | None]:
        """(seconds of the epoch, the shares)."""
        if self.kind == "cuda":
            end = self._now()
            end.synchronize()  # SYNC: once an epoch, right after the one of the sums
            spent = sum(a.elapsed_time(b) for a, b in self.marks) / 1000
            return self.elapsed(), self._shares(spent, self.begin.elapsed_time(end) / 1000, waited)
        return self.elapsed(), self.shares(waited)

    @staticmethod
    def _shares(fetching: float, seconds: float, waited: float) -> dict[str, float]:
        fetched, waiting = min(fetching / seconds, 1.0), min(waited / seconds, 1.0)
        waiting = min(waiting, fetched)
        shares = {"waiting": waiting, "augment": fetched - waiting, "model": 1.0 - fetched}
        return {name: round(share, 4) for name, share in shares.items()}


class Glance:
    """Shows the host a few numbers of the device some steps late, without waiting for them."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers, self.event = numbers, None
        if numbers.device.type == "cuda":
            self.copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)

    def take(self) -> list[float] | None:
        """The numbers, or None while none newer have arrived."""
        if self.numbers.device.type == "cpu":
            return self.numbers.tolist()
        if self.numbers.device.type != "cuda":
            return None
        arrived = self.event is not None and self.event.query()
        seen = self.copy.tolist() if arrived else None
        if arrived or self.event is None:
            self.copy.copy_(self.numbers, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        return seen
