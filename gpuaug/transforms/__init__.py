"""The ops, one frozen description each, with the names, arguments and defaults of torchvision.transforms.v2."""

from .base import Transform
from .color import ColorJitter, RandomInvert, RandomSolarize
from .containers import RandomApply, RandomChoice, RandomOrder
from .convert import Identity, Normalize, ToDtype, ToImage, ToPureTensor
from .geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
)
from .warp import RandomAffine, RandomPerspective, RandomRotation

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Identity",
    "Normalize",
    "Pad",
    "RandomAffine",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomOrder",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSolarize",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "ToImage",
    "ToPureTensor",
    "Transform",
]
