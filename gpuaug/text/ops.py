"""The ops on tokens, one frozen description each."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ..kernels.shared import text
from ..messages import check_keywords, shown
from .sources import Candidates, Uniform

Rate = float | tuple[float, float]
Source = Candidates | Uniform
Table = Callable[[Source], tuple[int, int, int]]  # a source's OFFSETS, SIZE and CANDIDATES in a program's memory


def words_of(share: float) -> int:
    """A share of 1 in units of 2^-32."""
    return round(share * text.ONE)


@dataclass(frozen=True, eq=False)
class TokenOp:
    """A description of an op on the tokens of a row.

    It holds no state and no random numbers; :class:`gpuaug.text.Compose` draws. `p` is the probability of a row to get
    it at all, by a draw of its own. A rate is a number, or a pair from which each row draws its own uniformly.

    Raises:
        TypeError: a keyword that the op does not take.
        ValueError: a rate or probability outside of 0 .. 1.
    """

    def __new__(cls, *arguments: Any, **keywords: Any):
        check_keywords(cls.__name__, keywords, [field.name for field in fields(cls)])
        return super().__new__(cls)

    def _pair(self, name: str) -> tuple[float, float]:
        """An argument in 0 .. 1, or a pair of them, as a pair."""
        value = getattr(self, name)
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2 or not all(isinstance(v, numbers.Real) and math.isfinite(v) for v in pair):
            raise ValueError(f"{type(self).__name__}: {name} must be a number or a pair, got {shown(value)}")
        low, high = map(float, pair)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"{type(self).__name__}: {name} must lie in 0 .. 1, got {shown(value)}")
        return low, high

    def _check(self, pair: str, *shares: str) -> None:
        """A rate, and what must be a number."""
        self._pair(pair)
        for name in shares:
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
                raise ValueError(f"{type(self).__name__}: {name} must be a number in 0 .. 1, got {shown(value)}")

    def _source(self) -> None:
        source = getattr(self, "source", None)
        if not (source is None or isinstance(source, Candidates | Uniform)):
            told = "must be Synonyms, Neighbours, Candidates or Uniform"
            raise TypeError(f"{type(self).__name__}: source {told}, got {shown(source)}")

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        """The op in a program (`kernels.shared.text`)."""
        raise NotImplementedError

    def _words(self, op: int, name: str, table: tuple[int, int, int] = (-1, 0, 0), *rest: int) -> list[int]:
        low, high = map(words_of, self._pair(name))
        words = [op, words_of(self.p), low, high, *table, *rest]
        return words + [0] * (text.OP_WORDS - len(words))


@dataclass(frozen=True, eq=False)
class RandomReplacement(TokenOp):
    """Each token is replaced, with probability `rate`, by a candidate of its own, drawn uniformly.

    EDA's synonym replacement where `source` is a table of synonyms (Wei and Zou, 2019); there the number of replaced
    words is fixed, here it is binomial. A token without candidates stays; labels stay with their places.

    Args:
        rate: of tokens, 0 .. 1.
        source: None: uniform over the vocabulary.
        p: of rows.
    """

    rate: Rate = 0.1
    source: Source | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("rate", "p")
        self._source()

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        return self._words(text.REPLACE, "rate", table(self.source or Uniform()))


@dataclass(frozen=True, eq=False)
class RandomInsertion(TokenOp):
    """Behind each token, with probability `rate`, a new one is inserted: a candidate of a token that is drawn uniformly
    from the same segment. Nothing where that one has none.

    EDA's random insertion (Wei and Zou, 2019), with the number of insertions binomial. What no longer fits in the width
    of the batch is cut from the end of the row in front of its last special tokens; special tokens and the first token
    of each segment stay.

    Args: as :class:`RandomReplacement`.
    """

    rate: Rate = 0.1
    source: Source | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("rate", "p")
        self._source()

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        return self._words(text.INSERT, "rate", table(self.source or Uniform()))


@dataclass(frozen=True, eq=False)
class RandomDeletion(TokenOp):
    """Each token is deleted with probability `rate`; of a segment that would lose all of them one stays, drawn
    uniformly. EDA's random deletion (Wei and Zou, 2019).

    Args: `rate` of tokens, `p` of rows.
    """

    rate: Rate = 0.1
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("rate", "p")

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        return self._words(text.DELETE, "rate")


@dataclass(frozen=True, eq=False)
class RandomSwap(TokenOp):
    """`rate` times as many swaps as the row has tokens, one after the other, a fraction being the chance of one more:
    each of a token drawn uniformly, and another of its segment. EDA's random swap (Wei and Zou, 2019). Labels go with
    their tokens.

    Args: `rate` of swaps a token, `p` of rows.
    """

    rate: Rate = 0.1
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("rate", "p")

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        return self._words(text.SWAP, "rate")


@dataclass(frozen=True, eq=False)
class SpanCrop(TokenOp):
    """A span of each segment is kept: a share of its tokens drawn uniformly from `scale`, rounded, at least one, at a
    place drawn uniformly. The share is one for all segments of a row.

    Args: `scale` of a segment's tokens that are kept, `p` of rows.
    """

    scale: Rate = (0.5, 1.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("scale", "p")

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        return self._words(text.CROP, "scale")


@dataclass(frozen=True, eq=False)
class RandomMask(TokenOp):
    """Each token is drawn with probability `rate`; of those drawn the share `masked` becomes the mask token, the share
    `other` a token of `source`, and the rest stays as it is: 80%, 10%, 10% in BERT (Devlin et al., 2018).

    For ops behind it a mask token put here is content.

    Args:
        rate: of tokens, 0 .. 1. masked, other: shares of those drawn, at most 1 in all.
        source: of `other`; None: uniform over the vocabulary.
        p: of rows.
    """

    rate: Rate = 0.15
    masked: float = 0.8
    other: float = 0.1
    source: Source | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        self._check("rate", "p", "masked", "other")
        self._source()
        if self.masked + self.other > 1 + 1e-9:
            raise ValueError(f"RandomMask: masked + other must be at most 1, got {self.masked} + {self.other}")

    def words(self, table: Table, mask_token_id: int | None) -> list[int]:
        if mask_token_id is None and self.masked:
            raise ValueError("RandomMask needs the id of the mask token: mask_token_id=, or tokenizer= with one")
        masked, other = words_of(self.masked), words_of(min(self.masked + self.other, 1.0))
        candidates = table(self.source or Uniform()) if self.other else (-1, 0, 0)
        return self._words(text.MASK, "rate", candidates, mask_token_id or 0, masked, other)
