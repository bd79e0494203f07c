"""For each op of a library that is converted: what makes it, and a value of each argument other than its default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

TORCHVISION = {  # required arguments, by name
    "size": 32,
    "padding": 3,
    "degrees": 10,
    "mean": [0.5],
    "std": [0.25],
    "kernel_size": 3,
    "threshold": 100,
    "bits": 4,
    "sharpness_factor": 2.0,
    "quality": 50,
    "transforms": None,
    "dtype": torch.float32,
    "target_size": (32, 32),
    "min_size": 30,
    "max_size": 40,
    "num_samples": 4,
    "format": "XYXY",
    "clamping_mode": "soft",
}
TORCHVISION_OTHER = {
    "size": (20, 24),
    "padding": (1, 2, 3, 4),
    "degrees": (-5, 20),
    "mean": [0.4],
    "std": [0.3],
    "kernel_size": (5, 3),
    "threshold": 80,
    "bits": 3,
    "sharpness_factor": 1.5,
    "quality": (20, 60),
    "dtype": torch.float16,
    "target_size": (24, 20),
    "min_size": 20,
    "max_size": 60,
    "num_samples": 5,
    "format": "XYWH",
    "interpolation": "bicubic",
    "antialias": False,
    "p": 0.37,
    "scale": (0.3, 0.6),
    "ratio": (0.5, 1.5),
    "fill": 7,
    "padding_mode": "edge",
    "pad_if_needed": True,
    "expand": True,
    "center": (3, 4),
    "translate": (0.1, 0.2),
    "shear": (1, 2, 3, 4),
    "distortion_scale": 0.3,
    "value": 5,
    "inplace": True,
    "brightness": (0.4, 0.9),
    "contrast": (0.4, 0.9),
    "saturation": (0.4, 0.9),
    "hue": (-0.1, 0.3),
    "num_output_channels": 3,
    "sigma": (0.3, 1.1),
    "alpha": 0.7,
    "severity": 4,
    "mixture_width": 2,
    "chain_depth": 2,
    "all_ops": False,
    "num_ops": 3,
    "magnitude": 5,
    "num_magnitude_bins": 20,
    "policy": "cifar10",
    "mode": "RGB",
    "num_classes": 5,
    "labels_getter": None,
    "scale_range": (0.5, 1.5),
    "side_range": (1.5, 2.0),
    "min_scale": 0.4,
    "max_scale": 0.9,
    "min_aspect_ratio": 0.6,
    "max_aspect_ratio": 1.5,
    "sampler_options": [0.2],
    "trials": 20,
    "min_area": 4.0,
    "clamping_mode": None,
    "clip": False,
    "vertical_flip": True,
}
SPECIAL: dict[tuple[str, str], Any] = {
    ("RandomIoUCrop", "min_scale"): 0.4,
    ("RandomResize", "min_size"): 20,
    ("Resize", "max_size"): 50,
    ("RandomAffine", "scale"): (0.7, 1.2),
    ("ToDtype", "scale"): True,
    ("GaussianNoise", "mean"): 0.2,
    ("GaussianNoise", "sigma"): 0.3,
    ("ElasticTransform", "sigma"): 3.0,
    ("ElasticTransform", "alpha"): 30.0,
    ("SanitizeBoundingBoxes", "min_size"): 7.0,
    ("AutoAugment", "policy"): None,
    ("SanitizeKeyPoints", "labels_getter"): len,
    ("MixUp", "labels_getter"): len,
    ("CutMix", "labels_getter"): len,
    ("RandomErasing", "ratio"): (0.5, 1.5),
}


def varied(
    kind: Callable, required: Mapping[str, Any], other: Mapping[str, Any], special: Mapping[tuple[str, str], Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(argument, what makes the op, the same with another value of the argument) for each argument."""
    name = kind.__name__
    parameters = [p for p in inspect.signature(kind.__init__).parameters.values() if p.name != "self"]
    parameters = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    base = {p.name: required[p.name] for p in parameters if p.default is p.empty}
    for p in parameters:
        value = special[name, p.name] if (name, p.name) in special else other[p.name]
        yield p.name, base, {**base, p.name: value}
