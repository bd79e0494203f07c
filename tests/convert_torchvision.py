"""Twenty-five pipelines of torchvision, as READMEs, papers' code and tutorials write them."""

from __future__ import annotations

import torch
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import AutoAugmentPolicy, InterpolationMode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORM1, NORM2 = v1.Normalize(MEAN, STD), v2.Normalize(MEAN, STD)
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def to_floats() -> list:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


class PILBlur:
    """A blur of a repository's own, as MoCo v2 and DINO have it."""

    def __init__(self, p: float = 0.5):
        self.p = p

    def __call__(self, image):
        return image


def simclr(size: int = 64, strength: float = 1.0) -> v1.Compose:
    s = strength
    return v1.Compose(
        [
            v1.RandomResizedCrop(size=size),
            v1.RandomHorizontalFlip(),
            v1.RandomApply([v1.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)], p=0.8),
            v1.RandomGrayscale(p=0.2),
            v1.GaussianBlur(kernel_size=int(0.1 * size) // 2 * 2 + 1),
            v1.ToTensor(),
        ]
    )


def byol(solarize: float, blur: float) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(64, interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(p=0.5),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=blur),
            v2.RandomSolarize(128, p=solarize),
            *to_floats(),
            NORM2,
        ]
    )


def moco(old: bool) -> v1.Compose:
    jitter = (
        [v1.ColorJitter(0.4, 0.4, 0.4, 0.4)] if old else [v1.RandomApply([v1.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)]
    )
    ops = [v1.RandomResizedCrop(64, scale=(0.2, 1.0))]
    grey = v1.RandomGrayscale(p=0.2)
    ops += [grey, *jitter] if old else [*jitter, grey, v1.RandomApply([PILBlur()], p=0.5)]
    return v1.Compose([*ops, v1.RandomHorizontalFlip(), v1.ToTensor(), NORM1])


def dino_local() -> v1.Compose:
    flip_and_jitter = [v1.RandomHorizontalFlip(p=0.5), v1.RandomApply([v1.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)]
    crop = v1.RandomResizedCrop(48, scale=(0.05, 0.4), interpolation=v1.InterpolationMode.BICUBIC)
    blur = v1.RandomApply([v1.GaussianBlur(5, (0.1, 2.0))], p=0.5)
    inner = v1.Compose([*flip_and_jitter, v1.RandomGrayscale(p=0.2)])
    return v1.Compose([crop, inner, blur, v1.Compose([v1.ToTensor(), NORM1])])


def imagenet_reference(policy: str) -> v2.Compose:
    """references/classification/presets.py, ClassificationPresetTrain."""
    policies = {
        "ra": v2.RandAugment(interpolation=InterpolationMode.BILINEAR, magnitude=9),
        "ta_wide": v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR),
        "imagenet": v2.AutoAugment(policy=AutoAugmentPolicy("imagenet"), interpolation=InterpolationMode.BILINEAR),
    }
    return v2.Compose(
        [
            v2.RandomResizedCrop(64, interpolation=InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            policies[policy],
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            NORM2,
            v2.RandomErasing(p=0.1),
            v2.ToPureTensor(),
        ]
    )


PIPELINES = {
    "ImageNet train, 2017": v1.Compose([v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.ToTensor(), NORM1]),
    "ImageNet eval": v1.Compose([v1.Resize(72), v1.CenterCrop(64), v1.ToTensor(), NORM1]),
    "ImageNet train, v2 guide": v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.uint8, scale=True),
            v2.RandomResizedCrop(size=(64, 64), antialias=True),
            v2.RandomHorizontalFlip(p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            NORM2,
        ]
    ),
    "reference, RandAugment": imagenet_reference("ra"),
    "reference, TrivialAugment": imagenet_reference("ta_wide"),
    "reference, AutoAugment": imagenet_reference("imagenet"),
    "SimCLR": simclr(),
    "BYOL, first view": byol(0.0, 1.0),
    "BYOL, second view": byol(0.2, 0.1),
    "MoCo v1": moco(True),
    "MoCo v2 and v3": moco(False),
    "DINO, local": dino_local(),
    "CIFAR-10": v1.Compose(
        [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(*CIFAR)]
    ),
    "CIFAR, reflected, Cutout": v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            *to_floats(),
            v2.Normalize(*CIFAR),
            v2.RandomErasing(p=0.5, scale=(0.05, 0.1), ratio=(1.0, 1.0), value=0),
        ]
    ),
    "CIFAR, AutoAugment": v1.Compose(
        [v1.RandomCrop(32, 4), v1.AutoAugment(v1.AutoAugmentPolicy.CIFAR10), v1.ToTensor(), v1.Normalize(*CIFAR)]
    ),
    "DeiT III, ThreeAugment": v2.Compose(
        [
            v2.RandomCrop(64, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.RandomChoice([v2.Grayscale(3), v2.RandomSolarize(128, p=1.0), v2.GaussianBlur(5, (0.1, 2.0))]),
            v2.ColorJitter(0.3, 0.3, 0.3),
            *to_floats(),
            NORM2,
        ]
    ),
    "AugMix": v2.Compose([v2.RandomHorizontalFlip(), v2.AugMix(severity=3, mixture_width=2), *to_floats(), NORM2]),
    "segmentation": v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(48, pad_if_needed=True),
            v2.ToDtype(torch.float32, scale=True),
            NORM2,
        ]
    ),
    "detection, SSD": v2.Compose(
        [v2.RandomPhotometricDistort(), v2.RandomHorizontalFlip(p=0.5), v2.ToDtype(torch.float32, scale=True)]
    ),
    "transfer tutorial": v1.Compose(
        [
            v1.RandomRotation(30),
            v1.RandomResizedCrop(64),
            v1.RandomHorizontalFlip(),
            v1.ColorJitter(brightness=0.2),
            v1.ToTensor(),
            NORM1,
        ]
    ),
    "Kaggle, affine": v1.Compose(
        [
            v1.Resize((72, 72)),
            v1.RandomAffine(degrees=15, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5),
            v1.RandomPerspective(distortion_scale=0.2, p=0.5),
            v1.RandomVerticalFlip(),
            v1.ConvertImageDtype(torch.float32),
            v1.Normalize([0.5], [0.5], inplace=True),
        ]
    ),
    "MNIST": v1.Compose([v1.ToTensor(), v1.Normalize((0.1307,), (0.3081,))]),
    "augmentations in any order": v2.RandomOrder(
        [v2.RandomEqualize(p=0.5), v2.RandomPosterize(4, p=0.5), v2.RandomInvert(p=0.3), v2.RandomAutocontrast(p=0.5)]
    ),
    "nn.Sequential, scripted": torch.nn.Sequential(
        v1.RandomAdjustSharpness(2.0, p=0.5), v1.Pad(3, fill=7), v1.RandomCrop((60, 64)), v1.GaussianBlur(3)
    ),
    "MixUp or CutMix": v2.RandomChoice([v2.CutMix(num_classes=10), v2.MixUp(alpha=0.2, num_classes=10)]),
}
MISSING = {  # and the places and ops of what has no counterpart
    "Pillow's filters": (
        v1.Compose(
            [
                v1.Resize(72, interpolation=InterpolationMode.BOX),
                v1.RandomApply([v1.RandomRotation(10, interpolation=InterpolationMode.HAMMING)], p=0.5),
                v1.RandomAffine(0, shear=(80, 100)),
            ]
        ),
        ["0.Resize", "1.0.RandomRotation", "2.RandomAffine"],
    ),
}
CALLED = {"MoCo v2 and v3"}  # with a callable
NO_REPLAY = {"MixUp or CutMix"}
MERGED = {"Kaggle, affine"}  # two smooth resamplings, which are one here
