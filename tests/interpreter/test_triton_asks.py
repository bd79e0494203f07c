"""What the Triton kernels must know of whole images, or of a pixel's neighbours and place, judged by torchvision."""

from __future__ import annotations

import judges
import pytest
import torch
from engines import draw_and_write
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug import backends
from gpuaug.compose import Params
from gpuaug.kernels.shared import plan
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import batch_rows

H, W = 14, 18
FILL = (20, 90, 160)
WARP = {"translate": (0.2, 0.1), "scale": (0.8, 1.2)}

# each for uint8; how many asks a row can have, and of what its scratch images are
PIPELINES = {
    "a scratch image is not overwritten while it is read": (
        [
            ga.RandomAdjustSharpness(2.0, 1.0),
            ga.ColorJitter(contrast=(0.5, 0.5)),
            ga.RandomAdjustSharpness(0.3, 1.0),
            ga.RandomEqualize(1.0),
            ga.RandomAdjustSharpness(1.6, 1.0),
            ga.RandomRotation(40, fill=FILL),
        ],
        5,
        torch.uint8,
    ),
    "neighbours at the taps of a smooth warp": (
        [
            ga.RandomHorizontalFlip(1.0),
            ga.GaussianBlur((3, 5), 1.3),
            ga.RandomInvert(1.0),
            ga.RandomRotation(30, interpolation="bilinear", fill=FILL),
            ga.RandomVerticalFlip(1.0),
            ga.RandomAutocontrast(1.0),
        ],
        3,
        torch.float32,
    ),
    "JPEG at the taps of a smooth warp": (
        [ga.JPEG((20, 60)), ga.RandomInvert(1.0), ga.RandomRotation(30, interpolation="bilinear", fill=FILL)],
        1,
        torch.uint8,
    ),
    "an elastic transform in front of sharpness": (
        [ga.RandomHorizontalFlip(1.0), ga.ElasticTransform(30.0, 0.6, fill=FILL), ga.RandomAdjustSharpness(2.0, 1.0)],
        3,
        torch.float32,
    ),
    "neighbours behind a smooth warp": (
        [
            ga.RandomAffine(30, **WARP, interpolation="bilinear", fill=FILL),
            ga.RandomAdjustSharpness(0.0, 1.0),
            ga.RandomAffine(30, **WARP, fill=FILL),
        ],
        1,
        torch.uint8,
    ),
    "places in front of what moves pixels": (
        [
            ga.RandomErasing(1.0, (0.1, 0.3), value=FILL),
            ga.Pad(3, padding_mode="reflect"),
            ga.CoarseDropout((2, 4), (2, 5), (2, 5), fill=200, p=1.0),
            ga.RandomAffine(30, **WARP, fill=9),
            ga.GridMask((5, 8), p=1.0),
            ga.RandomRotation((90, 90)),
        ],
        0,
        None,
    ),
    "places in front of and behind smooth warps": (
        [
            ga.RandomErasing(1.0, (0.1, 0.3), value=FILL),
            ga.RandomRotation(20, interpolation="bilinear"),
            ga.RandomHorizontalFlip(1.0),
            ga.RandomErasing(1.0, (0.1, 0.3), value=0),
            ga.Pad(2, padding_mode="symmetric"),
        ],
        0,
        None,
    ),
    "places behind neighbours": (
        [
            ga.RandomAdjustSharpness(2.0, 1.0),
            ga.RandomErasing(1.0, (0.1, 0.3), value=FILL),
            ga.RandomCrop((H - 3, W - 4)),
            ga.ColorJitter(contrast=(2.0, 2.0)),
        ],
        2,
        torch.uint8,
    ),
    "grey in the middle": (
        [ga.RandomEqualize(1.0), ga.Grayscale(1), ga.RandomAutocontrast(1.0), ga.RandomEqualize(1.0), ga.Grayscale(3)],
        3,
        None,
    ),
}
CHOICE = [
    ga.RandomChoice(
        [
            ga.ColorJitter(contrast=0.8),
            ga.RandomAutocontrast(1.0),
            ga.RandomEqualize(1.0),
            ga.RandomAdjustSharpness(2.0, 1.0),
            ga.RandomErasing(1.0, value=FILL),
            ga.Identity(),
        ]
    ),
    ga.RandomCrop((13, 12)),
    ga.RandomEqualize(0.5),
]


def images(b: int, channels: int = 3, h: int = H, w: int = W, seed: int = 0) -> torch.Tensor:
    """Smooth noise with a level apart from pixel to pixel, uint8 [b, channels, h, w]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((b, channels, 4, 4), generator=generator)
    fine = 0.1 * torch.rand((b, channels, h, w), generator=generator)
    return (F.resize(coarse, [h, w], antialias=True) * 0.8 + fine).mul(255).to(torch.uint8)


@pytest.mark.parametrize("name", PIPELINES)
def test_asks_on_the_lattice(name):
    transforms, asks, kept = PIPELINES[name]
    x, augment = images(2), ga.Compose(transforms, seed=4, backend="triton")
    engine = augment.recipe(x).engine
    assert engine.asks == asks and (kept is None or engine.scratch.dtype == kept)
    assert bool(engine.scratch.images) == (kept is not None)
    params = augment.sample(x, ids=[1, 2], epoch=0)
    judges.check_batch(augment.apply(x, params), x, params)


FLOATS = [
    ga.RandomAutocontrast(1.0),
    ga.RandomAdjustSharpness(1.7, 1.0),
    ga.RandomAffine(20, fill=0.5),
    ga.ColorJitter(contrast=(0.6, 0.6)),
]


@pytest.mark.parametrize("transforms", [FLOATS, [ga.RandomEqualize(1.0)], [ga.GaussianBlur(5, 0.8)]], ids=str)
def test_asks_of_floats(transforms):
    x, augment = images(2).float() / 255, ga.Compose(transforms, seed=4, backend="triton")
    params = augment.sample(x, ids=[1, 2], epoch=0)
    judges.check_batch(augment.apply(x, params), x, params)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_blur_of_any_channels(channels):
    x, augment = images(1, channels), ga.Compose([ga.GaussianBlur(3, 0.9)], seed=4, backend="triton")
    params = augment.sample(x, ids=[1], epoch=0)
    judges.check_batch(augment.apply(x, params), x, params)


def test_one_channel_becomes_three_and_three_become_one():
    for channels, transforms in ((1, [ga.Grayscale(3), ga.RandomInvert(1.0)]), (3, [ga.Grayscale(1)])):
        x, augment = images(2, channels), ga.Compose(transforms, seed=4, backend="triton")
        params = augment.sample(x, ids=[1, 2], epoch=0)
        room = torch.full((2, 2, 4 - channels, H, W), 7, dtype=torch.uint8)
        judges.check_batch(augment.apply(x, params, out=room[:, 0]), x, params)
        assert room[:, 1].eq(7).all(), "nothing else is written"


def test_rows_of_two_sizes_ask_for_different_things():
    small, large = images(4, h=13, w=15), images(4, h=17, w=14, seed=1)
    flat = torch.cat([small.flatten(), large.flatten()])
    program = lower(CHOICE, frozenset({(13, 15), (17, 14)}), 3, torch.uint8)
    rows = torch.cat([batch_rows(small, 3 * 13 * 12), batch_rows(large, 3 * 13 * 12)])
    index = torch.arange(8)
    rows[4:, plan.ROW_SOURCE] += small.numel()
    rows[:, plan.ROW_OUT] = index * 3 * 13 * 12
    rows[:, plan.ROW_TABLE], rows[:, plan.ROW_SAMPLE] = index, index
    engine = backends.select(program, flat, "triton").Engine(program, flat.device)
    out = torch.full((8, 3, 13, 12), 77, dtype=torch.uint8)
    table = draw_and_write(engine, flat, rows, 8, index, 3, new_state(4, 5, 0, flat.device), out)
    assert len(set(table[:, 0].tolist())) > 3, "rows chose several ops"
    for i, image in enumerate([*small, *large]):
        params = Params(table, program.columns, program, (tuple(image.shape[1:]),) * len(table))
        judges.check(out[i], image, params.describe(i))
