"""Compose: a pipeline of ops on the tokens of a batch, in which each sample has its own draw."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ..kernels.shared import text
from ..keys import EPOCHS, Keys, as_ids, whole
from ..messages import meant, shown, spelt, warn
from ..state import Stated
from . import run
from .ops import TokenOp
from .program import Program, Vocabulary, lower

IGNORED = -100  # the index that torch's cross_entropy ignores
TOKENS = (torch.int64, torch.int32)
MASKS = (torch.int64, torch.int32, torch.bool, torch.uint8)


class Field(NamedTuple):
    """What goes along with the tokens.

    Attributes:
        pad: its value at padding. new: at inserted tokens; None: that of the token in front.
    """

    pad: int
    new: int | None


class Compose(Stated, nn.Module):
    """A pipeline of ops on tokens.

    Args:
        transforms: ops of `gpuaug.text`, at most 64, applied in order.
        tokenizer: tells special tokens, padding, mask token and vocabulary, as Hugging Face's do, or
            :class:`gpuaug.text.BPETokenizer`. The arguments behind it count more; without it, `special_tokens` and
            `pad_token_id` are needed.
        special_tokens: ids that stay, in their order and between the same segments. pad_token_id, mask_token_id: ids.
        vocab_size: how many tokens there are, for ops that draw any.
        padding_side: of the output, "right" or "left".
        max_length: the width of the output, at least that of each batch; None: as wide as the batch. Where batches are
            padded to widths of their own, an insertion can only then be cut in one batch and not in another.
        ignore_index: the label of an inserted token, and of padding.
        fields: of dicts: further entries [B, T] that go along with the tokens, and their value at new and padding ones.
        seed: makes the draws reproducible; None takes one from the operating system, and `repr` shows it.
        backend: "auto", "triton", "cpu" or "torch": the same bits. auto takes triton for CUDA tensors, cpu for CPU
            tensors.

    A draw is a pure function of (seed, epoch, sample id, op, position in the row without its padding): with `ids`, a
    sample gets the same tokens in any batch, order, worker, number of processes and on any backend. Without, the
    pipeline counts samples, as :class:`gpuaug.Compose` does.

    A segment is a run of tokens between special ones: the two texts of a pair are two. Tokens are not moved from one to
    another, and at least one of each stays.

    Raises:
        TypeError, ValueError: an argument that is none, named.
    """

    @partial(spelt, called="Compose")
    def __init__(
        self,
        transforms: Sequence[TokenOp],
        *,
        tokenizer: Any = None,
        special_tokens: Iterable[int] | None = None,
        pad_token_id: int | None = None,
        mask_token_id: int | None = None,
        vocab_size: int | None = None,
        padding_side: str | None = None,
        max_length: int | None = None,
        ignore_index: int = IGNORED,
        fields: Mapping[str, int] | None = None,
        seed: int | None = None,
        backend: str = "auto",
    ):
        super().__init__()
        self.transforms = tuple(transforms)
        for op in self.transforms:
            if not isinstance(op, TokenOp):
                raise TypeError(f"Compose: transforms must be ops of gpuaug.text, got {shown(op)}")
        self.vocabulary = Vocabulary.of(
            tokenizer, special_tokens, pad_token_id, mask_token_id, vocab_size, padding_side
        )
        self.max_length = None if max_length is None else whole("max_length", max_length, text.LONGEST + 1)
        self.backend, self.ignore_index = run.checked(backend), ignore_index
        self.fields = dict(fields or {})
        self._keys = Keys(int.from_bytes(os.urandom(6), "little") if seed is None else seed)
        self._program, self._warned = lower(self.transforms, self.vocabulary), False

    def __len__(self) -> int:
        return len(self.transforms)

    @property
    def program(self) -> Program:
        """What the ops are lowered to."""
        return self._program

    def forward(
        self,
        input_ids: Any,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        ids: Any = None,
        epoch: int | None = None,
        sources: bool = False,
    ):
        """Augment a batch of rows, or one row [T].

        Args:
            input_ids: int64 or int32 [B, T], T at most 16,384, on any device; or a dict with it, as Hugging Face's
                tokenizers give with ``return_tensors="pt"``, which comes back with the same keys.
            attention_mask: [B, T], 0 at padding, which may be on either side; None: what is not the padding's id.
            token_type_ids: [B, T]; an inserted token gets that of the one in front of it.
            labels: whole numbers [B, T] go along with their tokens; any others come back as they are.
            ids: int64 [B], of the samples. epoch: overrides `set_epoch`.
            sources: also return where each token comes from: int32 [B, W], its position in the input, -1 at padding,
                -2 - p of one that was inserted behind that of position p.

        Returns:
            The dict, or what was given, in this order: one tensor, or a tuple. [B, W], W being T, or `max_length`.

        Raises:
            TypeError: no tensors of these dtypes.
            ValueError: shapes that do not fit, or an entry of a dict of which it is not known whether it goes along.
        """
        if isinstance(input_ids, Mapping):
            if not (attention_mask is None and token_type_ids is None and labels is None):
                raise TypeError("Compose: a dict of a batch comes alone; put the others into it")
            return self._of_dict(input_ids, ids, epoch, sources)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        batch["labels"] = labels
        out = self._augmented({name: value for name, value in batch.items() if value is not None}, ids, epoch, sources)
        return next(iter(out.values())) if len(out) == 1 else tuple(out.values())

    def _of_dict(self, batch: Mapping, ids: Any, epoch: int | None, sources: bool) -> Mapping:
        """A dict of the same type."""
        if "input_ids" not in batch:
            raise ValueError(f"Compose: a dict must hold input_ids, got the keys {', '.join(map(str, batch))}")
        out = self._augmented(dict(batch), ids, epoch, sources)
        if type(batch) is dict:
            return out
        try:
            return type(batch)(out)
        except TypeError:
            return out

    def _augmented(self, batch: dict[str, Any], ids: Any, epoch: int | None, sources: bool) -> dict[str, Any]:
        tokens = batch["input_ids"]
        if not isinstance(tokens, torch.Tensor) or tokens.dtype not in TOKENS:
            got = shown(getattr(tokens, "dtype", tokens))
            hint = "of a tokenizer: return_tensors='pt', padding=True"
            raise TypeError(f"Compose: input_ids must be a tensor int64 or int32 [B, T] ({hint}), got {got}")
        single = tokens.dim() == 1
        if single:
            batch = {name: one_row(value, tokens.shape) for name, value in batch.items()}
            tokens, ids = batch["input_ids"], None if ids is None else [ids] if isinstance(ids, int) else ids
        if tokens.dim() != 2:
            raise ValueError(f"Compose: input_ids must be [B, T] or [T], got {tuple(tokens.shape)}")
        along = self._along(batch, tokens)
        width = tokens.shape[1] if self.max_length is None else self.max_length
        if not tokens.shape[1] <= width <= text.LONGEST:
            most = f"max_length={width}" if self.max_length is not None else f"{text.LONGEST} tokens"
            raise ValueError(f"Compose: rows may be as long as {most}, got {tokens.shape[1]}; cut them")
        new_tokens, new_mask, source = self._run(
            tokens, self._mask(batch, tokens), ids, epoch, width, bool(along) or sources
        )
        out = dict(batch)
        out["input_ids"] = new_tokens
        if "attention_mask" in batch:
            out["attention_mask"] = new_mask
        out |= {name: carried(batch[name], source, field) for name, field in along.items()}
        if sources:
            out["sources"] = source
        return {name: value[0] if one_of(value, single) else value for name, value in out.items()} if single else out

    def _mask(self, batch: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
        mask = batch.get("attention_mask")
        if mask is None:
            return tokens != self.vocabulary.pad
        if not isinstance(mask, torch.Tensor) or mask.dtype not in MASKS:
            got = shown(getattr(mask, "dtype", mask))
            raise TypeError(f"Compose: attention_mask must be bool or whole numbers [B, T], got {got}")
        if mask.shape != tokens.shape or mask.device != tokens.device:
            told = f"{tuple(mask.shape)} on {mask.device} and {tuple(tokens.shape)} on {tokens.device}"
            raise ValueError(f"Compose: attention_mask and input_ids must have one shape and device, got {told}")
        return mask

    def _along(self, batch: dict[str, Any], tokens: torch.Tensor) -> dict[str, Field]:
        """The entries that go along with the tokens."""
        known = {
            "token_type_ids": Field(self.vocabulary.pad_type, None),
            "labels": Field(self.ignore_index, self.ignore_index),
            "special_tokens_mask": Field(1, 0),
        } | {name: Field(value, value) for name, value in self.fields.items()}
        found = {}
        for name, value in batch.items():
            if name in ("input_ids", "attention_mask") or not isinstance(value, torch.Tensor):
                continue
            alike = value.shape[:2] == tokens.shape and value.dim() >= 2
            if name in known and alike and not value.is_floating_point():
                found[name] = known[name]
            elif name in known and name != "labels":
                raise ValueError(
                    f"Compose: {name} must hold whole numbers {tuple(tokens.shape)}, as input_ids, "
                    f"got {value.dtype} {tuple(value.shape)}"
                )
            elif alike and name != "labels":
                raise ValueError(
                    f"Compose: {name} is as long as the tokens, and it is not known whether it goes along with them: "
                    f"say fields={{{name!r}: its value at new and padding tokens}}, or leave it out{meant(name, known)}"
                )
        return found

    def _run(self, tokens, mask, ids, epoch, width, sources):
        device, b = tokens.device, len(tokens)
        if ids is None:
            if epoch is not None:
                raise ValueError("Compose: epoch counts with ids alone; pass ids, or leave it out")
            state = self._keys.of_counted(device)
            numbers, word = self._keys.numbers(device, b), 0
        else:
            state, numbers = self._keys.of_ids(device), as_ids(ids, device, b)
            word = self._keys.epoch_on(device) if epoch is None else whole("epoch", epoch, EPOCHS)
            if epoch is None and self._keys.epoch is None and not self._warned:
                self._warned = True
                warn("ids without an epoch repeat the same draws in each epoch; pass epoch= or call set_epoch()")
        backend = run.select(self.backend, device, width)
        return run.run(backend, self._program, tokens, mask, numbers, word, state, width, sources)

    def __repr__(self) -> str:
        lines = "".join(f"    {op!r},\n" for op in self.transforms)
        extras = f"special_tokens={list(self.vocabulary.special)}, pad_token_id={self.vocabulary.pad}, seed={self.seed}"
        extras += "" if self.max_length is None else f", max_length={self.max_length}"
        extras += "" if self.backend == "auto" else f", backend={self.backend!r}"
        return f"Compose([\n{lines}], {extras})" if lines else f"Compose([], {extras})"

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        del state["_program"]
        return state

    def __setstate__(self, state: dict) -> None:
        nn.Module.__setstate__(self, state)
        self._program = lower(self.transforms, self.vocabulary)

    def __deepcopy__(self, memo: dict) -> Compose:
        new = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new


def one_row(value: Any, shape: torch.Size) -> Any:
    """A row's entry as a batch of one."""
    return value[None] if isinstance(value, torch.Tensor) and value.shape[:1] == shape else value


def one_of(value: Any, single: bool) -> bool:
    return single and isinstance(value, torch.Tensor) and value.dim() > 1


def carried(values: torch.Tensor, sources: torch.Tensor, field: Field) -> torch.Tensor:
    """What goes along with tokens [B, T, ...], behind them: [B, W, ...]."""
    new = sources < text.NONE
    at = torch.where(new, text.BEHIND - sources, sources).clamp_(min=0).long()
    rest = (1,) * (values.dim() - 2)
    moved = values.gather(1, at.view(*at.shape, *rest).expand(*at.shape, *values.shape[2:]))
    if field.new is not None:
        moved = torch.where(new.view(*at.shape, *rest), field.new, moved)
    return torch.where((sources == text.NONE).view(*at.shape, *rest), field.pad, moved)
