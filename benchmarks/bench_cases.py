"""The cases under pytest-benchmark, for its own comparisons (`--benchmark-autosave`, `--benchmark-compare`).

    pytest benchmarks/bench_cases.py

gpuaug alone, on the backend that "auto" takes; no time behind a red parity gate.
"""

from __future__ import annotations

import pytest
import torch

from gpuaug.benchmarks import gate
from gpuaug.benchmarks.cases import CASES, images_for
from gpuaug.benchmarks.timing import synchronize

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, benchmark) -> None:
    case = CASES[name]
    images = images_for(case)[0].to(DEVICE)
    verdict = gate.parity(case.ours("auto"), images)
    assert verdict.passed, verdict.reason
    augment = case.ours("auto")

    def call() -> torch.Tensor:
        out = augment(images)
        synchronize(DEVICE)
        return out

    benchmark(call)
    benchmark.extra_info["images_s"] = case.batch / benchmark.stats.stats.median
