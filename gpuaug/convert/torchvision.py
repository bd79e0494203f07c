"""torchvision's pipelines, `transforms` and `transforms.v2`: ours have their names, arguments and semantics.

| torchvision | here |
|---|---|
| one draw for a whole batch | each sample draws for itself |
| MixUp, CutMix | `per="batch"`: one draw for the batch, as there |
| Lambda, callables, user subclasses are called on one image | on what comes to them, of a batch the tensor: told |

What README's table of differences says holds as well; it is not told again by each conversion.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import transforms as ours
from ..transforms import Transform
from .reading import Reading, together

RENAMED = {  # attributes that are not named as the argument
    "RandomIoUCrop": {"sampler_options": "options"},
    "MixUp": {"labels_getter": "_labels_getter"},
    "CutMix": {"labels_getter": "_labels_getter"},
}
OURS_ALONE = {  # arguments that torchvision's op lacks
    "MixUp": ("pair", "per", "label_smoothing"),
    "CutMix": ("pair", "per", "label_smoothing", "correct_lam"),
}


def read_torchvision(source: Any, reading: Reading) -> list[Transform]:
    """A pipeline or an op."""
    name = type(source).__name__
    if name == "Compose":
        return reading.read_all(source.transforms)
    if name in ("RandomApply", "RandomChoice", "RandomOrder"):
        return _container(name, source, reading)
    if name == "Lambda":
        reading.called()
        return [ours.Lambda(source.lambd, *getattr(source, "types", ()))]
    kind = getattr(ours, name, None)
    if kind is None or name == "Transform":
        return reading.lacks("leave it out, or apply it before or behind the pipeline")
    return reading.make(kind, **_arguments(name, kind, source))


def _container(name: str, source: Any, reading: Reading) -> list[Transform]:
    if name == "RandomApply":
        children = reading.read_all(source.transforms)
        return reading.make(ours.RandomApply, transforms=children, p=source.p) if children else []
    options = reading.each(source.transforms)
    children = [together(option) for option in options]
    rest = {"p": getattr(source, "p", None)} if name == "RandomChoice" else {}
    return reading.make(getattr(ours, name), transforms=children, **rest) if children else []


def _arguments(name: str, kind: type, source: Any) -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(kind):
        if not field.init or field.name in OURS_ALONE.get(name, ()):
            continue
        attribute = RENAMED.get(name, {}).get(field.name, field.name)
        if hasattr(source, attribute):
            found[field.name] = getattr(source, attribute)
    fill = found.get("fill")
    if isinstance(fill, list | tuple) and len(fill) == 1:
        found["fill"] = fill[0]
    padding = found.get("padding")
    if name == "RandomCrop" and ".v2." in type(source).__module__ and padding is not None and len(padding) == 4:
        left, right, top, bottom = padding  # v2 keeps them in this order
        found["padding"] = [left, top, right, bottom]
    if name in ("MixUp", "CutMix"):
        getter = found.pop("labels_getter", None)
        if getattr(getter, "__name__", "") != "_find_labels_default_heuristic":
            found["labels_getter"] = getter
        found["per"] = "batch"
    return found
