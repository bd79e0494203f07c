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
