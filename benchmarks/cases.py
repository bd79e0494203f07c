"""The pipelines that are timed, each written once for every library, and the images they run on.

A case is a list of ops; what follows them is always the same: to floats in [0, 1], then normalise; float32 and
contiguous [B, 3, OH, OW], if the case does not say otherwise. What a library's version does differently is said in
`differs`; why it has none, in `lacks`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import gpuaug as ga

from . import ROOT

DATA = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data"))
NO_ANTIALIAS = "no antialias when it shrinks (less work)"
TAIL = "to float32 in [0, 1], normalise"


@dataclass(frozen=True)
class Case:
    """One pipeline and the batch it is timed on.

    Attributes:
        batch, size, out_size: B, the uint8 input's H = W, the output's OH = OW; 3 channels.
        last: gpuaug's ops that stand behind all others.
        dtype, channels_last: of the output. gpuaug stores it so; a peer's float32 result is cast at the end.
        ops: by library, a function that makes its ops (timm, triton_augment: their keyword arguments; nvidia.dali,
            cvcuda: the names of steps in `peers_nvidia`).
        differs: by library, what its version does differently.
        lacks: by library, why there is no version; if nothing is said, LACKS.
        targets: by library, how many times faster gpuaug is to be on a CPU than the library's fastest row that
            draws per sample in one process.
    """

    name: str
    title: str
    batch: int
    size: int
    out_size: int
    ops: Mapping[str, Callable[[], Any]]
    mean: tuple[float, ...] = ga.IMAGENET_MEAN
    std: tuple[float, ...] = ga.IMAGENET_STD
    differs: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    last: Callable[[], list] = list
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the output."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def reason_without(self, library: str) -> str:
        """Why a library has no version."""
        return self.lacks.get(library) or LACKS.get(library, "it has no such ops")

    def ours(self, backend: str) -> ga.Compose:
        """gpuaug's pipeline."""
        tail = [ga.ToDtype(self.dtype, scale=True), ga.Normalize(self.mean, self.std)]
        ops = [*self.ops["gpuaug"](), *tail, *self.last()]
        return ga.Compose(ops, seed=0, backend=backend, memory_format=self.memory_format)


def _torchvision(build: Callable[[Any], list]) -> Callable[[], list]:
    def ops() -> list:
        from torchvision.transforms import v2

        return build(v2)

    return ops


def _kornia(build: Callable[[Any], list]) -> Callable[[], list]:
    def ops() -> list:
        import kornia.augmentation as K

        return build(K)

    return ops


def import_albumentations() -> Any:
    """The module, kept from asking the network for a newer release."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _albumentations(build: Callable[[Any], list]) -> Callable[[], list]:
    return lambda: build(import_albumentations())


def _bilinear() -> Any:
    from torchvision.transforms import InterpolationMode

    return InterpolationMode.BILINEAR


def _resized_crop(size: int) -> dict[str, Callable[[], Any]]:
    return {
        "gpuaug": lambda: [ga.RandomResizedCrop(size), ga.RandomHorizontalFlip()],
        "torchvision": _torchvision(lambda v2: [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]),
        "kornia": _kornia(
            lambda K: [K.RandomResizedCrop((size, size), align_corners=False), K.RandomHorizontalFlip(p=0.5)]
        ),
        "albumentations": _albumentations(lambda A: [A.RandomResizedCrop((size, size)), A.HorizontalFlip(p=0.5)]),
        "timm": lambda: dict(input_size=size),
        "nvidia.dali": lambda: ["random_resized_crop", "flip"],
        "cvcuda": lambda: ["random_resized_crop", "flip"],
    }


def _train(size: int) -> dict[str, Callable[[], Any]]:
    return _then(
        _resized_crop(size),
        gpuaug=lambda: [ga.ColorJitter(**JITTER)],
        torchvision=_torchvision(lambda v2: [v2.ColorJitter(**JITTER)]),
        kornia=_kornia(lambda K: [K.ColorJitter(**JITTER, p=1.0)]),
        albumentations=_albumentations(
            lambda A: [A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=1.0)]
        ),
    ) | {
        "timm": lambda: dict(input_size=size, color_jitter=tuple(JITTER.values())),
        "nvidia.dali": lambda: ["random_resized_crop", "flip", "color_jitter"],
    }


LACKS = {
    "timm": "its training transform begins with RandomResizedCrop",
    "triton_augment": "it has no RandomResizedCrop",
    "nvidia.dali": "no version was written",
    "cvcuda": "no version was written",
}
LIBRARIES = ("torchvision", "kornia", "albumentations", "timm", "triton_augment", "nvidia.dali", "cvcuda")
NO_POLICIES = {
    "kornia": "its policies draw the operations once for the batch",
    "albumentations": "it has no such policy",
    "timm": "its RandAugment has other ops and magnitudes: see timm-randaugment",
    "triton_augment": "it has no such policy",
    "cvcuda": "it has no such policy",
}
NO_TIMM = dict.fromkeys(("torchvision", "kornia", "albumentations", "triton_augment"), "it has no policies by timm")
RAND = "rand-m7-mstd0.5-inc1"
GREY = tuple(round(255 * v) for v in ga.IMAGENET_MEAN)  # timm's fill
POLICIES = {
    "differs": {"nvidia.dali": "contrast and colour by its own formulas, around mid-grey (less work)"},
    "lacks": NO_POLICIES,
}
RESIZED_CROP = {
    "differs": {"kornia": NO_ANTIALIAS, "albumentations": NO_ANTIALIAS, "cvcuda": NO_ANTIALIAS},
}
TRAIN = {
    "differs": RESIZED_CROP["differs"]
    | {"nvidia.dali": "one colour matrix in a fixed order, contrast around mid-grey (less work)"},
}
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def _then(ops: Mapping[str, Callable[[], Any]], **behind: Callable[[], list]) -> dict[str, Callable[[], list]]:
    """Each library's ops with those in `behind` after them; libraries that have none there are left out."""
    return {name: lambda a=ops[name], b=more: [*a(), *b()] for name, more in behind.items()}


AFFINE = dict(degrees=15, translate=(0.1, 0.1), scale=(0.9, 1.1))

CASES = {
    case.name: case
    for case in (
        Case(
            "flip",
            "flip",
            64,
            224,
            224,
            {
                "gpuaug": lambda: [ga.RandomHorizontalFlip()],
                "torchvision": _torchvision(lambda v2: [v2.RandomHorizontalFlip()]),
                "kornia": _kornia(lambda K: [K.RandomHorizontalFlip(p=0.5)]),
                "albumentations": _albumentations(lambda A: [A.HorizontalFlip(p=0.5)]),
                "triton_augment": lambda: dict(horizontal_flip_p=0.5),
                "nvidia.dali": lambda: ["flip"],
                "cvcuda": lambda: ["flip"],
            },
        ),
        Case(
            "crop",
            "RandomCrop 256 -> 224, flip",
            64,
            256,
            224,
            {
                "gpuaug": lambda: [ga.RandomCrop(224), ga.RandomHorizontalFlip()],
                "torchvision": _torchvision(lambda v2: [v2.RandomCrop(224), v2.RandomHorizontalFlip()]),
                "kornia": _kornia(lambda K: [K.RandomCrop((224, 224)), K.RandomHorizontalFlip(p=0.5)]),
                "albumentations": _albumentations(lambda A: [A.RandomCrop(224, 224), A.HorizontalFlip(p=0.5)]),
                "triton_augment": lambda: dict(crop_size=224, horizontal_flip_p=0.5),
                "nvidia.dali": lambda: ["crop", "flip"],
                "cvcuda": lambda: ["crop", "flip"],
            },
        ),
        Case(
            "resized-crop",
            "RandomResizedCrop 256 -> 224, flip",
            64,
            256,
            224,
            _resized_crop(224),
            **RESIZED_CROP,
            targets={"torchvision": 15.0, "kornia": 12.0, "albumentations": 4.0},
        ),
        Case(
            "imagenet-train",
            "RandomResizedCrop 256 -> 224, flip, ColorJitter",
            64,
            256,
            224,
            _train(224),
            **TRAIN,
            targets={"torchvision": 22.0, "kornia": 34.0, "albumentations": 5.5},
        ),
        Case(
            "imagenet-train-bf16",
            "RandomResizedCrop 256 -> 224, flip, ColorJitter; to bfloat16, channels last",
            64,
            256,
            224,
            _train(224),
            **TRAIN,
            dtype=torch.bfloat16,
            channels_last=True,
        ),
        *(
            Case(
                f"imagenet-{op.__name__.lower()}",
                f"RandomResizedCrop 256 -> 224, flip, ColorJitter; to floats, {op.__name__}",
                64,
                256,
                224,
                {"gpuaug": _train(224)["gpuaug"]},
                lacks=dict.fromkeys(LIBRARIES, "it mixes a batch by one draw, in a call of its own"),
                last=lambda op=op: [op()],
            )
            for op in (ga.MixUp, ga.CutMix)
        ),
        Case(
            "randaugment",
            "RandomResizedCrop 256 -> 224, flip, RandAugment",
            64,
            256,
            224,
            _then(
                _resized_crop(224),
                gpuaug=lambda: [ga.RandAugment()],
                torchvision=_torchvision(lambda v2: [v2.RandAugment()]),
                **{"nvidia.dali": lambda: ["randaugment"]},
            ),
            **POLICIES,
            targets={"torchvision": 10.0},
        ),
        Case(
            "trivialaugment",
            "RandomResizedCrop 256 -> 224, flip, TrivialAugmentWide",
            64,
            256,
            224,
            _then(
                _resized_crop(224),
                gpuaug=lambda: [ga.TrivialAugmentWide()],
                torchvision=_torchvision(lambda v2: [v2.TrivialAugmentWide()]),
                **{"nvidia.dali": lambda: ["trivialaugment"]},
            ),
            **POLICIES,
            targets={"torchvision": 10.0},
        ),
        Case(
            "timm-randaugment",
            "RandomResizedCrop 256 -> 224, flip, timm's rand-m7-mstd0.5-inc1",
            64,
            256,
            224,
            {
                "gpuaug": lambda: [*_resized_crop(224)["gpuaug"](), ga.timm_augment(RAND, "nearest", GREY)],
                "timm": lambda: dict(input_size=224, policy=RAND),
            },
            lacks=NO_TIMM,
        ),
        Case(
            "affine",
            "RandomAffine, bilinear (15 degrees, shift 0.1, zoom 0.9 to 1.1)",
            64,
            224,
            224,
            {
                "gpuaug": lambda: [ga.RandomAffine(**AFFINE, interpolation="bilinear")],
                "torchvision": _torchvision(lambda v2: [v2.RandomAffine(**AFFINE, interpolation=_bilinear())]),
                "kornia": _kornia(lambda K: [K.RandomAffine(**AFFINE, resample="bilinear", p=1.0)]),
                "albumentations": _albumentations(
                    lambda A: [
                        A.Affine(
                            rotate=(-15, 15),
                            translate_percent={"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
                            scale=(0.9, 1.1),
                            keep_ratio=True,
                            p=1.0,
                        )
                    ]
                ),
                "triton_augment": lambda: dict(**AFFINE, interpolation=_bilinear()),
                "nvidia.dali": lambda: ["affine"],
            },
            differs={"kornia": "shifts by fractions of a pixel"},
        ),
        Case(
            "perspective",
            "RandomPerspective, bilinear",
            64,
            224,
            224,
            {
                "gpuaug": lambda: [ga.RandomPerspective(p=1.0)],
                "torchvision": _torchvision(lambda v2: [v2.RandomPerspective(p=1.0)]),
                "kornia": _kornia(lambda K: [K.RandomPerspective(0.5, p=1.0)]),
                "albumentations": _albumentations(lambda A: [A.Perspective((0.05, 0.25), p=1.0)]),
            },
            differs={"albumentations": "draws the corners from a normal distribution"},
            lacks={"triton_augment": "it has no RandomPerspective"},
        ),
        Case(
            "antialias",
            "RandomResizedCrop 512 -> 224, flip",
            64,
            512,
            224,
            _resized_crop(224),
            **RESIZED_CROP,
            targets={"torchvision": 4.0},
        ),
        Case("large", "RandomResizedCrop 1280 -> 1024, flip", 8, 1280, 1024, _resized_crop(1024), **RESIZED_CROP),
        Case(
            "cifar",
            "CIFAR: RandomCrop 32 with padding 4, flip",
            1024,
            32,
            32,
            {
                "gpuaug": lambda: [ga.RandomCrop(32, padding=4), ga.RandomHorizontalFlip()],
                "torchvision": _torchvision(lambda v2: [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]),
                "kornia": _kornia(lambda K: [K.RandomCrop((32, 32), padding=4), K.RandomHorizontalFlip(p=0.5)]),
                "albumentations": _albumentations(
                    lambda A: [A.Pad(padding=4), A.RandomCrop(32, 32), A.HorizontalFlip(p=0.5)]
                ),
                "nvidia.dali": lambda: ["padded_crop", "flip"],
            },
            mean=ga.CIFAR10_MEAN,
            std=ga.CIFAR10_STD,
            lacks={"triton_augment": "its crop has no padding"},
            targets={"torchvision": 5.0, "kornia": 5.0, "albumentations": 5.0},
        ),
        Case("host", "one image of 32x32: RandomResizedCrop, flip", 1, 32, 32, _resized_crop(32), **RESIZED_CROP),
    )
}


def sized(batch: int, size: int) -> Case:
    """RandomResizedCrop and flip at another batch and size, the output as large as the input."""
    return replace(CASES["resized-crop"], batch=batch, size=size, out_size=size, ops=_resized_crop(size))


def images_for(case: Case) -> tuple[torch.Tensor, str]:
    """The images of a case, as `images_of`."""
    return images_of(case.batch, case.size)


def images_of(batch: int, size: int) -> tuple[torch.Tensor, str]:
    """uint8 [B, 3, H, W] of one size, and where the images are from: real ones, else noise that was smoothed."""
    found = _real(size, batch)
    if found:
        images = torch.stack([found[i % len(found)] for i in range(batch)])
        return images, f"{'cifar10' if size == 32 else 'photos'}, {min(len(found), batch)} different ones"
    noise = torch.randn(batch, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)
    return smooth.mul_(50).add_(128).clamp_(0, 255).round_().to(torch.uint8), "smoothed noise"


@lru_cache(maxsize=4)
def _real(size: int, count: int) -> list[torch.Tensor]:
    """Up to `count` real colour images, their shorter side scaled to `size`, centre cropped."""
    folder = DATA / "cifar10" / "train" if size == 32 else DATA / "photos"
    paths = sorted(folder.rglob("*.jpg"))
    if not paths:
        return []
    import numpy as np
    from PIL import Image, ImageOps

    images = []
    for path in paths[:: max(1, len(paths) // (2 * count))]:
        with Image.open(path) as image:
            if image.mode == "RGB":
                fitted = np.array(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
                images.append(torch.from_numpy(fitted).permute(2, 0, 1).contiguous())
        if len(images) == count:
            break
    return images
