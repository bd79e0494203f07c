"""Twenty pipelines of albumentations, as its README, documentation and competitions write them; values of arguments."""

from __future__ import annotations

import warnings
from typing import Any

import albumentations as A  # noqa: N812
import cv2

warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case", category=UserWarning)


def heavy(*last: Any) -> A.Compose:
    """The README's strong pipeline of old, as far as it has counterparts."""
    return A.Compose(
        [
            A.RandomRotate90(),
            A.HorizontalFlip(),
            A.OneOf([A.GaussNoise(std_range=(0.05, 0.2)), A.SaltAndPepper(p=0.3)], p=0.2),
            A.OneOf(
                [A.GaussianBlur(blur_limit=(3, 5), p=0.2), A.ImageCompression(quality_range=(60, 95), p=0.1)], p=0.2
            ),
            A.ShiftScaleRotate(shift_limit=0.0625, scale_limit=0.2, rotate_limit=45, p=0.2),
            A.OneOf([A.ElasticTransform(alpha=2, sigma=4, p=0.3), A.NoOp(p=0.1)], p=0.2),
            *last,
        ]
    )


# name: (the pipeline, the ops that it becomes)
PIPELINES: dict[str, tuple[Any, list[str]]] = {
    "classification": (
        A.Compose(
            [
                A.RandomResizedCrop(size=(32, 32), scale=(0.08, 1.0), p=1.0),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
                A.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
                A.ToTensorV2(),
            ]
        ),
        ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "ToDtype", "Normalize", "ToImage", "ToPureTensor"],
    ),
    "evaluation": (
        A.Compose([A.SmallestMaxSize(max_size=40), A.CenterCrop(32, 32), A.Normalize(), A.ToTensorV2()]),
        ["Resize", "CenterCrop", "ToDtype", "Normalize", "ToImage", "ToPureTensor"],
    ),
    "letterbox": (
        A.Compose([A.LongestMaxSize(64), A.PadIfNeeded(64, 64, border_mode=cv2.BORDER_CONSTANT, fill=114)]),
        ["RandomShortestSize", "PadIfNeeded"],
    ),
    "segmentation": (
        A.Compose(
            [
                A.PadIfNeeded(min_height=64, min_width=64, border_mode=0, fill=0, fill_mask=255),
                A.RandomCrop(48, 48),
                A.HorizontalFlip(),
                A.Rotate(limit=20, p=0.5, fill_mask=255),
                A.Normalize(),
            ]
        ),
        ["PadIfNeeded", "RandomCrop", "RandomHorizontalFlip", "RandomApply", "ToDtype", "Normalize"],
    ),
    "salt": (
        A.Compose([A.Resize(48, 48), A.VerticalFlip(), A.D4(), A.RandomGamma((80, 120)), A.ToFloat()]),
        ["Resize", "RandomVerticalFlip", "RandomChoice", "RandomHorizontalFlip", "RandomGamma", "ToDtype"],
    ),
    "detection": (
        A.Compose(
            [A.RandomCrop(width=40, height=40), A.HorizontalFlip(p=0.5), A.InvertImg(p=0.2)],
            bbox_params=A.BboxParams(format="coco", label_fields=["class_labels"], min_area=16, min_visibility=0.1),
        ),
        ["SetClampingMode", "RandomCrop", "RandomHorizontalFlip", "RandomInvert"],
    ),
    "detection, YOLO": (
        A.Compose(
            [A.Affine(scale=(0.8, 1.2), rotate=(-5, 5), keep_ratio=True, p=0.7), A.ToGray(p=0.1)],
            bbox_params=A.BboxParams(format="yolo", clip=True, min_width=2, min_height=2),
        ),
        ["SetClampingMode", "RandomApply", "RandomGrayscale"],
    ),
    "keypoints": (
        A.Compose(
            [A.CenterCrop(40, 40), A.HorizontalFlip(p=0.5), A.Rotate(30)],
            keypoint_params=A.KeypointParams(format="xy", label_fields=["names"], remove_invisible=False),
        ),
        ["CenterCrop", "RandomHorizontalFlip", "RandomApply"],
    ),
    "boxes and keypoints": (
        A.Compose(
            [A.Resize(40, 60), A.VerticalFlip(), A.Transpose(p=0.5)],
            bbox_params=A.BboxParams(format="pascal_voc"),
            keypoint_params=A.KeypointParams(format="yx"),
        ),
        ["SetClampingMode", "Resize", "RandomVerticalFlip", "RandomApply"],
    ),
    "replay": (
        A.ReplayCompose([A.RandomResizedCrop((32, 32)), A.HorizontalFlip(), A.ChannelShuffle(p=0.3)]),
        ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply"],
    ),
    "two images": (
        A.Compose([A.HorizontalFlip(), A.RandomCrop(32, 32)], additional_targets={"image2": "image", "mask2": "mask"}),
        ["RandomHorizontalFlip", "RandomCrop"],
    ),
    "heavy": (heavy(), ["RandomChoice", "RandomHorizontalFlip", *["RandomApply"] * 4]),
    "heavy, cut out": (
        heavy(A.CoarseDropout(num_holes_range=(1, 4), hole_height_range=(4, 8), hole_width_range=(4, 8), p=0.5)),
        ["RandomChoice", "RandomHorizontalFlip", *["RandomApply"] * 4, "CoarseDropout"],
    ),
    "one or other": (
        A.Compose([A.OneOrOther(A.Solarize(p=0.1), A.Posterize((3, 5), p=0.1), p=0.7), A.Equalize(mode="pil", p=0.1)]),
        ["RandomChoice", "RandomEqualize"],
    ),
    "some of": (
        A.Compose([A.SomeOf([A.HorizontalFlip(), A.VerticalFlip(), A.InvertImg(), A.NoOp()], n=2, p=0.9)]),
        ["RandomApply"],
    ),
    "in any order": (
        A.Compose([A.RandomOrder([A.HorizontalFlip(p=0.5), A.AutoContrast(method="pil"), A.InvertImg()], n=3)]),
        ["RandomOrder"],
    ),
    "nested": (
        A.Compose(
            [
                A.Sequential(
                    [A.Resize(40, 40), A.OneOf([A.Transpose(p=1), A.Sequential([A.HorizontalFlip()])])], p=1.0
                ),
                A.Compose([A.Erasing(p=0.3), A.GridDropout(ratio=0.4, unit_size_range=(8, 12), p=0.3)], p=0.5),
            ],
            p=0.9,
        ),
        ["RandomApply"],
    ),
    "x-ray": (
        A.Compose(
            [
                A.Pad(padding=(4, 4, 4, 4), border_mode=cv2.BORDER_REFLECT_101),
                A.RandomCrop(48, 48, pad_if_needed=True),
                A.Affine(translate_percent=(-0.1, 0.1), shear={"x": (-5, 5), "y": (0, 0)}, p=0.5),
                A.HueSaturationValue(10, 0, 0, p=0.3),
                A.GaussianBlur(p=0.2),
            ]
        ),
        ["Pad", "PadIfNeeded", "RandomCrop", "RandomApply", "RandomApply", "RandomApply"],
    ),
    "floats": (
        A.Compose(
            [A.ToFloat(max_value=255), A.Solarize((0.4, 0.4)), A.Normalize((0.5,), (0.25,), max_pixel_value=1.0)]
        ),
        ["ToDtype", "RandomApply", "Normalize"],
    ),
    "one op": (A.ShiftScaleRotate(p=1.0), ["RandomAffine"]),
}
# name: (the pipeline, the places and ops, and arguments, of what is named)
MISSING: dict[str, tuple[Any, list[str]]] = {
    "README": (
        A.Compose(
            [
                A.RandomCrop(width=256, height=256),
                A.RandomBrightnessContrast(p=0.2),
                A.OneOf([A.MotionBlur(p=0.2), A.MedianBlur(blur_limit=3, p=0.1), A.Blur(blur_limit=3, p=0.1)], p=0.2),
                A.OneOf([A.OpticalDistortion(p=0.3), A.GridDistortion(p=0.1)], p=0.2),
                A.OneOf([A.CLAHE(clip_limit=2), A.Sharpen(), A.Emboss()], p=0.3),
                A.HueSaturationValue(p=0.3),
            ]
        ),
        [
            "1.RandomBrightnessContrast",
            "2.0.MotionBlur",
            "2.1.MedianBlur",
            "2.2.Blur",
            "3.0.OpticalDistortion",
            "3.1.GridDistortion",
            "4.0.CLAHE",
            "4.1.Sharpen",
            "4.2.Emboss",
            "5.HueSaturationValue(sat_shift_limit",
        ],
    ),
    "arguments": (
        A.Compose(
            [
                A.Resize(32, 32, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_LINEAR),
                A.Rotate(border_mode=cv2.BORDER_REFLECT, crop_border=True),
                A.Affine(scale={"x": (0.5, 1), "y": (1, 2)}, translate_px=5, fit_output=True),
                A.CoarseDropout(fill="random", fill_mask=0),
                A.Normalize(normalization="image"),
                A.SomeOf([A.HorizontalFlip(), A.VerticalFlip()], n=2, replace=True),
                A.Lambda(image=lambda x, **kwargs: x),
            ]
        ),
        [
            "0.Resize(mask_interpolation",
            "0.Resize(interpolation",
            "1.Rotate(crop_border",
            "1.Rotate(border_mode",
            "2.Affine(fit_output",
            "2.Affine(scale",
            "3.CoarseDropout(fill_mask",
            "3.CoarseDropout(fill",
            "4.Normalize(normalization",
            "5.SomeOf(replace",
            "6.Lambda",
        ],
    ),
}
BBOX = {"format": "coco", "label_fields": ["labels"]}

REQUIRED: dict[str, Any] = {"size": (32, 32), "height": 32, "width": 30}
OTHER: dict[str, Any] = {
    "size": (24, 20),
    "height": 24,
    "width": 20,
    "p": 0.37,
    "interpolation": cv2.INTER_CUBIC,
    "mask_interpolation": cv2.INTER_LINEAR,
    "area_for_downscale": "image",
    "scale": (0.3, 0.6),
    "ratio": (0.5, 1.5),
    "fill": 7,
    "fill_mask": 3,
    "border_mode": cv2.BORDER_REPLICATE,
    "pad_if_needed": True,
    "pad_position": "top_left",
    "position": "top_left",
    "min_height": 50,
    "min_width": 60,
    "pad_height_divisor": 32,
    "pad_width_divisor": 32,
    "padding": (1, 2, 3, 4),
    "max_size": 40,
    "max_size_hw": (40, 50),
    "limit": (-10, 30),
    "rotate_method": "ellipse",
    "crop_border": True,
    "rotate": (-10, 30),
    "shear": {"x": (1, 4), "y": (2, 3)},
    "translate_percent": (-0.1, 0.1),
    "translate_px": 5,
    "fit_output": True,
    "keep_ratio": True,
    "balanced_scale": True,
    "shift_limit": 0.2,
    "shift_limit_x": (-0.2, 0.2),
    "shift_limit_y": (-0.2, 0.2),
    "scale_limit": 0.3,
    "rotate_limit": 20,
    "alpha": 3,
    "sigma": 4,
    "same_dxdy": True,
    "noise_distribution": "uniform",
    "brightness": (0.5, 0.9),
    "contrast": (0.5, 0.9),
    "saturation": (0.5, 0.9),
    "hue": (-0.1, 0.3),
    "hue_shift_limit": (-5, 9),
    "sat_shift_limit": (-5, 9),
    "val_shift_limit": (-5, 9),
    "gamma_limit": (50, 90),
    "num_output_channels": 1,
    "method": "desaturation",
    "threshold_range": (0.3, 0.3),
    "num_bits": (3, 5),
    "mode": "pil",
    "by_channels": False,
    "mask": len,
    "mask_params": ("x",),
    "cutoff": 2,
    "ignore": 0,
    "blur_limit": (3, 7),
    "sigma_limit": (0.3, 1.0),
    "std_range": (0.1, 0.1),
    "mean_range": (0.1, 0.1),
    "per_channel": False,
    "noise_scale_factor": 0.5,
    "amount": (0.1, 0.2),
    "salt_vs_pepper": (0.3, 0.3),
    "compression_type": "webp",
    "quality_range": (20, 60),
    "num_holes_range": (2, 3),
    "hole_height_range": (0.3, 0.4),
    "hole_width_range": (0.3, 0.4),
    "random_offset": False,
    "unit_size_range": (5, 9),
    "holes_number_xy": (3, 3),
    "shift_xy": (1, 2),
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "max_pixel_value": 127.0,
    "normalization": "image",
    "max_value": 100.0,
    "dtype": "uint16",
    "transpose_mask": True,
}
SPECIAL: dict[tuple[str, str], Any] = {
    ("Affine", "scale"): (0.7, 1.2),
    ("AutoContrast", "method"): "cdf",
    ("GridDropout", "ratio"): 0.3,
}
BASE: dict[str, dict[str, Any]] = {  # what an op must be made with so that it is converted
    "AutoContrast": {"method": "pil"},
    "GridDropout": {"unit_size_range": (8, 12)},
    "HueSaturationValue": {"sat_shift_limit": 0, "val_shift_limit": 0},
    "LongestMaxSize": {"max_size": 32},
    "SmallestMaxSize": {"max_size": 32},
    "ElasticTransform": {"sigma": 3.0},
}
# (op, argument) -> why it may be passed over without a word
NO_EFFECT = {
    ("Affine", "keep_ratio"): "of one scale there is nothing to keep",
    ("CenterCrop", "border_mode"): "read where pad_if_needed=True",
    ("CenterCrop", "fill"): "likewise",
    ("CenterCrop", "fill_mask"): "likewise",
    ("CenterCrop", "pad_position"): "likewise",
    ("RandomCrop", "border_mode"): "likewise",
    ("RandomCrop", "fill"): "likewise",
    ("RandomCrop", "fill_mask"): "likewise",
    ("RandomCrop", "pad_position"): "likewise",
    ("ElasticTransform", "approximate"): "how OpenCV computes",
    ("ElasticTransform", "keypoint_remapping_method"): "how keypoints are followed",
    ("Equalize", "mask_params"): "for mask alone",
    ("Equalize", "mode"): "both are told to differ",
    ("NoOp", "p"): "nothing happens",
    ("GridDropout", "shift_xy"): "read where random_offset=False",
    ("Lambda", "name"): "it is named anyway",
    ("Affine", "rotate_method"): "tested with boxes",
}
