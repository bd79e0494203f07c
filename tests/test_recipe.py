"""Inputs of many sizes: what is kept for them, and that it is what would be made for each anew."""

from __future__ import annotations

import gc
import itertools
import random
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug import functional, recipe
from gpuaug.benchmarks.host_time import stubbed
from gpuaug.facts import layout
from gpuaug.lowering import lower
from gpuaug.recipe import KEPT_ENGINES, KEPT_RECIPES

MANY = 3000
SIDES = (1, 2, 3, 5, 8, 9, 12, 20)
CUT = [ga.RandomResizedCrop(4), ga.RandomHorizontalFlip()]
PIPELINES = {
    "cut": CUT,
    "crop": [ga.RandomCrop(8), ga.RandomInvert()],
    "crop, padded": [ga.RandomCrop(8, padding=(1, 2), padding_mode="reflect")],
    "crop, padded if needed": [ga.RandomCrop(8, pad_if_needed=True)],
    "crop the middle": [ga.CenterCrop((8, 5)), ga.GaussianBlur(5)],
    "pad": [ga.Pad(3, padding_mode="symmetric"), ga.RandomErasing()],
    "resize": [ga.Resize(9, max_size=14), ga.RandomRotation(9)],
    "resize, crop": [ga.Resize(9, antialias=False), ga.CenterCrop(8), ga.RandomAffine(9, interpolation="bilinear")],
    "blur": [ga.GaussianBlur((3, 9)), ga.RandomAdjustSharpness(2.0), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "corners": [ga.RandomPerspective(p=1.0), ga.RandAugment()],
    "order": [ga.RandomOrder([ga.CenterCrop(8), ga.RandomInvert()])],
    "perhaps": [ga.RandomApply([ga.RandomCrop(5, padding=1), ga.RandomCrop(3)]), ga.Resize((6, 6))],
    "one of": [ga.RandomChoice([ga.Pad((1, 3, 4, 6)), ga.CenterCrop(9), ga.Resize(9)]), ga.RandomCrop(8)],
    "one size, or none": [ga.RandomChoice([ga.CenterCrop(8), ga.RandomHorizontalFlip()])],
    "a pipeline within": [ga.Compose([ga.RandomApply([ga.CenterCrop(5)], 1.0), *CUT])],
    "3-Augment": [ga.timm_augment("3a")],
}


def image(h: int, w: int) -> Tensor:
    return torch.randint(0, 256, (1, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(31 * h + w))


def sizes(count: int, most: int = 80) -> list[tuple[int, int]]:
    return random.Random(0).sample(list(itertools.product(range(4, most), repeat=2)), count)


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> list:
    """Grows with each lowering."""
    found = []

    def counted(*arguments):
        found.append(arguments)
        return lower(*arguments)

    monkeypatch.setattr(recipe, "lower", counted)
    return found


def outcome(call: Callable, *arguments, **keywords):
    """What a call returns, or the error that it raises."""
    try:
        return call(*arguments, **keywords)
    except (ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_program_for_another_size_is_the_one_that_lowering_makes(name: str, lowered: list) -> None:
    known = ga.Compose(PIPELINES[name], seed=0, backend="kornia")
    shuffled = random.Random(1).sample(list(itertools.product(SIDES, repeat=2)), len(SIDES) ** 2)
    refused = 0
    for h, w in shuffled:
        found = outcome(known.recipe, image(h, w))
        made = outcome(lower, PIPELINES[name], frozenset({(h, w)}), 3, torch.uint8)
        if isinstance(made, tuple):
            assert found == made
            refused += 1
            continue
        found = found.program
        assert found == made
        assert (found.sizes.canvases, found.facts.of_plans) == (made.sizes.canvases, made.facts.of_plans)
        assert layout(found) == layout(made) and found.code == made.code
    assert len(lowered) <= refused + 4


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_that_met_other_sizes_gives_the_same(backend: str, name: str) -> None:
    known = ga.Compose(PIPELINES[name], seed=0, backend=backend)
    for h, w in sizes(60 if backend == "cpu" else 6, 24):
        x, fresh = image(h, w), ga.Compose(PIPELINES[name], seed=0, backend=backend)
        found, made = (outcome(augment, x, ids=[h], epoch=w) for augment in (known, fresh))
        if isinstance(made, list):
            assert len(found) == len(made) and all(map(torch.equal, found, made))
        else:
            assert torch.equal(found, made) if isinstance(made, Tensor) else found == made


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_any_number_of_sizes_keeps_few_engines(backend: str, lowered: list) -> None:
    augment, met = ga.Compose(CUT, seed=0, backend=backend), []
    for h, w in sizes(MANY):
        made = augment.recipe(image(h, w))
        assert made.rows.tolist() == recipe.batch_rows(image(h, w), 48).tolist()
        met += [("recipe", weakref.ref(made)), ("engine", weakref.ref(made.engine))]
        met += [("program", weakref.ref(made.program)), ("facts", weakref.ref(made.program.facts))]
    del made
    gc.collect()
    kept = {kind: {id(ref()) for k, ref in met if k == kind and ref()} for kind, _ in met[:4]}
    most = {"recipe": KEPT_RECIPES, "engine": KEPT_ENGINES, "program": KEPT_RECIPES + KEPT_ENGINES, "facts": 1}
    assert all(len(kept[kind]) <= n for kind, n in most.items())
    assert len(lowered) == 1
    if backend == "cpu":
        assert len(kept["engine"]) == 1
        for h, w in sizes(MANY)[::100]:
            fresh = ga.Compose(CUT, seed=0, backend=backend)
            assert torch.equal(augment(image(h, w), ids=[h], epoch=0), fresh(image(h, w), ids=[h], epoch=0))


def test_triton_engines_are_shared_where_their_scratch_images_are_about_as_large() -> None:
    pytest.importorskip("triton")
    from gpuaug.backends.triton import KEPT_VARIANTS

    with stubbed():
        for transforms, most in ((CUT, 1), ([ga.RandAugment()], KEPT_ENGINES)):
            augment, engines = ga.Compose(transforms, seed=0, backend="triton"), set()
            for h, w in sizes(500):
                augment(image(h, w), ids=[0], epoch=0)
                engines.add(augment.recipe(image(h, w)).engine)
            assert len(engines) <= most
            assert all(len(engine.variants) <= KEPT_VARIANTS for engine in engines)


def test_a_recipe_goes_with_its_engine() -> None:
    augment = ga.Compose(CUT, seed=0, backend="kornia")
    first = augment.recipe(image(5, 5))
    assert augment.recipe(image(5, 5)) is first
    for h in range(6, 6 + KEPT_ENGINES):
        augment.recipe(image(h, 5))
    assert augment.recipe(image(5, 5)) is not first and augment.recipe(image(5, 5)).engine is not first.engine


def test_a_functional_call_looks_its_recipe_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of, looked = recipe.Recipes.of, []
    monkeypatch.setattr(recipe.Recipes, "of", lambda *arguments: looked.append(1) or of(*arguments))
    x = image(6, 7)
    for factor in (0.5, 2.0):
        assert functional.adjust_brightness(x, factor).shape == x.shape
    assert len(looked) == 2
