"""Each op against torchvision on real photos, on every backend."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import judges
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

COUNT, HEIGHT, WIDTH = (2, 20, 24) if judges.INTERPRETED else (6, 45, 56)
DTYPES = {"uint8": torch.uint8} | ({} if judges.INTERPRETED else {"float32": torch.float32})


@pytest.fixture(scope="session")
def batch(photos: list[Tensor]) -> Tensor:
    """Crops of real photos, uint8 [COUNT, 3, HEIGHT, WIDTH]."""
    return judges.patches(judges.thumbnails(photos), COUNT, HEIGHT, WIDTH, seed=1)


def as_dtype(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images if dtype == torch.uint8 else F.to_dtype(images, dtype, scale=True)


def verify(augment: ga.Compose, images: Tensor, backend: str, seed: int = 0, most: float = 0.05) -> list[judges.Shares]:
    """Run and judge every sample; the median share of wide pixels is at most ``most``."""
    device_images = images.to(judges.device_of(backend))
    ids = torch.arange(images.shape[0]) + 100 * seed
    params = augment.sample(device_images, ids=ids, epoch=seed)
    outputs = augment.apply(device_images, params).cpu()
    shares = judges.check_batch(outputs, images, params)
    assert statistics.median(s.exact for s in shares) <= most, f"too many pixels are judged widely: {shares}"
    return shares


def fills(dtype: torch.dtype) -> tuple[float, tuple[float, float, float]]:
    return (201, (11, 128, 240)) if dtype == torch.uint8 else (0.8, (0.05, 0.5, 0.95))


def level(share: float, white: float) -> float:
    """A share of white as a value that a pixel may have."""
    return round(share * white) if white == 255 else share


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
    "padded-if-needed": lambda fill, fills, white: [
        ga.PadIfNeeded((27, 33), fill=fills),
        ga.RandomHorizontalFlip(),
        ga.PadIfNeeded((40, 30), padding_mode="reflect"),
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

OPS |= {
    "jitter": lambda fill, fills, white: [ga.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "jitter-hue": lambda fill, fills, white: [ga.ColorJitter(hue=0.5)],
    "jitter-saturation": lambda fill, fills, white: [ga.ColorJitter(saturation=(0.0, 3.0))],
    "random-grayscale": lambda fill, fills, white: [ga.RandomGrayscale(p=0.5)],
    "grayscale": lambda fill, fills, white: [ga.Grayscale(1)],
    "grayscale-3": lambda fill, fills, white: [ga.Grayscale(3)],
    "photometric": lambda fill, fills, white: [ga.RandomPhotometricDistort()],
    "permutation": lambda fill, fills, white: [ga.RandomChannelPermutation()],
    "posterize": lambda fill, fills, white: [ga.RandomPosterize(3, p=0.7)],
    "autocontrast": lambda fill, fills, white: [ga.RandomAutocontrast(p=0.7)],
    "equalize": lambda fill, fills, white: [ga.RandomEqualize(p=0.7)],
    "sharpness-0": lambda fill, fills, white: [ga.RandomAdjustSharpness(0.0, p=0.7)],
    "sharpness-half": lambda fill, fills, white: [ga.RandomAdjustSharpness(0.5, p=0.7)],
    "sharpness-2": lambda fill, fills, white: [ga.RandomAdjustSharpness(2.0, p=0.7)],
    "sharpness-narrow": lambda fill, fills, white: [ga.CenterCrop((20, 2)), ga.RandomAdjustSharpness(2.0, p=1.0)],
    "blur": lambda fill, fills, white: [ga.GaussianBlur(5, (0.1, 2.0))],
    "blur-oblong": lambda fill, fills, white: [ga.GaussianBlur((7, 3), (0.5, 3.0))],
    "gamma": lambda fill, fills, white: [ga.RandomGamma((0.5, 2.0), p=0.8)],
    "solarize-add": lambda fill, fills, white: [ga.SolarizeAdd(level(0.3, white), level(0.5, white), p=0.7)],
    "erase": lambda fill, fills, white: [ga.RandomErasing(p=0.8, value=fill)],
    "erase-colour": lambda fill, fills, white: [ga.RandomErasing(1.0, (0.1, 0.6), (0.2, 5.0), value=fills)],
    "dropout": lambda fill, fills, white: [ga.CoarseDropout((2, 6), (0.1, 0.3), (0.1, 0.3), fill=fills, p=0.8)],
    "grid": lambda fill, fills, white: [ga.GridMask((6, 13), fill=fills, p=0.8)],
    # combinations
    "statistic-after-warp": lambda fill, fills, white: [
        ga.RandomAffine(30, (0.1, 0.1), fill=fills),
        ga.RandomAutocontrast(p=0.6),
        ga.RandomEqualize(p=0.6),
    ],
    "statistic-after-smooth-warp": lambda fill, fills, white: [
        ga.RandomRotation(40, interpolation="bilinear", fill=fill),
        ga.ColorJitter(contrast=0.6),
        ga.RandomHorizontalFlip(),
        ga.RandomAutocontrast(p=0.6),
    ],
    "two-statistics": lambda fill, fills, white: [
        ga.RandomResizedCrop((20, 26), interpolation="nearest"),
        ga.ColorJitter(contrast=(0.3, 0.8)),
        ga.RandomAutocontrast(p=0.7),
        ga.CenterCrop((18, 20)),
        ga.RandomEqualize(p=0.7),
    ],
    "equalize-twice": lambda fill, fills, white: [ga.RandomEqualize(1.0), ga.RandomInvert(0.5), ga.RandomEqualize(1.0)],
    "equalize-after-jitter": lambda fill, fills, white: [ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.RandomEqualize(p=0.7)],
    "sharpness-before-warp": lambda fill, fills, white: [
        ga.RandomAdjustSharpness(2.0, p=0.7),
        ga.RandomRotation(45, fill=fills),
    ],
    "sharpness-before-smooth-warp": lambda fill, fills, white: [
        ga.RandomAdjustSharpness(0.5, p=0.7),
        ga.RandomAffine(30, scale=(0.7, 1.3), interpolation="bilinear", fill=fill),
    ],
    "sharpness-after-warp": lambda fill, fills, white: [
        ga.RandomAffine(30, fill=fills),
        ga.RandomAdjustSharpness(2.0, p=0.7),
        ga.RandomPosterize(5, p=0.5),
    ],
    "sharpness-after-smooth-warp": lambda fill, fills, white: [
        ga.RandomAffine(30, scale=(0.7, 1.3), interpolation="bilinear", fill=fill),
        ga.RandomAdjustSharpness(2.0, p=0.7),
    ],
    "sharpness-after-resize": lambda fill, fills, white: [
        ga.RandomResizedCrop((20, 24)),
        ga.RandomHorizontalFlip(),
        ga.RandomAdjustSharpness(0.3, p=0.7),
    ],
    "jpeg": lambda fill, fills, white: [ga.JPEG((5, 95))],
    "jpeg-low": lambda fill, fills, white: [ga.JPEG(2)],
    "jpeg-between-crops": lambda fill, fills, white: [
        ga.RandomCrop((19, 21)),
        ga.RandomApply([ga.JPEG((1, 100))], p=0.7),
        ga.RandomHorizontalFlip(),
        ga.RandomSolarize(white * 0.5, p=0.5),
        ga.CenterCrop((22, 25)),
    ],
    "jpeg-or-not": lambda fill, fills, white: [
        ga.RandomChoice([ga.JPEG((5, 60)), ga.RandomInvert(1.0), ga.RandomVerticalFlip(1.0)]),
        ga.RandomApply([ga.JPEG(35)]),
    ],
    "warp-after-jpeg": lambda fill, fills, white: [
        ga.JPEG((5, 60)),
        ga.RandomAdjustSharpness(2.0, p=0.5),
        ga.RandomAffine(30, interpolation="bilinear", fill=fills),
    ],
    "elastic": lambda fill, fills, white: [ga.ElasticTransform(30.0, 1.5, fill=fills)],
    "elastic-nearest": lambda fill, fills, white: [ga.ElasticTransform((20.0, 60.0), (0.4, 2.0), "nearest", fill)],
    "elastic-between": lambda fill, fills, white: [
        ga.ColorJitter(brightness=0.5, contrast=0.5),
        ga.RandomCrop((19, 21)),
        ga.RandomApply([ga.ElasticTransform(40.0, 1.0, fill=fill)], p=0.7),
        ga.RandomHorizontalFlip(),
        ga.RandomChoice([ga.ColorJitter(0.3), ga.RandomInvert(1.0)]),
        ga.Pad(2, fill=fills),
    ],
    "elastic-order": lambda fill, fills, white: [
        ga.RandomOrder([ga.ElasticTransform(20.0, 0.8), ga.RandomVerticalFlip(), ga.RandomSolarize(white * 0.5)]),
    ],
    "blur-after-resize": lambda fill, fills, white: [ga.Resize((20, 26)), ga.GaussianBlur(3, (0.5, 1.5))],
    "statistic-between-flips": lambda fill, fills, white: [
        ga.RandomOrder(
            [ga.RandomErasing(p=0.5), ga.RandomHorizontalFlip(), ga.RandomAutocontrast(), ga.RandomEqualize()]
        ),
    ],
    "sharpness-after-crop": lambda fill, fills, white: [
        ga.RandomCrop((20, 24)),
        ga.RandomAdjustSharpness(2.0, p=0.7),
        ga.RandomHorizontalFlip(),
    ],
    "neighbours-twice": lambda fill, fills, white: [
        ga.GaussianBlur(3, (0.5, 1.5)),
        ga.RandomInvert(p=0.5),
        ga.RandomAdjustSharpness(1.5, p=0.7),
        ga.RandomVerticalFlip(),
    ],
    "statistic-after-sharpness": lambda fill, fills, white: [
        ga.RandomAdjustSharpness(2.0, p=0.7),
        ga.ColorJitter(contrast=0.5),
        ga.RandomEqualize(p=0.5),
    ],
    "erase-then-rotate": lambda fill, fills, white: [
        ga.RandomErasing(p=0.8, value=fills),
        ga.RandomRotation(45, fill=fill),
        ga.RandomSolarize(white * 0.5, p=0.5),
    ],
    "erase-then-rotate-smoothly": lambda fill, fills, white: [
        ga.ColorJitter(brightness=0.4),
        ga.RandomErasing(p=0.8, value=fills),
        ga.RandomRotation(45, interpolation="bilinear", fill=fill),
        ga.RandomInvert(p=0.5),
    ],
    "statistic-of-the-erased": lambda fill, fills, white: [
        ga.CoarseDropout((1, 3), (0.2, 0.4), (0.2, 0.4), fill=fills, p=0.8),
        ga.ColorJitter(contrast=0.6),
        ga.RandomEqualize(p=0.5),
        ga.GridMask((6, 13), p=0.8),
    ],
    "grayscale-in-the-middle": lambda fill, fills, white: [
        ga.RandomAffine(20, fill=fills),
        ga.Grayscale(1),
        ga.ColorJitter(0.4, 0.4),
        ga.RandomRotation(20, fill=fill),
    ],
    "ssd": lambda fill, fills, white: [
        ga.RandomPhotometricDistort(),
        ga.RandomResizedCrop((20, 24)),
        ga.RandomHorizontalFlip(),
    ],
}
# a histogram multiplies what is uncertain before it: the ties of a nearest warp, the levels of a blend in float32
UNCERTAIN = {
    "equalize-after-jitter",
    "statistic-after-warp",
    "statistic-after-sharpness",
    "two-statistics",
    "statistic-of-the-erased",
}
ONE_CHANNEL = [
    *("brightness", "contrast", "solarize", "invert", "affine-bilinear", "rrc", "jitter", "random-grayscale"),
    *("grayscale", "grayscale-3", "photometric", "permutation", "posterize", "autocontrast", "equalize"),
    *("sharpness-2", "blur", "jpeg", "elastic", "gamma", "solarize-add", "erase", "dropout", "grid", "two-statistics"),
]
POINTWISE = ["brightness", "jitter-saturation", "random-grayscale", "permutation", "posterize", "solarize"]
POINTWISE += ["solarize-add", "invert", "erase-colour", "dropout", "grid", "jitter-hue", "gamma"]


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_op(op: str, dtype: str, backend: str, batch: Tensor) -> None:
    images = as_dtype(batch, DTYPES[dtype])
    transforms = OPS[op](*fills(images.dtype), 255 if images.dtype == torch.uint8 else 1.0)
    augment = ga.Compose(transforms, seed=7, backend=backend)
    most = 0.05 if op not in UNCERTAIN else 0.5 if judges.INTERPRETED else 0.15  # of two samples, or of six
    for seed in range(1 if judges.INTERPRETED else 3):
        verify(augment, images, backend, seed, most=most)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("op", ONE_CHANNEL)
def test_one_channel(op: str, backend: str, photos: list[Tensor]) -> None:
    grey = [photo for photo in photos if photo.shape[0] == 1]
    assert grey, "the photos hold greyscale ones"
    images = judges.patches(grey, COUNT, HEIGHT, WIDTH)
    verify(ga.Compose(OPS[op](201, (9,), 255), seed=1, backend=backend), images, backend)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("op", POINTWISE)
def test_pointwise_to_the_bit(op: str, backend: str, photos: list[Tensor]) -> None:
    """On uint8 what looks at one pixel only is torchvision's to the bit."""
    size = (HEIGHT, WIDTH) if judges.INTERPRETED else (300, 300)
    images = judges.patches([p for p in photos if p.shape[0] == 3 and min(p.shape[1:]) >= size[0]], 4, *size, seed=3)
    augment = ga.Compose(OPS[op](201, (11, 128, 240), 255), seed=4, backend=backend)
    device_images = images.to(judges.device_of(backend))
    params = augment.sample(device_images, ids=range(4), epoch=0)
    assert any(params.describe(i) for i in range(4))
    for i, output in enumerate(augment.apply(device_images, params).cpu()):
        expected = judges.replay(images[i], params.describe(i))
        assert torch.equal(output, expected), f"{int((output != expected).sum())} values differ: {params.describe(i)}"


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("size", [(5, 7), (5, 2)])
def test_sharpness_clamps_overshoot(size: tuple[int, int], backend: str) -> None:
    """Floats beyond [0, 1] are clamped, the outermost pixels too, unless the image is too small to be sharpened."""
    x = torch.linspace(-0.2, 1.2, 2 * 3 * size[0] * size[1]).reshape(2, 3, *size)
    augment = ga.Compose([ga.RandomAdjustSharpness(0.5, p=1.0)], seed=0, backend=backend)
    y = augment(x.to(judges.device_of(backend))).cpu()
    torch.testing.assert_close(y, F.adjust_sharpness(x, 0.5), atol=1e-6, rtol=0)
    assert (y.min() >= 0.0) == (min(size) > 2)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_gamma_of_a_hair_below_zero(backend: str) -> None:
    """Weights of a bilinear sample that sum to 1 but for rounding leave such values, and their power is no number."""
    values = torch.tensor([-1e-7, -0.0, 0.0, 0.25, 0.5, 1.0])
    images = values.expand(2, 3, 4, 6).contiguous().to(judges.device_of(backend))
    for power in (0.4, 2.5):
        out = ga.Compose([ga.RandomGamma((power, power), p=1.0)], seed=0, backend=backend)(images).cpu()
        assert (out[..., :3] == 0).all(), out[0, 0, 0]
        torch.testing.assert_close(out, (values.clamp_min(0) ** power).expand_as(out), rtol=0, atol=1e-5)


@pytest.mark.skipif(judges.INTERPRETED, reason="whole photos take Triton's interpreter minutes")
@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize(
    "op",
    [
        "imagenet-train",
        "rrc-bicubic",
        "affine-bilinear",
        "perspective",
        "contrast",
        "equalize",
        "sharpness-2",
        "jitter",
    ],
)
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
