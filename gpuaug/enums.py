"""torchvision's two enums, with its members and values, for code that names them; torchvision's own are taken, too."""

from __future__ import annotations

from enum import Enum


class InterpolationMode(Enum):
    """How a value between pixels is read (torchvision.transforms.InterpolationMode). Ops take the value as well."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"  # Pillow's alone
    HAMMING = "hamming"  # Pillow's alone
    LANCZOS = "lanczos"


class AutoAugmentPolicy(Enum):
    """Whose policy `AutoAugment` takes (torchvision.transforms.AutoAugmentPolicy). It takes the value as well."""

    IMAGENET = "imagenet"
    CIFAR10 = "cifar10"
    SVHN = "svhn"
