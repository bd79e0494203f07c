"""Names that are nearly right, of ops, arguments and presets, and presets by a string."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from refusals import BAD, CLASSES, FUNCTIONS, grey, refusal

import gpuaug as ga
from gpuaug import presets
from gpuaug.compose import CALL


@pytest.mark.parametrize("name", [n for n in ga.__all__ if len(n) > 3])
def test_a_misspelt_name(name: str) -> None:
    assert f"did you mean {name!r}?" in refusal(
        lambda: getattr(ga, name[:-2] + name[-1]), ["gpuaug"], (AttributeError,)
    )


def test_misspelt_functions_and_presets() -> None:
    for module, name, meant in (
        (ga.functional, "adjust_brightnes", "adjust_brightness"),
        (ga.functional, "resizedcrop", "resized_crop"),
        (presets, "imagnet_train", "imagenet_train"),
    ):
        refusal(
            lambda m=module, n=name: getattr(m, n),
            [module.__name__, name, f"did you mean {meant!r}?"],
            (AttributeError,),
        )
    assert not hasattr(ga, "__nothing__") and not hasattr(ga, "Q")


@pytest.mark.parametrize("name", CLASSES)
def test_misspelt_keywords(name: str) -> None:
    op = getattr(ga, name)
    for field in (f.name for f in dataclasses.fields(op) if len(f.name) > 3):
        good = {k: v for k, v in CLASSES[name].items() if k != field}
        refusal(
            lambda f=field, g=good: op(**g, **{f[:-1]: 1}), [name, f"{field[:-1]!r}", f"mean {field!r}?"], (TypeError,)
        )
    refusal(lambda: op(**CLASSES[name], qqq=1), [name, "'qqq'"], (TypeError,))
    assert list(inspect.signature(op).parameters) == [f.name for f in dataclasses.fields(op)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_misspelt_keywords_of_a_function(name: str) -> None:
    function = getattr(ga.functional, name)
    parameters = inspect.signature(function).parameters
    assert list(parameters)[0] in ("inpt", "image") and parameters["backend"].kind == inspect.Parameter.KEYWORD_ONLY
    for argument in [p for p in list(parameters)[1:] if len(p) > 3]:
        good = {k: v for k, v in FUNCTIONS[name].items() if k != argument}
        mentions = [name, f"{argument[0] + argument[2:]!r}", f"did you mean {argument!r}?"]
        refusal(lambda a=argument, g=good: function(grey(), **g, **{a[0] + a[2:]: 1}), mentions, (TypeError,))


@ga.pixel_op
def fade(v, amount):
    return v * amount


def test_arguments_of_a_pixel_op() -> None:
    refusal(lambda: fade(amout=0.5), ["fade", "'amout'", "did you mean 'amount'?"])
    refusal(lambda: fade(), ["fade", "'amount'"])
    for bad in [v for k, v in BAD.items() if k != "meta tensor"]:
        refusal(lambda v=bad: fade(amount=v), ["fade", "amount"])
        refusal(lambda v=bad: fade(amount=0.5, p=v), ["fade", "p"])
    assert fade(amount=torch.tensor([0.25, 0.5])) == fade(amount=(0.25, 0.5))


# --- presets by a string ----------------------------------------------------------------------------------------------
SPECS = [
    ("geometrik", ["'geometrik'", "did you mean 'geometric'?", "rotate_shift"]),
    ("geometric :degrees=3", ["'geometric '"]),
    ("geometric:", ["character 11"]),
    ("geometric:degrees", ["degrees", "needs its name"]),
    ("geometric:degrees=", ["character 1"]),
    ("geometric:45", ["45", "needs its name"]),
    ("geometric:degrees=3,", ["character 21"]),
    ("geometric:degrees=3,,flip=0", ["character 2"]),
    ("geometric:degrees=3 4", ["character"]),
    ("geometric:degrees=3;flip=0", ["character"]),
    ("geometric:degrees=3,degrees=4", ["degrees", "twice"]),
    ("geometric:**{'degrees': 3}", ["**"]),
    ("geometric:*[3]", ["needs its name"]),
    ("geometric:degrees=3)(flip=0", ["closing bracket"]),
    ("geometric:degrees=3)+(4", ["closing bracket"]),
    ("geometric:degrees=3)#", ["closing bracket"]),
    ("geometric:degrees=3)\n#", ["closing bracket"]),
    ("geometric:degrees=3#", ["character"]),
    ("geometric:degrees=open", ["degrees", "open"]),
    ("geometric:degrees=open('x')", ["degrees", "open('x')"]),
    ("geometric:degrees=set()", ["degrees", "set()"]),
    ("geometric:degrees={3}", ["degrees", "{3}"]),
    ("geometric:degrees=3j", ["degrees", "3j"]),
    ("geometric:degrees=3+4", ["degrees", "3 + 4"]),
    ("geometric:degrees=b'3'", ["degrees"]),
    ("geometric:degrees=f'3'", ["degrees"]),
    ("geometric:degrees=3 if 1 else 4", ["degrees"]),
    ("geometric:degrees=\0", ["null"]),
    ("geometric:degrees=" + "(" * 400, ["geometric"]),
    ("geometric:degrees=" + "9" * 5000, ["geometric"]),
    ("geometric:degree=3", ["geometric", "'degree'", "did you mean 'degrees'?"]),
    ("rotate_shift:flip=0", ["rotate_shift", "'flip'"]),
    ("randaugment:policy=3", ["randaugment", "'policy'"]),
    ("randaugment:magnitud=3", ["randaugment", "did you mean 'magnitude'?"]),
    ("randaugment:color_jiter=3", ["randaugment", "did you mean 'color_jitter'?"]),
    ("geometric:sead=3", ["geometric", "did you mean 'seed'?"]),
    ("geometric:degrees=-3", ["RandomAffine", "degrees", "-3"]),
    ("geometric:degrees='x'", ["RandomAffine", "degrees", "'x'"]),
    ("imagenet_train:policy=3", ["imagenet_train", "policy", "3"]),
    ("imagenet_train:color_jitter=(1,2,3,4,5)", ["imagenet_train", "color_jitter"]),
    ("imagenet_eval:size='x'", ["imagenet_eval", "size", "'x'"]),
    ("imagenet_eval:resize=1e400", ["imagenet_eval", "resize", "inf"]),
    (None, ["string", "None"]),
]


@pytest.mark.parametrize("spec", range(len(SPECS)))
def test_bad_presets(spec: int) -> None:
    text, mentions = SPECS[spec]
    with pytest.raises(ValueError) as caught:
        presets.get(text)
    told = str(caught.value)
    assert all(mention in told for mention in mentions), f"{told!r} lacks one of {mentions}"
    assert "\n" not in told and len(told) < 400


def test_presets_take_what_they_should() -> None:
    assert presets.parse("geometric") == ("geometric", {})
    spec = "geometric: degrees = 1_0.5, scale=[1, 2],flip=-0.0,backend='cpu',check=True, seed=None"
    expected = {"degrees": 10.5, "scale": [1, 2], "flip": 0.0, "backend": "cpu", "check": True, "seed": None}
    assert presets.parse(spec) == ("geometric", expected)
    refusal(lambda: presets.geometric(degree=3), ["geometric", "'degree'", "did you mean 'degrees'?"], (TypeError,))
    for name, preset in presets.PRESETS.items():
        keywords = [p.name for p in inspect.signature(preset).parameters.values() if p.kind == p.KEYWORD_ONLY]
        for keyword in ("dtype", "mean", "std", "seed", "backend", "memory_format", "check", *keywords):
            assert keyword in presets._NAMES[name]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: ga.Compose([], sed=1), "Compose: takes no argument 'sed'; did you mean 'seed'?"),
        (lambda x: ga.Compose([])(x, id=[1]), "Compose: takes no argument 'id'; did you mean 'ids'?"),
        (lambda x: ga.Compose([])(x, mask=x), "Compose: takes no argument 'mask'; did you mean 'masks'?"),
        (
            lambda x: ga.Compose([]).sample(x, epochs=1),
            "Compose.sample: takes no argument 'epochs'; did you mean 'epoch'",
        ),
        (
            lambda x: ga.Compose([]).apply(x, None, outs=x),
            "Compose.apply: takes no argument 'outs'; did you mean 'out'?",
        ),
    ],
)
def test_misspelt_keywords_of_a_pipeline(call, told: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(torch.zeros(1, 3, 4, 4))
    assert str(caught.value).startswith(told)


def test_a_misspelt_backend() -> None:
    with pytest.raises(ValueError, match="did you mean 'triton'?"):
        ga.Compose([], backend="tritn")


def test_the_keywords_of_a_call_are_those_of_its_signature() -> None:
    parameters = inspect.signature(ga.Compose.forward).parameters.values()
    assert tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY) == CALL
