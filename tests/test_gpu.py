"""The triton backend on a real GPU: parity with the cpu backend, addressing, streams, graphs, no synchronisation."""

from __future__ import annotations

import gc
import os

import pytest
import torch
from gpu_pipelines import (
    KINDS,
    LAYOUTS,
    LEVEL,
    PIPELINES,
    TO_FLOAT,
    check,
    check_kinds,
    check_rows_of_two_sizes_and_two_views,
    compose,
    images,
    kinds,
    reference,
)

import gpuaug as ga
from gpuaug.benchmarks.timing import captured
from gpuaug.recipe import KEPT_RECIPES

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter's process has no compiled kernels", allow_module_level=True)
pytestmark = pytest.mark.gpu

DEVICE = "cuda"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PIPELINES)
def test_parity_with_the_cpu_backend(name, layout):
    x, ids, params, expected = reference(name, layout, 16)
    augment = compose(name)
    assert torch.equal(augment.sample(x.to(DEVICE), ids=ids, epoch=4).table.cpu(), params.table)
    check(name, augment.apply(x.to(DEVICE), params), expected)


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
    check_rows_of_two_sizes_and_two_views(DEVICE)


def test_a_captured_graph_replays_with_fresh_draws():
    x, augment, eager = images(8).to(DEVICE), compose("interleaved"), compose("interleaved")
    graph, y = captured(lambda: augment(x))
    eager(x)
    for _ in range(3):
        graph.replay()
        assert torch.equal(y, eager(x)), "each replay is the next batch"
    assert augment.get_extra_state()[2] == eager.get_extra_state()[2] == 32


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


class Step:
    """A training step with a pipeline and labels inside; the twin of each other one with the same pipeline."""

    def __init__(self, transforms: list, compiled: bool = False):
        torch.manual_seed(0)
        self.augment = ga.Compose([ga.RandomResizedCrop(32), *transforms, *TO_FLOAT], seed=3, backend="triton")
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5)).to(DEVICE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.loss = torch.compile(self._loss, mode="reduce-overhead", fullgraph=True) if compiled else self._loss

    def _loss(self, x, labels, ids):
        x, labels = self.augment(x, labels, ids=ids)
        return torch.nn.functional.cross_entropy(self.model(x), labels)

    def __call__(self, x, labels, ids=None):
        loss = self.loss(x, labels, ids)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


MIXED = pytest.mark.parametrize("transforms", [[ga.RandomHorizontalFlip()], [ga.MixUp(num_classes=5)]], ids=str)


@MIXED
def test_a_captured_training_step_draws_afresh(transforms):
    x, labels, step, eager = (
        images(8).to(DEVICE),
        torch.arange(8, device=DEVICE) % 5,
        Step(transforms),
        Step(transforms),
    )
    graph, loss = captured(lambda: step(x, labels))
    losses = [float(eager(x, labels))]
    for _ in range(5):
        graph.replay()
        losses.append(float(eager(x, labels)))
        assert abs(float(loss) - losses[-1]) <= 1e-4 * losses[-1]
    assert len(set(losses)) == 6 and step.augment.get_extra_state()[2] == 48


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("keyed", [False, True], ids=["counted", "keyed"])
@MIXED
def test_a_step_compiled_to_cuda_graphs_draws_afresh(transforms, keyed):
    counters = torch._dynamo.utils.counters
    step, eager = Step(transforms, compiled=True), Step(transforms)
    x, labels = images(8).to(DEVICE), torch.arange(8, device=DEVICE) % 5
    ids, losses = torch.arange(8, device=DEVICE) if keyed else None, []
    for epoch in range(8):
        step.augment.set_epoch(epoch), eager.augment.set_epoch(epoch)
        torch.compiler.cudagraph_mark_step_begin()
        found = float(step(x, labels, ids))
        losses.append(float(eager(x, labels, ids)))
        assert abs(found - losses[-1]) <= 1e-3 * losses[-1], epoch
    assert len(set(losses)) == 8 and counters["stats"]["unique_graphs"] == 1
    assert counters["inductor"]["cudagraph_skips"] == 0, "each step is one graph"
    assert torch.equal(step.augment.get_extra_state(), eager.augment.get_extra_state())


def test_a_captured_graph_follows_set_epoch():
    x, ids, augment, eager = images(8).to(DEVICE), torch.arange(8, device=DEVICE), compose("jitter"), compose("jitter")
    augment.set_epoch(1)
    graph, y = captured(lambda: augment(x, ids=ids))
    for epoch in (1, 2, 2**32 - 1):
        augment.set_epoch(epoch)
        graph.replay()
        assert torch.equal(y, eager(x, ids=ids, epoch=epoch))


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("name", ["interleaved", "neighbours"])
def test_any_batch_in_a_compiled_graph(name):
    augment, eager = compose(name), compose(name)
    step = torch.compile(lambda x, ids, epoch: augment(x, ids=ids, epoch=epoch) + 0, fullgraph=True)
    for b in (4, 7, 3, 16):
        x, ids = images(b).to(DEVICE), torch.arange(b, device=DEVICE) + b
        assert torch.equal(step(x, ids, b), eager(x, ids=ids, epoch=b))
    assert torch.equal(augment(x[:, :, :60, :61]), eager(x[:, :, :60, :61]))


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


def test_lists_labels_and_epochs_do_not_wait_for_the_device():
    """Also where sizes are drawn, if the host knows the ids."""
    listed, x, labels = [images(1, h)[0].to(DEVICE) for h in (70, 81, 96)], images(8).to(DEVICE), torch.arange(8) % 5
    ops = [ga.RandomHorizontalFlip()], [ga.Resize(40)], [ga.ScaleJitter((40, 60))], [ga.RandomCrop(64), ga.MixUp()]
    listing = [ga.Compose(transforms, seed=1, backend="triton") for transforms in ops]
    mixing = ga.Compose([ga.MixUp(num_classes=5, label_smoothing=0.1)], seed=1, backend="triton")

    def calls(epoch):
        for augment in (*listing, mixing):
            augment.set_epoch(epoch)
        for augment in listing:
            augment(listed, ids=range(3))
        mixing(x, labels, ids=range(8))
        mixing(x, torch.eye(5)[labels], ids=range(8))

    calls(1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        calls(2)
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


LAST = {"alone": None, "mosaic": ga.Mosaic((40, 48)), "mixup": ga.MixUp(), "copy-paste": ga.CopyPaste()}


@pytest.mark.parametrize("name", LAST)
def test_what_is_beside_images_does_not_wait(name):
    """Padded masks, boxes and keypoints: equal to the CPU's, and no call behind the first waits for the device."""
    ops, asked = [*KINDS, LAST[name]] if LAST[name] else KINDS, {"ids": torch.arange(4), "epoch": 2}

    def kinds_on(device):
        x, beside = kinds(device)
        if name == "copy-paste":  # a mask for each box, and no keypoints
            beside = {"masks": beside["masks"], "boxes": beside["boxes"][:, :2]}
        return x, beside

    x, beside = kinds_on("cpu")
    expected = ga.Compose(ops, seed=3, backend="cpu")(x, **beside, **asked)
    augment, (x, beside) = ga.Compose(ops, seed=3), kinds_on(DEVICE)
    check_kinds(augment(x, **beside, **asked), expected)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augment(x, **beside, **asked)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_kinds(found, expected)
