"""Peers in worker processes, as a DataLoader runs them: each takes its share of the batch.

Each process holds its share of the images and writes its results into one tensor in shared memory, so that nothing is
pickled while the clock runs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
import torch

from . import peers
from .cases import CASES, Case

START_SECONDS = 120


def _serve(pipe: Connection, rank: int) -> None:
    """The worker: build a provider, then answer calls by number, until None arrives."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    np.random.seed(rank)
    calls: dict[str, tuple] = {}
    while (message := pipe.recv()) is not None:
        try:
            if message[0] == "build":
                _, key, provider, case, images, out = message
                batches = [torch.from_numpy(batch) for batch in images]
                build = peers.PROVIDERS[provider].build
                calls[key] = build(CASES[case], batches, torch.device("cpu")), out
            else:
                call, out = calls[message[1]]
                out.copy_(call(message[2]))
            pipe.send(None)
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


class Pool:
    """`count` worker processes. Close it after use."""

    def __init__(self, count: int):
        context = multiprocessing.get_context("spawn")
        self.workers = []
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank), daemon=True)
            process.start()
            self.workers.append((process, ours))

    def build(
        self, provider: peers.Provider, case: Case, batches: Sequence[torch.Tensor], device: torch.device
    ) -> peers.Call:
        """`provider` for `case`, each process with its share of each batch; `device` is the CPU."""
        shape = (case.batch, 3, case.out_size, case.out_size)
        out = torch.empty(shape).share_memory_()
        shares = np.array_split(np.arange(case.batch), len(self.workers))
        key = f"{provider.name} {case.name}"
        for (_, pipe), share in zip(self.workers, shares, strict=True):
            part = slice(int(share[0]), int(share[-1]) + 1)
            images = [batch[part].numpy() for batch in batches]
            pipe.send(("build", key, provider.name, case.name, images, out[part]))
        self._wait(START_SECONDS)

        def call(i: int) -> torch.Tensor:
            for _, pipe in self.workers:
                pipe.send(("call", key, i))
            self._wait(START_SECONDS)
            return out

        return call

    def _wait(self, seconds: float) -> None:
        answers = []
        for process, pipe in self.workers:
            if not pipe.poll(seconds):
                process.terminate()
                raise RuntimeError(f"worker process {process.pid} did not answer within {seconds} s")
            answers.append(pipe.recv())
        if any(answers):
            raise RuntimeError(next(filter(None, answers)))

    def close(self) -> None:
        """End the processes."""
        for process, pipe in self.workers:
            with suppress(OSError):
                pipe.send(None)
            process.join(5)
            process.kill()  # one that has not ended by then
            process.join()
            pipe.close()
