"""Lambdas and boxes against torchvision's own MixUp and CutMix, and the halves of Beta(alpha, alpha) against its closed
form.

Not distinguishable at 1 %, divided by the number of comparisons of a test (Bonferroni). Seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.kernels.torch import dialect
from gpuaug.transforms.beta import ALPHAS, configuration

N, BATCHES, LEVEL = 20_000, 400, 0.01
HEIGHT, WIDTH = 40, 52


@pytest.mark.parametrize("alpha, error", [(0.1, 1e-5), (0.2, 1e-5), (0.5, 1e-5), (1.0, 1e-6), (2.0, 1e-5), (3.0, 2e-5)])
def test_the_inverse_of_beta(alpha: float, error: float) -> None:
    """u of the lower half, a multiple of 2^-25, becomes the x with I_x(alpha, alpha) = u; the other half mirrors it."""
    words = torch.cat([torch.arange(0, 2000), torch.arange(2000, 1 << 24, 997)]) << 8
    u = (words.double() / 256 + 1) / 2**25
    exact = torch.from_numpy(special.betaincinv(alpha, alpha, u.numpy()))
    for side in (0, 1 << 31):
        drawn = dialect.DRAW["symmetric_beta"](words, torch.full_like(words, side), configuration(alpha))
        assert drawn.dtype == torch.float32
        expected = (1.0 - exact).clamp(max=1.0 - 2.0**-24) if side else exact
        assert (drawn.double() - expected).abs().max() <= error


@pytest.mark.parametrize("alpha", [ALPHAS[0], 0.03, 5.0, 30.0, ALPHAS[1]])
def test_far_alphas(alpha: float) -> None:
    words = torch.arange(0, 1 << 24, 499) << 8
    drawn = dialect.DRAW["symmetric_beta"](words, torch.zeros_like(words), configuration(alpha))
    exact = special.betaincinv(alpha, alpha, ((words.double() / 256 + 1) / 2**25).numpy())
    assert np.abs(drawn.double().numpy() - exact).max() <= 5e-4


def sampled(op: ga.Transform, n: int = N) -> ga.Params:
    images = torch.zeros(1, dtype=torch.uint8).expand(n, 3, HEIGHT, WIDTH)
    return ga.Compose([op], seed=12, backend="cpu").sample(images, ids=range(n), epoch=0)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0, 4.0])
def test_lambda_of_mixup(alpha: float) -> None:
    """The upper half as float32 has it: near 1 it counts in steps of 2^-24, as torch's own does."""
    share = sampled(ga.MixUp(alpha=alpha)).table[:, 0].double().numpy()
    low = share[share < 0.5]
    assert stats.kstest(low, lambda x: 2.0 * stats.beta(alpha, alpha).cdf(x)).pvalue > LEVEL / 3
    assert stats.binomtest(len(low), N).pvalue > LEVEL / 3
    theirs = torch.distributions.Beta(torch.tensor(alpha), torch.tensor(alpha)).sample((N,)).double().numpy()
    assert stats.ks_2samp(share, theirs).pvalue > LEVEL / 3


def by_batch(op: ga.Transform, count: int = BATCHES) -> list[dict]:
    """What one batch after the other draws, from ids of its own."""
    augment, images = ga.Compose([op], seed=13, backend="cpu"), torch.zeros(3, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    records = []
    for k in range(count):
        params = augment.sample(images, ids=range(3 * k, 3 * k + 3), epoch=0)
        one, *others = ({**params.describe(i)[0], "partner": None} for i in range(3))
        assert all(other == one for other in others)
        records.append(one)
    return records


def of_torchvision(cls: type, alpha: float, n: int) -> list[dict]:
    torch.manual_seed(4)
    op, image = cls(alpha=alpha, num_classes=2), torch.zeros(3, HEIGHT, WIDTH)
    return [op.make_params([image]) for _ in range(n)]


def test_lambda_by_batch() -> None:
    ours = [record["lam"] for record in by_batch(ga.MixUp(alpha=0.3, per="batch"))]
    theirs = [params["lam"] for params in of_torchvision(v2.MixUp, 0.3, 4 * BATCHES)]
    assert stats.ks_2samp(ours, theirs).pvalue > LEVEL


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_boxes(alpha: float, per: str) -> None:
    """Corners and the true share, each and, of the corners, by twos."""
    if per == "batch":
        ours = by_batch(ga.CutMix(alpha=alpha, per="batch"))
    else:
        params = sampled(ga.CutMix(alpha=alpha), 4000)
        ours = [params.describe(i)[0] for i in range(4000)]
    theirs = of_torchvision(v2.CutMix, alpha, 4000)
    one = np.array([(*record["box"], record["lam"]) for record in ours])
    other = np.array([(*params["box"], params["lam_adjusted"]) for params in theirs])
    pairs = [(i, j) for i in range(4) for j in range(i)]
    for i in range(5):
        assert stats.ks_2samp(one[:, i], other[:, i]).pvalue > LEVEL / (5 + len(pairs)), i
    for i, j in pairs:
        pair = stats.ks_2samp(one[:, i] - one[:, j], other[:, i] - other[:, j])
        assert pair.pvalue > LEVEL / (5 + len(pairs)), (i, j)


# --- AugMix -----------------------------------------------------------------------------------------------------------
def augmixed(n: int, **arguments: object) -> list[dict]:
    params = sampled(ga.AugMix(**arguments), n)
    return [params.describe(i)[0] for i in range(n)]


def test_weights_of_augmix() -> None:
    """The image's own is uniform, and of the rest each chain's part is of Dirichlet(1, 1, 1), one of three."""
    weights = np.array([record["weights"] for record in augmixed(4000)])
    assert stats.kstest(weights[:, 0], stats.uniform.cdf).pvalue > LEVEL / 5
    parts = weights[:, 1:] / (1.0 - weights[:, :1])
    for chain in range(3):
        assert stats.kstest(parts[:, chain], stats.beta(1, 2).cdf).pvalue > LEVEL / 5
    assert stats.kstest(parts[:, 0] + parts[:, 1], stats.beta(2, 1).cdf).pvalue > LEVEL / 5


def test_chains_of_augmix() -> None:
    """Depths, ops and the steps of each op's magnitude: all equally likely, and torchvision's."""
    chains = [chain for record in augmixed(1500, severity=10) for chain in record["chains"]]
    depths = [len(chain) for chain in chains]
    assert stats.chisquare([depths.count(d) for d in (1, 2, 3)]).pvalue > LEVEL / 2
    calls = [(record["call"], record["kwargs"]) for chain in chains for record in chain]
    names = [call for call, _ in calls]
    assert {names.count(name) > 0 for name in set(names)} == {True} and len(set(names)) == 10
    found = {name: names.count(name) for name in sorted(set(names))}
    ideal = np.array([4 if name == "affine" else 1 for name in found]) * len(names) / 13
    assert stats.chisquare(list(found.values()), ideal).pvalue > LEVEL / 2
    space = {name: levels(10, HEIGHT, WIDTH) for name, (levels, _) in v2.AugMix._AUGMENTATION_SPACE.items()}
    assert of(calls, "posterize", "bits") == {int(v) for v in space["Posterize"]}
    close(of(calls, "solarize", "threshold"), [255.0 * float(v) for v in space["Solarize"]])
    close(of(calls, "rotate", "angle"), both(space["Rotate"]))
    for op in ("Brightness", "Contrast", "Sharpness"):
        close(of(calls, f"adjust_{op.lower()}", f"{op.lower()}_factor"), [1.0 + v for v in both(space[op])])
    close(of(calls, "adjust_saturation", "saturation_factor"), [1.0 + v for v in both(space["Color"])])
    affine = [kwargs for call, kwargs in calls if call == "affine"]
    for axis, side in enumerate("XY"):
        lean = {round(float(np.tan(np.deg2rad(kwargs["shear"][axis]))), 5) for kwargs in affine}
        close({abs(v) for v in lean}, [float(v) for v in space[f"Shear{side}"]])
        shifts = {abs(int(kwargs["translate"][axis])) for kwargs in affine}
        assert shifts == {int(v) for v in space[f"Translate{side}"]}


def of(calls: list[tuple[str, dict]], name: str, argument: str) -> set[float]:
    return {kwargs[argument] for call, kwargs in calls if call == name}


def both(levels: torch.Tensor) -> list[float]:
    return [float(sign * v) for v in levels for sign in (1.0, -1.0)]


def close(found: set[float], expected: list[float]) -> None:
    """The same numbers, but for float32's rounding."""
    assert {round(float(v) + 0.0, 3) for v in found} == {round(float(v) + 0.0, 3) for v in expected}
