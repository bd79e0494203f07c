"""What the policies draw against what torchvision's and timm's own draw: ops, magnitudes, signs and their order.

Both sides become sequences of torchvision's functional calls. Not distinguishable at 1 %: where one test makes several
comparisons, 1 % is divided by their number (Bonferroni). Seeds are fixed: a test that passes keeps passing.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable

import numpy as np
import pytest
import torch
from PIL import ImageFilter
from scipy import stats
from timm.data import auto_augment
from torchvision.transforms import v2
from torchvision.transforms.v2 import _auto_augment

import gpuaug as ga

N = 20_000
LEVEL = 0.01
HEIGHT, WIDTH = 40, 52
Call = tuple  # the name of a functional call, then its numbers
UNCHANGED = {("posterize", 8), ("rotate", 0.0), *((f"adjust_{n}", 1.0) for n in ("brightness", "contrast"))}
UNCHANGED |= {("affine", 0.0, 0.0, 0.0, 0.0), *((f"adjust_{n}", 1.0) for n in ("saturation", "sharpness"))}


def numbers(call: str, kwargs: dict) -> Call:
    """A call with the numbers that a policy draws, rounded to a grid that float32 does not reach."""
    values = {
        "affine": lambda: [*kwargs["shear"], *kwargs["translate"]],
        "rotate": lambda: [kwargs["angle"]],
        "posterize": lambda: [kwargs["bits"]],
        "solarize": lambda: [kwargs["threshold"]],
        "solarize_add": lambda: [kwargs["addition"], kwargs["threshold"]],
    }.get(call, lambda: [v for name, v in kwargs.items() if name.endswith("_factor")])()
    return call, *(round(float(v), 3) + 0.0 for v in values)


def ours(policy: ga.Transform, n: int = N) -> list[list[Call]]:
    """The calls of `n` samples, without those that change nothing: a magnitude of 0."""
    images = torch.zeros(1, dtype=torch.uint8).expand(n, 3, HEIGHT, WIDTH)
    params = ga.Compose([policy], seed=11, backend="cpu").sample(images, ids=range(n), epoch=0)
    drawn = ([numbers(r["call"], r["kwargs"]) for r in params.describe(i)] for i in range(n))
    return [[call for call in one if call not in UNCHANGED] for one in drawn]


class Recorder:
    """In place of torchvision's functional module: notes the calls, and leaves the image alone."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable:
        def note(image: torch.Tensor, **kwargs: object) -> torch.Tensor:
            self.calls.append(numbers(name, kwargs))
            return image

        return note


def torchvisions(policy: v2.Transform, monkeypatch: pytest.MonkeyPatch, n: int = N) -> list[list[Call]]:
    image, drawn, recorder = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8), [], Recorder()
    monkeypatch.setattr(_auto_augment, "F", recorder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        for _ in range(n):
            recorder.calls = []
            policy(image)
            drawn.append([call for call in recorder.calls if call not in UNCHANGED])
    return drawn


def table(one: Iterable[Hashable], other: Iterable[Hashable]) -> np.ndarray:
    """Counts [2, K] of each kind on both sides; kinds that are expected fewer than five times share a column."""
    counts = [Counter(one), Counter(other)]
    kinds = sorted(counts[0].keys() | counts[1].keys(), key=repr)
    columns = np.array([[side[kind] for kind in kinds] for side in counts])
    rare = columns.sum(0) < 10
    return np.column_stack([columns[:, ~rare], columns[:, rare].sum(1)]) if columns[:, rare].any() else columns


def same_counts(one: Iterable[Hashable], other: Iterable[Hashable]) -> float:
    """p of a chi-square test that both sides draw the same kinds as often; 1 where there is only one kind."""
    columns = table(one, other)
    return float(stats.chi2_contingency(columns).pvalue) if columns.shape[1] > 1 else 1.0


def assert_indistinguishable(p: dict[str, float]) -> None:
    least = min(p, key=p.get)
    print(f"{len(p)} comparisons, the least p = {p[least]:.3g}: {least}")
    assert p[least] > LEVEL / len(p), f"{least}: p = {p[least]:.2g}, {len(p)} comparisons"


POLICIES = {
    "RandAugment": (lambda: ga.RandAugment(), lambda: v2.RandAugment()),
    "RandAugment of 3": (lambda: ga.RandAugment(3, 4, 10), lambda: v2.RandAugment(3, 4, 10)),
    "RandAugment of 1, strongest": (lambda: ga.RandAugment(1, 30), lambda: v2.RandAugment(1, 30)),
    "TrivialAugmentWide": (lambda: ga.TrivialAugmentWide(), lambda: v2.TrivialAugmentWide()),
    "TrivialAugmentWide, 7 bins": (lambda: ga.TrivialAugmentWide(7), lambda: v2.TrivialAugmentWide(7)),
    **{
        f"AutoAugment, {name}": (
            lambda n=name: ga.AutoAugment(n),
            lambda n=name: v2.AutoAugment(v2.AutoAugmentPolicy(n)),
        )
        for name in ("imagenet", "cifar10", "svhn")
    },
}


@pytest.mark.parametrize("name", POLICIES)
def test_torchvisions_policies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call with its magnitude and sign; which calls go together, in which order; each position by itself."""
    mine, theirs = (make() for make in POLICIES[name])
    one, other = ours(mine), torchvisions(theirs, monkeypatch)
    kinds = [{call for calls in side for call in calls} for side in (one, other)]
    assert kinds[0] == kinds[1], f"only ours {sorted(kinds[0] - kinds[1])}, only theirs {sorted(kinds[1] - kinds[0])}"
    p = {
        "how many": same_counts(map(len, one), map(len, other)),
        "ops": same_counts(*([tuple(c[0] for c in calls) for calls in side] for side in (one, other))),
        "ops with magnitudes": same_counts(*([tuple(calls) for calls in side] for side in (one, other))),
    }
    for position in range(max(map(len, other))):
        sides = ([calls[position] for calls in side if len(calls) > position] for side in (one, other))
        p[f"position {position}"] = same_counts(*sides)
    assert_indistinguishable(p)


# --- timm's strings ---------------------------------------------------------------------------------------------------
TIMM = {
    "auto_contrast": "autocontrast",
    "color": "adjust_saturation",
    "desaturate": "adjust_saturation",
    **{name: f"adjust_{name}" for name in ("brightness", "contrast", "sharpness")},
}  # its functions whose names differ from ours


def still(name: str, value: float) -> tuple[str, float]:
    """The op and its argument; a shear or a shift by 0 looks the same whichever it is."""
    return ("affine", 0.0) if value == 0 and name.startswith(("shear", "translate")) else (name, value)


class Blurred:
    """In place of an image: notes the radius of a blur, which one of timm's functions draws by itself."""

    def filter(self, blur: ImageFilter.GaussianBlur) -> float:
        return blur.radius


def timms(config: str, n: int = N) -> list[list[tuple[str, float]]]:
    """The ops of timm's own policy with their arguments; shifts in pixels."""
    make = auto_augment.rand_augment_transform if config.startswith("rand") else auto_augment.auto_augment_transform
    policy, calls = make(config), []

    def noted(function: Callable) -> Callable:
        def note(image: object, value: float = 0.0, **_: object) -> object:
            name, scale = function.__name__.removesuffix("_rand"), 1
            if name.startswith("translate"):
                name, scale = name.removesuffix("_rel"), {"x": WIDTH, "y": HEIGHT}[name[10]]
            value = function(Blurred(), value) if name == "gaussian_blur" else value
            if name == "solarize" and value > 255:  # inverts nothing, and torchvision refuses it: not described
                return image
            calls.append(still(TIMM.get(name, name), (1 - value if name == "desaturate" else value) * scale))
            return image

        return note

    for op in policy.ops if config.startswith("rand") else [op for pair in policy.policy for op in pair]:
        op.aug_fn = noted(op.aug_fn)
    before, drawn = (random.getstate(), np.random.get_state()), []
    try:
        random.seed(13)
        np.random.seed(13)
        for _ in range(n):
            policy(None)
            drawn.append(calls.copy())
            calls.clear()
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
    return drawn


def argument(record: dict) -> tuple[str, float]:
    """A record of ours as `timms` has it."""
    call, kwargs = record["call"], record["kwargs"]
    if call == "affine":
        parts = dict(zip(("shear_x", "shear_y"), (math.tan(math.radians(v)) for v in kwargs["shear"]), strict=True))
        parts |= dict(zip(("translate_x", "translate_y"), kwargs["translate"], strict=True))
        return still(*max(parts.items(), key=lambda part: abs(part[1])))
    if call == "gaussian_blur":
        return call, kwargs["sigma"][0]
    name = {"rotate": "angle", "posterize": "bits", "solarize": "threshold", "solarize_add": "addition"}.get(call)
    values = [v for k, v in kwargs.items() if k == name or k.endswith("_factor")]
    return call, float(values[0]) if values else 0.0


def same_arguments(one: list[float], other: list[float]) -> float:
    """p of a chi-square test where the values stand on a grid, of Kolmogorov and Smirnov's where they do not; clamped
    ones are equal on both sides."""
    one, other = ([round(v, 4) for v in side] for side in (one, other))
    return float(stats.ks_2samp(one, other).pvalue) if len(set(other)) > 200 else same_counts(one, other)


@pytest.mark.parametrize(
    "config",
    [
        "rand-m9-mstd0.5-inc1",
        "rand-m7-n3-p0.8",
        "rand-m9-n1-p1-mstd1.5",
        "rand-m9-mstd101-mmax12-inc1",
        "rand-m6-n1-p1-mstd0.5-t3a",
        "original",
        "originalr-mstd0.5",
        "v0",
        "v0r-mstd1",
        "3a",
    ],
)
def test_timms_strings(config: str) -> None:
    """Which ops in which order, and of each op its argument and its sign."""
    images = torch.zeros(1, dtype=torch.uint8).expand(N, 3, HEIGHT, WIDTH)
    params = ga.Compose([ga.timm_augment(config)], seed=11, backend="cpu").sample(images, ids=range(N), epoch=0)
    sides = [[argument(record) for record in params.describe(i)] for i in range(N)], timms(config)
    kinds = [{name for calls in side for name, _ in calls} for side in sides]
    assert kinds[0] == kinds[1], f"only ours {kinds[0] - kinds[1]}, only timm's {kinds[1] - kinds[0]}"
    p = {
        "how many": same_counts(*(map(len, side) for side in sides)),
        "ops": same_counts(*([tuple(name for name, _ in calls) for calls in side] for side in sides)),
    }
    for kind in sorted(kinds[0]):
        values = [[value for calls in side for name, value in calls if name == kind] for side in sides]
        p[f"{kind}'s argument"] = same_arguments(*values)
        p[f"{kind}'s sign"] = same_counts(*(np.sign(side).tolist() for side in values))
    assert_indistinguishable(p)


# --- the comparison itself --------------------------------------------------------------------------------------------
def test_a_wrong_policy_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison sees a quarter of the rotations missing, and every fourth shear and shift the same way round."""
    theirs = torchvisions(v2.RandAugment(), monkeypatch)
    fewer = [[c for c in calls if c[0] != "rotate" or i % 4] for i, calls in enumerate(theirs)]
    turned = [
        [(c[0], *(abs(v) for v in c[1:])) if c[0] == "affine" and i % 4 == 0 else c for c in calls]
        for i, calls in enumerate(theirs)
    ]
    for wrong in (fewer, turned):
        assert same_counts(*([c for calls in side for c in calls] for side in (wrong, theirs))) < LEVEL / 10
