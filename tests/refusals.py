"""Arguments with which each op and function can be made, what no argument may be, and how a refusal must read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gpuaug as ga

NAN, INF = float("nan"), float("inf")
CORNERS = [[0, 0], [7, 0], [7, 7], [0, 7]]
CLASSES = {  # arguments of each op that can be made with them, and take float images [B, 3, 8, 8]
    "AugMix": {},
    "AutoAugment": {},
    "CenterCrop": {"size": 5},
    "CenterCropOrPad": {"size": 5},
    "ClampBoundingBoxes": {"clamping_mode": "hard"},
    "ClampKeyPoints": {},
    "CoarseDropout": {"height": 3, "width": 3},
    "ColorJitter": {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
    "ConvertBoundingBoxFormat": {"format": "XYWH"},
    "ConvertImageDtype": {},
    "CopyPaste": {},
    "CutMix": {"alpha": 0.5, "num_classes": 9, "label_smoothing": 0.1},
    "ElasticTransform": {"alpha": 9.0, "sigma": 0.5},
    "FiveCrop": {"size": 4},
    "GaussianBlur": {"kernel_size": 3, "sigma": 1.0},
    "GaussianNoise": {},
    "Grayscale": {},
    "GridMask": {"period": 4},
    "Identity": {},
    "JPEG": {"quality": (30, 60)},
    "Lambda": {"lambd": torch.neg},
    "LinearTransformation": {"transformation_matrix": torch.eye(192), "mean_vector": torch.zeros(192)},
    "MixUp": {"alpha": 0.5, "num_classes": 9, "label_smoothing": 0.1},
    "Mosaic": {"size": 6},
    "Normalize": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 0.5)},
    "PILToTensor": {},
    "Pad": {"padding": 1},
    "PadIfNeeded": {"size": 12},
    "RGB": {},
    "RandAugment": {},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {
        "degrees": 9.0,
        "translate": (0.1, 0.1),
        "scale": (0.9, 1.1),
        "shear": (1.0, 2.0, 3.0, 4.0),
        "center": (1.0, 2.0),
    },
    "RandomApply": {"transforms": [ga.Identity()]},
    "RandomAutocontrast": {},
    "RandomChannelPermutation": {},
    "RandomChoice": {"transforms": [ga.Identity(), ga.RandomInvert()], "p": [1.0, 2.0]},
    "RandomCrop": {"size": 4, "padding": 1},
    "RandomCropOrPad": {"size": 5},
    "RandomEqualize": {},
    "RandomErasing": {},
    "RandomGamma": {"gamma": (0.5, 1.0)},
    "RandomGrayscale": {},
    "RandomHorizontalFlip": {},
    "RandomInvert": {},
    "RandomIoUCrop": {},
    "RandomOrder": {"transforms": [ga.Identity()]},
    "RandomPerspective": {},
    "RandomPhotometricDistort": {},
    "RandomPosterize": {"bits": 4},
    "RandomResize": {"min_size": 4, "max_size": 6},
    "RandomResizedCrop": {"size": 4},
    "RandomRotation": {"degrees": 9.0, "center": (1.0, 2.0)},
    "RandomShortestSize": {"min_size": 4, "max_size": 6},
    "RandomSolarize": {"threshold": 0.5},
    "RandomTemporalCrop": {"num_frames": 1},
    "RandomTemporalFlip": {},
    "RandomVerticalFlip": {},
    "RandomZoomOut": {},
    "Resize": {"size": 5, "max_size": 9},
    "ResizeKeepRatio": {"size": 5},
    "SaltAndPepper": {"amount": 0.25},
    "SanitizeBoundingBoxes": {},
    "SanitizeKeyPoints": {},
    "ScaleJitter": {"target_size": (8, 8)},
    "SetClampingMode": {"clamping_mode": "hard"},
    "SolarizeAdd": {"addition": 0.25, "threshold": 0.5},
    "TenCrop": {"size": (4, 3)},
    "TimmAugment": {"config": "rand-m9"},
    "ToDtype": {"dtype": torch.float32},
    "ToImage": {},
    "ToPILImage": {"mode": "RGB"},
    "ToPureTensor": {},
    "ToTensor": {},
    "TrimBorder": {"border_size": 1},
    "TrivialAugmentWide": {},
    "UniformTemporalSubsample": {"num_samples": 1},
}
FUNCTIONS = {
    "adjust_brightness": {"brightness_factor": 1.5},
    "adjust_contrast": {"contrast_factor": 1.5},
    "adjust_gamma": {"gamma": 0.5, "gain": 0.75},
    "adjust_hue": {"hue_factor": 0.25},
    "adjust_saturation": {"saturation_factor": 1.5},
    "adjust_sharpness": {"sharpness_factor": 2.0},
    "affine": {"angle": 3.0, "translate": (1.0, 2.0), "scale": 1.5, "shear": (1.0, 2.0), "center": (1.0, 2.0)},
    "autocontrast": {},
    "center_crop": {"output_size": 5},
    "convert_image_dtype": {},
    "crop": {"top": 1, "left": 2, "height": 3, "width": 4},
    "elastic": {"displacement": (torch.arange(128.0).view(1, 8, 8, 2) % 7 - 3) / 20, "fill": 0.5},
    "equalize": {},
    "erase": {"i": 1, "j": 2, "h": 3, "w": 4, "v": 0.5},
    "gaussian_blur": {"kernel_size": 3, "sigma": 1.0},
    "gaussian_noise": {"mean": 0.25, "sigma": 0.5, "seeds": (0.25, 0.5)},
    "grid_mask": {"period": 4, "offset_x": 1, "offset_y": 0, "side": 2, "fill": 0.5},
    "horizontal_flip": {},
    "invert": {},
    "jpeg": {"quality": 50},
    "normalize": {"mean": 0.5, "std": 0.25},
    "pad": {"padding": 1, "fill": 0.5},
    "permute_channels": {"permutation": (2, 0, 1)},
    "perspective": {"startpoints": None, "endpoints": [[1, 0], [7, 0], [7, 7], [0, 7]]},
    "posterize": {"bits": 3},
    "resize": {"size": 5, "max_size": 9},
    "resized_crop": {"top": 1, "left": 2, "height": 3, "width": 4, "size": (5, 5)},
    "rgb_to_grayscale": {},
    "rotate": {"angle": 3.0, "center": (1.0, 2.0), "fill": 0.5},
    "salt_and_pepper": {"amount": 0.25, "seeds": (0.25, 0.5)},
    "solarize": {"threshold": 0.5},
    "solarize_add": {"addition": 0.25, "threshold": 0.5},
    "to_dtype": {},
    "vertical_flip": {},
}
BAD = {  # what no argument may be
    "nan": NAN,
    "infinity": INF,
    "minus infinity": -INF,
    "beyond float64": 10**400,
    "beyond repr": 10**5000,
    "beyond float32": -1e39,
    "complex": 1j,
    "word": "x",
    "bytes": b"x",
    "object": object(),
    "function": len,
    "class": float,
    "set": {1, 2},
    "empty list": [],
    "empty dict": {},
    "nans": [NAN, NAN],
    "none in a list": [None],
    "complex in a list": [1j, 1j],
    "too deep": [[[1]]],
    "meta tensor": torch.ones(2, device="meta"),
    "complex tensor": torch.ones(2, dtype=torch.complex64),
    "wide tensor": torch.zeros(3, 3, 3),
    "numpy nan": np.float64(NAN),
    "numpy words": np.array(["a", "b"]),
    "picture": Image.new("L", (2, 2)),
}
ALIASES = {"TimmAugment": "timm_augment"}  # what a user calls it


def images(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def grey() -> Tensor:
    return (torch.arange(2 * 3 * 64, dtype=torch.float32) / 400).view(2, 3, 8, 8)


def assert_told(told: str, mentions: list[str]) -> None:
    assert all(mention in told for mention in mentions), f"{told!r} lacks one of {mentions}"
    assert "\n" not in told and len(told) < 300, "one clear line"


def refusal(make: Callable, mentions: list[str], kinds: tuple = (ValueError, TypeError, MemoryError)) -> str:
    """What an error says in one line, with all of `mentions`."""
    with pytest.raises(kinds) as caught:
        make()
    assert_told(str(caught.value), mentions)
    return str(caught.value)
