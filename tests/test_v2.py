"""`gpuaug.v2`: torchvision.transforms.v2 by its names."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision.transforms.v2 as theirs

import gpuaug as ga
from gpuaug import v2

OWN = {"InterpolationMode", "AutoAugmentPolicy"}


def public(module) -> set[str]:
    return {name for name in dir(module) if not name.startswith("_")}


def test_no_public_name_is_missing() -> None:
    assert public(theirs) <= {name for name in dir(v2) if hasattr(v2, name)}
    assert public(theirs.functional) <= {name for name in dir(v2.functional) if hasattr(v2.functional, name)}


@pytest.mark.parametrize("name", sorted(OWN))
def test_enums_have_torchvisions_members(name: str) -> None:
    own, their = getattr(v2, name), getattr(theirs, name)
    assert [(m.name, m.value) for m in own] == [(m.name, m.value) for m in their] and own is not their


def test_both_libraries_enums_are_arguments() -> None:
    for modes, policies in ((v2.InterpolationMode, v2.AutoAugmentPolicy),) * 2 + (
        (theirs.InterpolationMode, theirs.AutoAugmentPolicy),
    ):
        assert v2.Resize(4, modes.BICUBIC) == ga.Resize(4, "bicubic")
        assert v2.AutoAugment(policies.SVHN) == ga.AutoAugment("svhn")
        x = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
        assert v2.functional.resize(x, [2, 2], modes.NEAREST).shape == (3, 2, 2)


def test_classes_are_gpuaugs() -> None:
    assert v2.Compose is ga.Compose and v2.functional is ga.functional and v2.RandomCrop is ga.RandomCrop


def test_helpers_are_torchvisions() -> None:
    assert v2.query_size is theirs.query_size and v2.has_any is theirs.has_any


def test_a_misspelt_name() -> None:
    with pytest.raises(AttributeError, match="did you mean 'RandomCrop'"):
        v2.RandomCrops  # noqa: B018


def test_the_import_is_light() -> None:
    heavy = ("torchvision", "PIL", "kornia", "triton", "numba")
    code = f"import sys; from gpuaug import v2; dir(v2); print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
