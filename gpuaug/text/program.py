"""What a pipeline of ops on tokens is lowered to: whole numbers, and the memory that they point into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..kernels.shared import text
from ..messages import shown
from .ops import Source, TokenOp
from .sources import MOST_TOKENS, Uniform


@dataclass(frozen=True)
class Vocabulary:
    """What a pipeline must know of the tokens.

    Attributes:
        special: ids that stay where they are, part segments and are never put in the place of another token.
        pad: the padding's id. mask: that of the mask token, None for none.
        size: how many tokens there are, None if that is not known.
        left: whether padding stands on the left.
        pad_type: the padding's token type.
    """

    special: tuple[int, ...]
    pad: int
    mask: int | None = None
    size: int | None = None
    left: bool = False
    pad_type: int = 0

    @classmethod
    def of(
        cls,
        tokenizer: Any = None,
        special_tokens: Iterable[int] | None = None,
        pad_token_id: int | None = None,
        mask_token_id: int | None = None,
        vocab_size: int | None = None,
        padding_side: str | None = None,
    ) -> Vocabulary:
        """From a tokenizer as Hugging Face's are, and what is said beside it, which counts more.

        Of a tokenizer all special tokens are, but the one for unknown words, which is content.
        """
        told: dict[str, Any] = {}
        if tokenizer is not None:
            try:
                unknown = getattr(tokenizer, "unk_token_id", None)
                told["special"] = [token for token in tokenizer.all_special_ids if token != unknown]
                told["pad"], told["size"] = tokenizer.pad_token_id, len(tokenizer)
            except (AttributeError, TypeError):
                what = "has all_special_ids, pad_token_id and a length, as Hugging Face's have; got"
                raise TypeError(f"Compose: a tokenizer {what} {shown(tokenizer)}") from None
            told["mask"] = getattr(tokenizer, "mask_token_id", None)
            told["side"] = getattr(tokenizer, "padding_side", None)
            told["pad_type"] = getattr(tokenizer, "pad_token_type_id", 0)
        given = {"special": special_tokens, "pad": pad_token_id, "mask": mask_token_id, "size": vocab_size}
        given["side"] = padding_side
        told |= {name: value for name, value in given.items() if value is not None}
        if told.get("special") is None or told.get("pad") is None:
            lacks = "special_tokens" if told.get("special") is None else "pad_token_id"
            raise ValueError(f"Compose: which tokens are special and which pads must be known: {lacks}=, or tokenizer=")
        side = told.get("side") or "right"
        if side not in ("left", "right"):
            raise ValueError(f"Compose: padding_side must be 'left' or 'right', got {shown(side)}")
        special = tuple(sorted({checked_id("special_tokens", token) for token in told["special"]}))
        mask, pad = told.get("mask"), checked_id("pad_token_id", told["pad"])
        mask = None if mask is None else checked_id("mask_token_id", mask)
        return cls(special, pad, mask, told.get("size"), side == "left", told.get("pad_type") or 0)


def checked_id(name: str, token: Any) -> int:
    """A token's id as an int."""
    if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < MOST_TOKENS:
        raise ValueError(f"Compose: {name} must be of token ids, whole numbers 0 .. 2^31 - 1, got {shown(token)}")
    return int(token)


@dataclass(frozen=True, eq=False)
class Program:
    """Ops in numbers.

    Attributes:
        ops: `kernels.shared.text.OP_WORDS` numbers each. memory: int32 [M], what they point into.
        special: where in memory the bits of special tokens begin, and of how many tokens they tell.
        vocabulary: what it was made for.
    """

    ops: tuple[tuple[int, ...], ...]
    memory: torch.Tensor
    special: tuple[int, int]
    vocabulary: Vocabulary
    _placed: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The ops int64 [OPS, OP_WORDS] and the memory on a device, where they stay."""
        placed = self._placed.get(device)
        if placed is None:
            ops = torch.tensor(self.ops, dtype=torch.int64).reshape(-1, text.OP_WORDS)
            placed = self._placed.setdefault(device, (ops.to(device), self.memory.to(device)))
        return placed


def lower(transforms: Sequence[TokenOp], vocabulary: Vocabulary) -> Program:
    """Lower a pipeline.

    Raises:
        ValueError: too many ops, or an op that needs what the vocabulary does not tell.
    """
    if len(transforms) > text.MOST_OPS:
        raise ValueError(f"Compose: at most {text.MOST_OPS} ops, got {len(transforms)}")
    parts: list[np.ndarray] = [bits(vocabulary.special)]
    known: dict[int, tuple[int, int, int]] = {}

    def placed(values: np.ndarray) -> int:
        parts.append(values.astype(np.int32))
        return sum(map(len, parts[:-1]))

    def table(source: Source) -> tuple[int, int, int]:
        whole = source.of(vocabulary.size) if isinstance(source, Uniform) else source
        if id(source) not in known:
            offsets, tokens = whole.table(vocabulary.special)
            at, size = (-1, len(tokens)) if offsets is None else (placed(offsets), len(offsets) - 1)
            known[id(source)] = at, size, placed(tokens)
            kept.append(source)  # an id is another's once its object is gone
        return known[id(source)]

    kept: list[Source] = []
    ops = tuple(tuple(op.words(table, vocabulary.mask)) for op in transforms)
    memory = torch.from_numpy(np.concatenate(parts))
    return Program(ops, memory, (0, 32 * len(parts[0])), vocabulary)


def bits(tokens: Sequence[int]) -> np.ndarray:
    """int32: bit t & 31 of word t >> 5 says whether t is one of the tokens."""
    words = np.zeros(max(tokens, default=0) // 32 + 1, np.uint32)
    for token in tokens:
        words[token >> 5] |= np.uint32(1 << (token & 31))
    return words.view(np.int32)
