"""The way over: pipelines of torchvision, kornia and albumentations as gpuaug's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..compose import Compose
from ..messages import shown, warn
from ..multicrop import MultiCrop
from ..transforms import ToDtype, Transform
from .data_keys import DataKeys
from .reading import Reading
from .targets import Targets

__all__ = ["DataKeys", "Targets", "convert"]

LIBRARIES = {
    "torchvision.transforms": "torchvision",
    "kornia.augmentation": "kornia",
    "albumentations": "albumentations",
}
NOTES = ("warn", "raise", "ignore")


def library_of(source: Any) -> str | None:
    """Whose the pipeline or op is, by the module of its class; a subclass of a user's own is nobody's."""
    module = type(source).__module__
    return next((name for prefix, name in LIBRARIES.items() if f"{module}.".startswith(f"{prefix}.")), None)


def convert(
    pipeline: Any,
    *,
    seed: int | None = None,
    backend: str = "auto",
    memory_format: torch.memory_format = torch.preserve_format,
    check: bool = False,
    differences: str = "warn",
    adapter: bool | None = None,
) -> Compose | DataKeys | Targets:
    """The same pipeline as gpuaug's, read off the objects' attributes; `print` shows the code that makes it.

    Takes a pipeline, or one op, of torchvision (`transforms` and `transforms.v2`), `kornia.augmentation` or
    albumentations, or `nn.Sequential` or a list of such ops. One that is gpuaug's already is handed back.

    Args:
        pipeline: is not changed, and its library not imported.
        seed, backend, memory_format, check: as `Compose`.
        differences: what of the pipeline is converted, but draws or computes otherwise (the docstrings of
            `gpuaug.convert.kornia` and `gpuaug.convert.albumentations` list all of it): "warn" of it once, "raise", or
            "ignore".
        adapter: hand back an object that is called as the library's own: `Targets` for albumentations, `DataKeys` for
            kornia. None: where the pipeline has bbox_params, keypoint_params, additional_targets, or data_keys beside
            the image's.

    Raises:
        ValueError: ops or arguments that have no counterpart, all of them at once, each with its place and what to do
            instead; or, with differences="raise", what is different.
        TypeError: something else than a pipeline.

    Example:
        >>> augment = ga.convert(torchvision.transforms.v2.RandomHorizontalFlip(), seed=0)
        >>> augment
        Compose([
            RandomHorizontalFlip(p=0.5),
        ], seed=0)
    """
    if differences not in NOTES:
        raise ValueError(f"convert: differences must be one of {', '.join(NOTES)}, got {shown(differences)}")
    if isinstance(pipeline, Compose | DataKeys | MultiCrop | Targets):
        return pipeline
    keywords = {"seed": seed, "backend": backend, "memory_format": memory_format, "check": check}
    reading = Reading(read)
    with reading.at(None, pipeline):
        transforms = read(pipeline, reading, whole=True)
    if reading.in_floats:
        transforms = [ToDtype(torch.float32, scale=True), *transforms]
    same = agreed(reading)
    _tell(reading, differences)
    if same:
        keywords["same_on_batch"] = True
    made = Compose(transforms, **keywords)
    library = library_of(pipeline)
    if library == "albumentations":
        from .albumentations import adapted

        return adapted(made, pipeline, adapter)
    if library == "kornia":
        from .kornia import adapted

        return adapted(made, pipeline, adapter)
    return made


def read(source: Any, reading: Reading, whole: bool = False) -> list[Transform]:
    """A pipeline or an op as gpuaug's ops.

    Args:
        whole: it is all that is converted.
    """
    if isinstance(source, Compose):
        return list(source.transforms)
    if not isinstance(source, type | str | bytes) and callable(getattr(source, "lower", None)):
        return [source]
    library = library_of(source)
    if library == "torchvision":
        from .torchvision import read_torchvision

        return read_torchvision(source, reading)
    if library == "kornia":
        from .kornia import read_kornia

        return read_kornia(source, reading)
    if library == "albumentations":
        from .albumentations import read_albumentations

        return read_albumentations(source, reading, whole)
    if isinstance(source, list | tuple) or type(source) in (nn.Sequential, nn.ModuleList):
        return reading.read_all(source)
    if isinstance(source, type) or not callable(source):
        if whole:
            raise TypeError(
                "convert: takes a pipeline or an op of torchvision, kornia or albumentations, or a list of such, got "
                f"{shown(source)}"
            )
        return reading.lacks(f"is no op but {shown(source)}; leave it out")
    return read_callable(source, reading)


def read_callable(source: Any, reading: Reading) -> list[Transform]:
    """A user's own function or op, which goes over as it is, unless it is called by names."""
    modules = {base.__module__.partition(".")[0] for base in type(source).__mro__}
    if "albumentations" in modules:
        return reading.lacks(
            "is an op of your own for albumentations; write a function of the image, or a gpuaug.pixel_op"
        )
    if "torchvision" in modules or not isinstance(source, nn.Module):
        reading.called()
    return [source]


def agreed(reading: Reading) -> bool:
    """Whether all that draws draws once for the batch."""
    said = {value for _, value in reading.same_on_batch}
    if said == {True, False}:
        for place, value in reading.same_on_batch:
            if value:
                reading.missing.append(
                    f"{place}(same_on_batch=True): other ops draw for each sample; give all the same"
                )
    return said == {True}


def _tell(reading: Reading, differences: str) -> None:
    if reading.missing:
        n = len(reading.missing)
        things = "1 thing has" if n == 1 else f"{n} things have"
        raise ValueError(f"convert: {things} no counterpart: {'; '.join(reading.missing)}")
    if reading.different and differences != "ignore":
        told = f"convert: not the same here: {'; '.join(dict.fromkeys(reading.different))}"
        if differences == "raise":
            raise ValueError(told)
        warn(f'{told}. differences="ignore" leaves this out')
