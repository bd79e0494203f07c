"""The Triton kernel of tokens compiles for NVIDIA and AMD without a GPU, spills nothing, once for all pipelines."""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process cannot compile: the other one runs these tests", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

from text_cases import batch, pipeline

from gpuaug.benchmarks import kernel_report
from gpuaug.benchmarks.kernel_report import TARGETS
from gpuaug.kernels.triton import launch
from gpuaug.kernels.triton.text import kernel_of

CASES = [("sm_90", 128, torch.int64, torch.int64), ("gfx942", 128, torch.int64, torch.int64)]
SLOW = [("sm_80", 128, torch.int64, torch.int64), ("sm_90", 32, torch.int32, torch.uint8)]
SLOW += [("sm_90", 512, torch.int64, torch.int32), ("sm_100", 2048, torch.int64, torch.int64)]


@pytest.mark.parametrize(
    "target, block, tokens, mask", [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_compiles_without_spills(target: str, block: int, tokens, mask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_report, "by_path", lambda cubin: {})  # it takes long
    read = kernel_report.read_hip if target == "gfx942" else kernel_report.read_cuda
    counts = read(kernel_of(block, tokens, mask).compile(TARGETS[target]))
    assert counts["spills"] == 0 and 0 < counts["registers"] <= 255, counts


def test_pipelines_sizes_and_seeds_compile_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is data: one kernel for all widths up to a power of two."""
    from gpuaug.text import run

    compilations, launches = [], []

    def compiled(kernel: launch.Kernel, target: object) -> dict:
        compilations.append(kernel.name)
        return {(b, 1, 1): lambda *arguments: launches.append(arguments) for b in (3, 5)}

    monkeypatch.setattr(launch.Kernel, "compile", compiled)
    monkeypatch.setattr(launch, "current_target", lambda: None)
    monkeypatch.setattr(run, "reason_against", lambda *given: None)
    launch.launch.cache_clear()
    for name, seed, b, t in (("all", 1, 3, 40), ("swap", 2, 5, 64), ("deletion", 3, 3, 33)):
        ids, mask = batch(b, t)
        pipeline(name, seed=seed, backend="triton")(ids, mask, ids=range(b), epoch=0)
    launch.launch.cache_clear()
    assert compilations == ["text_kernel"] and len(launches) == 3
