"""A small classifier of texts that needs no download: the letters within tokens, weighted, and a linear layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

SHORTEST, LONGEST = 2, 5  # letters of a token's parts
AT_ONCE = 256  # texts that are counted at a time


def parts_of(token: str) -> list[str]:
    """A token, and its runs of letters from `SHORTEST` to `LONGEST`; what marks the beginning of a word is a letter."""
    runs = range(SHORTEST, LONGEST + 1)
    return [token, *(token[i : i + n] for n in runs for i in range(len(token) - n + 1))]


class TextClassifier(nn.Module):
    """Logits from how often parts of tokens occur, by weights learned in minutes from a few texts a class.

    Features are tf-idf, (1 + log tf) idf, of the tokens and their runs of letters (as fastText's subwords: Bojanowski
    et al., 2017), of one length for each text; the layer on them starts from zero. SGD brings it to about what logistic
    regression makes of them; Adam, whose steps are as large for rare features, to less.

    Args:
        vocab: tokens and their ids (`tokenizer.get_vocab()`).
        classes: how many.
        special: ids that are no features.
        scale: length of a text's features.

    Attributes:
        idf: float32 [F], 1 until :meth:`count`.
    """

    def __init__(self, vocab: Mapping[str, int], classes: int, *, special: Iterable[int] = (), scale: float = 10.0):
        super().__init__()
        special, size = set(special), max(vocab.values()) + 1
        known: dict[str, int] = {}
        pairs = []
        for token, number in sorted(vocab.items(), key=lambda item: item[1]):
            if number not in special:
                pairs += [(known.setdefault(part, len(known)), number) for part in parts_of(token)]
        self.scale, self.size = scale, size
        self.register_buffer("parts", _listed(pairs, size, max(len(known), 1)), persistent=False)
        self.register_buffer("idf", torch.ones(max(len(known), 1)))
        self.head = nn.Linear(max(len(known), 1), classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def counts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """How often each part occurs, float32 [B, F]."""
        parts = self.parts[input_ids.long().clamp(max=self.size - 1)]  # [B, T, P]
        there = attention_mask.to(self.idf.dtype)[:, :, None].expand(parts.shape)
        counts = there.new_zeros(parts.shape[0], len(self.idf) + 1)  # one more, for what is no part
        return counts.scatter_add(1, parts.flatten(1), there.flatten(1))[:, :-1]

    @torch.no_grad()
    def count(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> TextClassifier:
        """Take the weights of parts from the training texts: log((1 + N) / (1 + n)) + 1 for one that n of N have.
        Returns itself."""
        pairs = zip(input_ids.split(AT_ONCE), attention_mask.split(AT_ONCE), strict=True)
        there = sum((self.counts(*some) > 0).sum(0) for some in pairs)
        self.idf.copy_(math.log(1 + len(input_ids)) - torch.log1p(there.float()) + 1)
        return self

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """float32 [B, F], of length `scale`."""
        counts = self.counts(input_ids, attention_mask)
        weights = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0) * self.idf
        return self.scale * F.normalize(weights, dim=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 [B, classes] of tokens [B, T] and their mask."""
        return self.head(self.features(input_ids, attention_mask))


def _listed(pairs: list[tuple[int, int]], size: int, none: int) -> torch.Tensor:
    """The parts of each of ``size`` tokens, int64 [V, P], of (part, token); ``none`` where a token has fewer."""
    lists: list[list[int]] = [[] for _ in range(size)]
    for part, token in pairs:
        lists[token].append(part)
    most = max(map(len, lists), default=0)
    return torch.tensor([row + [none] * (most - len(row)) for row in lists], dtype=torch.int64).reshape(size, most)
