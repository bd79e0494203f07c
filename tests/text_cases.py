"""Batches of tokens and pipelines for them, with their counterparts for `text_reference`."""

from __future__ import annotations

import torch
from text_reference import augmented

from gpuaug import text

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = [PAD, CLS, SEP, MASK]
V = 70
TABLE = {token: [5 + (3 * token + k) % 60 for k in range(token % 4)] for token in range(5, 60)}  # 60 .. 69 have none
ALL = [token for token in range(V) if token not in SPECIAL]


def batch(b: int, t: int, seed: int = 0, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of all lengths from 2 special tokens on, some with two segments, some empty, some full."""
    numbers = torch.Generator().manual_seed(seed)
    ids, mask = torch.full((b, t), PAD), torch.zeros(b, t, dtype=torch.int64)
    for r in range(b):
        n = [2, t, 3, t][r] if r < 4 else int(torch.randint(2, t + 1, (), generator=numbers))
        row = torch.randint(5, V, (n,), generator=numbers)
        row[0], row[-1] = CLS, SEP
        if r % 2 and n > 4:
            row[int(torch.randint(1, n - 1, (), generator=numbers))] = SEP
        if r % 5 == 0 and n > 6:
            row[n // 2] = UNK
        start = t - n if left else 0
        ids[r, start : start + n], mask[r, start : start + n] = row, 1
    return ids, mask


def both(kind: str, p: float = 1.0, table: bool = True, **arguments) -> tuple[text.ops.TokenOp, dict]:
    """An op, and what `text_reference` takes for it."""
    names = {"replacement": "RandomReplacement", "insertion": "RandomInsertion", "mask": "RandomMask"}
    names |= {"deletion": "RandomDeletion", "swap": "RandomSwap", "crop": "SpanCrop"}
    source = {"source": text.Synonyms(TABLE)} if table and kind in ("replacement", "insertion") else {}
    op = getattr(text, names[kind])(p=p, **arguments, **source)
    pair = op.scale if kind == "crop" else op.rate
    plain = {"kind": kind, "p": p, "rate": pair if isinstance(pair, tuple) else (pair, pair)}
    plain |= {"source": TABLE if source else None, "all": ALL, "token": MASK}
    plain |= {"masked": getattr(op, "masked", 0), "other": getattr(op, "other", 0)}
    return op, plain


PIPELINES = {
    "nothing": [],
    "replacement": [both("replacement", rate=0.3)],
    "replacement over the vocabulary": [both("replacement", table=False, rate=1.0)],
    "mask": [both("mask", rate=0.5, masked=0.5, other=0.3)],
    "insertion": [both("insertion", rate=0.4)],
    "insertion everywhere": [both("insertion", table=False, rate=1.0)],
    "deletion": [both("deletion", rate=0.4)],
    "deletion of all": [both("deletion", rate=1.0)],
    "swap": [both("swap", rate=0.3)],
    "swaps without end": [both("swap", rate=1.0)],
    "crop": [both("crop", scale=(0.2, 0.9))],
    "crop to one": [both("crop", scale=(0.0, 0.0))],
    "rates of rows": [both("deletion", 0.7, rate=(0.0, 1.0)), both("replacement", 0.3, rate=(0.2, 0.9))],
    "all": [
        both("replacement", rate=0.2),
        both("insertion", rate=0.3),
        both("mask", rate=0.2),
        both("swap", rate=(0.0, 0.4)),
        both("deletion", rate=0.2),
        both("crop", 0.5, scale=(0.4, 1.0)),
        both("insertion", 0.8, table=False, rate=(0.3, 0.9)),
        both("swap", 0.5, rate=0.1),
        both("deletion", 0.1, rate=1.0),
    ],
}


def pipeline(name: str, **options) -> text.Compose:
    given = {"special_tokens": SPECIAL, "pad_token_id": PAD, "mask_token_id": MASK, "vocab_size": V} | options
    return text.Compose([op for op, _ in PIPELINES[name]], **given)


def expected(
    name: str, ids: torch.Tensor, mask: torch.Tensor, names: list[int], seed: int, epoch: int, width: int, left: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the reference makes of a batch: tokens, mask, sources."""
    ops = [plain for _, plain in PIPELINES[name]]
    rows = zip(ids.tolist(), mask.tolist(), names, strict=True)
    found = [augmented(i, m, ops, set(SPECIAL), seed, epoch, n, width, PAD, left) for i, m, n in rows]
    return tuple(torch.tensor(values).reshape(len(ids), width) for values in zip(*found, strict=True))
