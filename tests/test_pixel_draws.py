"""What colour ops, erasing and blur draw: torchvision's own distributions, or uniform ones where it has no such op."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from test_draws import (
    LEAST_P,
    N,
    assert_counts,
    assert_same_distribution,
    assert_uncorrelated,
    only,
    sampled,
    torchvision_draws,
)
from torchvision.transforms import v2

import gpuaug as ga

FACTORS = ("brightness", "contrast", "saturation", "hue")


def test_color_jitter() -> None:
    """Four factors, in each of the 24 orders."""
    arguments = (0.4, (0.2, 3.0), 0.7, (-0.1, 0.3))
    records, theirs = (
        sampled([ga.ColorJitter(*arguments)], (8, 8)),
        torchvision_draws(v2.ColorJitter(*arguments), (8, 8)),
    )
    ours = {name: [kwargs[f"{name}_factor"] for kwargs in only(records, f"adjust_{name}")] for name in FACTORS}
    orders = Counter(tuple(r["call"] for r in one) for one in records)
    assert len(orders) == 24
    assert_counts(list(orders.values()), [1 / 24] * 24, "orders")
    for name, values in ours.items():
        assert_same_distribution(values, [d[f"{name}_factor"] for d in theirs], name)
    first = [one[0]["call"] == "adjust_hue" for one in records]
    for name, other in itertools.combinations(FACTORS, 2):
        assert_uncorrelated(ours[name], ours[other], f"{name} and {other}")
        assert_uncorrelated(first, ours[name], f"order and {name}")


def test_photometric_distort() -> None:
    """Which of its parts a sample gets, in which order, and their factors."""
    records = sampled([ga.RandomPhotometricDistort(hue=(-0.3, 0.2), p=0.4)], (8, 8))
    theirs = torchvision_draws(v2.RandomPhotometricDistort(hue=(-0.3, 0.2), p=0.4), (8, 8))

    def calls(params: dict) -> tuple[str, ...]:
        before = params["contrast_before"]
        order = ["brightness", *["contrast"] * before, "saturation", "hue", *["contrast"] * (not before)]
        chosen = tuple(f"adjust_{name}" for name in order if params[f"{name}_factor"] is not None)
        return chosen + ("permute_channels",) * (params["channel_permutation"] is not None)

    counts = Counter(tuple(r["call"] for r in one) for one in records), Counter(map(calls, theirs))
    kinds = sorted(counts[0].keys() | counts[1].keys())
    table = np.array([[side[kind] for kind in kinds] for side in counts])
    assert stats.chi2_contingency(table[:, table.sum(0) >= 10]).pvalue > LEAST_P
    for name in FACTORS:
        key = f"{name}_factor"
        ours = [r["kwargs"][key] for one in records for r in one if key in r["kwargs"]]
        assert_same_distribution(ours, [d[key] for d in theirs if d[key] is not None], name)


@pytest.mark.parametrize("op", [ga.RandomChannelPermutation(), ga.RandomPhotometricDistort(p=1.0)])
def test_all_orders_of_the_channels(op: ga.Transform) -> None:
    counts = Counter(tuple(kwargs["permutation"]) for kwargs in only(sampled([op], (8, 8)), "permute_channels"))
    assert set(counts) == set(itertools.permutations(range(3)))
    assert_counts(list(counts.values()), [1 / 6] * 6, "permutations")


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [((60, 80), (0.02, 0.33), (0.3, 3.3)), ((20, 90), (0.2, 0.9), (0.5, 4.0)), ((9, 7), (0.001, 0.05), (0.2, 5.0))],
)
def test_random_erasing(size: tuple[int, int], scale: tuple, ratio: tuple) -> None:
    records = sampled([ga.RandomErasing(1.0, scale, ratio)], size)
    ours = [one[0]["kwargs"] for one in records if one]
    theirs = [d for d in torchvision_draws(v2.RandomErasing(1.0, scale, ratio), size) if d["v"] is not None]
    theirs = [d for d in theirs if d["h"] and d["w"]]  # no pixel: nothing is erased
    table = [[len(side), N - len(side)] for side in (ours, theirs)]
    assert stats.fisher_exact(table).pvalue > LEAST_P, f"erased: {table}"
    for name in "ijhw":
        assert_same_distribution([d[name] for d in ours], [d[name] for d in theirs], name)
    area, aspect = (lambda d: d["h"] * d["w"]), (lambda d: d["h"] / d["w"])
    for name, of in (("area", area), ("aspect", aspect)):
        assert_same_distribution([of(d) for d in ours], [of(d) for d in theirs], name)


def test_coarse_dropout() -> None:
    height, width = 40, 52
    records = sampled([ga.CoarseDropout((2, 5), (3, 9), (4, 4), p=1.0)], (height, width))
    counts = Counter(map(len, records))
    assert_counts([counts[k] for k in (2, 3, 4, 5)], [0.25] * 4, "holes")
    holes = [r["kwargs"] for one in records for r in one]
    heights = Counter(d["h"] for d in holes)
    assert_counts([heights[h] for h in range(3, 10)], [1 / 7] * 7, "heights")
    assert {d["w"] for d in holes} == {4}
    lefts = Counter(d["j"] for d in holes)
    assert_counts([lefts[x] for x in range(width - 3)], [1 / (width - 3)] * (width - 3), "left edges")
    assert all(0 <= d["i"] <= height - d["h"] for d in holes)
    assert_uncorrelated(*zip(*[[one[k]["kwargs"]["j"] for k in (0, 1)] for one in records], strict=True), "two holes")


def test_coarse_dropout_in_fractions() -> None:
    holes = only(sampled([ga.CoarseDropout(1, (0.1, 0.5), 0.25, p=1.0)], (40, 52)), "erase")
    assert {d["w"] for d in holes} == {13}
    heights = Counter(d["h"] for d in holes)
    assert_counts([heights[h] for h in range(4, 20)], [1 / 16] * 16, "floored heights")


def test_grid_mask() -> None:
    grids = only(sampled([ga.GridMask((5, 12), 0.6, p=1.0)], (40, 52)), "grid_mask")
    periods = Counter(d["period"] for d in grids)
    assert_counts([periods[k] for k in range(5, 13)], [1 / 8] * 8, "periods")
    for name in ("offset_x", "offset_y"):
        offsets = Counter(d[name] for d in grids if d["period"] == 9)
        assert_counts([offsets[k] for k in range(9)], [1 / 9] * 9, name)
        assert_uncorrelated([d[name] for d in grids[1:]], [d[name] for d in grids[:-1]], f"{name} of neighbours")
    assert all(d["side"] == round(d["period"] * 0.6) for d in grids)


def test_uniform_arguments() -> None:
    sigmas = [d["sigma"] for d in only(sampled([ga.GaussianBlur(5, (0.3, 1.9))], (8, 8)), "gaussian_blur")]
    assert all(x == y for x, y in sigmas), "one for both axes"
    theirs = [d["sigma"][0] for d in torchvision_draws(v2.GaussianBlur(5, (0.3, 1.9)), (8, 8))]
    assert_same_distribution([x for x, _ in sigmas], theirs, "sigma")
    gammas = [d["gamma"] for d in only(sampled([ga.RandomGamma((0.5, 2.5), p=1.0)], (8, 8)), "adjust_gamma")]
    assert stats.kstest(gammas, stats.uniform(0.5, 2.0).cdf).pvalue > LEAST_P
    amounts = [d["amount"] for d in only(sampled([ga.SaltAndPepper((0.1, 0.4), p=1.0)], (8, 8)), "salt_and_pepper")]
    assert stats.kstest(amounts, stats.uniform(0.1, 0.3).cdf).pvalue > LEAST_P


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: ga.RandomGrayscale(p),
        lambda p: ga.RandomPosterize(3, p),
        lambda p: ga.RandomAutocontrast(p),
        lambda p: ga.RandomEqualize(p),
        lambda p: ga.RandomAdjustSharpness(2.0, p),
        lambda p: ga.RandomGamma((0.5, 2.0), p=p),
        lambda p: ga.SolarizeAdd(9, p=p),
        lambda p: ga.RandomErasing(p),
        lambda p: ga.CoarseDropout(2, 4, 4, p=p),
        lambda p: ga.GridMask(8, p=p),
        lambda p: ga.SaltAndPepper(0.1, p=p),
    ],
)
def test_probability(make, p: float) -> None:
    records = sampled([make(p)], (32, 32), n=500 if p in (0.0, 1.0) else N)
    fired = sum(len(one) > 0 for one in records)
    if p in (0.0, 1.0):
        assert fired == p * len(records)
    else:
        assert stats.binomtest(fired, N, p).pvalue > LEAST_P


def test_noise_seeds_differ() -> None:
    """No two of ten thousand samples share the seeds of their noise, nor do two epochs."""
    op = ga.SaltAndPepper(0.1, p=1.0)
    seeds = [tuple(d["seeds"]) for epoch in (0, 1) for d in only(sampled([op], (8, 8), epoch=epoch), "salt_and_pepper")]
    assert len(set(seeds)) == 2 * N
    one, other = (torch.tensor(seeds)[:, k] for k in (0, 1))
    assert_uncorrelated(one.numpy(), other.numpy(), "the two seeds")
