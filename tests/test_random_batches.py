"""Random pipelines on lists of any sizes, clips, views and images of a resident data set, and with a blend behind them.

The judge is the same pipeline on one image after the other, and for a blend, the mean of what it blends. The n-th case
is a function of n alone.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import judges
import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.benchmarks import random_cases

SEED = 10
CASES = {"cpu": 60, "kornia": 12, "triton": 2 if judges.INTERPRETED else 100}
COUNT = int(os.environ.get("CASES", 0))  # more of them, by hand


def outcome(call) -> Any:
    """What a call returns, or the kind of error that it raises."""
    try:
        return call()
    except (TypeError, ValueError, RuntimeError) as error:
        return type(error)


def same(found: Any, expected: Any) -> bool:
    """Equal to the bit, NaN for NaN; of errors, the same kind."""
    if isinstance(found, Tensor) and isinstance(expected, Tensor):
        return found.shape == expected.shape and torch.allclose(found, expected, 0, 0, equal_nan=True)
    if isinstance(found, list | Tensor) and isinstance(expected, list | Tensor):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


def pixels(case: random_cases.Case, random: Random, count: int, device: str) -> list[Tensor]:
    """Images of sizes at and a little above the case's, with the strides of its layout."""
    given, found = case.inputs[0], []
    _, c, h, w = given.shape
    for k in range(count):
        given.shape, given.seed = (1, c, h + random.randint(0, 6), w + random.randint(0, 6)), k
        found.append(random_cases.laid(given._pixels(), given.layout, given.order, given.axis)[0].to(device))
    return found


def one_by_one(augment: ga.Compose, images: Any, **keywords: Any) -> list:
    return [augment(image, ids=[i], epoch=3, **keywords) for i, image in enumerate(images)]


def check_shapes(case: random_cases.Case, random: Random, backend: str, device: str) -> None:
    sized = random.choice(
        [[], [ga.ScaleJitter((9, 11), (0.5, 2.0))], [ga.RandomResize(3, 9)], [ga.RandomShortestSize([4, 7])]]
    )
    ops = [*case.transforms, *(sized if random.random() < 0.5 else [])]
    augment = ga.Compose(ops, seed=case.seed, backend=backend, memory_format=case.memory_format)
    images = pixels(case, random, 4, device)
    ids = range(len(images))
    for keywords in ({}, {"view": 1}):
        alone = outcome(lambda k=keywords: one_by_one(augment, images, **k))
        assert same(outcome(lambda k=keywords: augment(images, ids=ids, epoch=3, **k)), alone)
    views = outcome(lambda: augment(images, ids=ids, epoch=3, views=2))
    assert same(views if isinstance(views, type) else views[1], alone)
    h, w = (min(image.shape[axis] for image in images) for axis in (1, 2))
    clips = torch.stack([image[:, :h, :w] for image in images]).unflatten(0, (2, 2))
    frames = outcome(lambda: [[augment(f, ids=[b], epoch=3) for f in clip] for b, clip in enumerate(clips)])
    assert same(outcome(lambda: augment(clips, ids=[0, 1], epoch=3)), frames)
    resident, index = clips.flatten(0, 1), torch.tensor([3, 0, 3], device=device)
    gathered = outcome(lambda: augment(resident[index], ids=range(3), epoch=3))
    assert same(outcome(lambda: augment(resident, index=index, ids=range(3), epoch=3)), gathered)


def check_blend(case: random_cases.Case, random: Random, backend: str, device: str) -> None:
    pair, per = random.choice([("roll", "sample"), ("roll", "batch"), ("flip", "sample"), ("flip", "pair")])
    mixup, cutmix = ga.MixUp(pair=pair, per=per), ga.CutMix(pair=pair, per=per)
    blend = random.choice([mixup, cutmix, ga.RandomChoice([mixup, cutmix]), ga.RandomApply([mixup], p=0.5)])
    plain = ga.Compose([*case.transforms, ga.CenterCrop((7, 9))], seed=case.seed, backend=backend)
    mixing = ga.Compose([*plain.transforms, blend], seed=case.seed, backend=backend)
    images, n = pixels(case, random, 5, device), 5
    expected = outcome(lambda: plain(images, ids=range(n), epoch=3))
    found = outcome(lambda: mixing(images, ids=range(n), epoch=3))
    if isinstance(expected, type):
        assert found is expected
        return
    params = mixing.sample(images, ids=range(n), epoch=3)
    for i in range(n):
        own, last = expected[i], (params.describe(i) or [{}])[-1]
        if "partner" in last:
            other = expected[last["partner"]]
            if "box" in last:
                x1, y1, x2, y2 = last["box"]
                own = own.clone()
                own[:, y1:y2, x1:x2] = other[:, y1:y2, x1:x2]
            else:
                own = last["lam"] * own.double() + (1.0 - last["lam"]) * other.double()
        off = (found[i].double() - own.double()).abs().max()
        unit = {torch.uint8: 0.5001, torch.bfloat16: 2**-7, torch.float16: 2**-10}.get(found.dtype, 2e-5)
        scale = 1.0 if found.dtype == torch.uint8 else max(1.0, float(own.double().abs().max()))
        assert off <= unit * scale, (i, last, float(off))


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_random_batches(backend: str) -> None:
    device, told = judges.device_of(backend), []
    for number in range(COUNT or CASES[backend]):
        case = random_cases.case_of(SEED, number, tiny=judges.INTERPRETED)
        if case.large:
            continue
        random = Random(number)
        try:
            check_shapes(case, random, backend, device)
            if case.inputs[0].content != "wild":
                check_blend(case, random, backend, device)
        except AssertionError as error:
            told.append(f"case {number}: {case.transforms} on {case.inputs[0]}\n{error}")
    assert not told, f"{len(told)} cases: " + "\n\n".join(told[:3])
