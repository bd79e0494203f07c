"""What may come in as a batch, and go out: lists of any sizes, clips, views, images of a resident data set; sizes that
are drawn. The judge of each is the same images one by one, and of the drawn sizes torchvision."""

from __future__ import annotations

import re

import judges
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.benchmarks.cases import CASES
from gpuaug.data import Loader, Source
from gpuaug.kernels.torch import dialect as torch_dialect
from gpuaug.recipe import Asked, drawn_sizes
from gpuaug.run import run

SIZES = [(20, 30), (21, 29), (25, 25), (33, 17), (20, 30)]
JITTER = ga.ColorJitter(brightness=0.4, contrast=0.4)
FLIP = ga.RandomHorizontalFlip()
FIXED = {
    "crop": [ga.RandomResizedCrop(16), FLIP, JITTER],
    "warp": [ga.RandomAffine(20, interpolation="bilinear", fill=9), ga.RandomCrop((15, 16)), ga.GaussianBlur(3)],
    "float": [JITTER, ga.RandomEqualize(0.5), ga.Resize((12, 14)), ga.ToDtype(torch.float32, scale=True)],
}
RAGGED = {
    "flip": [FLIP, JITTER],
    "shorter": [FLIP, ga.Resize(18), ga.RandomAutocontrast(0.5), ga.GaussianBlur(3)],
    "scale-jitter": [FLIP, ga.ScaleJitter((24, 32), (0.4, 1.5)), JITTER],
    "random-resize": [ga.RandomResize(10, 30), ga.RandomSolarize(99)],
    "shortest": [ga.RandomShortestSize([12, 16, 20], max_size=24), FLIP, ga.ToDtype(torch.float32, scale=True)],
    "expand": [FLIP, ga.RandomRotation(60, expand=True, fill=7), ga.RandomInvert()],
    "expand-bilinear": [ga.RandomRotation((20, 170), "bilinear", expand=True), JITTER],
    "choice": [ga.RandomChoice([ga.Resize((12, 14)), ga.CenterCrop(10)]), FLIP],
}
PIPELINES = FIXED | RAGGED


def compose(ops, backend: str, **keywords) -> ga.Compose:
    return ga.Compose(ops, seed=7, backend=backend, **keywords)


def noise(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand((*shape[:-2], shape[-2] // 4 + 1, shape[-1] // 4 + 1), generator=generator)
    return (F.resize(small, shape[-2:], antialias=True) * 255).to(torch.uint8).to(device)


def images(backend: str, dtype: torch.dtype = torch.uint8) -> list[Tensor]:
    """Of several sizes, each with strides of another kind."""
    device = judges.device_of(backend)
    found = [noise(3, h, w, seed=i, device=device) for i, (h, w) in enumerate(SIZES)]
    found[1] = found[1].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    found[2] = torch.nn.functional.pad(found[2], (2, 3, 1, 4))[:, 1:-4, 2:-3]
    found[3] = found[3].permute(0, 2, 1).contiguous().permute(0, 2, 1)
    return found if dtype == torch.uint8 else [image.to(dtype) / 255 for image in found]


def same(outputs, expected) -> bool:
    if isinstance(outputs, list) or isinstance(expected, list):
        return len(outputs) == len(expected) and all(map(same, outputs, expected))
    return outputs.shape == expected.shape and torch.equal(outputs, expected)


# --- one by one -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", PIPELINES)
def test_a_list_is_its_images_one_by_one(name: str, backend: str) -> None:
    augment, given = compose(PIPELINES[name], backend), images(backend)
    outputs = augment(given, ids=range(5), epoch=1)
    alone = [augment(image, ids=[i], epoch=1) for i, image in enumerate(given)]
    assert isinstance(outputs, torch.Tensor) == (name in FIXED)
    assert same(list(outputs), alone)
    assert len({tuple(image.shape) for image in alone}) == 1 or name in RAGGED


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", ["crop", "flip", "scale-jitter"])
def test_views_of_a_list(name: str, backend: str) -> None:
    augment, given = compose(PIPELINES[name], backend), images(backend)
    views = augment(given, ids=range(5), epoch=1, views=2)
    for k in (0, 1):
        assert same(views[k], augment(given, ids=range(5), epoch=1, view=k))
    assert same(views[0], augment(given, ids=range(5), epoch=1))
    assert not same(views[1], views[0])
    params = augment.sample(given, ids=range(5), epoch=1, views=2)
    assert params.table.shape == (2, 5, len(params.columns)) and len(params) == 5
    assert same(augment.apply(given, params), views)
    assert same(augment.apply(given, params, view=1), views[1])


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", ["crop", "warp", "flip", "expand"])
def test_clips(name: str, backend: str) -> None:
    """One draw a clip; what is measured of an image is measured of each frame."""
    augment = compose(PIPELINES[name], backend)
    clips = noise(2, 3, 3, 24, 20, device=judges.device_of(backend))
    outputs = augment(clips, ids=[4, 9], epoch=1)
    for b in range(2):
        frames = [augment(clips[b, t], ids=[(4, 9)[b]], epoch=1) for t in range(3)]
        assert same(outputs[b], torch.stack(frames))
    one = augment(tv_tensors.Video(clips[0]), ids=[4], epoch=1)
    assert same(one, outputs[0])
    views = augment(clips, ids=[4, 9], epoch=1, views=2)
    assert same(views[0], outputs) and same(views[1], augment(clips, ids=[4, 9], epoch=1, view=1))
    if name in FIXED:
        assert outputs.shape[:3] == (2, 3, 3) and views.shape[:3] == (2, 2, 3)
        params = augment.sample(clips, ids=[4, 9], epoch=1, views=2)
        out = torch.full_like(views, 77)
        assert augment.apply(clips, params, out=out) is out and same(out, views)


@pytest.mark.skipif(judges.INTERPRETED, reason="images of 256 pixels take the interpreter too long")
@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_the_benchmarks_pipelines(name: str, backend: str) -> None:
    case = CASES[name]
    augment, side = case.ours(backend), min(case.size, 400)
    device = judges.device_of(backend)
    given = [noise(3, side + a, side + b, seed=a, device=device) for a, b in ((0, 3), (7, 0), (2, 5))]
    if augment.recipe(given[0]).mixing is None:
        expected = [augment(x, ids=[5 + i], epoch=2) for i, x in enumerate(given)]
    else:  # an image by itself has nobody to be mixed with
        given = [image[:, :side, :side] for image in given]
        expected = augment(torch.stack(given), ids=[5, 6, 7], epoch=2)
    assert same(list(augment(given, ids=[5, 6, 7], epoch=2)), expected)
    clip = noise(1, 2, 3, side, side, device=device)
    frames = [augment(clip[0, t], ids=[3], epoch=2, view=1) for t in range(2)]
    assert same(augment(clip, ids=[3], epoch=2, views=2)[1, 0], torch.stack(frames))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_images_of_a_resident_data_set(backend: str) -> None:
    augment = compose(PIPELINES["crop"], backend)
    resident = noise(9, 3, 24, 20, device=judges.device_of(backend))
    index = torch.tensor([7, 7, 0, 3])
    ids = torch.arange(4)
    expected = augment(resident[index], ids=ids, epoch=2)
    for given in (index, index.to(resident.device), index.tolist(), index.numpy(), index.to(torch.int32)):
        assert same(augment(resident, index=given, ids=ids, epoch=2), expected)
    assert same(augment(resident, index=index, ids=ids, epoch=2, views=2)[0], expected)
    params = augment.sample(resident, index=index, ids=ids, epoch=2)
    assert same(augment.apply(resident, params, index=index), expected)
    assert augment(resident, index=[], ids=[], epoch=0).shape == (0, 3, 16, 16)
    clips = noise(5, 2, 3, 24, 20, device=resident.device)
    assert same(augment(clips, index=[4, 1], ids=[1, 2], epoch=0), augment(clips[[4, 1]], ids=[1, 2], epoch=0))


def test_the_loader_reads_in_place() -> None:
    source = Source(noise(10, 3, 24, 24), torch.arange(50, 60), torch.arange(10), ("a",) * 10)
    augment = compose(PIPELINES["crop"], "cpu")
    batches = list(Loader(source, 4, augment, shuffle=True, seed=3))
    plain = list(Loader(source, 4, shuffle=True, seed=3))
    assert [len(ids) for _, _, ids in batches] == [4, 4, 2]
    for (outputs, labels, ids), (given, own, own_ids) in zip(batches, plain, strict=True):
        assert torch.equal(labels, own) and torch.equal(ids, own_ids)
        assert same(outputs, augment(given, ids=ids, epoch=0))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_what_is_counted(backend: str) -> None:
    """Without ids a call counts its samples once, whatever its views and frames."""
    given = images(backend)
    for call, n in (
        (lambda augment: augment(given), 5),
        (lambda augment: augment(given, views=3), 5),
        (lambda augment: augment(torch.stack([given[0], given[4]])[:, None].expand(-1, 4, -1, -1, -1)), 2),
        (lambda augment: augment(torch.stack([given[0], given[4]]), index=[0, 1, 1, 0, 1, 1]), 6),
    ):
        augment = compose(FIXED["crop"], backend)
        call(augment)
        assert augment.get_extra_state()[2] == n


# --- lists ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_lists_of_floats_and_their_formats(backend: str, dtype: torch.dtype) -> None:
    given = images(backend, dtype)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        augment = compose([FLIP, ga.Resize(18)], backend, memory_format=memory_format)
        outputs = augment(given, ids=range(5), epoch=0)
        assert all(x[None].is_contiguous(memory_format=memory_format) for x in outputs)
        assert same(outputs, [augment(x, ids=[i], epoch=0) for i, x in enumerate(given)])


def test_a_list_of_one_channel_becomes_three() -> None:
    given = [image[:1] for image in images("cpu")]
    for backend in ("cpu", "kornia"):
        augment = compose([ga.Grayscale(3), ga.RandomResizedCrop(9)], backend)
        outputs = augment(given, ids=range(5), epoch=0)
        assert outputs.shape == (5, 3, 9, 9) and same(
            outputs, torch.stack([augment(x, ids=[i], epoch=0) for i, x in enumerate(given)])
        )


def test_gradients_of_a_list() -> None:
    augment = compose([JITTER, ga.RandomResizedCrop(9), ga.GaussianBlur(3)], "auto")
    given = [image.requires_grad_() for image in images("cpu", torch.float32)]
    augment(given, ids=range(5), epoch=0).sum().backward()
    for i, image in enumerate(given):
        alone = image.detach().clone().requires_grad_()
        augment(alone, ids=[i], epoch=0).sum().backward()
        assert image.grad.abs().sum() > 0 and torch.allclose(image.grad, alone.grad, atol=1e-6)


def test_a_new_mixture_of_known_sizes_makes_no_engine() -> None:
    augment = compose([ga.RandomResizedCrop(8), FLIP], "cpu")
    augment([noise(3, h, w) for h, w in SIZES])
    engines = list(augment._recipes._engines.values())
    for k in range(3):
        augment([noise(3, h, w) for h, w in SIZES[k:]])
    assert list(augment._recipes._engines.values()) == engines and len(engines) == 1


# --- drawn sizes ------------------------------------------------------------------------------------------------------
DRAWN = ["scale-jitter", "random-resize", "shortest", "expand", "choice"]


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_sizes_are_what_describe_tells(name: str, backend: str) -> None:
    augment, given = compose(PIPELINES[name], backend), images(backend)
    outputs, params = augment(given, ids=range(5), epoch=3), augment.sample(given, ids=range(5), epoch=3)
    for i, image in enumerate(given):
        verdict = judges.judge(image.cpu(), params.describe(i))
        assert not verdict.complaint(outputs[i].cpu())


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_sizes_are_equal_to_the_bit_on_all_backends(name: str) -> None:
    """1,000 ids: tables, and the plans' output sizes, which the host reads before it allocates."""
    given, found = torch.zeros((1000, 3, 37, 53), dtype=torch.uint8), []
    for backend in ("cpu", "kornia"):
        augment = compose(PIPELINES[name], backend)
        images, recipe = augment.take(given)
        plans = recipe.engine.plan(recipe.rows, None, augment._draw_keys(recipe, given.device, range(1000), 5))
        found.append((plans.table, drawn_sizes(plans)))
        sizes = set(found[-1][1])
        (low_h, low_w), (high_h, high_w) = min(recipe.program.out_sizes), max(recipe.program.out_sizes)
        if name != "choice":
            assert all(low_h <= h <= high_h and low_w <= w <= high_w for h, w in sizes)
        assert len(sizes) > 1
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


@pytest.mark.parametrize("name", DRAWN)
def test_the_host_draws_sizes_as_the_device_does(name: str) -> None:
    augment, given = compose(PIPELINES[name], "kornia"), images("cpu")
    source, recipe = augment.take(given, Asked(views=(0, 1)))
    key = augment._draw_keys(recipe, source.device, range(5), 3)
    expected, plans = run(recipe, source, None, key)
    assert recipe.host_sizes(key) == drawn_sizes(plans)
    assert same(run(recipe, source, None, key, host=key)[0], expected)


def drawn(op, count: int = 2000, size: tuple[int, int] = (37, 53)) -> np.ndarray:
    """Heights and widths that describe tells."""
    params = compose([op], "kornia").sample(
        torch.zeros((count, 3, *size), dtype=torch.uint8), ids=range(count), epoch=0
    )
    return np.array([judges.replay(torch.zeros(1, *size), params.describe(i)).shape[1:] for i in range(count)])


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (ga.ScaleJitter((40, 60)), v2.ScaleJitter((40, 60))),
        (ga.RandomResize(10, 30), v2.RandomResize(10, 30)),
        (ga.RandomShortestSize([8, 12, 31], 40), v2.RandomShortestSize([8, 12, 31], 40)),
    ],
    ids=lambda op: type(op).__name__,
)
def test_sizes_are_distributed_as_torchvisions(ours, theirs) -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 37, 53, dtype=torch.uint8)
    expected = np.array([theirs(image).shape[1:] for _ in range(2000)])
    found = drawn(ours)
    for axis in (0, 1):
        assert ks_2samp(found[:, axis], expected[:, axis]).pvalue > 1e-3


def test_the_sizes_of_random_shortest_size_are_torchvisions() -> None:
    generator = np.random.default_rng(0)
    for h, w, size, longest in generator.integers(1, 900, (500, 4)).tolist():
        limit = longest if longest % 2 else None
        theirs = v2.RandomShortestSize(size, limit).make_params([torch.empty(1, h, w)])["size"]
        lengths = torch_dialect.GEOMETRY["shortest_lengths"](float(h), float(w), float(size), float(limit or 0))
        assert tuple(map(int, lengths)) == theirs


def test_the_sizes_of_a_turn_are_torchvisions() -> None:
    generator, differ = np.random.default_rng(0), 0
    angles = [*generator.uniform(-400, 400, 300).tolist(), *range(-360, 361, 45)]
    for angle in angles:
        h, w = generator.integers(1, 300, 2).tolist()
        theirs = F.rotate(torch.empty(1, h, w), float(angle), expand=True).shape[1:]
        t = torch_dialect.GEOMETRY["rotate_expand"]((float(angle), *[0.0] * 11), float(h), float(w))
        differ += (int(t[15]), int(t[16])) != tuple(theirs)
    assert differ <= 3, "sines differ in the last place, which decides where a corner lies on a pixel's edge"


# --- frames -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_frames_of_clips(backend: str) -> None:
    ops = [ga.RandomTemporalCrop(4, (1, 3)), ga.RandomTemporalFlip(), FLIP, ga.RandomCrop(9)]
    augment, n = compose(ops, backend), 12
    clips = noise(6, n, 3, 12, 10, device=judges.device_of(backend))
    outputs, params = augment(clips, ids=range(6), epoch=0), augment.sample(clips, ids=range(6), epoch=0)
    assert outputs.shape == (6, 4, 3, 9, 9) and same(augment.apply(clips, params), outputs)
    for i in range(6):
        frames = clips[i].cpu()
        for record in params.describe(i):
            frames = frames[record["frames"]] if "frames" in record else judges.replay(frames, [record])
        assert torch.equal(frames, outputs[i].cpu())
        assert same(augment(clips[i : i + 1], ids=[i], epoch=0)[0], outputs[i])
    index = torch.tensor([5, 2])
    assert same(augment(clips, index=index, ids=index, epoch=0), outputs[index])
    assert same(augment(clips, ids=range(6), epoch=0, views=2)[0], outputs)


def test_which_frames_are_drawn() -> None:
    augment = compose([ga.RandomTemporalCrop(3, (2, 4)), ga.RandomTemporalFlip(0.5)], "kornia")
    params = augment.sample(torch.zeros((2000, 9, 1, 1, 1), dtype=torch.uint8), ids=range(2000), epoch=0)
    crops = [params.describe(i)[0]["frames"] for i in range(2000)]
    assert {(f[0], f[1] - f[0]) for f in crops} == {(s, d) for d in (2, 3, 4) for s in range(9 - 2 * d)}
    assert all(f[2] - f[1] == f[1] - f[0] for f in crops)
    backwards = sum(params.describe(i)[1]["frames"] == [2, 1, 0] for i in range(2000))
    assert 900 < backwards < 1100
    for n in (1, 4, 9, 14):
        subsample, clip = ga.UniformTemporalSubsample(n), torch.arange(9, dtype=torch.uint8).view(1, 9, 1, 1, 1)
        assert torch.equal(compose([subsample], "kornia")(clip), v2.UniformTemporalSubsample(n)(clip))


# --- several pipelines ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_multicrop(backend: str) -> None:
    large, small = compose([ga.RandomResizedCrop(12), FLIP], backend), compose([ga.RandomResizedCrop(7)], backend)
    crops, x = ga.MultiCrop([(large, 2), (small, 3)]), noise(4, 3, 20, 18, device=judges.device_of(backend))
    crops.set_epoch(6)
    found = crops(x, ids=range(4))
    assert [tuple(view.shape[2:]) for view in found] == [(12, 12)] * 2 + [(7, 7)] * 3
    for k, view in enumerate(found):
        assert same(view, (large if k < 2 else small)(x, ids=range(4), epoch=6, view=k))
    assert (
        "MultiCrop" in repr(crops)
        and eval(repr(crops), {"MultiCrop": ga.MultiCrop, **vars(ga)})(x[:0])[4].shape[0] == 0
    )


def test_pad_to_batch() -> None:
    given = images("cpu")
    batch, mask = ga.pad_to_batch(given, multiple=8, fill=5)
    assert batch.shape == (5, 3, 40, 32) and mask.dtype == torch.bool
    for image, padded, inside in zip(given, batch, mask, strict=True):
        _, h, w = image.shape
        assert torch.equal(padded[:, :h, :w], image) and inside[:h, :w].all() and inside.sum() == h * w
        assert (padded[:, ~inside] == 5).all()


def test_a_batch_in_a_list_as_a_loader_gives_it() -> None:
    batch, augment = torch.stack([images("cpu")[0], images("cpu")[4]]), compose(FIXED["crop"], "cpu")
    alone = augment(batch, ids=[3, 4], epoch=0)
    assert torch.equal(augment([batch], ids=[3, 4], epoch=0)[0], alone)
    found, labels = augment([batch, torch.arange(2)], ids=[3, 4], epoch=0)
    assert torch.equal(found, alone) and labels.tolist() == [0, 1]


# --- refusals ---------------------------------------------------------------------------------------------------------
def refused(call, *told: str) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)) as error:
        call()
    assert all(part in str(error.value) for part in told), str(error.value)
    assert "\n" not in str(error.value)


def test_refusals() -> None:
    given, augment = images("cpu"), compose(FIXED["crop"], "cpu")
    batch = torch.stack([given[0], given[4]])
    refused(lambda: augment([]), "empty list")
    refused(lambda: augment([given[0], given[1].float()]), "uint8", "float32")
    refused(lambda: augment([given[0], given[1][:1]]), "3 channels", "1 channels")
    refused(lambda: augment(given, index=[0]), "index", "list")
    refused(lambda: augment(batch, index=[2]), "0 .. 1", "2")
    refused(lambda: augment(batch, index=[-1]), "0 .. 1", "-1")
    refused(lambda: augment(batch, index=[0.5]), "whole numbers")
    refused(lambda: augment(given[0], index=[0]), "[N, C, H, W]", "(3, 20, 30)")
    refused(lambda: augment(batch, views=2, view=1), "views=2", "view=1")
    refused(lambda: augment(batch, views=0), "at least 1")
    refused(lambda: augment(batch, view=4096), "view", "4096")
    refused(lambda: augment.apply(batch, augment.sample(batch), view=0), "views=")
    refused(lambda: augment.apply(given, augment.sample(given[::-1])), "33x17", "21x29")
    refused(lambda: augment.apply(given, augment.sample(given[:4])), "(4, ", "(5, ")
    refused(lambda: augment(given, ids=range(4)), "5 samples", "4")
    ragged = compose(RAGGED["flip"], "cpu")
    refused(lambda: ragged.apply(given, ragged.sample(given), out=batch), "out", "own")
    refused(lambda: compose([ga.RandomTemporalCrop(2)], "cpu")(batch), "RandomTemporalCrop", "clips")
    refused(lambda: compose([ga.UniformTemporalSubsample(2)], "cpu")(given), "UniformTemporalSubsample", "clips")
    refused(lambda: compose([ga.RandomTemporalCrop(5)], "cpu")(batch[:, None]), "RandomTemporalCrop", "5", "1")
    choice = ga.RandomChoice([ga.RandomTemporalCrop(2), FLIP])
    refused(lambda: compose([choice], "cpu")(batch[:, None]), "RandomTemporalCrop", "outside of random choices")
    refused(lambda: ga.MultiCrop([(FLIP, 2)]), "MultiCrop", "Compose")
    refused(lambda: ga.pad_to_batch([given[0], given[1].float()]), "pad_to_batch", "float32")
    refused(lambda: compose([ga.ScaleJitter((8, 8), (0.01, 1.0))], "cpu")(given), "ScaleJitter", "0x0")
    checked = compose(FIXED["crop"], "cpu", check=True)
    refused(lambda: checked([image.float() for image in given]), "[0, 1]")


def test_equal_ids_warn_once_and_views_do_not() -> None:
    augment = compose(FIXED["crop"], "cpu")
    batch = noise(2, 3, 20, 18)
    with pytest.warns(UserWarning, match=re.escape("equal ids get equal draws")):
        augment(batch, ids=[3, 3], epoch=0)
    augment(batch, ids=[3, 3], epoch=0)
    compose(FIXED["crop"], "cpu")(batch, ids=[3, 4], epoch=0, views=2)


def test_functions_take_clips() -> None:
    clips, angles = noise(2, 3, 3, 12, 10), torch.tensor([10.0, -20.0])
    for backend in ("cpu", "kornia"):
        found = ga.functional.rotate(clips, angles, backend=backend)
        for t in range(3):
            assert same(found[:, t], ga.functional.rotate(clips[:, t], angles, backend=backend))
