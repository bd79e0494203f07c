"""gpuaug in the place of torchvision.transforms.v2, for torchvision's own tests.

What is led elsewhere, and no more:
- draws follow torch's seed, which these tests set (a pipeline without a seed takes its from there);
- `make_params` of a built-in op is what it draws for the next call;
- in tests of correctness a Pillow image goes through torchvision itself, so that the expected picture is not ours;
- `pytest.raises` asks for a TypeError or ValueError, not for torchvision's words;
- our warning of a centre beside expand=True, where torchvision says nothing, is left out;
- TorchScript, the transforms of v1 and the telemetry of `torch._C._log_api_usage_once` are not compared;
- a private name, `F._geometry`, and the enums are torchvision's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import types
import warnings

import PIL.Image
import pytest
import torch
import torchvision.transforms.v2 as theirs
import torchvision.transforms.v2.functional as their_functional

import gpuaug
from gpuaug import compose, functional, v2
from gpuaug.functional import warp as functional_warp
from gpuaug.transforms import warp as transforms_warp

NOT_OURS = {  # a test's name or a part of it: why it does not apply
    "TestGetKernel": "looks into torchvision's registry of kernels",
    "TestRegisterKernel": "kernels of user types are torchvision's own way of extension; ours are callables in Compose",
    "test_labels_getter_default_heuristic": "calls a private function of torchvision",
    "v1": "the transforms of v1",
    "scripted": "TorchScript",
    "test_correctness_shear_translate": "calls a private method of torchvision's policies",
    "test__transform": "replaces make_params by a mock",
    "TestRandomIoUCrop::test_make_params": "reads draws as torchvision's private protocol names them",
}
NOT_COMPARED = (
    "_check_kernel_scripted_vs_eager",
    "_check_functional_scripted_smoke",
    "_check_transform_v1_compatibility",
)
ROTATED = ("XYWHR", "CXCYWHR", "XYXYXYXY")  # formats of boxes that are younger than these tests' helpers
DRAWN = {  # what `make_params` tells of an op
    "RandomAffine": ("angle", "translate", "scale", "shear"),
    "RandomRotation": ("angle",),
    "RandomErasing": ("i", "j", "h", "w", "v"),
    "RandomCrop": ("needs_crop", "top", "left", "height", "width", "needs_pad", "padding"),
    "RandomZoomOut": ("padding",),
    "ScaleJitter": ("size",),
    "RandomShortestSize": ("size",),
}
ENUMS = ("InterpolationMode", "AutoAugmentPolicy")  # which torchvision's functions ask for
_correctness = False


class _Namespace(types.ModuleType):
    """Ours, and torchvision's private names."""

    def __init__(self, name: str, ours, reference):
        super().__init__(name)
        self._ours, self._reference = ours, reference

    def __getattr__(self, name: str):
        if name.startswith("_") or name in ENUMS:
            return getattr(self._reference, name)
        try:
            found = getattr(self._ours, name)
        except AttributeError:
            return _missing(name)
        if name == "ToTensor":
            return _deprecated(found)
        if self._ours is functional and callable(found) and not isinstance(found, type):
            return _judged(name, found)
        return found


def _missing(name: str):
    def missing(*arguments, **keywords):
        pytest.fail(f"gpuaug has no {name}")

    missing.__name__ = name
    return missing


@functools.lru_cache
def _deprecated(cls):
    """ToTensor with the warning that torchvision has."""

    def warned(self) -> None:
        warnings.warn("The transform `ToTensor()` is deprecated and will be removed", UserWarning, stacklevel=2)

    return type(cls.__name__, (cls,), {"__init__": warned, "__reduce__": lambda self: (cls, ())})


_wrapped: dict = {}


def _judged(name: str, ours):
    """The function, which leaves Pillow images to torchvision where it makes what is expected."""
    if ours not in _wrapped:

        @functools.wraps(ours)
        def function(*arguments, **keywords):
            first = arguments[0] if arguments else None
            if name == "clamp_bounding_boxes" and type(first) is torch.Tensor:
                keywords.setdefault("clamping_mode", "soft")  # what releases before 0.23 did
            if _correctness and isinstance(first, PIL.Image.Image):
                return getattr(their_functional, name)(*arguments, **keywords)
            return ours(*arguments, **keywords)

        _wrapped[ours] = function
    return _wrapped[ours]


transforms = _Namespace("transforms", v2, theirs)
F = _Namespace("functional", functional, their_functional)


def _make_params(self, inputs) -> dict:
    """What the op draws for such inputs where it acts, as torchvision names it."""
    if self.barrier:
        return {}
    op, name = self, type(self).__name__
    if getattr(op, "p", 1.0) != 1.0 and name in DRAWN:
        op = dataclasses.replace(op, p=1.0)
    images = [x for x in inputs if isinstance(x, torch.Tensor | PIL.Image.Image)]
    h, w = theirs.functional.get_size(images[0]) if images else (32, 32)
    image = torch.zeros((3, h, w), dtype=torch.uint8)
    if name == "RandomErasing" and images[0].is_floating_point():
        image = image.float()
    calls = gpuaug.Compose([op]).sample(image).describe(0)
    params = {
        k: tuple(v) if isinstance(v, list) and name in DRAWN else v for c in calls for k, v in c["kwargs"].items()
    }
    if name == "RandomCrop":
        found = [c["call"] for c in calls]
        params = {"padding": None, **params, "needs_pad": "pad" in found, "needs_crop": "crop" in found}
    return {k: v for k, v in params.items() if k in DRAWN.get(name, params)}


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "needs_cuda: needs a CUDA device")
    compose.os = types.SimpleNamespace(urandom=lambda n: (torch.initial_seed() % 256**n).to_bytes(n, "little"))
    for module in (transforms_warp, functional_warp):
        module.warn = _nothing
    gpuaug.Transform.make_params = _make_params
    gpuaug.Transform._needs_transform_list = lambda self, inputs: theirs.Transform()._needs_transform_list(inputs)


class _Pytest:
    """pytest, whose `raises` asks for no words."""

    def __getattr__(self, name: str):
        return getattr(pytest, name)

    @staticmethod
    def raises(expected, *arguments, match=None, **keywords):
        wanted = (TypeError, ValueError) if expected in (TypeError, ValueError) else expected
        return pytest.raises(wanted, *arguments, **keywords)


def _nothing(*arguments, **keywords) -> None:
    """In place of a comparison that does not apply."""


def pytest_collection_modifyitems(items) -> None:
    for module in {item.module for item in items}:
        module.pytest = _Pytest()
        for name in (
            "_check_kernel_scripted_vs_eager",
            "_check_functional_scripted_smoke",
            "_check_transform_v1_compatibility",
        ):
            setattr(module, name, _nothing)
        module.mock = _Mock()
        module._script = lambda function: function
        module.check_functional_kernel_signature_match = _signatures(module.check_functional_kernel_signature_match)
    for item in items:
        if item.get_closest_marker("needs_cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if any(getattr(value, "value", None) in ROTATED for value in _parameters(item)):
            item.add_marker(pytest.mark.skip(reason="the helpers of these tests make no rotated boxes"))
        for part, reason in NOT_OURS.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


def _signatures(check):
    """The comparison of a function with its kernels, where the kernel is ours, and as of this release of the tests."""

    @functools.wraps(check)
    def checked(function, *, kernel, input_type):
        if kernel.__module__.startswith("gpuaug") and "clamping_mode" not in inspect.signature(kernel).parameters:
            check(function, kernel=kernel, input_type=input_type)

    return checked


def _parameters(item) -> list:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


class _Mock:
    """unittest.mock, with a telemetry that says yes."""

    def __getattr__(self, name: str):
        from unittest import mock

        return getattr(mock, name)

    @staticmethod
    def patch(target, *arguments, **keywords):
        from unittest import mock

        if target == "torch._C._log_api_usage_once":
            return contextlib.nullcontext(types.SimpleNamespace(assert_any_call=_nothing))
        return mock.patch(target, *arguments, **keywords)


@pytest.fixture(autouse=True)
def judged(request):
    """Whether torchvision makes what is expected of Pillow images."""
    global _correctness
    _correctness = "correctness" in request.node.name
    yield
    _correctness = False
