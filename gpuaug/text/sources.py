"""What tokens are replaced with, or inserted: for each token a list of candidates, of which one is drawn uniformly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..messages import shown

MOST_TOKENS = 2**31  # ids are kept in 32 bits


class Candidates:
    """For each token id the ids that may take its place, as a table of rows of any length.

    Args:
        offsets: int [V + 1]: the candidates of token t are ``tokens[offsets[t] : offsets[t + 1]]``; a token of none, or
            from V on, is left as it is.
        tokens: int [N].

    Raises:
        ValueError: offsets that do not ascend from 0 to N, or ids outside of 0 .. 2^31 - 1.
    """

    def __init__(self, offsets: Any, tokens: Any):
        name = type(self).__name__
        self.offsets, self.tokens = (np.asarray(values, np.int64).reshape(-1) for values in (offsets, tokens))
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens):
            raise ValueError(f"{name}: offsets must go from 0 to {len(self.tokens)}, how many tokens there are")
        if (np.diff(self.offsets) < 0).any():
            raise ValueError(f"{name}: offsets must ascend")
        if len(self.tokens) and not 0 <= self.tokens.min() <= self.tokens.max() < MOST_TOKENS:
            raise ValueError(f"{name}: token ids must lie in 0 .. 2^31 - 1")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, token: int) -> list[int]:
        """The candidates of a token."""
        if not 0 <= token < len(self):
            return []
        return self.tokens[self.offsets[token] : self.offsets[token + 1]].tolist()

    def table(self, special: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray]:
        """Offsets and tokens without special ones, which are never put in a token's place."""
        keep = ~np.isin(self.tokens, list(special))
        before = np.concatenate([[0], np.cumsum(keep)])
        return before[self.offsets], self.tokens[keep]

    def __repr__(self) -> str:
        some = int((np.diff(self.offsets) > 0).sum())
        return f"{type(self).__name__}({some} tokens with {len(self.tokens)} candidates)"


class Synonyms(Candidates):
    """Candidates from a table of synonyms, of ids.

    Args:
        table: token id -> ids of its synonyms.

    Replacement by synonyms: EDA (Wei and Zou, 2019, "EDA: easy data augmentation techniques for boosting performance on
    text classification tasks"), with WordNet as the table; any other does.
    """

    def __init__(self, table: Mapping[int, Iterable[int]]):
        try:
            rows = {int(token): [int(other) for other in others] for token, others in table.items()}
        except (TypeError, ValueError, AttributeError):
            told = "Synonyms: a table maps a token id to ids; words go through Synonyms.of_words, got"
            raise TypeError(f"{told} {shown(table)}") from None
        if rows and not 0 <= min(rows) <= max(rows) < MOST_TOKENS:
            raise ValueError("Synonyms: token ids must lie in 0 .. 2^31 - 1")
        counts = np.zeros(max(rows, default=-1) + 1, np.int64)
        for token, others in rows.items():
            counts[token] = len(others)
        super().__init__(
            np.concatenate([[0], np.cumsum(counts)]), [one for token in sorted(rows) for one in rows[token]]
        )

    @classmethod
    def of_words(cls, words: Mapping[str, Iterable[str]], vocab: Mapping[str, int]) -> Synonyms:
        """The table of words that are tokens of a vocabulary (`tokenizer.get_vocab()`); other words are left out.

        A word is looked up as it stands, and as a word's first token is marked by byte-level and SentencePiece
        vocabularies (`Ġword`, `▁word`).
        """
        table: dict[int, list[int]] = {}
        for mark in ("", "Ġ", "▁"):
            for word, others in words.items():
                if mark + word in vocab:
                    found = [vocab[mark + other] for other in others if mark + other in vocab]
                    table.setdefault(vocab[mark + word], []).extend(found)
        return cls({token: dict.fromkeys(others) for token, others in table.items()})


class Neighbours(Candidates):
    """Candidates that lie near a token in a space of embeddings; made by :meth:`of`."""

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        embeddings: Any,
        k: int = 8,
        *,
        minimum: float = -1.0,
        exclude: Iterable[int] = (),
        batch_size: int = 1024,
    ) -> Neighbours:
        """The `k` nearest tokens of each by the cosine of their embeddings.

        Args:
            embeddings: [V, D], an ``nn.Embedding``, or a model of Hugging Face's, whose input embeddings are taken: of
                a masked language model they lie near each other where words stand in the same places.
            k: how many, at most.
            minimum: of the cosine.
            exclude: ids that are no candidates and get none: special and unused tokens.
            batch_size: tokens that are compared at once, on the device of the embeddings.

        Raises:
            ValueError: no matrix, or `k` outside of 1 .. V - 1.
        """
        if hasattr(embeddings, "get_input_embeddings"):
            embeddings = embeddings.get_input_embeddings()
        matrix = embeddings.weight if isinstance(embeddings, nn.Embedding) else torch.as_tensor(embeddings)
        if matrix.dim() != 2 or not 1 <= k < len(matrix):
            v = len(matrix) if matrix.dim() == 2 else "V"
            raise ValueError(
                f"Neighbours: embeddings [V, D] and k in 1 .. V - 1, got {tuple(matrix.shape)}, {k} of {v}"
            )
        unit = nn.functional.normalize(matrix.detach().float(), dim=1)
        out = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
        out[list(exclude)] = True
        out |= (unit == 0).all(1)
        near, cosine = [], []
        for first in range(0, len(unit), batch_size):
            part = unit[first : first + batch_size] @ unit.T
            part[:, out] = -2.0
            part[torch.arange(len(part)), first + torch.arange(len(part))] = -2.0
            best = part.topk(k, dim=1)
            near.append(best.indices.cpu())
            cosine.append(torch.where(out[first : first + batch_size, None], -2.0, best.values).cpu())
        keep = torch.cat(cosine) >= max(minimum, -1.5)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), keep.sum(1).cumsum(0)])
        return cls(offsets.numpy(), torch.cat(near)[keep].numpy())


class Uniform:
    """Any token of the vocabulary, whatever stands there, special ones apart.

    Args:
        tokens: how many tokens there are, or their ids; None: all of the pipeline's vocabulary.
    """

    def __init__(self, tokens: int | Iterable[int] | None = None):
        self.tokens = None
        if tokens is not None:
            try:
                self.tokens = np.arange(tokens) if isinstance(tokens, int) else np.array(list(tokens), np.int64)
            except (TypeError, ValueError):
                raise TypeError(
                    f"Uniform: tokens must be a number of tokens or their ids, got {shown(tokens)}"
                ) from None
            if len(self.tokens) == 0 or not 0 <= self.tokens.min() <= self.tokens.max() < MOST_TOKENS:
                raise ValueError(f"Uniform: at least one token, and ids in 0 .. 2^31 - 1, got {shown(tokens)}")

    def of(self, vocab_size: int | None) -> Uniform:
        """Itself, or all of a vocabulary."""
        if self.tokens is not None:
            return self
        if vocab_size is None:
            raise ValueError("drawing uniformly over the vocabulary needs its size: vocab_size=, or tokenizer=")
        return Uniform(vocab_size)

    def table(self, special: Sequence[int]) -> tuple[np.ndarray | None, np.ndarray]:
        """No offsets, and the tokens without special ones."""
        return None, self.tokens[~np.isin(self.tokens, list(special))]

    def __repr__(self) -> str:
        return f"Uniform({'' if self.tokens is None else f'{len(self.tokens)} tokens'})"
