"""The triton backend's compiled kernels, run on the CPU by the emulator of PTX in `ptx`: parity with the cpu backend,
sound accesses, the same bits however threads and blocks are scheduled, and faults that it must find."""

from __future__ import annotations

import os
import re

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process cannot compile: the other one runs these tests", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

from gpu_pipelines import (
    JITTER,
    LAYOUTS,
    LEVEL,
    PIPELINES,
    TO_FLOAT,
    check,
    check_rows_of_two_sizes_and_two_views,
    compose,
    images,
    reference,
)
from ptx.emulator import COMPILER, Fault, Schedule, emulated
from ptx.translate import Unknown, translate

import gpuaug as ga

pytestmark = pytest.mark.skipif(COMPILER is None, reason="the emulator of PTX needs g++, which is not on the PATH")

ORDERLY = Schedule()
RANDOM = Schedule(seed=1, yields=20, resident=5)
SCHEDULES = [ORDERLY, RANDOM, Schedule(seed=2, yields=150, resident=12)]


@pytest.mark.parametrize("name", PIPELINES)
def test_parity_with_the_cpu_backend_under_any_schedule(name):
    """Also where approximate instructions are two units in the last place off."""
    for layout in LAYOUTS:
        x, ids, params, expected = reference(name, layout, 3)
        found = []
        for schedule in SCHEDULES:
            augment = compose(name)
            with emulated(schedule):
                assert torch.equal(augment.sample(x, ids=ids, epoch=4).table, params.table)
                found.append(augment.apply(x, params))
        check(name, found[0], expected)
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
        with emulated(ORDERLY, ulps=2):
            check(name, compose(name).apply(x, params), expected)


@pytest.mark.parametrize("name", ["resized_crop", "interleaved"])
def test_samples_are_counted_once(name):
    x, cpu, gpu = images(5), compose(name, "cpu"), compose(name)
    with emulated(RANDOM):
        for _ in range(2):
            assert torch.equal(gpu.sample(x).table, cpu.sample(x).table)
    assert gpu.get_extra_state()[2] == cpu.get_extra_state()[2] == 10


def test_rows_of_two_sizes_and_two_views():
    with emulated(RANDOM):
        check_rows_of_two_sizes_and_two_views("cpu")


OUTPUTS = {  # of 3 images: shape of the memory, its view [3, 3, 36, 40]
    "dense": lambda memory: memory[: 3 * 3 * 36 * 40].view(3, 3, 36, 40),
    "packed": lambda memory: memory[: 3 * 3 * 36 * 40].view(3, 36, 40, 3).permute(0, 3, 1, 2),
    "shifted": lambda memory: memory[1 : 3 * 3 * 36 * 40 + 1].view(3, 3, 36, 40),
    "padded": lambda memory: memory[: 3 * 3 * 36 * 48].view(3, 3, 36, 48)[..., :40],
    "padded_odd": lambda memory: memory[: 3 * 3 * 36 * 43].view(3, 3, 36, 43)[..., 2:-1],
    "every_other": lambda memory: memory[: 6 * 3 * 36 * 40].view(6, 3, 36, 40)[::2],
    "every_other_packed": lambda memory: memory[: 6 * 36 * 40 * 3].view(6, 36, 40, 3)[::2].permute(0, 3, 1, 2),
    "transposed": lambda memory: memory[: 3 * 3 * 40 * 36].view(3, 3, 40, 36).transpose(2, 3),
}
CROP = [ga.RandomResizedCrop((36, 40)), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4, 0.4), *TO_FLOAT]


@pytest.mark.parametrize("layout", OUTPUTS)
def test_outputs_of_any_strides(layout):
    """And nothing beside them is touched."""
    x, cpu, gpu = images(3, 44, 52), ga.Compose(CROP, seed=2, backend="cpu"), ga.Compose(CROP, seed=2, backend="triton")
    params = cpu.sample(x, ids=range(3), epoch=0)
    expected = cpu.apply(x, params)
    memory = torch.full((6 * 3 * 36 * 48,), float("nan"))
    out = OUTPUTS[layout](memory)
    with emulated(RANDOM):
        assert gpu.apply(x, params, out=out) is out
    assert (out - expected).abs().max() <= LEVEL
    out.fill_(float("nan"))
    assert memory.isnan().all()


@pytest.mark.parametrize("width", [61, 62, 63])
def test_odd_widths(width):
    x, ops = images(2, 50, 71), [ga.RandomResizedCrop((37, width)), ga.RandomHorizontalFlip(), *TO_FLOAT]
    for layout in LAYOUTS.values():
        cpu, gpu = (ga.Compose(ops, seed=5, backend=name, memory_format=layout) for name in ("cpu", "triton"))
        expected = cpu(x, ids=range(2), epoch=0)
        with emulated(RANDOM):
            found = gpu(x, ids=range(2), epoch=0)
        assert found.stride() == expected.stride() and (found - expected).abs().max() <= LEVEL


@pytest.mark.parametrize("channels", [1, pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_other_dtypes_and_channels(dtype, channels):
    x = images(2, 40, 48, channels=channels).float().div(255).to(dtype)
    ops = [ga.RandomResizedCrop(33), ga.RandomAffine(30, interpolation="bilinear"), ga.RandomInvert()]
    cpu, gpu = (ga.Compose(ops, seed=1, backend=name) for name in ("cpu", "triton"))
    expected = cpu(x, ids=range(2), epoch=0).float()
    with emulated(RANDOM):
        found = gpu(x, ids=range(2), epoch=0).float()
    unit = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 0.0}[dtype]  # half-even, at most one apart
    assert (found - expected).abs().max() <= max(unit, 1e-3)
