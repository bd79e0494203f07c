"""What ops on tokens draw, against closed forms: binomial counts, uniform choices, independence."""

from __future__ import annotations

import pytest
import torch

stats = pytest.importorskip("scipy.stats", reason="its distributions are the judge")
neighbors = pytest.importorskip("sklearn.neighbors", reason="it is the judge of neighbours")

from gpuaug import text  # noqa: E402

CLS, SEP, PAD, MASK = 1, 2, 0, 3
B, L = 4000, 10
LEAST_P = 1e-4  # of a test that should pass; seeds are fixed


def rows(b: int = B, n: int = L) -> torch.Tensor:
    """Rows of different tokens 10, 11, ... between two special ones."""
    return torch.tensor([CLS, *range(10, 10 + n), SEP]).expand(b, -1).contiguous()


def augmented(*ops: text.ops.TokenOp, b: int = B, n: int = L, epoch: int = 0, **options):
    """Tokens, mask and sources, with room for twice the tokens."""
    options = {"special_tokens": [PAD, CLS, SEP, MASK], "pad_token_id": PAD, "mask_token_id": MASK} | options
    augment = text.Compose(ops, seed=12, vocab_size=5000, max_length=2 * n + 2, **options)
    ids = rows(b, n)
    return augment(ids, torch.ones_like(ids), ids=range(b), epoch=epoch, sources=True)


def is_binomial(count, n: int, p: float) -> bool:
    return stats.binomtest(int(count), n, p).pvalue > LEAST_P


def is_uniform(values: torch.Tensor, k: int) -> bool:
    """Whether 0 .. k - 1 are equally frequent."""
    return stats.chisquare(torch.bincount(values.flatten(), minlength=k).numpy()).pvalue > LEAST_P


def shifted(k: int, n: int = 100) -> text.Synonyms:
    """k synonyms of each of n tokens: t + 1000, t + 2000, ..."""
    return text.Synonyms({t: [t + 1000 * (i + 1) for i in range(k)] for t in range(10, 10 + n)})


@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5, 1.0])
def test_replacement(rate: float) -> None:
    out, _, sources = augmented(text.RandomReplacement(rate, shifted(3)))
    new = out[out >= 1000]
    assert is_binomial(len(new), B * L, rate) and is_uniform(new // 1000 - 1, 3)
    assert is_uniform(sources[out >= 1000] - 1, L) and torch.equal(new % 1000, 9 + sources[out >= 1000].long())


def test_uniform_over_the_vocabulary() -> None:
    out, _, _ = augmented(text.RandomReplacement(1.0, text.Uniform(24)))
    kinds = out[:, 1 : L + 1]
    assert set(kinds.unique().tolist()) == set(range(4, 24)) and is_uniform(kinds - 4, 20)
    out, _, _ = augmented(text.RandomReplacement(1.0))
    assert out[:, 1 : L + 1].max() > 4900 and out[:, 1 : L + 1].min() > 3


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_insertion(rate: float) -> None:
    """Where, of which donor, and which of its synonyms, are uniform."""
    out, mask, sources = augmented(text.RandomInsertion(rate, shifted(2)))
    new = out[sources < -1]
    assert is_binomial(len(new), B * L, rate) and torch.equal(mask.sum(1), L + 2 + (sources < -1).sum(1))
    assert is_uniform(-2 - sources[sources < -1].long() - 1, L)
    assert is_uniform(new % 1000 - 10, L) and is_uniform(new // 1000 - 1, 2)
    where, donor = -3 - sources[sources < -1].long(), new % 1000 - 10
    assert is_uniform(where * L + donor, L * L)


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_deletion(rate: float) -> None:
    """All tokens of a row with probability rate^L, which here is at most 1e-4, and then one stays."""
    _, mask, _ = augmented(text.RandomDeletion(rate))
    assert is_binomial(B * (L + 2) - mask.sum(), B * L, rate)


def test_the_last_token_is_drawn_uniformly() -> None:
    out, mask, sources = augmented(text.RandomDeletion(1.0))
    assert (mask.sum(1) == 3).all() and is_uniform(sources[:, 1].long() - 1, L)


def test_one_swap() -> None:
    """Of L tokens at a rate of 1 / L: any of the ordered pairs; at 0.3 / L, in 30% of the rows."""
    _, _, sources = augmented(text.RandomSwap(1 / L + 1e-9))
    moved = sources[:, 1 : L + 1] != torch.arange(1, L + 1)
    assert (moved.sum(1) == 2).all()
    first, last = moved.int().argmax(1), L - 1 - moved.flip(1).int().argmax(1)
    pairs = torch.tensor([[i * L + j for j in range(L)] for i in range(L)])[first, last]
    assert is_uniform(torch.unique(pairs, return_inverse=True)[1], L * (L - 1) // 2)
    _, _, sources = augmented(text.RandomSwap(0.3 / L))
    assert is_binomial((sources[:, 1 : L + 1] != torch.arange(1, L + 1)).any(1).sum(), B, 0.3)


def test_many_swaps_mix_well() -> None:
    """Ten swaps of ten tokens, one of two places each: a token is where it was with probability of about
    (1 - 2 / L)^10, or by chance."""
    _, _, sources = augmented(text.RandomSwap(1.0))
    stay = (sources[:, 1 : L + 1] == torch.arange(1, L + 1)).sum()
    chain = 1.0  # of two states, at home or not: home -> home (L - 2) / L, away -> home 1 / (L (L - 1) / 2)
    for _ in range(L):
        chain = chain * (L - 2) / L + (1 - chain) * 2 / (L * (L - 1))
    assert abs(float(stay) / (B * L) - chain) < 5 * (chain / B) ** 0.5


def test_crop() -> None:
    """100 tokens: 50 .. 100 are kept, the ends half as often as the others; each place equally often."""
    _, mask, sources = augmented(text.SpanCrop((0.5, 1.0)), n=100)
    kept, start = mask.sum(1) - 2, sources[:, 1].long() - 1
    assert kept.min() >= 50 and kept.max() <= 100
    shares = torch.ones(51)
    shares[0] = shares[-1] = 0.5
    counts = torch.bincount(kept - 50, minlength=51)
    assert stats.chisquare(counts.numpy(), (shares / shares.sum() * B).numpy()).pvalue > LEAST_P
    assert (start <= 100 - kept).all()
    place = start[kept < 100].float() / (101 - kept[kept < 100])  # uniform but for the steps, which take at most 1 / 2
    mean = (place + 0.5 / (101 - kept[kept < 100])).mean()
    assert abs(float(mean) - 0.5) < 5 * (1 / 12 / len(place)) ** 0.5


def test_masking_as_berts() -> None:
    out, _, sources = augmented(text.RandomMask(0.5, source=shifted(1)))
    n, masked, other = B * L, (out == MASK).sum(), (out >= 1000).sum()
    assert is_binomial(masked, n, 0.4) and is_binomial(other, n, 0.05)
    assert torch.equal((out != PAD).sum(1), torch.full((B,), L + 2))
    out, _, _ = augmented(text.RandomMask(1.0, masked=1.0, other=0.0))
    assert (out[:, 1 : L + 1] == MASK).all()


def test_rows_and_their_rates() -> None:
    """`p` of rows, and a rate of each row's own: of L tokens at a uniform rate each count is equally likely."""
    out, _, _ = augmented(text.RandomReplacement(1.0, shifted(1), p=0.3))
    assert is_binomial((out[:, 1] >= 1000).sum(), B, 0.3)
    out, _, _ = augmented(text.RandomReplacement((0.0, 1.0), shifted(1)))
    assert is_uniform((out >= 1000).sum(1), L + 1)


def test_ops_epochs_and_samples_are_independent() -> None:
    """Two decisions of 0.5 agree half of the time."""
    op = text.RandomReplacement(0.5, shifted(1))
    first, second = (augmented(op, epoch=e)[0] >= 1000 for e in (0, 1))
    first, second = first[:, 1 : L + 1], second[:, 1 : L + 1]
    assert is_binomial((first == second).sum(), B * L, 0.5)
    assert is_binomial((first[1:] == first[:-1]).sum(), (B - 1) * L, 0.5)
    assert is_binomial((first[:, 1:] == first[:, :-1]).sum(), B * (L - 1), 0.5)
    twice, _, sources = augmented(op, text.RandomDeletion(0.5))
    kept = torch.zeros(B, L + 2, dtype=torch.bool)
    kept.scatter_(1, sources.clamp(min=0).long(), sources > 0)
    assert is_binomial((kept[:, 1 : L + 1] == first).sum(), B * L, 0.5)


def test_neighbours_are_those_of_sklearn() -> None:
    matrix = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    found = text.Neighbours.of(torch.nn.Embedding.from_pretrained(matrix), 5, batch_size=77)
    near = neighbors.NearestNeighbors(n_neighbors=6, metric="cosine").fit(matrix.numpy()).kneighbors(matrix.numpy())[1]
    assert [found[t] for t in range(300)] == near[:, 1:].tolist()
    some = text.Neighbours.of(matrix, 5, minimum=0.5, exclude=[0, 1, 2])
    unit = torch.nn.functional.normalize(matrix, dim=1)
    cosine = unit @ unit.T
    for t in range(300):
        wanted = [] if t < 3 else [u for u in near[t, 1:] if u > 2 and cosine[t, u] >= 0.5]
        assert some[t][: len(wanted)] == wanted and all(cosine[t, u] >= 0.5 and u > 2 for u in some[t])
