"""Fifteen pipelines of kornia, as its README, documentation and papers write them; and values of arguments."""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
from torch import nn

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
KEYS = ["input", "mask", "bbox_xyxy", "keypoints", "class"]


class Own(nn.Module):
    """A module of a user's own."""

    def forward(self, images):
        return images


# name: (the pipeline, the ops that it becomes)
PIPELINES: dict[str, tuple[nn.Module, list[str]]] = {
    "README": (
        K.AugmentationSequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomAffine(degrees=30.0, translate=(0.1, 0.1), scale=(0.8, 1.2), p=1.0),
            K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0),
            data_keys=["input"],
        ),
        ["RandomHorizontalFlip", "RandomAffine", "ColorJitter"],
    ),
    "docs, data keys": (
        K.AugmentationSequential(
            K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0), K.RandomAffine(360, p=1.0), data_keys=KEYS, same_on_batch=False
        ),
        ["ColorJitter", "RandomAffine"],
    ),
    "docs, VideoSequential": (
        K.VideoSequential(
            K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=1.0),
            K.RandomAffine(360, p=1.0),
            data_format="BTCHW",
            same_on_frame=True,
        ),
        ["ColorJitter", "RandomAffine"],
    ),
    "docs, one of": (
        K.ImageSequential(
            K.RandomHorizontalFlip(p=1.0), K.RandomInvert(p=1.0), random_apply=1, random_apply_weights=[0.5, 0.3]
        ),
        ["RandomChoice"],
    ),
    "docs, two of three": (
        K.ImageSequential(K.RandomHorizontalFlip(), K.RandomVerticalFlip(), K.RandomGrayscale(p=0.2), random_apply=2),
        ["RandomChoice"],
    ),
    "docs, in any order": (
        K.ImageSequential(
            K.RandomEqualize(p=0.5), K.RandomInvert(p=0.5), K.RandomPosterize(3, p=0.5), random_apply=True
        ),
        ["RandomOrder"],
    ),
    "SimCLR on a GPU": (
        nn.Sequential(
            K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
            K.RandomGrayscale(p=0.2),
            K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
            K.Normalize(MEAN, STD),
        ),
        [
            "ToDtype",
            "RandomResizedCrop",
            "RandomHorizontalFlip",
            "RandomApply",
            "RandomGrayscale",
            "RandomApply",
            "Normalize",
        ],
    ),
    "BYOL, lightly": (
        nn.Sequential(
            K.RandomResizedCrop((32, 32), scale=(0.08, 1.0), align_corners=False),
            K.RandomSolarize(thresholds=0.0, additions=0.0, p=0.2),
        ),
        ["ToDtype", "RandomResizedCrop", "RandomApply"],
    ),
    "CIFAR": (
        K.ImageSequential(
            K.RandomCrop((32, 32), padding=4, padding_mode="reflect"),
            K.RandomHorizontalFlip(),
            K.RandomErasing(scale=(0.02, 0.1), p=0.5),
            K.Normalize(torch.tensor([0.5]), torch.tensor([0.25])),
        ),
        ["ToDtype", "RandomCrop", "RandomHorizontalFlip", "RandomErasing", "Normalize"],
    ),
    "evaluation": (
        K.ImageSequential(K.Resize(40, side="short", antialias=True), K.CenterCrop(32), K.Denormalize(MEAN, STD)),
        ["ToDtype", "Resize", "CenterCrop", "Normalize"],
    ),
    "segmentation": (
        K.AugmentationSequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomRotation(degrees=10.0, p=0.5),
            K.RandomPerspective(0.2, p=0.5),
            K.RandomCrop((32, 32), pad_if_needed=True),
            data_keys=["image", "mask"],
        ),
        ["RandomHorizontalFlip", "RandomApply", "RandomPerspective", "RandomCrop"],
    ),
    "remote sensing": (
        K.AugmentationSequential(
            K.RandomVerticalFlip(),
            K.RandomRotation90(times=(0, 3), p=0.5),
            K.RandomSharpness(0.5, p=0.5),
            K.RandomGaussianNoise(0.0, 0.05, p=0.5),
            K.RandomJPEG((50.0, 90.0), p=0.5),
            data_keys=["image", "bbox", "bbox_xywh"],
        ),
        ["ToDtype", "RandomVerticalFlip", "RandomApply", "RandomApply", "RandomApply", "RandomApply"],
    ),
    "all for one": (
        K.ImageSequential(K.RandomShear(10.0), K.RandomGamma((0.8, 1.2)), K.RandomHue((-0.1, 0.1)), same_on_batch=True),
        ["RandomApply", "RandomGamma", "ColorJitter"],
    ),
    "mixing": (
        K.ImageSequential(K.RandomHorizontalFlip(), K.RandomMixUpV2(p=1.0)),
        ["RandomHorizontalFlip", "MixUp"],
    ),
    "nested": (
        K.AugmentationSequential(
            K.ImageSequential(K.RandomContrast((0.8, 1.2)), K.RandomTranslate((-0.1, 0.1), (-0.2, 0.2), p=0.7)),
            nn.Sequential(K.RandomAutoContrast(p=0.3), K.RandomSaltAndPepperNoise(0.05, 0.5, p=0.2)),
            K.LongestMaxSize(40),
            K.RandomChannelShuffle(p=0.1),
        ),
        ["ColorJitter", "RandomApply", "RandomAutocontrast", "RandomApply", "RandomShortestSize", "RandomApply"],
    ),
}
# name: (the pipeline, the places and ops, and arguments, of what is named)
MISSING: dict[str, tuple[nn.Module, list[str]]] = {
    "README of 0.6": (
        K.AugmentationSequential(
            K.ColorJiggle(0.1, 0.1, 0.1, 0.1), K.RandomMotionBlur(3, 35.0, 0.5), K.RandomElasticTransform()
        ),
        ["0.ColorJiggle", "1.RandomMotionBlur", "2.RandomElasticTransform"],
    ),
    "of arguments": (
        K.AugmentationSequential(
            K.RandomAffine(10.0, scale=(0.5, 1.0, 0.8, 1.0), padding_mode="border"),
            K.ImageSequential(
                K.RandomSolarize(0.1, 0.1), K.RandomGaussianBlur((3, 3), (0.1, 2.0), border_type="replicate")
            ),
            K.VideoSequential(K.RandomHorizontalFlip(), data_format="BCTHW", same_on_frame=False),
            data_keys=None,
        ),
        [
            "AugmentationSequential(data_keys",
            "0.RandomAffine(padding_mode",
            "0.RandomAffine(scale",
            "1.0.RandomSolarize(additions",
            "1.1.RandomGaussianBlur(border_type",
            "2.VideoSequential(data_format",
            "2.VideoSequential(same_on_frame",
        ],
    ),
    "patches": (K.PatchSequential(K.RandomInvert(), grid_size=(2, 2), patchwise_apply=False), ["PatchSequential"]),
}

REQUIRED: dict[str, Any] = {
    "size": (32, 32),
    "degrees": 10.0,
    "mean": torch.tensor([0.5]),
    "std": torch.tensor([0.5]),
    "max_size": 32,
    "kernel_size": (3, 3),
    "sigma": (0.1, 2.0),
    "shear": 10.0,
    "times": (0, 3),
}
OTHER: dict[str, Any] = {
    "size": (24, 20),
    "degrees": (-5.0, 20.0),
    "mean": torch.tensor([0.4]),
    "std": torch.tensor([0.3]),
    "max_size": 40,
    "kernel_size": (5, 3),
    "sigma": (0.2, 1.0),
    "shear": (1.0, 2.0, 3.0, 4.0),
    "times": (1, 2),
    "p": 0.37,
    "p_batch": 0.5,
    "same_on_batch": True,
    "align_corners": "flip",
    "resample": "nearest",
    "cropping_mode": "resample",
    "brightness": (0.5, 0.8),
    "contrast": (0.5, 0.8),
    "saturation": (0.5, 0.8),
    "hue": (-0.1, 0.2),
    "order": [1, 0, 2, 3],
    "antialias": True,
    "side": "long",
    "translate": (0.1, 0.2),
    "scale": (0.3, 0.6),
    "ratio": (0.5, 1.5),
    "padding_mode": "reflection",
    "fill_value": 0.5,
    "clip_output": False,
    "padding": (1, 2, 3, 4),
    "pad_if_needed": True,
    "fill": 0.5,
    "num_mix": 2,
    "cut_size": (0.2, 0.6),
    "beta": 0.5,
    "use_correct_lambda": True,
    "value": 0.5,
    "gamma": (0.5, 0.8),
    "gain": (1.5, 1.5),
    "border_type": "replicate",
    "rgb_weights": torch.tensor([0.2, 0.3, 0.5]),
    "max_val": 0.5,
    "jpeg_quality": (20.0, 60.0),
    "lambda_val": (0.2, 0.6),
    "distortion_scale": 0.3,
    "sampling_method": "area_preserving",
    "bits": (4.0, 6.0),
    "amount": (0.1, 0.2),
    "salt_vs_pepper": (0.5, 0.5),
    "sharpness": (0.2, 0.3),
    "thresholds": (0.2, 0.3),
    "additions": 0.1,
    "translate_x": (-0.1, 0.1),
    "translate_y": (-0.1, 0.1),
}
SPECIAL: dict[tuple[str, str], Any] = {
    ("RandomCrop", "padding_mode"): "reflect",
    ("RandomAffine", "scale"): (0.7, 1.2),
    ("RandomAffine", "align_corners"): True,
    ("RandomGaussianNoise", "mean"): 0.2,
    ("RandomGaussianNoise", "std"): 0.3,
    ("RandomGaussianBlur", "kernel_size"): (5, 7),
    ("RandomSolarize", "additions"): 0.0,
}
# Arguments by which nothing that is drawn or computed changes: how kornia computes, or what its results look like
NOTHING = {"keepdim", "separable", "data_keys"}
# (op, argument) -> why it may be passed over without a word
NO_EFFECT = {
    ("CenterCrop", "align_corners"): "read where cropping_mode='resample' alone, at whole pixels",
    ("CenterCrop", "resample"): "likewise",
    ("CenterCrop", "cropping_mode"): "whole pixels either way",
    ("RandomCrop", "align_corners"): "read where cropping_mode='resample' alone",
    ("RandomCrop", "resample"): "likewise",
    ("RandomRotation", "align_corners"): "measured: no difference in pixels",
    ("RandomRotation90", "align_corners"): "likewise",
    ("RandomRotation90", "resample"): "a quarter turn meets pixels",
    ("RandomAffine", "align_corners"): "measured: no difference in pixels",
    ("RandomShear", "align_corners"): "likewise",
    ("RandomTranslate", "align_corners"): "likewise",
    ("RandomPerspective", "align_corners"): "likewise",
}
