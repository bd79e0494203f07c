"""gpuaug: batched image augmentation in one pass over memory, each sample with its own draw."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

from typing import TYPE_CHECKING  # noqa: E402

from . import (  # noqa: E402
    functional,
    presets,
    v2,  # noqa: E402
)
from .collate import WithIds, collate  # noqa: E402
from .compose import Compose, Params  # noqa: E402, I001
from .convert import DataKeys, Targets, convert  # noqa: E402, I001
from .enums import AutoAugmentPolicy, InterpolationMode  # noqa: E402
from .kernels.torch.dialect import xp  # noqa: E402
from .load import load  # noqa: E402
from .multicrop import MultiCrop, pad_to_batch  # noqa: E402
from .transforms import *  # noqa: E402, F403
from .transforms import __all__ as _transforms  # noqa: E402

if TYPE_CHECKING:
    from . import text


def __getattr__(name: str):
    if name == "text":  # what images do not need is imported when it is asked for
        from importlib import import_module

        return import_module(f"{__name__}.text")
    from .messages import no_attribute

    raise no_attribute(__name__, name, __all__)


__version__ = "0.1.0"

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AutoAugmentPolicy",
    "Compose",
    "DataKeys",
    "InterpolationMode",
    "MultiCrop",
    "Params",
    "Targets",
    "WithIds",
    "collate",
    "convert",
    "functional",
    "load",
    "pad_to_batch",
    "presets",
    "text",
    "v2",
    "xp",
    *_transforms,
]
