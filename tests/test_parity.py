"""Each op against torchvision on real photos, on every backend; and the judge against engines that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import judges
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

COUNT, HEIGHT, WIDTH = (2, 20, 24) if judges.INTERPRETED else (6, 45, 56)
DTYPES = {"uint8": torch.uint8} | ({} if judges.INTERPRETED else {"float32": torch.float32})


@pytest.fixture(scope="module")
def batch(photos: list[Tensor]) -> Tensor:
    """Crops of real photos, uint8 [COUNT, 3, HEIGHT, WIDTH]."""
    return judges.patches(judges.thumbnails(photos), COUNT, HEIGHT, WIDTH, seed=1)


def as_dtype(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images if dtype == torch.uint8 else F.to_dtype(images, dtype, scale=True)


def verify(augment: ga.Compose, images: Tensor, backend: str, seed: int = 0) -> list[judges.Shares]:
    """Run and judge every sample; the mean share of wide pixels must be small."""
    device_images = images.to(judges.device_of(backend))
    ids = torch.arange(images.shape[0]) + 100 * seed
    params = augment.sample(device_images, ids=ids, epoch=seed)
    outputs = augment.apply(device_images, params).cpu()
    shares = judges.check_batch(outputs, images, params)
    assert sum(s.exact for s in shares) / len(shares) < 0.05, f"too many pixels are judged widely: {shares}"
    return shares


def fills(dtype: torch.dtype) -> tuple[float, tuple[float, float, float]]:
    return (201, (11, 128, 240)) if dtype == torch.uint8 else (0.8, (0.05, 0.5, 0.95))


# one row per op: name -> the list of transforms, given a scalar fill, a fill per channel and the white level
OPS: dict[str, Callable] = {
    "identity": lambda fill, fills, white: [ga.Identity(), ga.ToImage(), ga.ToPureTensor()],
    "hflip": lambda fill, fills, white: [ga.RandomHorizontalFlip(p=0.5)],
    "vflip": lambda fill, fills, white: [ga.RandomVerticalFlip(p=0.5)],
    "resize-short": lambda fill, fills, white: [ga.Resize(31)],
    "resize-max": lambda fill, fills, white: [ga.Resize(30, max_size=34)],
    "resize-nearest": lambda fill, fills, white: [ga.Resize((23, 71), interpolation="nearest")],
    "resize-exact": lambda fill, fills, white: [ga.Resize((23, 71), interpolation="nearest-exact")],
    "resize-plain": lambda fill, fills, white: [ga.Resize((19, 80), antialias=False)],
    "resize-bicubic": lambda fill, fills, white: [ga.Resize((19, 80), interpolation="bicubic")],
    "resize-bicubic-plain": lambda fill, fills, white: [ga.Resize((19, 80), interpolation="bicubic", antialias=False)],
    "center-crop": lambda fill, fills, white: [ga.CenterCrop((18, 21))],
    "center-crop-larger": lambda fill, fills, white: [ga.CenterCrop((50, 41))],
    "crop": lambda fill, fills, white: [ga.RandomCrop((16, 20))],
    "crop-fill": lambda fill, fills, white: [ga.RandomCrop((20, 24), padding=4, fill=fills)],
    "crop-edge": lambda fill, fills, white: [ga.RandomCrop((20, 24), padding=(3, 5), padding_mode="edge")],
    "crop-reflect": lambda fill, fills, white: [ga.RandomCrop(20, padding=(1, 2, 3, 4), padding_mode="reflect")],
    "crop-symmetric": lambda fill, fills, white: [ga.RandomCrop(20, padding=4, padding_mode="symmetric")],
    "crop-if-needed": lambda fill, fills, white: [ga.RandomCrop(60, pad_if_needed=True, fill=fill)],
    "pad": lambda fill, fills, white: [ga.Pad((1, 2, 3, 4), fill=fills)],
    "pad-scalar": lambda fill, fills, white: [ga.Pad(3, fill=fill)],
    "pad-edge": lambda fill, fills, white: [ga.Pad((5, 2), padding_mode="edge")],
    "pad-reflect": lambda fill, fills, white: [ga.Pad((5, 2), padding_mode="reflect")],
    "pad-symmetric": lambda fill, fills, white: [ga.Pad((5, 2), padding_mode="symmetric")],
    "rrc": lambda fill, fills, white: [ga.RandomResizedCrop((17, 22))],
    "rrc-bicubic": lambda fill, fills, white: [ga.RandomResizedCrop(20, interpolation="bicubic")],
    "rrc-plain": lambda fill, fills, white: [ga.RandomResizedCrop(20, antialias=False)],
    "rrc-nearest": lambda fill, fills, white: [ga.RandomResizedCrop(20, interpolation="nearest")],
    "rotation": lambda fill, fills, white: [ga.RandomRotation(180, fill=fills)],
    "rotation-bilinear": lambda fill, fills, white: [ga.RandomRotation(60, interpolation="bilinear", fill=fill)],
    "rotation-center": lambda fill, fills, white: [ga.RandomRotation((10, 50), center=(0, 0), fill=fill)],
    "rotation-quarter": lambda fill, fills, white: [ga.CenterCrop(20), ga.RandomRotation((90, 90))],
    "rotation-half": lambda fill, fills, white: [ga.RandomRotation((180, 180), interpolation="bilinear")],
    "affine": lambda fill, fills, white: [ga.RandomAffine(45, (0.2, 0.1), (0.7, 1.4), (-20, 20, -10, 10), fill=fills)],
    "affine-bilinear": lambda fill, fills, white: [
        ga.RandomAffine(45, (0.2, 0.1), (0.7, 1.4), 15, interpolation="bilinear", fill=fills)
    ],
    "affine-center": lambda fill, fills, white: [
        ga.RandomAffine(30, scale=(0.5, 2.0), interpolation="bilinear", fill=fill, center=(3, 15))
    ],
    "perspective": lambda fill, fills, white: [ga.RandomPerspective(0.5, p=0.8, fill=fills)],
    "perspective-nearest": lambda fill, fills, white: [ga.RandomPerspective(0.6, p=1, interpolation="nearest")],
    "brightness": lambda fill, fills, white: [ga.ColorJitter(brightness=0.9)],
    "contrast": lambda fill, fills, white: [ga.ColorJitter(contrast=(0.0, 2.5))],
    "brightness-contrast": lambda fill, fills, white: [ga.ColorJitter(brightness=0.5, contrast=0.5)],
    "solarize": lambda fill, fills, white: [ga.RandomSolarize(white * 0.5, p=0.7)],
    "invert": lambda fill, fills, white: [ga.RandomInvert(p=0.5)],
    "to-float": lambda fill, fills, white: [ga.ToDtype(torch.float32, scale=True)],
    "normalize": lambda fill, fills, white: [
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
    ],
    "jitter-after-warp": lambda fill, fills, white: [
        ga.RandomAffine(30, interpolation="bilinear", fill=fills),
        ga.ColorJitter(brightness=0.4, contrast=0.4),
    ],
    "warp-after-jitter": lambda fill, fills, white: [
        ga.ColorJitter(brightness=0.4, contrast=0.4),
        ga.RandomSolarize(white * 0.4, p=0.5),
        ga.RandomAffine(30, interpolation="bilinear", fill=fills),
    ],
    "crop-then-rotate": lambda fill, fills, white: [
        ga.CenterCrop((18, 20)),
        ga.RandomRotation(45, fill=fills),
        ga.RandomInvert(p=0.5),
        ga.RandomAffine(45, fill=fill),
        ga.Pad(2, padding_mode="reflect"),
    ],
    "warp-then-flip": lambda fill, fills, white: [
        ga.RandomRotation((20, 40), fill=fills),
        ga.RandomHorizontalFlip(p=0.7),
        ga.RandomVerticalFlip(p=0.7),
    ],
    "imagenet-train": lambda fill, fills, white: [
        ga.RandomResizedCrop(20),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(brightness=0.4, contrast=0.4),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
    ],
}


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_op(op: str, dtype: str, backend: str, batch: Tensor) -> None:
    images = as_dtype(batch, DTYPES[dtype])
    transforms = OPS[op](*fills(images.dtype), 255 if images.dtype == torch.uint8 else 1.0)
    augment = ga.Compose(transforms, seed=7, backend=backend)
    for seed in range(1 if judges.INTERPRETED else 3):
        verify(augment, images, backend, seed)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("op", ["brightness", "contrast", "solarize", "invert", "affine-bilinear", "rrc"])
def test_one_channel(op: str, backend: str, photos: list[Tensor]) -> None:
    grey = [photo for photo in photos if photo.shape[0] == 1]
    assert grey, "the photos hold greyscale ones"
    images = judges.patches(grey, COUNT, HEIGHT, WIDTH)
    verify(ga.Compose(OPS[op](201, (9,), 255), seed=1, backend=backend), images, backend)


@pytest.mark.skipif(judges.INTERPRETED, reason="whole photos take Triton's interpreter minutes")
@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("op", ["imagenet-train", "rrc-bicubic", "affine-bilinear", "perspective", "contrast"])
def test_whole_photos(op: str, backend: str, photos: list[Tensor]) -> None:
    augment = ga.Compose(OPS[op](201, (11, 128, 240), 255), seed=3, backend=backend)
    for photo in [p for p in photos if p.shape[0] == 3][:4]:
        verify(augment, photo[None].expand(2, -1, -1, -1), backend)


@pytest.mark.parametrize(
    "op", ["rrc", "crop-fill", "affine-bilinear", "perspective", "brightness-contrast", "solarize"]
)
@pytest.mark.skipif(judges.INTERPRETED, reason="compares the backends of the other process")
def test_backends_decide_alike(op: str, batch: Tensor) -> None:
    """The calls and whole numbers agree to the bit; factors and matrices to the last places."""
    transforms = OPS[op](201, (11, 128, 240), 255)
    drawn = {}
    for backend in ("cpu", "kornia"):
        params = ga.Compose(transforms, seed=5, backend=backend).sample(batch, ids=range(COUNT), epoch=1)
        drawn[backend] = [params.describe(i) for i in range(COUNT)]
    for ours, theirs in zip(drawn["cpu"], drawn["kornia"], strict=True):
        assert [record["call"] for record in ours] == [record["call"] for record in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one["kwargs"].keys() == other["kwargs"].keys()
            for name, value in one["kwargs"].items():
                assert_close(value, other["kwargs"][name])


def assert_close(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_close(a, b)
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)
    else:
        assert one == other


@pytest.mark.skipif(judges.INTERPRETED, reason="the differentiable backend is kornia's")
@pytest.mark.parametrize("backend", ["auto", "kornia"])
@pytest.mark.parametrize(
    "transforms",
    [
        [ga.RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10, interpolation="bilinear", fill=0.3)],
        [ga.RandomResizedCrop(9), ga.RandomHorizontalFlip(1.0), ga.Normalize([0.5], [0.25])],
        [ga.Resize((20, 7), interpolation="bicubic"), ga.RandomPerspective(0.3, 1.0, fill=0.3)],
        [ga.Pad(2, padding_mode="reflect"), ga.RandomRotation(40), ga.ColorJitter(contrast=(0.5, 0.9))],
        [ga.ColorJitter(brightness=(0.5, 0.9), contrast=(0.5, 0.9)), ga.RandomInvert(1.0), ga.RandomCrop(9)],
    ],
)
def test_gradients(transforms: list, backend: str) -> None:
    """Against central differences along random directions; inside the clamps these ops are linear in the pixels."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(2, 3, 12, 14, generator=generator)
    augment = ga.Compose(transforms, seed=2, backend=backend)
    variable = images.clone().requires_grad_()
    out = augment(variable, ids=[0, 1], epoch=0)
    weights = torch.randn(out.shape, generator=generator)
    (gradient,) = torch.autograd.grad((out * weights).sum(), variable)
    kornia = ga.Compose(transforms, seed=2, backend="kornia")
    for _ in range(4):
        direction, step = torch.rand(images.shape, generator=generator) - 0.5, 0.05
        ends = [kornia(images + sign * step * direction, ids=[0, 1], epoch=0).double() for sign in (1, -1)]
        slope = ((ends[0] - ends[1]) * weights).sum() / (2 * step)
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=2e-3, abs=2e-3)


# --- the judge itself: what it must accept, and engines that are wrong in one way each -------------------------------
CALLS = {
    "angle": {"call": "affine", "kwargs": {"angle": 25.0, "translate": [3, -2], "scale": 1.1, "shear": [8.0, 0.0],
              "interpolation": "bilinear", "fill": [11.0, 128.0, 240.0], "center": None}},
    "snap": {"call": "rotate", "kwargs": {"angle": 33.0, "interpolation": "nearest", "expand": False, "center": None,
             "fill": [11.0, 128.0, 240.0]}},
    "window": {"call": "resized_crop", "kwargs": {"top": 5, "left": 7, "height": 31, "width": 29, "size": [20, 24],
               "interpolation": "bilinear", "antialias": True}},
    "bright": {"call": "adjust_brightness", "kwargs": {"brightness_factor": 1.2300000190734863}},
    "contrast": {"call": "adjust_contrast", "kwargs": {"contrast_factor": 0.7099999785423279}},
    "solarize": {"call": "solarize", "kwargs": {"threshold": 128.0}},
    "flip": {"call": "horizontal_flip", "kwargs": {}},
}  # fmt: skip


def changed(record: dict, **kwargs: object) -> dict:
    return {"call": record["call"], "kwargs": {**record["kwargs"], **kwargs}}


WRONG: dict[str, tuple[list[dict], list[dict]]] = {
    "angle's sign": ([CALLS["angle"]], [changed(CALLS["angle"], angle=-25.0)]),
    "angle by 0.3 degrees": ([CALLS["angle"]], [changed(CALLS["angle"], angle=25.3)]),
    "shift by a pixel": ([CALLS["angle"]], [changed(CALLS["angle"], translate=[3, -1])]),
    "shear ignored": ([CALLS["angle"]], [changed(CALLS["angle"], shear=[0.0, 0.0])]),
    "centre by half a pixel": ([CALLS["snap"]], [changed(CALLS["snap"], center=[28.5, 23.0])]),
    "black fill": ([CALLS["snap"]], [changed(CALLS["snap"], fill=0)]),
    "fill of the wrong channel": ([CALLS["snap"]], [changed(CALLS["snap"], fill=[240.0, 128.0, 11.0])]),
    "nearest for bilinear": ([CALLS["angle"]], [changed(CALLS["angle"], interpolation="nearest")]),
    "crop off by one": ([CALLS["window"]], [changed(CALLS["window"], top=6)]),
    "no antialias": ([CALLS["window"]], [changed(CALLS["window"], antialias=False)]),
    "bicubic for bilinear": ([CALLS["window"]], [changed(CALLS["window"], interpolation="bicubic")]),
    "factor by 0.005": ([CALLS["bright"]], [changed(CALLS["bright"], brightness_factor=1.235)]),
    "no solarize": ([CALLS["window"], CALLS["solarize"]], [CALLS["window"]]),
    "threshold by 2": ([CALLS["solarize"]], [changed(CALLS["solarize"], threshold=126.0)]),
    "order": ([CALLS["bright"], CALLS["contrast"]], [CALLS["contrast"], CALLS["bright"]]),
    "pixel op before its fill": ([CALLS["snap"], CALLS["solarize"]], [CALLS["solarize"], CALLS["snap"]]),
    "flip at the wrong end": ([CALLS["flip"], CALLS["snap"]], [CALLS["snap"], CALLS["flip"]]),
}


@pytest.fixture(scope="module")
def crops(photos: list[Tensor]) -> Tensor:
    return judges.patches(judges.thumbnails(photos), 6, 45, 56, seed=2)


@pytest.mark.parametrize("wrong", WRONG)
def test_judge_refuses(wrong: str, crops: Tensor) -> None:
    right, mistaken = WRONG[wrong]
    for image in crops:
        judges.check(judges.judge(image, right, exact=True).ref, image, right)
        assert not judges.judge(image, right).accepts(judges.replay(image, mistaken)), wrong


def without_lattice(image: Tensor, records: list[dict]) -> Tensor:
    """A wrong engine: floats through and through, rounded at the store only."""
    value = image.float() / 255
    for record in records:
        kwargs = dict(record["kwargs"])
        for name in kwargs.keys() & {"fill", "threshold"}:
            kwargs[name] = [v / 255 for v in kwargs[name]] if isinstance(kwargs[name], list) else kwargs[name] / 255
        value = getattr(F, record["call"])(value, **kwargs)
    return (value * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    "records", [["bright"], ["contrast"], ["bright", "contrast"], ["window", "bright", "contrast"]]
)
def test_judge_refuses_a_missing_truncation(records: list[str], crops: Tensor) -> None:
    calls = [CALLS[name] for name in records]
    refused = [not judges.judge(image, calls).accepts(without_lattice(image, calls)) for image in crops]
    assert all(refused) if "window" not in records else any(refused)


def test_judge_accepts_a_double_blend_unless_exact(crops: Tensor) -> None:
    for image in crops:
        plain, exact = (judges.judge(image, [CALLS["angle"]], exact) for exact in (False, True))
        assert plain.accepts(plain.ref) and plain.accepts(exact.ref) and exact.accepts(exact.ref)
        assert not exact.accepts(plain.ref), "torchvision's double blend is an edge effect of some levels"
        differ = (plain.ref.int() - exact.ref.int()).abs() > 1
        cover = F.affine(torch.ones(1, *crops.shape[-2:]), **{**CALLS["angle"]["kwargs"], "fill": None})
        assert not (differ & (cover == 1)).any() and not (differ & (cover == 0)).any()


def test_judge_allows_either_side_of_a_tie() -> None:
    ramp = torch.arange(10, 170, 10, dtype=torch.uint8).expand(1, 16, 16)
    half = {"call": "affine", "kwargs": {"angle": 0.0, "translate": [0.5, 0.0], "scale": 1.0, "shear": [0.0, 0.0],
            "interpolation": "nearest", "fill": 0, "center": None}}  # fmt: skip
    verdict = judges.judge(ramp, [half])
    assert verdict.wide().all()
    left, right = ramp.roll(1, -1), ramp.clone()
    left[..., 0] = 0
    assert verdict.accepts(left) and verdict.accepts(right)
    assert not verdict.accepts(ramp.roll(-1, -1))


def test_judge_closed_forms_match_torch_in_float64(crops: Tensor) -> None:
    image = crops[0].double()
    for mode in judges.SMOOTH:
        for antialias in (True, False):
            for size in ((9, 100), (100, 9), (46, 55), (1, 1)):
                pairs = zip(image.shape[-2:], size, strict=True)
                rows, columns = (judges.resample_matrix(a, b, mode, antialias) for a, b in pairs)
                expected = F.resize(image, list(size), interpolation=F.InterpolationMode(mode), antialias=antialias)
                torch.testing.assert_close(rows @ image @ columns.T, expected, rtol=1e-5, atol=1e-3)
