"""The triton backend on a real GPU: parity with the cpu backend, addressing, streams, graphs, no synchronisation."""

from __future__ import annotations

import gc
import os

import pytest
import torch
import torch.nn.functional as F
from engines import draw_and_write

import gpuaug as ga
from gpuaug import backends
from gpuaug.kernels.shared import plan
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import KEPT_RECIPES, batch_rows

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process has no compiled kernels", allow_module_level=True)
pytestmark = pytest.mark.gpu

DEVICE = "cuda"
TO_FLOAT = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
JITTER = ga.ColorJitter(0.4, 0.4, 0.4, 0.1)
LEVEL = 1.02 / 255 / 0.225  # a uint8 level, behind the smallest std
# name: transforms, share of the pixels that may differ because a nearest snap or a threshold stands at a tie
PIPELINES = {
    "resized_crop": ([ga.RandomResizedCrop(64), ga.RandomHorizontalFlip(), *TO_FLOAT], 0.0),
    "bicubic": ([ga.Resize(70, interpolation="bicubic"), ga.CenterCrop(64), *TO_FLOAT], 0.0),
    "crops": ([ga.RandomCrop(64, padding=9, padding_mode="reflect"), ga.RandomVerticalFlip(), ga.RandomInvert()], 0.0),
    "symmetric": ([ga.Pad(90, padding_mode="symmetric"), ga.CenterCrop(260)], 0.0),
    "jitter": ([ga.RandomResizedCrop(64), JITTER, *TO_FLOAT], 0.002),
    "affine": ([ga.RandomAffine(45, (0.2, 0.2), (0.7, 1.3), 10, fill=9), JITTER, ga.CenterCrop(64)], 0.005),
    "randaugment": ([ga.RandomResizedCrop(64), ga.RandAugment(num_ops=3), *TO_FLOAT], 0.02),
    "trivialaugment": ([ga.TrivialAugmentWide(interpolation="bilinear"), ga.CenterCrop(64)], 0.02),
    "statistics": ([ga.RandomAutocontrast(), JITTER, ga.RandomEqualize(), ga.CenterCrop(64)], 0.02),
    "neighbours": (
        [
            ga.RandomAdjustSharpness(3.0),
            JITTER,
            ga.GaussianBlur(7),
            ga.RandomAdjustSharpness(0.0),
            ga.RandomRotation(20),
        ],
        0.02,
    ),
    "noise": (
        [ga.GaussianNoise(), ga.RandomRotation(30), ga.SaltAndPepper(0.1), *TO_FLOAT, ga.RandomErasing(value="random")],
        0.02,
    ),
    "erasing": ([ga.RandomErasing(p=1.0), ga.RandomAffine(20), ga.CoarseDropout(), ga.GridMask((9, 30))], 0.005),
    "perspective": ([ga.RandomPerspective(0.5, p=1.0, interpolation="bilinear", fill=90), ga.CenterCrop(64)], 0.002),
    "interleaved": (
        [
            ga.RandomRotation(30, fill=(1, 2, 3)),
            JITTER,
            ga.RandomSolarize(128),
            ga.RandomAffine(30, interpolation="bilinear", fill=90),
            ga.RandomChoice([ga.RandomInvert(), ga.RandomResizedCrop(96), ga.Resize((96, 96))]),
            ga.CenterCrop(64),
            *TO_FLOAT,
        ],
        0.01,
    ),
}


def images(b: int, h: int = 96, w: int = 112, seed: int = 0, channels: int = 3) -> torch.Tensor:
    """Smooth noise, uint8 [b, channels, h, w]."""
    noise = torch.rand((b, channels, h // 4, w // 4), generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(noise, (h, w), mode="bicubic", align_corners=False).clamp(0, 1) * 255).round().to(torch.uint8)


def compose(name: str, backend: str = "triton", **keywords) -> ga.Compose:
    return ga.Compose(PIPELINES[name][0], seed=5, backend=backend, **keywords)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", PIPELINES)
def test_parity_with_the_cpu_backend(name, layout):
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x, ids = images(16).contiguous(memory_format=memory_format), torch.arange(16) * 2**33
    cpu, gpu = compose(name, "cpu"), compose(name)
    params = cpu.sample(x, ids=ids, epoch=4)
    assert torch.equal(gpu.sample(x.to(DEVICE), ids=ids, epoch=4).table.cpu(), params.table)
    found, expected = gpu.apply(x.to(DEVICE), params), cpu.apply(x, params)
    assert found.dtype == expected.dtype and found.stride() == expected.stride()
    apart = (found.cpu().float() - expected.float()).abs()
    level = 1.0 if expected.dtype == torch.uint8 else LEVEL
    share = PIPELINES[name][1]
    assert (apart > level).float().mean() <= share, f"up to {float(apart.max())} apart"
    assert (apart > 1e-3).float().mean() <= share + 0.01


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_parity_of_other_dtypes_and_channels(dtype, channels):
    x = images(4, channels=channels).float().div(255).to(dtype)
    ops = [ga.RandomResizedCrop(64), ga.RandomAffine(30, interpolation="bilinear"), ga.RandomInvert()]
    results = []
    for backend, device in (("cpu", "cpu"), ("triton", DEVICE)):
        augment = ga.Compose(ops, seed=1, backend=backend)
        results.append(augment(x.to(device), ids=range(4), epoch=0).cpu().float())
    unit = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 1e-3}[
        dtype
    ]  # half-even, at most one apart
    assert (results[0] - results[1]).abs().max() <= max(unit, 1e-3)


def test_the_same_image_gives_the_same_bits_in_any_batch():
    x, ids, augment = images(16).to(DEVICE), torch.arange(16), compose("interleaved")
    whole = augment(x, ids=ids, epoch=0)
    for i in (0, 7, 15):
        assert torch.equal(augment(x[i : i + 1], ids=ids[i : i + 1], epoch=0)[0], whole[i])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(x[order.to(DEVICE)], ids=ids[order], epoch=0), whole[order.to(DEVICE)])


def test_more_than_two_to_the_31_elements():
    b, side = 11_000, 256
    need = 2 * b * 3 * side * side + (1 << 30)
    if torch.cuda.mem_get_info()[0] < need:
        pytest.skip(f"needs {need / 1e9:.0f} GB of free GPU memory")
    small = images(4, side, side).to(DEVICE)
    x = torch.zeros((b, 3, side, side), dtype=torch.uint8, device=DEVICE)
    x[-4:] = small
    assert x.numel() > 2**31
    augment = ga.Compose([ga.RandomAffine(20), ga.RandomHorizontalFlip(), ga.RandomInvert()], seed=2, backend="triton")
    ids = torch.arange(b)
    whole = augment(x, ids=ids, epoch=0)
    assert torch.equal(whole[-4:], augment(small, ids=ids[-4:], epoch=0))


def test_strides_beyond_32_bits():
    b, side = 3, 48
    if torch.cuda.mem_get_info()[0] < 5 << 30:
        pytest.skip("needs 5 GB of free GPU memory")
    stride = 2**31 // (side - 1) + 4096  # of a line, so that the last line's offset passes 2^31
    memory = torch.zeros(side * stride + 4 * 3 * side, dtype=torch.uint8, device=DEVICE)
    x = memory.as_strided((b, 3, side, side), (3 * side, side, stride, 1))
    plain = images(b, side, side).to(DEVICE)
    x.copy_(plain)
    augment = ga.Compose([ga.RandomAffine(20, interpolation="bilinear"), ga.RandomInvert()], seed=2, backend="triton")
    params = augment.sample(x, ids=range(b), epoch=0)
    expected = augment.apply(plain, params)
    assert torch.equal(augment.apply(x, params), expected)
    augment.apply(plain, params, out=x)
    assert torch.equal(x, expected)


def test_a_single_image_with_strides_beyond_32_bits():
    side = 48
    if torch.cuda.mem_get_info()[0] < 5 << 30:
        pytest.skip("needs 5 GB of free GPU memory")
    stride = 2**31 // (side - 1) + 4096
    x = torch.zeros(side * stride + 3 * side, dtype=torch.uint8, device=DEVICE).as_strided(
        (3, side, side), (side, stride, 1)
    )
    plain = images(1, side, side)[0].to(DEVICE)
    x.copy_(plain)
    augment = ga.Compose([ga.RandomAffine(20, interpolation="bilinear")], seed=2, backend="triton")
    assert torch.equal(augment(x, ids=[0], epoch=0), augment(plain, ids=[0], epoch=0))


def test_rows_of_two_sizes_and_two_views():
    small, large = images(2, 70, 64).to(DEVICE), images(1, 96, 131, seed=1).to(DEVICE)
    flat = torch.cat([small.flatten(), large.flatten()])
    program = lower(PIPELINES["jitter"][0], frozenset({(70, 64), (96, 131)}), 3, torch.uint8)
    elements = 3 * 64 * 64
    rows = torch.cat([batch_rows(small, elements), batch_rows(large, elements)]).repeat(2, 1)
    rows[[2, 5], plan.ROW_SOURCE] = small.numel()
    rows[:, plan.ROW_SAMPLE] = torch.tensor([0, 1, 2] * 2)
    rows[:, plan.ROW_VIEW] = torch.tensor([0, 0, 0, 1, 1, 1])
    rows[:, plan.ROW_TABLE] = torch.arange(6)
    rows[:, plan.ROW_OUT] = torch.arange(6) * elements
    out = torch.full((6, 3, 64, 64), float("nan"), device=DEVICE)
    state = new_state(5, 0, 0, flat.device)
    engine = backends.select(program, flat, "triton").Engine(program, flat.device)
    table = draw_and_write(engine, flat, rows.to(DEVICE), 6, torch.arange(3, device=DEVICE), 0, state, out)
    augment = compose("jitter")
    assert torch.equal(out[:2], augment(small, ids=[0, 1], epoch=0))
    assert torch.equal(out[2:3], augment(large, ids=[2], epoch=0))
    assert not torch.equal(table[:3], table[3:]) and out.isfinite().all()


def test_a_captured_graph_replays_with_fresh_draws():
    x, augment, eager = images(8).to(DEVICE), compose("interleaved"), compose("interleaved")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        augment(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = augment(x)
    eager(x)
    for _ in range(3):
        graph.replay()
        assert torch.equal(y, eager(x)), "each replay is the next batch"
    assert augment.get_extra_state()[2] == eager.get_extra_state()[2] == 32


def captured(call):
    """A CUDA graph of a call, and what the call returned."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = call()
    return graph, y


def test_a_captured_graph_follows_a_loaded_state_and_outlives_its_recipe():
    x, augment = images(8).to(DEVICE), compose("jitter")
    graph, y = captured(lambda: augment(x))
    for h in range(70, 70 + KEPT_RECIPES + 1):
        augment(images(1, h).to(DEVICE), ids=[0], epoch=0)
    gc.collect()
    torch.cuda.empty_cache()
    other = compose("jitter")
    other.seed = 77
    other(x), other(x)
    augment.load_state_dict(other.state_dict())
    for _ in range(2):
        graph.replay()
        assert torch.equal(y, other(x))


def test_apply_in_a_graph_and_single_images():
    x, augment = images(1).to(DEVICE), compose("interleaved")
    params = augment.sample(x[0], ids=[5], epoch=2)
    expected = augment(x, ids=[5], epoch=2)[0]
    graph, y = captured(lambda: augment.apply(x[0], params))
    y.zero_()
    graph.replay()
    assert torch.equal(y, expected)


def test_the_counter_moves_in_the_order_of_the_calls_on_two_streams():
    x, augment, eager = images(8).to(DEVICE), compose("jitter"), compose("jitter")
    torch.cuda.synchronize()
    streams, found = [torch.cuda.Stream(), torch.cuda.Stream()], []
    for k in range(6):
        with torch.cuda.stream(streams[k % 2]):
            if k % 2 == 0:
                torch.cuda._sleep(20_000_000)
            found.append(augment(x))
    torch.cuda.synchronize()
    assert all(torch.equal(y, eager(x)) for y in found)


def test_nothing_waits_for_the_device():
    x, ids = images(8).to(DEVICE), torch.arange(8, device=DEVICE)
    augment = compose("interleaved")
    out = torch.empty_like(augment(x, ids=ids, epoch=0))
    single = torch.empty_like(augment(x[0], ids=[0], epoch=0))
    on_host = compose("interleaved", "cpu").sample(images(8), ids=range(8), epoch=0)
    augment.apply(x, augment.sample(x), out=out)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(x, ids=ids, epoch=1)
        augment(x, ids=range(8), epoch=1)
        augment(x, ids=torch.arange(8), epoch=1)
        augment(x)
        augment(x[0], ids=[3], epoch=1)
        augment.apply(x, augment.sample(x, ids=ids, epoch=2), out=out)
        augment.apply(x, on_host, out=out)
        augment.apply(x[0], augment.sample(x[0], ids=[1], epoch=2), out=single)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_current_stream_is_used():
    x, augment = images(8).to(DEVICE), compose("jitter")
    expected = augment(x, ids=range(8), epoch=0)
    buffer, ids = torch.zeros_like(x), torch.arange(8, device=DEVICE)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # about 0.1 s: work on another stream would see zeros
        buffer.copy_(x)
        y = augment(buffer, ids=ids, epoch=0)
    stream.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_inputs_device_is_used_whichever_is_current():
    x, augment = images(8), compose("interleaved")
    first, second = (augment(x.to(f"cuda:{i}"), ids=range(8), epoch=0) for i in (0, 1))
    assert torch.cuda.current_device() == 0 and second.device.index == 1
    assert torch.equal(first.cpu(), second.cpu())


@pytest.mark.parametrize("width", [61, 62, 63, 64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_widths_that_are_no_multiple_of_a_quad(width, layout):
    x, ops = images(3, 50, 71), [ga.RandomResizedCrop((37, width)), ga.RandomHorizontalFlip(), *TO_FLOAT]
    outputs = [
        ga.Compose(ops, seed=5, backend=backend, memory_format=layout)(x.to(device), ids=range(3), epoch=0)
        for backend, device in (("cpu", "cpu"), ("triton", DEVICE))
    ]
    assert outputs[0].stride() == outputs[1].stride() and (outputs[0] - outputs[1].cpu()).abs().max() <= LEVEL
    cut = torch.full((3, 3, 37, width + 3), float("nan"), device=DEVICE)[..., 1:-2]
    augment = ga.Compose(ops, seed=5, backend="triton")
    augment.apply(x.to(DEVICE), augment.sample(x.to(DEVICE), ids=range(3), epoch=0), out=cut)
    assert torch.equal(cut, outputs[1].contiguous())


def test_an_empty_batch():
    augment = compose("jitter")
    y = augment(images(2)[:0].to(DEVICE))
    assert y.shape == (0, 3, 64, 64) and y.is_cuda and augment.get_extra_state()[2] == 0
    assert augment.sample(images(2)[:0].to(DEVICE)).table.shape[0] == 0


def test_auto_takes_triton_for_cuda_tensors():
    pytest.importorskip("kornia", reason="the backend that is compared with needs kornia")
    x = images(2).to(DEVICE)
    augment = ga.Compose([ga.RandomHorizontalFlip()], seed=0)
    assert augment.recipe(x).module.__name__ == "gpuaug.backends.triton"
    assert torch.equal(augment(x).cpu(), ga.Compose([ga.RandomHorizontalFlip()], seed=0, backend="kornia")(x).cpu())
