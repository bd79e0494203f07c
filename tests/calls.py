"""What tests of calls share: threads, torch's defaults, a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

from gpuaug.backends import cpu_helpers

HANG_S = 600  # a test that waits as long has hung; nothing is measured


def pixels(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed), device="cpu"
    )


@pytest.fixture(name="threads")
def torchs_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads; afterwards it is as it was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(name="helpers")
def own_helpers() -> Iterator[None]:
    """Helpers of the test's own: those of before are asked for nothing meanwhile."""
    before = cpu_helpers._tickets, cpu_helpers._threads, cpu_helpers._starting
    cpu_helpers._renew()
    yield
    cpu_helpers._tickets, cpu_helpers._threads, cpu_helpers._starting = before


@contextmanager
def default(what: torch.dtype | str) -> Iterator[None]:
    """Another default dtype of torch, or another default device."""
    before = torch.get_default_dtype()
    with torch.device(what) if isinstance(what, str) else nullcontext():
        try:
            torch.set_default_dtype(before if isinstance(what, str) else what)
            yield
        finally:
            torch.set_default_dtype(before)


def run_script(script: str, *arguments: str, silent: bool = True) -> str:
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    assert not (silent and done.stderr), done.stderr
    return done.stdout
