"""All that torchvision.transforms.v2 has, by its names: `from gpuaug import v2`, not `from torchvision.transforms
import v2`. What gpuaug has beside it is here, too.

What a user's own transform asks of the structure that it is called on (`query_size`, `has_any`, ...) is torchvision's,
and taken from there when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import functional
from .compose import Compose
from .enums import AutoAugmentPolicy, InterpolationMode
from .messages import no_attribute
from .transforms import *  # noqa: F403
from .transforms import __all__ as _transforms

HELPERS = ("check_type", "get_bounding_boxes", "get_keypoints", "has_all", "has_any", "query_chw", "query_size")


def __getattr__(name: str) -> Any:
    if name not in HELPERS:
        raise no_attribute(__name__, name, __all__)
    try:
        return getattr(import_module("torchvision.transforms.v2"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torchvision":
            raise
        raise AttributeError(f"{name} is torchvision's, which is not installed: pip install torchvision") from None


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = ["AutoAugmentPolicy", "Compose", "InterpolationMode", "functional", *HELPERS, *_transforms]
