"""What is refused, and how: each op by each argument by each bad value, one clear line that names op and argument."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from calls import default
from refusals import ALIASES, BAD, CLASSES, CORNERS, FUNCTIONS, INF, NAN, assert_told, grey, images, refusal
from torch import Tensor

import gpuaug as ga
from gpuaug import explicit
from gpuaug.lowering import lower
from gpuaug.memory import check_memory

ANY_DTYPE = ("to_dtype", "convert_image_dtype")
ERRORS = (ValueError, TypeError, RuntimeError, MemoryError)


# --- each op by each argument by each bad value -----------------------------------------------------------------------
def test_the_tables_hold_every_op() -> None:
    ops = {n for n in ga.__all__ if inspect.isclass(getattr(ga, n)) and issubclass(getattr(ga, n), ga.Transform)}
    assert set(CLASSES) == ops - {"Transform"}
    public = ((name, getattr(ga.functional, name)) for name in ga.functional.__all__ if name != "InterpolationMode")
    computing = {f.__name__ for _, f in public if "backend" in inspect.signature(f).parameters}
    assert set(FUNCTIONS) == {name for name in computing if name.split("_")[-1] not in ("image", "video")}
    for name, good in CLASSES.items():
        getattr(ga, name)(**good)
    for name, good in FUNCTIONS.items():
        assert isinstance(getattr(ga.functional, name)(grey(), **good, backend="kornia"), Tensor)


@pytest.mark.parametrize("name", CLASSES)
def test_bad_values_of_each_argument(name: str) -> None:
    op, good = getattr(ga, name), CLASSES[name]
    for field in dataclasses.fields(op):
        for bad in BAD.values():
            if callable(bad) and (field.name, name[:8]) in (("labels_getter", "Sanitize"), ("lambd", "Lambda")):
                continue  # it may be any; what it gives is judged where it is called
            said = ALIASES.get(name, name) if field.name == "config" else name
            refusal(lambda k=field.name, v=bad: op(**{**good, k: v}), [said, field.name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_values_of_each_argument_of_a_function(name: str) -> None:
    function, given = getattr(ga.functional, name), grey()
    good = {**FUNCTIONS[name], "backend": "kornia"}
    for argument in list(inspect.signature(function).parameters)[1:]:
        for bad in BAD.values():
            if argument == "v" and isinstance(bad, Tensor) and not bad.is_meta and not bad.is_complex():
                continue  # a tensor of the right kind is judged by its shape, below
            refusal(lambda k=argument, v=bad: function(given, **{**good, k: v}), [name, argument])
    with pytest.raises(TypeError, match=rf"^(gpuaug\.)?{name}\(\) missing"):
        function(**good)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_image_is_named(name: str) -> None:
    given, function = grey(), getattr(ga.functional, name)
    kinds = {
        "None": (None, "NoneType"),
        "number": (3, "int"),
        "list": ([given], "list"),
        "numpy": (given.numpy(), "array"),
        "complex array": (np.zeros((8, 8, 3), complex), "array"),
        "dict": ({"image": given}, "dict"),
        "one axis": (given[0, 0, 0], "(8,)"),
        "two axes": (given[0, 0], "(8, 8)"),
        "channels last": (given.new_zeros(2, 64, 60, 3), "permute(0, 3, 1, 2)"),
        "one image, channels last": (given.new_zeros(64, 60, 3), "permute(2, 0, 1)"),
        "many channels": (given.new_zeros(2, 17, 8, 8), "17"),
        "no pixels": (given.new_zeros(2, 3, 0, 8), "(2, 3, 0, 8)"),
        "float64": (given.double(), "float64"),
        "int16": (given.short(), "int16"),
        "bool": (given.bool(), "bool"),
        "complex": (given.to(torch.complex64), "complex64"),
        "sparse": (given.to_sparse(), "sparse"),
    }
    for kind, (bad, mention) in kinds.items():
        mention = "None" if kind == "None" else mention
        if kind in ("float64", "int16", "bool", "complex") and (function.exact or name in ANY_DTYPE):
            if kind != "complex" or function.exact:
                assert function(bad, **FUNCTIONS[name], backend="kornia").shape[:2] == bad.shape[:2]
            continue
        refusal(lambda b=bad: function(b, **FUNCTIONS[name], backend="kornia"), [name, "images", mention])
        if kind not in ("list", "numpy", "complex array", "dict", "channels last", "one image, channels last"):
            refusal(lambda b=bad: ga.Compose([ga.RandomInvert()], seed=0)(b), [mention])


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8)])
def test_each_op_on_each_kind_of_image_gives_a_result_or_one_line(size: tuple[int, int]) -> None:
    def pipeline(name: str) -> ga.Compose:
        return ga.Compose([getattr(ga, name)(**CLASSES[name])], seed=0, backend="kornia")

    results = 0
    for dtype in (torch.uint8, torch.float32):
        for channels in (1, 2, 3):
            given = images(2, channels, *size, dtype=dtype)
            calls = [(n, lambda n=n, g=given: pipeline(n)(g)) for n in CLASSES]
            calls += [
                (n, lambda n=n, g=given: getattr(ga.functional, n)(g, **FUNCTIONS[n], backend="kornia"))
                for n in FUNCTIONS
            ]
            for name, call in calls:
                try:
                    results += isinstance(call(), Tensor)
                except (TypeError, ValueError) as error:
                    assert_told(str(error), [name])
    assert results > 2 * len(calls), "of six kinds of images"


# --- the other way round: whatever holds the same numbers is the same op ----------------------------------------------
def disguises(value) -> list:
    """The same number or numbers, as others hold them."""
    if isinstance(value, bool | str) or value is None:
        return []
    if isinstance(value, int | float):
        scalar = np.int64 if isinstance(value, int) else np.float64
        return [
            scalar(value),
            np.array(value),
            torch.tensor(value, dtype=torch.float64 if scalar != np.int64 else None),
        ]
    if isinstance(value, list | tuple) and isinstance(value[0], int | float):
        return [list(value), tuple(value), np.array(value), torch.tensor(value, dtype=torch.float64)]
    return []


@pytest.mark.parametrize("name", CLASSES)
def test_numbers_of_other_libraries(name: str) -> None:
    op, count = getattr(ga, name), 0
    plain = op(**CLASSES[name])
    for key, value in CLASSES[name].items():
        for other in disguises(value):
            made = op(**{**CLASSES[name], key: other})
            assert made == plain and repr(made) == repr(plain) and hash(made) == hash(plain), key
            count += 1
    assert count or not any(isinstance(v, int | float | tuple) for v in CLASSES[name].values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_of_other_libraries_in_a_function(name: str) -> None:
    function = getattr(ga.functional, name)
    plain = function(grey(), **FUNCTIONS[name], backend="kornia")
    for key, value in FUNCTIONS[name].items():
        for other in disguises(value):
            got = function(grey(), **{**FUNCTIONS[name], key: other}, backend="kornia")
            assert torch.equal(got, plain), key


def test_an_op_keeps_what_it_was_made_with() -> None:
    sides, scale = [1, 2], np.array([0.5, 1.0])
    pad, crop = ga.Pad(sides), ga.RandomResizedCrop(9, scale=scale)
    sides[0], scale[0] = 7, 0.9
    assert pad == ga.Pad((1, 2)) and crop == ga.RandomResizedCrop(9, scale=(0.5, 1.0))


# --- one by one: the value, the shape, the mend -----------------------------------------------------------------------
BAD_ARGUMENTS = [
    (lambda: ga.RandomResizedCrop(9, scale=(-0.1, 1.0)), ["RandomResizedCrop", "scale", "-0.1"]),
    (lambda: ga.RandomResizedCrop(9, ratio=(2.0, 1.0)), ["RandomResizedCrop", "ratio", "2.0"]),
    (lambda: ga.RandomAffine(9, scale=(-1.0, 2.0)), ["RandomAffine", "scale", "-1.0"]),
    (lambda: ga.RandomAffine(9, translate=(0.1, 1.2)), ["RandomAffine", "translate", "1.2"]),
    (lambda: ga.RandomAffine(9, shear=(1, 2, 3)), ["RandomAffine", "shear", "3"]),
    (lambda: ga.RandomRotation(-9), ["RandomRotation", "degrees", "-9"]),
    (lambda: ga.RandomRotation(9, center=(1, 2, 3)), ["RandomRotation", "center", "3"]),
    (lambda: ga.RandomPerspective(1.5), ["RandomPerspective", "distortion_scale", "1.5"]),
    (lambda: ga.Resize(9, interpolation="hamming"), ["Resize", "interpolation", "hamming"]),
    (lambda: ga.RandomAffine(9, interpolation="linear"), ["RandomAffine", "interpolation", "linear"]),
    (lambda: ga.Resize(0), ["Resize", "size", "0"]),
    (lambda: ga.CenterCrop((1, 2, 3)), ["CenterCrop", "size", "(1, 2, 3)"]),
    (lambda: ga.RandomCrop(-3), ["RandomCrop", "size", "-3"]),
    (lambda: ga.Pad(2, padding_mode="wrap"), ["Pad", "padding_mode", "wrap"]),
    (lambda: ga.Pad((1, 2, 3)), ["Pad", "padding", "(1, 2, 3)"]),
    (lambda: ga.RandomHorizontalFlip(1.5), ["RandomHorizontalFlip", "p", "1.5"]),
    (lambda: ga.RandomApply([ga.RandomInvert()], p=-0.1), ["RandomApply", "p", "-0.1"]),
    (lambda: ga.RandomChoice([ga.RandomInvert()], p=[0.5, 0.5]), ["RandomChoice", "p", "2"]),
    (lambda: ga.RandomOrder([]), ["RandomOrder", "at least one"]),
    (lambda: ga.ColorJitter(brightness=-0.4), ["ColorJitter", "brightness", "-0.4"]),
    (lambda: ga.ColorJitter(contrast=(2.0, 1.0)), ["ColorJitter", "contrast", "2.0"]),
    (lambda: ga.Normalize([0.5], [0.0]), ["Normalize", "std", "0.0"]),
    (lambda: ga.ToDtype(torch.float64), ["ToDtype", "float64"]),
    (lambda: ga.Compose([ga.Identity]), ["Compose", "Identity", "make one of the class"]),
    (lambda: ga.Compose([ga.RandomInvert], seed=0), ["Compose", "RandomInvert"]),
    (lambda: ga.Compose([ga.RandomInvert()], backend="cuda"), ["backend", "cuda"]),
    (lambda: ga.functional.affine(images(1, 3, 8, 8), 0.0, [0, 0], -1.0, [0.0, 0.0]), ["affine", "scale", "-1.0"]),
    (lambda: ga.functional.adjust_contrast(images(1, 3, 8, 8), -1.0), ["contrast", "-1.0"]),
    (
        lambda: ga.functional.resized_crop(grey(), 0, [1, 2], [9, 8], 8, [4, 4]),
        ["resized_crop", "several", "8x8", "[1, 2]"],
    ),
    (lambda: ga.functional.resized_crop(grey(), 0, 0, [4, 5], 4, 4), ["resized_crop", "size", "several", "4"]),
    (lambda: ga.functional.five_crop(grey(), 9), ["five_crop", "size", "8x8", "9x9"]),
    (lambda: ga.RandomAffine(0, shear=90), ["RandomAffine", "shear", "90"]),
    (lambda: ga.RandomAffine(0, shear=(0, 0, 80, 280)), ["RandomAffine", "shear", "90", "280"]),
    (lambda: ga.RandomResizedCrop(9, scale=(2.0, 3.0)), ["RandomResizedCrop", "scale", "no window", "2.0"]),
    (lambda: ga.RandomCrop(8, padding=-1), ["RandomCrop", "padding", "-1"]),
    (lambda: ga.CenterCrop(3.7), ["CenterCrop", "size", "3.7"]),
    (lambda: ga.Resize(None), ["Resize", "size=None", "max_size"]),
    (lambda: ga.Resize(8, max_size=8), ["Resize", "max_size", "8"]),
    (lambda: ga.Resize((8, 9), max_size=10), ["Resize", "max_size", "(8, 9)"]),
    (lambda: ga.Pad(2**25), ["Pad", "padding", "33554432"]),
    (lambda: ga.CenterCrop(2**25), ["CenterCrop", "size", "33554432", "16777216"]),
    (lambda: ga.AutoAugment("imagenett"), ["AutoAugment", "policy", "did you mean 'imagenet'?"]),
    (lambda: ga.Resize(9, "bilnear"), ["Resize", "interpolation", "did you mean 'bilinear'?"]),
    (lambda: ga.Pad(1, padding_mode="reflekt"), ["Pad", "padding_mode", "did you mean 'reflect'?"]),
    (lambda: ga.functional.rotate(grey(), INF), ["rotate", "angle", "inf"]),
    (lambda: ga.functional.rotate(grey(), [1.0, NAN]), ["rotate", "angle", "nan"]),
    (lambda: ga.functional.rotate(grey(), [1.0, 2.0, 3.0]), ["rotate", "angle", "2", "(3,)"]),
    (lambda: ga.functional.affine(grey(), 0.0, [0, 0], 1.0, [90.0, 0.0]), ["affine", "shear", "90"]),
    (lambda: ga.functional.affine(grey(), 0.0, [0, 0], 1.0, (0, -270)), ["affine", "shear", "-270"]),
    (lambda: ga.functional.affine(grey(), 0.0, [0], 1.0, 0.0), ["affine", "translate", "[2]", "(1,)"]),
    (lambda: ga.functional.affine(grey(), 0.0, [0, 0], 1.0, [1, 2, 3]), ["affine", "shear", "(3,)"]),
    (lambda: ga.functional.perspective(grey(), None, None), ["perspective", "endpoints", "None"]),
    (lambda: ga.functional.perspective(grey(), [[0, 0]] * 4, CORNERS), ["perspective", "startpoints", "on a line"]),
    (lambda: ga.functional.perspective(grey(), CORNERS, None, coefficients=[1] * 8), ["perspective", "coefficients"]),
    (
        lambda: ga.functional.perspective(grey(), None, None, coefficients=[1] * 7),
        ["perspective", "coefficients", "(7,)"],
    ),
    (lambda: ga.functional.perspective(grey(), None, [[0, 0]] * 4), ["perspective", "endpoints", "on a line"]),
    (lambda: ga.functional.perspective(grey(), None, CORNERS[:3]), ["perspective", "endpoints", "(3, 2)"]),
    (lambda: ga.functional.solarize(images(1, 3, 8, 8), 256), ["solarize", "threshold", "255", "256"]),
    (lambda: ga.functional.crop(grey(), 0, 0, 0, 3), ["crop", "height", "0"]),
    (lambda: ga.functional.crop(grey(), 1.5, 0, 3, 3), ["crop", "top", "whole", "1.5"]),
    (lambda: ga.functional.posterize(grey(), 4.5), ["posterize", "bits", "4.5"]),
    (lambda: ga.functional.permute_channels(grey(), [0, 3, 1]), ["permute_channels", "permutation", "3"]),
    (
        lambda: ga.functional.erase(grey(), 0, 0, 1, 1, torch.ones(3, 4, 4)),
        ["erase", "v", "[3, 4, 4]", "[3, 1, 1]"],
    ),
    (
        lambda: ga.functional.erase(grey(), [0, 1], 0, 4, 4, torch.ones(3, 4, 4)),
        ["erase", "v", "one rectangle"],
    ),
    (lambda: ga.functional.elastic(grey(), torch.zeros(1, 8, 7, 2)), ["elastic", "displacement", "(1, 8, 7, 2)"]),
    (lambda: ga.functional.elastic(grey(), torch.zeros(1, 8, 8, 2), backend="cpu"), ["elastic", "backend", "cpu"]),
    (lambda: ga.functional.erase(grey(), 0, 0, 1, 1, [1, 2]), ["erase", "v", "2 values", "3 channels"]),
    (lambda: ga.functional.rotate(grey(), 3.0, fill=[1, 2]), ["rotate", "fill", "2 values", "3 channels"]),
    (lambda: ga.functional.adjust_brightness(grey()[:, :2], 2.0), ["adjust_brightness", "1 or 3", "2"]),
    (lambda: ga.functional.normalize(images(1, 3, 8, 8), 0.5, 0.5), ["normalize", "uint8", "ToDtype"]),
    (lambda: ga.functional.gaussian_blur(grey(), 17), ["gaussian_blur", "17x17", "8x8"]),
    (lambda: ga.functional.pad(grey(), 8, padding_mode="reflect"), ["pad", "reflect", "8x8"]),
    (lambda: ga.functional.center_crop(grey(), 0), ["center_crop", "output_size", "0"]),
    (lambda: ga.functional.invert(grey(), backend="cuda"), ["invert", "backend", "cuda"]),
    (lambda: ga.timm_augment("rand-x3"), ["timm_augment", "x3"]),
    (lambda: ga.timm_augment("rand-m" + "9" * 5000), ["timm_augment", "m999"]),
]
BAD_INPUTS = [
    ([ga.RandomInvert()], images(8, 8), ["(8, 8)", "[B, C, H, W]"]),
    ([ga.RandomInvert()], images(1, 1, 1, 3, 8, 8), ["(1, 1, 1, 3, 8, 8)", "[B, C, H, W]"]),
    ([ga.RandomInvert()], images(1, 3, 8, 8, dtype=torch.int16), ["int16"]),
    ([ga.RandomInvert()], images(1, 3, 8, 8, dtype=torch.float64), ["float64"]),
    ([ga.RandomInvert()], images(1, 17, 8, 8), ["17"]),
    ([ga.RandomInvert()], images(1, 3, 0, 8), ["(1, 3, 0, 8)"]),
    ([ga.RandomInvert()], [images(3, 8, 8), images(1, 3, 8, 8)], ["(1, 3, 8, 8)"]),
    ([ga.RandomInvert(), ga.RandomCrop(300)], images(1, 3, 8, 9), ["RandomCrop", "300", "8x9"]),
    ([ga.RandomCrop((5, 30), padding=4)], images(1, 3, 8, 9), ["RandomCrop", "5x30", "16x17"]),
    ([ga.Pad(8, padding_mode="reflect")], images(1, 3, 8, 9), ["Pad", "reflect", "8x9"]),
    ([ga.Normalize([0.5], [0.5])], images(1, 3, 8, 8), ["Normalize", "uint8", "ToDtype"]),
    ([ga.Normalize([0.5] * 2, [0.5] * 2)], images(1, 3, 8, 8, dtype=torch.float32), ["Normalize", "2", "3"]),
    ([ga.ColorJitter(brightness=0.1)], images(1, 5, 8, 8), ["ColorJitter", "5"]),
    ([ga.ColorJitter(contrast=0.1)], images(1, 2, 8, 8), ["ColorJitter", "2"]),
    ([ga.RandomRotation(9, fill=[1, 2])], images(1, 3, 8, 8), ["RandomRotation", "fill", "2", "3"]),
    ([ga.Pad(1, fill=256)], images(1, 3, 8, 8), ["Pad", "fill", "256"]),
    ([ga.RandomSolarize(300)], images(1, 3, 8, 8), ["RandomSolarize", "threshold", "300"]),
    ([ga.RandomInvert()], images(64, 48, 3), ["(64, 48, 3)", "[H, W, C]", "permute(2, 0, 1)"]),
    ([ga.RandomInvert()], images(2, 64, 48, 4), ["(2, 64, 48, 4)", "[B, H, W, C]", "permute(0, 3, 1, 2)"]),
    ([ga.Resize(8, max_size=9)], images(1, 3, 1, 4000), ["Resize", "0x9", "1x4000"]),
    ([ga.Resize(9000)], images(1, 3, 1, 4000), ["Resize", "9000x36000000", "1x4000"]),
    ([ga.Pad(9), ga.Pad(2**24)], images(1, 3, 8, 8), ["1.Pad", "33554458", "26x26"]),
    ([ga.CenterCrop(2**24), ga.RandomHorizontalFlip()], images(1, 3, 8, 8), ["CenterCrop", "16777216", "GiB"]),
    ([ga.Resize((2**24, 2**20))], images(9, 3, 8, 8), ["Resize", "[9, 3, 16777216, 1048576]", "GiB"]),
]


@pytest.mark.parametrize("bad", range(len(BAD_ARGUMENTS)))
def test_bad_arguments(bad: int) -> None:
    make, mentions = BAD_ARGUMENTS[bad]
    refusal(make, mentions)


@pytest.mark.parametrize("bad", range(len(BAD_INPUTS)))
def test_bad_inputs(bad: int) -> None:
    transforms, given, mentions = BAD_INPUTS[bad]
    augment = ga.Compose(transforms, seed=0)
    for method in (augment, augment.sample):
        refusal(lambda m=method: m(given), mentions)


def test_bad_calls() -> None:
    augment, given = ga.Compose([ga.RandomRotation(9)], seed=0), images(2, 3, 8, 8)
    for ids, mentions in (([1, 2, 3], ["ids", "2", "3"]), (torch.tensor([1.5, 2.0]), ["ids", "float"])):
        with pytest.raises(ERRORS) as caught:
            augment(given, ids=ids, epoch=0)
        assert_told(str(caught.value), mentions)
    with pytest.raises(ERRORS, match="params"):
        augment.apply(given[:1], augment.sample(given))
    with pytest.raises(ERRORS, match="CUDA"):
        ga.Compose([ga.RandomInvert()], backend="triton")(given)
    for backend in ("cpu", "triton"):
        with pytest.raises(ERRORS, match="grad"):
            ga.Compose([ga.RandomInvert()], backend=backend)(given.float().requires_grad_())
    for value in (float("nan"), 255.0):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            ga.Compose([ga.RandomInvert()], check=True)(torch.full((2, 3, 8, 8), value))


def test_an_output_that_only_a_batch_makes_too_large() -> None:
    program = lower([ga.Resize((4096, 4096)), ga.RandomVerticalFlip()], frozenset({(8, 8)}), 3, torch.float32)
    check_memory(program, 1, torch.device("cpu"))
    refusal(lambda: check_memory(program, 10**6, torch.device("cpu")), ["Resize", "1000000", "4096", "GiB"])


# --- where numbers become a table, and where warnings point -----------------------------------------------------------
@pytest.mark.parametrize("what", [torch.float64, torch.bfloat16, "meta"])
def test_a_table_does_not_depend_on_defaults(what) -> None:
    def tables() -> list[Tensor]:
        columns = [
            explicit.column("op", "number", 1.2345, 3),
            explicit.column("op", "list", [0.1, 0.2, 0.3], 3),
            *explicit.vector("op", "pair", [[1.1, 2.2]] * 3, (2,), 3),
            explicit.column("op", "tensor", given, 3),
        ]
        return [explicit.table(some, 3, given.device) for some in (columns[:1], columns[:4], columns)]

    given = torch.tensor([0.7, 0.8, 0.9], dtype=torch.float64)
    expected = np.array([[1.2345, a, 1.1, 2.2, b] for a, b in zip((0.1, 0.2, 0.3), (0.7, 0.8, 0.9), strict=True)])
    for drawn in (*tables(), *default(what)(tables)()):
        assert drawn.dtype == torch.float32 and drawn.device == given.device
        assert np.array_equal(drawn.numpy(), expected[:, : drawn.shape[1]].astype(np.float32))


def test_a_list_is_taken_as_each_of_its_numbers() -> None:
    """Those that are refused alone are refused among others, in the same words."""
    limits = [{}, {"low": 0.0}, {"low": -0.5, "high": 0.5}, {"above": 0.0}, {"low": 0, "high": 8, "whole": True}]
    odd = [NAN, INF, -INF, 10**400, 3.5e38, -3.5e38, -1e-9, 0, 0.4, 8, 9, True, np.float32(2), None, "1", (1.0,), 2.5]
    for limited in limits:
        for value in odd:
            beside = (1.0, 2) if limited.get("whole") else (0.5, 0.25)
            alone = outcome(explicit.host_number, value, limited)
            for values in ((value,), (beside[0], value, beside[1]), (value, *beside)):
                found = outcome(explicit.host_numbers, values, limited)
                told = alone if isinstance(alone, str) else tuple(alone if v is value else float(v) for v in values)
                assert found == told, (limited, values)


def outcome(reader, value, limited: dict) -> float | tuple | str:
    """What a reader of numbers returns, or the words of its error."""
    try:
        return reader("op", "name", value, **limited)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_do_not_depend_on_the_default_dtype(name: str) -> None:
    given = grey()
    expected = getattr(ga.functional, name)(given, **FUNCTIONS[name], backend="kornia")
    for what in (torch.float64, torch.bfloat16):
        got = default(what)(getattr(ga.functional, name))(given, **FUNCTIONS[name], backend="kornia")
        assert got.dtype == torch.float32 and torch.equal(got, expected)


def test_warnings_point_at_the_line_that_calls() -> None:
    augment = ga.Compose([ga.RandomHorizontalFlip()], backend="kornia", seed=0)
    model = torch.nn.Sequential(torch.nn.Identity(), ga.Compose([ga.RandomInvert()], backend="kornia", seed=0))
    calls = [
        (lambda: augment(grey(), ids=range(2))),
        (lambda: ga.Compose([ga.Identity()], backend="kornia", seed=0).sample(grey(), ids=range(2))),
        (lambda: model[1](grey(), ids=range(2))),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert [w.filename for w in caught] == [__file__]
        assert caught[0].lineno == call.__code__.co_firstlineno


def test_a_fallback_points_at_the_line_that_calls(tmp_path) -> None:
    script = tmp_path / "script.py"
    lines = [
        "import os, sys, torch",
        "os.environ['GPUAUG_ENGINE'], sys.modules['numba'] = 'jit', None",
        "import gpuaug as ga",
        "x = torch.zeros(1, 3, 8, 8)",
        "ga.functional.invert(x)",
    ]
    script.write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONWARNINGS": "always"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"{script}:5: UserWarning: gpuaug falls back to the kornia backend" in done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_reach_a_gpu_without_a_wait(name: str) -> None:
    given, function = grey().cuda(), getattr(ga.functional, name)
    if name == "adjust_brightness":
        values = [{"brightness_factor": v} for v in (1.5, [0.5, 1.5], torch.tensor([0.5, 1.5]))]
    else:
        values = [FUNCTIONS[name]]
    for arguments in values:
        function(given, **arguments)  # compiles, and keeps what such images need
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            function(given, **arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")
