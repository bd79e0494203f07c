"""Every Triton kernel compiles for NVIDIA and AMD without a GPU, spills nothing, and is compiled once for all sizes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process cannot compile: the other one runs these tests", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

import gpuaug as ga
from gpuaug.backends import triton
from gpuaug.backends.triton import kernels
from gpuaug.benchmarks import kernel_report
from gpuaug.benchmarks.host_time import stubbed
from gpuaug.benchmarks.kernel_report import CASES, TARGETS, TO_FLOAT, compiled_kernels, program_of
from gpuaug.kernels.triton import launch as triton_launch
from gpuaug.lowering import lower
from gpuaug.transforms.user import pixel_op

ROOT = Path(__file__).resolve().parents[1]
WHOLE = ["policy", "policy_before", "policy_mixed", "everything"]  # the other cases are parts of these
SMALL = ["flip", "crop_flip", "cifar", "affine_nearest", "erasing", "equalize", "sharpness"]
ELSEWHERE = [("policy", "sm_80"), ("policy_mixed", "sm_100"), ("policy_mixed", "gfx942"), ("everything", "gfx942")]


def builds():
    """Each case for each target but "eval", whose write kernel is resized_crop's.

    Slow: what is a small part of the whole ones, and for all targets but one what is not in ELSEWHERE, which has each
    kind of kernel for each maker of GPUs.
    """
    for case in sorted(CASES.keys() - {"eval"}):
        for target in TARGETS:
            quick = case not in SMALL if target == "sm_90" else (case, target) in ELSEWHERE
            yield pytest.param(case, target, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("case, target", list(builds()))
def test_compiles_without_spills(case, target, monkeypatch):
    if case != "resized_crop":
        monkeypatch.setattr(kernel_report, "by_path", lambda cubin: {})  # it takes long, and one case is enough for it
    found = list(compiled_kernels(case, [target]))
    asks = {"ask"} if program_of(case).asks else set()
    assert {name for name, _, _ in found} == {"draw", "plan", "write"} | asks
    for name, _, counts in found:
        assert counts["spills"] == 0, f"{name}: {counts}"
        assert case != "resized_crop" or target == "gfx942" or any("_kernel " in path for path in counts["paths"])
        assert 0 < counts["registers"] <= (192 if name in ("draw", "plan") else 128), f"{name}: {counts}"


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_compiles_for_other_inputs(channels, dtype):
    transforms = [ga.RandomResizedCrop(24), ga.RandomAffine(30, interpolation="bilinear"), ga.RandomInvert()]
    program = lower(transforms, frozenset({(40, 40)}), channels, dtype)
    compiled = kernels(program)["write"].compile(TARGETS["sm_90"])
    assert compiled.asm["cubin"]


@pytest.mark.parametrize("channels", [1, 2, 16])
def test_neighbours_compile_for_other_channels(channels):
    program = lower([ga.GaussianBlur(5)], frozenset({(40, 40)}), channels, torch.uint8)
    found = kernels(program)
    assert dict(found["ask"].types)["scratch"] == "*fp32"
    assert all(found[name].compile(TARGETS["sm_90"]).asm["cubin"] for name in ("ask", "write"))


@pixel_op
def fade(v, amount, bound):
    return v + amount * (bound - v)


@pixel_op
def slope(r, g, b, x, y, amount):
    return r + amount * x, g, b + amount * y


def test_users_formulas_compile_and_set_kernels_apart():
    faded, sloped = ([fade(amount=(0.0, 0.5))], [ga.RandomRotation(20), slope(amount=2.0), ga.RandomInvert()])
    found = [kernels(lower(t, frozenset({(40, 40)}), 3, torch.uint8))["write"] for t in (faded, sloped)]
    assert found[0].function is not found[1].function
    for target in TARGETS.values():
        assert all(kernel.compile(target).asm for kernel in found)


def pipelines():
    """One pipeline for two input sizes, two output sizes and two seeds."""
    for side, size in ((64, 24), (200, 160)):
        for seed in (1, 2):
            transforms = [ga.RandomResizedCrop(size), ga.ColorJitter(contrast=0.2), *TO_FLOAT]
            yield ga.Compose(transforms, seed=seed, backend="triton"), side


def test_sizes_strides_and_seeds_compile_nothing_new():
    compilations, launches = [], []
    with stubbed(launch=lambda *arguments: launches.append(arguments), compiled=compilations.append):
        for augment, side in pipelines():
            for images in (
                torch.zeros(2, 3, side, side, dtype=torch.uint8),
                torch.zeros(5, side, side, 3, dtype=torch.uint8).permute(0, 3, 1, 2),
                torch.zeros(3, 3, side, 2 * side, dtype=torch.uint8)[..., 1::2],
            ):
                augment(images, ids=range(len(images)), epoch=1)
                augment(images)
    assert sorted(compilations) == ["ask_kernel", "plan_kernel", "write_kernel"]
    calls = len(list(pipelines())) * 3 * 2
    assert len(launches) == 3 * calls, "a call is a draw, an ask and a write"


def test_what_is_stubbed_comes_back():
    """Also where an exception ends it, and no launch that was kept holds a stub."""
    compile_, supports = triton_launch.Kernel.compile, triton.supports
    with pytest.raises(KeyError), stubbed():
        ga.Compose([ga.RandomInvert()], seed=0, backend="triton")(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        assert triton_launch.launch.cache_info().currsize and triton_launch.Kernel.compile is not compile_
        raise KeyError
    assert triton_launch.Kernel.compile is compile_ and triton.supports is supports
    assert triton_launch.launch.cache_info().currsize == 0


def test_only_what_a_program_needs_sets_its_kernels_apart():
    one, other = (kernels(program_of(name)) for name in ("resized_crop", "eval"))
    assert one["write"] == other["write"] and one["draw"] != other["draw"]
    assert kernels(program_of("resized_crop")) == one


def test_no_target_within_a_target():
    """`(a, b), c = ...`: Triton 3.6 meets it with a TypeError, the first time that a process compiles the kernel."""
    for path in sorted((ROOT / "kernels" / "triton").glob("*.py")) + sorted((ROOT / "kernels" / "shared").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in node.targets if isinstance(node, ast.Assign) else ():
                parts = target.elts if isinstance(target, ast.Tuple) else ()
                assert not any(isinstance(part, ast.Tuple) for part in parts), f"{path}:{node.lineno}"


@pytest.mark.slow
def test_compiles_with_an_older_triton(older_triton, tmp_path):
    """In a process of its own."""
    version, environment = older_triton
    report = tmp_path / "report.json"
    cases, targets = WHOLE, ["sm_90", "gfx942"]
    command = [sys.executable, "-m", "gpuaug.benchmarks.kernel_report", "--out", report]
    command += ["--cases", *cases, "--targets", *targets]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(report.read_text())
    assert result["triton"] == version
    assert len(result["kernels"]) == len(cases) * 4 * len(targets)
    assert [entry for entry in result["kernels"] if entry["spills"]] == []
