"""Signatures of the classes and functions of `gpuaug.v2`, against torchvision's: names, order, kinds, defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torchvision.transforms.v2 as theirs

from gpuaug import v2

BACKEND = "backend= says what computes"
CLASSES = {  # whose signatures differ, and why
    "Compose": "seed, backend, memory_format and check belong to a pipeline",
    "CutMix": "pair, per, label_smoothing and correct_lam: whom a sample is mixed with, how often lambda is drawn",
    "MixUp": "pair, per and label_smoothing, as CutMix",
    "Transform": "the base of frozen descriptions takes what they take",
}
FUNCTIONS = {
    "gaussian_noise": "seeds= of the noise, which is keyed by sample",
}
KEPT = ("check_type", "get_bounding_boxes", "get_keypoints", "has_all", "has_any", "query_chw", "query_size")


def signature(what: Any) -> list[tuple]:
    found = inspect.signature(what).parameters.values()
    return [(p.name, p.kind, getattr(p.default, "value", p.default)) for p in found]


def of(module: Any) -> dict[str, Any]:
    public = {name: getattr(module, name) for name in dir(module) if name[0] != "_"}
    return {name: value for name, value in public.items() if callable(value) and name not in KEPT}


def is_enum(what: Any) -> bool:
    return hasattr(what, "__members__")


@pytest.mark.parametrize("name", [n for n, v in of(theirs).items() if not is_enum(v)])
def test_classes(name: str) -> None:
    own, their = signature(getattr(v2, name)), signature(getattr(theirs, name))
    assert (own != their) == (name in CLASSES), (own, their)
    if name in CLASSES and name != "Transform":
        assert own[: len(their)] == their, "ours come behind"
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in own[len(their) :])


@pytest.mark.parametrize("name", [n for n, v in of(theirs.functional).items() if not is_enum(v)])
def test_functions(name: str) -> None:
    own, their = signature(getattr(v2.functional, name)), signature(getattr(theirs.functional, name))
    assert own[: len(their)] == their
    further = {n: kind for n, kind, _ in own[len(their) :]}
    assert set(further.values()) <= {inspect.Parameter.KEYWORD_ONLY}
    assert (set(further) - {"backend"} != set()) == (name in FUNCTIONS), further


def test_no_row_stands_for_nothing() -> None:
    assert set(CLASSES) <= set(of(theirs)) and set(FUNCTIONS) <= set(of(theirs.functional))
