"""The triton backend's compiled kernels, run on the CPU by the emulator of PTX in `ptx`: parity with the cpu backend,
sound accesses, the same bits however threads and blocks are scheduled, and faults that it must find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process cannot compile: the other one runs these tests", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

from gpu_pipelines import (
    KINDS,
    LAYOUTS,
    LEVEL,
    PIPELINES,
    TO_FLOAT,
    check,
    check_kinds,
    check_nan_stays,
    check_rows_of_two_sizes_and_two_views,
    compose,
    images,
    kinds,
    reference,
)
from ptx.emulator import COMPILER, ORDERLY, Fault, Schedule, emulated
from ptx.translate import Unknown, translate

import gpuaug as ga
from gpuaug.backends import triton
from gpuaug.benchmarks.kernel_report import CASES

pytestmark = pytest.mark.skipif(COMPILER is None, reason="the emulator of PTX needs g++, which is not on the PATH")

ROOT = Path(__file__).resolve().parents[1]
RANDOM = Schedule(seed=1, yields=20, resident=5)
SCHEDULES = [ORDERLY, RANDOM, Schedule(seed=2, yields=150, resident=12)]


LONG = ("jpeg_and_more",)  # whose parts the others have


def parities():
    """Each pipeline in each layout; quick in one, in turn: a layout is a matter of a few loads and of the store."""
    for i, name in enumerate(PIPELINES):
        for k, layout in enumerate(LAYOUTS):
            quick = name not in LONG and i % len(LAYOUTS) == k
            yield pytest.param(name, layout, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize("name, layout", list(parities()))
def test_parity_with_the_cpu_backend_under_any_schedule(name, layout):
    """Also where approximate instructions are two units in the last place off."""
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


def test_nan_stays():
    with emulated(RANDOM):
        check_nan_stays("triton", "cpu")


def test_coordinates_that_are_no_numbers_are_outside():
    """As behind a horizon, or an angle that is none."""
    x = images(1, 24, 32) / 255
    for interpolation in ("bilinear", "bicubic"):
        with emulated(RANDOM):
            out = ga.functional.rotate(
                x, torch.tensor([float("nan")]), interpolation, False, None, 0.25, backend="triton"
            )
        assert torch.equal(out, torch.full_like(x, 0.25))


@pytest.mark.parametrize("name", ["lanczos", "timm's sizes"])
def test_filters_and_sizes_that_are_drawn(name):
    """The same table to the bit, float64 where sizes are rounded among it; bytes within a level."""
    crop = [ga.RandomResizedCrop((20, 24), (0.1, 1.0), interpolation="lanczos"), ga.RandomHorizontalFlip()]
    sizes = ga.ResizeKeepRatio(24, 0.0, "random", 0.5, (0.6, 1.2), True, 0.5)
    ops = {"lanczos": crop, "timm's sizes": [sizes, ga.RandomCropOrPad(24, padding_mode="reflect")]}[name]
    x = images(3, 36, 44)
    cpu, gpu = (ga.Compose(ops, seed=5, backend=backend) for backend in ("cpu", "triton"))
    params = cpu.sample(x, ids=range(3), epoch=0)
    with emulated(RANDOM):
        assert torch.equal(gpu.sample(x, ids=range(3), epoch=0).table, params.table)
        output = gpu.apply(x, params)
    assert (output.int() - cpu.apply(x, params).int()).abs().max() <= 1


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


def inputs():
    """Each dtype with each number of channels; quick with one of them, which test_triton_compile adds the others to."""
    quick = {torch.float16: 4, torch.bfloat16: 1, torch.float32: 4}
    for dtype in quick:
        for channels in (1, 2, 4, 16):
            marks = [] if channels == quick[dtype] else pytest.mark.slow
            yield pytest.param(dtype, channels, marks=marks, id=f"{dtype}-{channels}")


@pytest.mark.parametrize("dtype, channels", list(inputs()))
def test_other_dtypes_and_channels(dtype, channels):
    x = images(2, 40, 48, channels=channels).float().div(255).to(dtype)
    ops = [ga.RandomResizedCrop(33), ga.RandomAffine(30, interpolation="bilinear"), ga.RandomInvert()]
    cpu, gpu = (ga.Compose(ops, seed=1, backend=name) for name in ("cpu", "triton"))
    expected = cpu(x, ids=range(2), epoch=0).float()
    with emulated(RANDOM):
        found = gpu(x, ids=range(2), epoch=0).float()
    unit = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 0.0}[dtype]  # half-even, at most one apart
    assert (found - expected).abs().max() <= max(unit, 1e-3)


@pytest.mark.parametrize("last", [None, ga.Mosaic((40, 48))], ids=["alone", "mosaic"])
def test_masks_boxes_and_keypoints(last):
    ops, (x, beside), asked = [*KINDS, last] if last else KINDS, kinds("cpu"), {"ids": range(4), "epoch": 2}
    expected = ga.Compose(ops, seed=3, backend="cpu")(x, **beside, **asked)
    with emulated(RANDOM):
        found = ga.Compose(ops, seed=3, backend="triton")(x, **beside, **asked)
    check_kinds(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_benchmarked_pipelines(case):
    """As they are measured: 224 pixels, bfloat16."""
    side = 32 if case == "cifar" else 256
    x, (cpu, gpu) = images(1, side, side), (ga.Compose(CASES[case], seed=3, backend=name) for name in ("cpu", "triton"))
    expected = torch.cat([cpu(x, ids=[i], epoch=0) for i in range(2)]).float()
    with emulated(RANDOM):
        found = torch.cat([gpu(x, ids=[i], epoch=0) for i in range(2)]).float()
    level = 1.0 if case == "flip" else LEVEL + 2.0**-7  # and half a last place of what is below 4
    assert ((found - expected).abs() > level).float().mean() <= 0.02


@pytest.mark.slow
def test_parity_with_an_older_triton(older_triton):
    """Of all pipelines but the long ones, and what its launcher passes on; in a process of its own."""
    version, environment = older_triton
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    keywords = {"env": environment, "cwd": ROOT, "capture_output": True, "text": True}
    says = subprocess.run([sys.executable, "-c", "import triton; print(triton.__version__)"], **keywords)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    command += ["tests/test_ptx.py", "tests/test_launcher.py", "-k", "parity or launcher"]
    found = subprocess.run(command, **keywords)
    assert says.stdout.strip() == version
    assert found.returncode == 0 and f"{len(PIPELINES) - len(LONG) + 1} passed" in found.stdout, found.stdout[-3000:]


def planted(file: str, text: str, pattern: str, replacement: str):
    """Makes other PTX of the instructions that come from the lines of a Triton source that hold a text."""
    lines = (ROOT / "kernels" / "triton" / file).read_text(encoding="utf-8").splitlines()
    numbers = {i for i, line in enumerate(lines, 1) if text in line}
    assert numbers, f"{file} has no {text}"

    def mutate(name: str, ptx: str) -> str:
        found, here = [], False
        own = re.search(rf'\.file\s+(\d+)\s+".*/triton/{file}"', ptx)
        for line in ptx.splitlines():
            if located := re.match(r"\s*\.loc\s+(\d+)\s+(\d+)", line):
                here = own is not None and located[1] == own[1] and int(located[2]) in numbers
            found.append(re.sub(pattern, replacement, line) if here else line)
        return "\n".join(found) + "\n"

    return mutate


COUNT = r"(@%p\d+) atom\.global\.gpu\.relaxed\.add\.u32 (%r\d+), (\[.*\]), (%r\d+);"
FAULTS = {  # transforms, channels, where and what is planted, what is found
    "one row too many": (
        [ga.RandomCrop((35, 64))],
        1,
        ("write.py", "m_pixel = (i_y < out_h)", r"setp\.lt\.s32", "setp.le.s32"),
        "write_kernel: out of bounds: 4 bytes at 22.. of 2240 of out, by st.global.*write.py",
    ),
    "no barrier before a chunk's ticket": (
        PIPELINES["jitter"][0],
        3,
        ("asks.py", "tl.debug_barrier()", r"bar\.sync.*", ""),
        "ask_kernel: race with ",
    ),
    "a chunk's ticket that releases nothing": (
        PIPELINES["jitter"][0],
        3,
        ("asks.py", "tl.atomic_add(ticket, 1)", r"\.acq_rel", ".relaxed"),
        "ask_kernel: race with thread 0 of block",
    ),
    "no fence behind a draw": (
        PIPELINES["resized_crop"][0],
        3,
        ("dialect.py", "tl.debug_barrier()", r"bar\.sync.*", ""),
        "plan_kernel: (race with|read, but never written).*by ld.global",
    ),
    "a sample is counted before all have read the counter": (
        PIPELINES["resized_crop"][0],
        3,
        ("plan.py", "tl.debug_barrier()", r"bar\.sync.*", ""),
        "plan_kernel: race with .* of state, by (atom|ld)",
    ),
    "a ticket that is not cleared": (
        PIPELINES["jitter"][0],
        3,
        ("plan.py", "tl.store(o_plan + TICKET, 0.0)", r"@%p\d+ st\.global.*", ""),
        "ask_kernel: read, but never written: .* of plan and scratch, by atom",
    ),
    "counts that are not cleared": (
        PIPELINES["statistics"][0],
        3,
        ("plan.py", "tl.store(o_plan + o_word,", r"@%p\d+ st\.global.*", ""),
        "ask_kernel: read, but never written: .* of plan and scratch, by atom",
    ),
    "a ticket that the other threads are not told": (
        PIPELINES["resized_crop"][0],
        3,
        ("plan.py", "tl.atomic_add(state + STATE_TICKET, 1)", r"@%p\d+ st\.shared.*", ""),
        "plan_kernel: read, but never written: .* of shared memory",
    ),
    "counts of several blocks added up without atomics": (
        PIPELINES["statistics"][0],
        3,
        ("asks.py", "tl.atomic_add(o_level", COUNT, r"\1 ld.global.b32 {\2}, \3; \1 st.global.b32 \3, {\4};"),
        r"ask_kernel: race with thread \d+ of block \d+ .*by (ld|st)\.global\.b32 at asks\.py",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault):
    transforms, channels, where, told = FAULTS[fault]
    x, mutate = images(2 if channels == 3 else 1, channels=channels), planted(*where)
    for schedule in (ORDERLY, RANDOM):
        augment = ga.Compose(transforms, seed=5, backend="triton")
        with pytest.raises(Fault, match=told), emulated(schedule, mutate=mutate):
            augment(x)


def test_a_misaligned_store_is_found(monkeypatch):
    """Where the backend takes an output for aligned that is not."""
    monkeypatch.setattr(triton, "quads_of", lambda out: triton.PLANES)
    x, augment = images(1), ga.Compose(CROP, seed=2, backend="triton")
    out = OUTPUTS["shifted"](torch.empty(3 * 3 * 36 * 40 + 1))[:1]
    with pytest.raises(Fault, match="write_kernel: out is compiled as a multiple of 16 and is none"), emulated():
        augment.apply(x, augment.sample(x, ids=[0], epoch=0), out=out)


def test_what_is_not_translated_is_named():
    head, tail = ".visible .entry k(\n.param .u64 k_param_0\n)\n{\n.loc 1 7 0\n", "ret;\n}\n"
    for text in ("tex.2d.v4.f32.s32 {%f1}, [%rd1];", "add.sat.s32 %r1, %r2, %r3;", "mov.u32 %r1, %clock;"):
        with pytest.raises(Unknown, match=re.escape(text.split()[0]) + ".* at .*:7: .* is not translated"):
            translate(head + text + tail, 0)
