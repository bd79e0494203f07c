"""The pipelines that the triton backend's compiled kernels are judged by, on a GPU and on the emulator of PTX."""

from __future__ import annotations

import judges
import torch
import torch.nn.functional as F
from engines import draw_and_write
from torch import Tensor

import gpuaug as ga
from gpuaug import backends
from gpuaug.compose import Params
from gpuaug.kernels.shared import plan
from gpuaug.keys import new_state
from gpuaug.lowering import lower
from gpuaug.recipe import batch_rows

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TO_FLOAT = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
JITTER = ga.ColorJitter(0.4, 0.4, 0.4, 0.1)
JITTERED = ga.RandomApply([ga.ColorJitter(0.4, saturation=0.4)])
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
    "jpeg": (
        [ga.RandomCrop((77, 83)), ga.RandomApply([ga.JPEG((5, 95))]), ga.RandomVerticalFlip(), ga.JPEG((1, 100))],
        0.0,
    ),
    "jpeg_and_more": (
        [ga.RandomGrayscale(), ga.JPEG((5, 95)), ga.RandomRotation(20), ga.RandomAdjustSharpness(3.0), ga.JPEG(50)],
        0.01,
    ),
    "elastic": (
        [
            ga.RandomResizedCrop(64),
            ga.RandomApply([ga.ElasticTransform((40.0, 20.0), (3.0, 2.0), fill=90)]),
            ga.RandomAdjustSharpness(2.0),
            ga.ElasticTransform(20.0, 1.0, "bicubic"),
            *TO_FLOAT,
        ],
        0.005,
    ),
    "noise": (
        [ga.GaussianNoise(), ga.RandomRotation(30), ga.SaltAndPepper(0.1), *TO_FLOAT, ga.RandomErasing(value="random")],
        0.02,
    ),
    "erasing": ([ga.RandomErasing(p=1.0), ga.RandomAffine(20), ga.CoarseDropout(), ga.GridMask((9, 30))], 0.005),
    "perspective": ([ga.RandomPerspective(0.5, p=1.0, interpolation="bilinear", fill=90), ga.CenterCrop(64)], 0.002),
    "mixup": ([ga.RandomCrop(64), ga.RandomHorizontalFlip(), ga.MixUp(alpha=0.4), JITTERED, *TO_FLOAT], 0.0),
    "cutmix": ([ga.RandomResizedCrop(64), JITTER, *TO_FLOAT, ga.CutMix(pair="flip")], 0.005),
    "mixing": (
        [
            ga.RandomResizedCrop(64),
            ga.RandomRotation(20),
            ga.RandomAdjustSharpness(3.0),
            *TO_FLOAT,
            ga.RandomErasing(),
            ga.RandomApply([ga.RandomChoice([ga.MixUp(per="batch"), ga.CutMix(per="batch")])], p=0.8),
            ga.RandomErasing(value="random"),
        ],
        0.02,
    ),
    "augmix": ([ga.RandomCrop(64), ga.AugMix(), *TO_FLOAT], 0.02),
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

NAN_KEPT = [
    *(ga.ColorJitter(**{part: (0.7, 0.7)}) for part in ("brightness", "contrast", "saturation")),
    *(ga.RandomPosterize(3, p=1.0), ga.RandomSolarize(0.5, p=1.0), ga.SolarizeAdd(0.1), ga.RandomInvert(1.0)),
    *(ga.ColorJitter(hue=(0.1, 0.1)), ga.RandomAutocontrast(1.0), ga.RandomGrayscale(1.0), ga.RandomGamma((0.8, 0.8))),
    *(ga.RandomAdjustSharpness(2.0, p=1.0), ga.GaussianBlur(3), ga.RandomErasing(p=1.0), ga.GaussianNoise()),
]


def images(b: int, h: int = 96, w: int = 112, seed: int = 0, channels: int = 3) -> torch.Tensor:
    """Smooth noise, uint8 [b, channels, h, w]."""
    noise = torch.rand((b, channels, h // 4, w // 4), generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(noise, (h, w), mode="bicubic", align_corners=False).clamp(0, 1) * 255).round().to(torch.uint8)


def compose(name: str, backend: str = "triton", **keywords) -> ga.Compose:
    return ga.Compose(PIPELINES[name][0], seed=5, backend=backend, **keywords)


def reference(name: str, layout: str, b: int) -> tuple[Tensor, Tensor, Params, Tensor]:
    """Images and ids, and what the cpu backend draws for them and makes of them."""
    x, ids = images(b).contiguous(memory_format=LAYOUTS[layout]), torch.arange(b) * 2**33
    augment = compose(name, "cpu")
    params = augment.sample(x, ids=ids, epoch=4)
    return x, ids, params, augment.apply(x, params)


def check(name: str, found: Tensor, expected: Tensor) -> None:
    """Whether a backend's images are those of another, but for what ties may bring about."""
    assert found.dtype == expected.dtype and found.stride() == expected.stride()
    apart = (found.cpu().float() - expected.float()).abs()
    level = 1.0 if expected.dtype == torch.uint8 else LEVEL
    share = PIPELINES[name][1]
    assert (apart > level).float().mean() <= share, f"up to {float(apart.max())} apart"
    assert (apart > 1e-3).float().mean() <= share + 0.01


def kinds(device: str) -> tuple[Tensor, dict]:
    """Images, and what is beside them: masks of instances, boxes and keypoints, padded."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 9, (4, 2, 60, 70), generator=generator)
    at = torch.rand(4, 3, 2, generator=generator) * 40
    boxes = torch.cat((at, at + 15.0), 2)
    boxes[1, 2], boxes[3] = torch.nan, torch.nan
    beside = {"masks": masks, "boxes": boxes, "keypoints": at.clone()}
    return images(4, 60, 70).to(device), {name: value.to(device) for name, value in beside.items()}


KINDS = [
    ga.RandomResizedCrop(32),
    ga.RandomAffine(20, fill=3),
    ga.RandomChoice([ga.RandomHorizontalFlip(1.0), ga.RandomPerspective(0.3, 1.0)]),
    ga.SanitizeBoundingBoxes(),
]


def check_kinds(found: tuple, expected: tuple) -> None:
    """Whether masks, boxes and keypoints of one backend are those of another."""
    (_, *found), (_, *expected) = found, expected
    assert (found[0].cpu() != expected[0]).float().mean() <= 1e-3
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(one.cpu().isnan(), other.isnan())
        assert (one.cpu() - other).nan_to_num(0.0).abs().max() <= 1e-3


def check_nan_stays(backend: str, device: str) -> None:
    """NaN is where torchvision has it behind each op that maps colours; a GPU's own clamps would make 0 of it.

    Autocontrast leaves NaN out of its extremes; torchvision makes NaN of the whole channel.
    """
    x = images(1, 12, 16)[0] / 255
    x[0, 3, 5], x[:, 7, 7] = float("nan"), float("nan")
    augment, x = ga.Compose([ga.RandomChoice(NAN_KEPT)], seed=1, backend=backend), x.to(device)
    drawn = augment.sample(x.expand(200, -1, -1, -1), ids=range(200), epoch=0)
    ids = {record["call"]: i for i in range(200) for record in drawn.describe(i)}
    assert len(ids) == len(NAN_KEPT)
    given = x.expand(len(ids), -1, -1, -1)
    params, x = augment.sample(given, ids=[*ids.values()], epoch=0), x.cpu()
    found = augment.apply(given, params).cpu()
    for i, call in enumerate(ids):
        there = x if call == "autocontrast" else judges.replay(x, params.describe(i))
        assert torch.equal(found[i].isnan(), there.isnan()), call


def check_rows_of_two_sizes_and_two_views(device: str) -> None:
    """Three images of two sizes, twice each, in one call."""
    small, large = images(2, 70, 64).to(device), images(1, 96, 131, seed=1).to(device)
    flat = torch.cat([small.flatten(), large.flatten()])
    program = lower(PIPELINES["jitter"][0], frozenset({(70, 64), (96, 131)}), 3, torch.uint8)
    elements = 3 * 64 * 64
    rows = torch.cat([batch_rows(small, elements), batch_rows(large, elements)]).repeat(2, 1)
    rows[[2, 5], plan.ROW_SOURCE] = small.numel()
    rows[:, plan.ROW_SAMPLE] = torch.tensor([0, 1, 2] * 2)
    rows[:, plan.ROW_VIEW] = torch.tensor([0, 0, 0, 1, 1, 1])
    rows[:, plan.ROW_TABLE] = torch.arange(6)
    rows[:, plan.ROW_OUT] = torch.arange(6) * elements
    out = torch.full((6, 3, 64, 64), float("nan"), device=device)
    state = new_state(5, 0, 0, flat.device)
    engine = backends.select(program, flat, "triton").Engine(program, flat.device)
    table = draw_and_write(engine, flat, rows.to(device), 6, torch.arange(3, device=device), 0, state, out)
    augment = compose("jitter")
    assert torch.equal(out[:2], augment(small, ids=[0, 1], epoch=0))
    assert torch.equal(out[2:3], augment(large, ids=[2], epoch=0))
    assert not torch.equal(table[:3], table[3:]) and out.isfinite().all()
