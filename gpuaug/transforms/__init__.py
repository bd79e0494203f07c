"""The ops, one frozen description each, with the names, arguments and defaults of torchvision.transforms.v2."""

from .augmix import AugMix
from .base import Transform
from .blur import GaussianBlur, RandomAdjustSharpness
from .boxes import (
    ClampBoundingBoxes,
    ClampKeyPoints,
    ConvertBoundingBoxFormat,
    SanitizeBoundingBoxes,
    SanitizeKeyPoints,
    SetClampingMode,
)
from .callables import FiveCrop, Lambda, LinearTransformation, TenCrop
from .color import (
    RGB,
    ColorJitter,
    Grayscale,
    RandomAutocontrast,
    RandomChannelPermutation,
    RandomEqualize,
    RandomGamma,
    RandomGrayscale,
    RandomInvert,
    RandomPhotometricDistort,
    RandomPosterize,
    RandomSolarize,
    SolarizeAdd,
)
from .containers import RandomApply, RandomChoice, RandomOrder
from .convert import (
    ConvertImageDtype,
    Identity,
    Normalize,
    PILToTensor,
    ToDtype,
    ToImage,
    ToPILImage,
    ToPureTensor,
    ToTensor,
)
from .copy_paste import CopyPaste
from .detection import RandomIoUCrop, RandomZoomOut
from .elastic import ElasticTransform
from .erasing import CoarseDropout, GridMask, RandomErasing
from .geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
)
from .jpeg import JPEG
from .mixing import CutMix, MixUp
from .mosaic import Mosaic
from .noise import GaussianNoise, SaltAndPepper
from .padding import PadIfNeeded
from .policies import AutoAugment, RandAugment, TrivialAugmentWide
from .resizing import RandomResize, RandomShortestSize, ScaleJitter
from .temporal import RandomTemporalCrop, RandomTemporalFlip, UniformTemporalSubsample
from .timm import TimmAugment, timm_augment, timm_mixup
from .timm_geometry import CenterCropOrPad, RandomCropOrPad, ResizeKeepRatio, TrimBorder
from .user import PixelOp, pixel_op
from .warp import RandomAffine, RandomPerspective, RandomRotation

__all__ = [
    "AugMix",
    "AutoAugment",
    "CenterCrop",
    "CenterCropOrPad",
    "ClampBoundingBoxes",
    "ClampKeyPoints",
    "CoarseDropout",
    "ColorJitter",
    "ConvertBoundingBoxFormat",
    "ConvertImageDtype",
    "CopyPaste",
    "CutMix",
    "ElasticTransform",
    "FiveCrop",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "GridMask",
    "Identity",
    "JPEG",
    "Lambda",
    "LinearTransformation",
    "MixUp",
    "Mosaic",
    "Normalize",
    "PILToTensor",
    "Pad",
    "PadIfNeeded",
    "PixelOp",
    "RGB",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomChoice",
    "RandomCrop",
    "RandomCropOrPad",
    "RandomEqualize",
    "RandomErasing",
    "RandomGamma",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomIoUCrop",
    "RandomOrder",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShortestSize",
    "RandomSolarize",
    "RandomTemporalCrop",
    "RandomTemporalFlip",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "ResizeKeepRatio",
    "SaltAndPepper",
    "SanitizeBoundingBoxes",
    "SanitizeKeyPoints",
    "ScaleJitter",
    "SetClampingMode",
    "SolarizeAdd",
    "TenCrop",
    "TimmAugment",
    "ToDtype",
    "ToImage",
    "ToPILImage",
    "ToPureTensor",
    "ToTensor",
    "Transform",
    "TrimBorder",
    "TrivialAugmentWide",
    "UniformTemporalSubsample",
    "pixel_op",
    "timm_augment",
    "timm_mixup",
]
