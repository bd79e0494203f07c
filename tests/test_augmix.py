"""AugMix: what `describe` tells, replayed in torchvision; what stands beside it; what is refused."""

from __future__ import annotations

import judges
import pytest
import torch
from judges import BACKENDS, device_of
from mixed import DRAWS, FLOAT, lowered, pictures
from refusals import refusal
from torch import Tensor

import gpuaug as ga


def blended(verdicts: list[judges.Verdict], weights: list[float], floats: bool) -> tuple[Tensor, Tensor, Tensor]:
    """torchvision's sum of what layers may be, and its bounds; of bytes truncated."""

    def total(layers: list[Tensor]) -> Tensor:
        mixed = layers[0].float() * weights[0]
        for layer, weight in zip(layers[1:], weights[1:], strict=True):
            mixed = mixed + layer.float() * weight
        return mixed if floats else mixed.to(torch.uint8)

    ends = ([v.ref for v in verdicts], [v.lo for v in verdicts], [v.hi for v in verdicts])
    return tuple(map(total, ends))


AUGMIX = {
    "nearest": (dict(interpolation="nearest"), False),
    "one op": (dict(chain_depth=1, mixture_width=5, severity=10), False),
    "few ops, floats": (dict(interpolation="nearest", all_ops=False, mixture_width=1, fill=0.25), True),
    "deep": (dict(interpolation="nearest", chain_depth=4, severity=1, mixture_width=2), True),
}
if judges.INTERPRETED:  # which takes seconds for each of a program's lines
    AUGMIX = {"small": (dict(interpolation="nearest", all_ops=False, mixture_width=2, chain_depth=1), False)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", AUGMIX)
def test_augmix_replays(name: str, backend: str) -> None:
    arguments, floats = AUGMIX[name]
    n = 2 if judges.INTERPRETED else DRAWS // len(AUGMIX)
    x = pictures(n, floats=floats)
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.AugMix(**arguments)], seed=8, backend=backend)
    params = augment.sample(x.to(device_of(backend)), ids=range(n), epoch=1)
    y, wide = augment.apply(x.to(device_of(backend)), params).cpu(), []
    for i in range(n):
        *front, record = params.describe(i)
        assert record["op"] == "AugMix" and len(record["chains"]) == arguments.get("mixture_width", 3)
        assert abs(sum(record["weights"]) - 1.0) < 1e-6 and min(record["weights"]) >= 0.0
        own = judges.replay(x[i], front)
        verdicts = [judges.judge(own, calls, exact=True) for calls in [[], *record["chains"]]]
        ref, lo, hi = blended(verdicts, record["weights"], floats)
        slack = 1e-3 if floats else float(any(v.smooth for v in verdicts))
        got = y[i].double()
        narrow = hi.double() - lo.double() <= slack
        assert ((got >= lo.double() - slack) & (got <= hi.double() + slack)).all(), record
        assert ((got - ref.double()).abs() <= slack)[narrow].all(), record
        wide.append(float((~narrow).double().mean()))
    assert sum(wide) / n < 0.1


def test_augmix_beside_the_rest() -> None:
    """Of bytes and floats behind it; its labels stay; views, an index and clips; masks are not touched by chains."""
    x, call = pictures(4), dict(ids=range(4), epoch=0)
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.AugMix(), *FLOAT], seed=1, backend="cpu")
    y, labels = augment(x, torch.arange(4), **call)
    assert y.shape == x.shape and torch.equal(labels, torch.arange(4))
    views = augment(x, views=2, **call)
    assert torch.equal(views[0], y) and not torch.equal(views[1], y)
    assert torch.equal(augment(x, index=torch.tensor([2, 1]), ids=[2, 1], epoch=0), y[[2, 1]])
    clips = torch.stack([x, x.flip(0)], 1)
    for t in range(2):
        assert torch.equal(augment(clips, **call)[:, t], augment(clips[:, t], **call))
    assert torch.equal(augment(x[:0]), y[:0]) and torch.equal(augment(x[3], ids=[3], epoch=0), y[3])
    refusal(lambda: ga.AugMix(alpha=0.5), ["AugMix", "alpha", "0.5"])
    refusal(lambda: ga.AugMix(severity=11), ["AugMix", "severity", "11"])
    refusal(lowered(ga.AugMix(), ga.MixUp()), ["1.MixUp", "0.AugMix"])
    refusal(lowered(ga.AugMix(), ga.RandomRotation(9)), ["1.RandomRotation", "0.AugMix"])
