"""The Triton kernel of tokens, interpreted: to the bit what plain Python makes of the same draws."""

from __future__ import annotations

import pytest
import torch
from text_cases import PIPELINES, batch, expected, pipeline

NAMES = [0, 2**63 - 1, *range(100, 108)]


@pytest.mark.parametrize("name", PIPELINES)
def test_bits_of_plain_python(name: str) -> None:
    left = name in ("all", "deletion")
    ids, mask = batch(10, 19, seed=1, left=left)
    augment = pipeline(name, seed=2**40 + 17, backend="triton", padding_side="right" if left else "left", max_length=21)
    found = augment(ids, mask, ids=NAMES, epoch=3, sources=True)
    for ours, theirs in zip(found, expected(name, ids, mask, NAMES, 2**40 + 17, 3, 21, not left), strict=True):
        assert torch.equal(ours, theirs.to(ours.dtype))


def test_dtypes_and_empty_batches() -> None:
    ids, mask = batch(6, 12)
    augment = pipeline("all", seed=1, backend="triton")
    wanted = pipeline("all", seed=1, backend="torch")(ids, mask, ids=range(6), epoch=0)
    for tokens, there in ((ids.int(), mask.bool()), (ids, mask.to(torch.uint8)), (ids.int(), mask.int())):
        found = augment(tokens, there, ids=range(6), epoch=0)
        assert found[0].dtype == tokens.dtype and found[1].dtype == there.dtype
        assert torch.equal(found[0].long(), wanted[0]) and torch.equal(found[1].long(), wanted[1])
    assert augment(ids[:0], mask[:0], ids=[], epoch=0)[0].shape == (0, 12)
