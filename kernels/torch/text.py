"""Augmentation of tokens over torch: all rows of a batch at once, on any device; no value is looked at by the host.

A row's state is its sequence: codes int64 [B, W], a special token standing there as its complement, sources int64
[B, W] (`shared.text`), and how long it is, n [B]. What lies behind is of no account.
"""

from typing import NamedTuple

import torch

from ..shared import text as X
from .dialect import DRAW, TEXT


class State(NamedTuple):
    """The sequences of a batch; see above."""

    code: torch.Tensor
    source: torch.Tensor
    n: torch.Tensor


class Segments(NamedTuple):
    """Of each position [B, W]: whether it is content, and the first position and the length of its segment."""

    content: torch.Tensor
    first: torch.Tensor
    length: torch.Tensor


def augment(program, memory, special, ids, mask, keys, width, left, pad):
    """The tokens of a batch and their sources, int64 [B, width] each; a source of NONE is padding.

    Args:
        program: a list of ops, OP_WORDS whole numbers each. memory: int32, what they read.
        special: where in memory the bits of special tokens begin, and how many tokens they tell of.
        ids: int64 [B, T]. mask: bool [B, T].
        keys: of the rows, as `draw.row_key` has them: tensors [B] or numbers.
        left: whether padding goes to the left.
    """
    state = read(ids, mask, memory, special, width)
    for i, op in enumerate(program):
        key = TEXT["op_key"](keys, i)
        a, b, c, _ = TEXT["of_row"](key)
        on, rate = a < op[X.CHANCE], TEXT["level"](b, op[X.LOW], op[X.HIGH])
        changed = OPS[op[X.OP]](state, op, memory, key, rate, c)
        state = State(*(chosen(on, new, old) for new, old in zip(changed, state, strict=True)))
    return placed(state, left, pad)


def chosen(on, new, old):
    """The new values of the rows that are on."""
    return torch.where(on if new.dim() == 1 else on[:, None], new, old)


def at_positions(state):
    """0 .. W - 1."""
    return torch.arange(state.code.shape[1], device=state.code.device)


def looked_up(memory, at, on):
    """memory[at] as int64, 0 where not on; at [B, W]."""
    return torch.where(on, memory[torch.where(on, at, 0)].long(), 0)


def read(ids, mask, memory, special, width):
    """The state of a batch as it comes."""
    first, count = special
    known = (ids >= 0) & (ids < count)
    bits = looked_up(memory, first + (ids >> 5), known)
    code = torch.where((bits >> (ids & 31)) & 1 == 1, ~ids, ids)
    source = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return packed([code], [source], [mask], [mask.long().cumsum(1) - 1], width)


def packed(codes, sources, keeps, places, width):
    """A state of what is kept, at its places."""
    shape = codes[0].shape[0], width + 1  # what is left out goes behind the end
    code, source = (torch.full(shape, X.NONE, dtype=torch.int64, device=codes[0].device) for _ in range(2))
    n = torch.zeros_like(code[:, 0])
    for of_code, of_source, keep, place in zip(codes, sources, keeps, places, strict=True):
        at = torch.where(keep, place, width)
        code.scatter_(1, at, of_code)
        source.scatter_(1, at, of_source)
        n = n + keep.sum(1)
    return State(code[:, :width], source[:, :width], n)


def without(state, keep):
    """The state of the positions that are kept."""
    return packed([state.code], [state.source], [keep], [keep.long().cumsum(1) - 1], state.code.shape[1])


def segments(state):
    """The segments of a state."""
    p = at_positions(state)
    content = (p < state.n[:, None]) & (state.code >= 0)
    first = torch.where(content, 0, p + 1).cummax(1).values
    end = torch.where(content, len(p), p).flip(1).cummin(1).values.flip(1)
    return Segments(content, first, torch.where(content, end - first, 0))


def drawn(state, key, rate):
    """Which positions an op takes, bool [B, W]: a block has the words of four."""
    width, key = state.code.shape[1], spread(key)
    blocks = torch.arange(-(-width // 4), device=state.code.device)
    word = torch.stack(DRAW["words"](key, blocks), 2).flatten(1)[:, :width]
    return word < rate[:, None]


def spread(key):
    """A key [B] as [B, 1]."""
    return tuple(k[:, None] if isinstance(k, torch.Tensor) and k.dim() else k for k in key)


def choices(state, key):
    """Two words of each position [B, W]: a block has those of two."""
    width, key = state.code.shape[1], spread(key)
    blocks = torch.arange(-(-width // 2), device=state.code.device)
    a, b, c, d = DRAW["words"](key, X.CHOICES + blocks)
    return (torch.stack(pair, 2).flatten(1)[:, :width] for pair in ((a, c), (b, d)))


def candidates(op, memory, code, on, word):
    """A candidate of each token, and whether it has one."""
    if op[X.OFFSETS] < 0:
        first, count = torch.zeros_like(code), torch.full_like(code, op[X.SIZE])
    else:
        known = on & (code >= 0) & (code < op[X.SIZE])
        first = looked_up(memory, op[X.OFFSETS] + code, known)
        count = looked_up(memory, op[X.OFFSETS] + code + 1, known) - first
    some = on & (count > 0)
    return looked_up(memory, op[X.CANDIDATES] + first + TEXT["below"](word, count), some), some


def replace(state, op, memory, key, rate, word):
    on = segments(state).content & drawn(state, key, rate)
    token, some = candidates(op, memory, state.code, on, next(choices(state, key)))
    return state._replace(code=torch.where(some, token, state.code))


def mask(state, op, memory, key, rate, word):
    on = segments(state).content & drawn(state, key, rate)
    way, which = choices(state, key)
    masked, other = way < op[X.MASKED], way < op[X.OTHER]
    token, some = candidates(op, memory, state.code, on & other & ~masked, which)
    code = torch.where(some, token, state.code)
    return state._replace(code=torch.where(on & masked, op[X.TOKEN], code))


def insert(state, op, memory, key, rate, word):
    """Behind a token a candidate of any token of its segment. What then is too much goes, from the end on, but neither
    special tokens nor the first of a segment."""
    found, p, width = segments(state), at_positions(state), state.code.shape[1]
    on = found.content & drawn(state, key, rate)
    donor, which = choices(state, key)
    at = found.first + TEXT["below"](donor, found.length)
    token, new = candidates(op, memory, state.code.gather(1, at.clamp(max=width - 1)), on, which)
    there = p < state.n[:, None]
    loose = found.content & (p > found.first)
    new_at, loose_at = new.long().cumsum(1), loose.long().cumsum(1)
    excess = (state.n + new_at[:, -1] - width).clamp(min=0)
    most = (loose_at[:, -1] + new_at[:, -1] - excess)[:, None]  # how many may stay of those that can go
    keep = there & (~loose | (loose_at + new_at - new.long() <= most))
    stays = new & (loose_at + new_at <= most)
    kept, more = keep.long().cumsum(1), stays.long().cumsum(1)
    places = [kept - 1 + more - stays.long(), kept - 1 + more]
    return packed([state.code, token], [state.source, X.BEHIND - source_of(state)], [keep, stays], places, width)


def source_of(state):
    """Where each token came from, or the one behind which it was inserted."""
    return torch.where(state.source < X.NONE, X.BEHIND - state.source, state.source)


def delete(state, op, memory, key, rate, word):
    """Of a segment that would lose all its tokens, one stays."""
    found, p = segments(state), at_positions(state)
    keep = found.content & ~drawn(state, key, rate)
    before = torch.nn.functional.pad(keep.long().cumsum(1), (1, 0))
    left = before.gather(1, found.first + found.length) - before.gather(1, found.first)
    draw = next(choices(state, key)).gather(1, found.first.clamp(max=len(p) - 1))
    last = found.first + TEXT["below"](draw, found.length)
    keep = keep | (found.content & (left == 0) & (p == last))
    return without(state, keep | ((p < state.n[:, None]) & (state.code < 0)))


def swap(state, op, memory, key, rate, word):
    """One swap after the other, each of two tokens of a segment."""
    found, p = segments(state), at_positions(state)
    width, rank = len(p), found.content.long().cumsum(1)
    place = packed([p.expand_as(rank)], [rank], [found.content], [rank - 1], width).code  # of each content token
    total = rank[:, -1]
    count = TEXT["swaps"](rate, total, word)
    code, source = state.code.clone(), state.source.clone()
    for k in range(most_swaps(op, width)):
        one, other = TEXT["choices"](key, k)
        on = (k < count) & (total > 0)
        i = torch.where(on, place.gather(1, TEXT["below"](one, total)[:, None])[:, 0], 0)[:, None]
        j = TEXT["partner"](found.first.gather(1, i), found.length.gather(1, i), i, other[:, None])
        j = torch.where(on[:, None], j, 0)
        for values in (code, source):
            of_i, of_j = values.gather(1, i), values.gather(1, j)
            values.scatter_(1, i, of_j).scatter_(1, j, of_i)
    return state._replace(code=code, source=source)


def most_swaps(op, n):
    """The most swaps that n tokens can get."""
    return TEXT["swaps"](op[X.HIGH], n, X.ONE - 1)


def crop(state, op, memory, key, rate, word):
    """Of each segment a span; all of a row keep the same share."""
    found, p = segments(state), at_positions(state)
    m = TEXT["kept_length"](rate[:, None], found.length)
    draw = next(choices(state, key)).gather(1, found.first.clamp(max=len(p) - 1))
    start = found.first + TEXT["below"](draw, found.length - m + 1)
    keep = found.content & (p >= start) & (p < start + m)
    return without(state, keep | ((p < state.n[:, None]) & (state.code < 0)))


OPS = {X.REPLACE: replace, X.MASK: mask, X.INSERT: insert, X.DELETE: delete, X.SWAP: swap, X.CROP: crop}


def placed(state, left, pad):
    """Tokens and sources of the rows, with padding on one side."""
    p, n = at_positions(state), state.n[:, None]
    start = len(p) - n if left else torch.zeros_like(n)
    at = (p - start).clamp(0, len(p) - 1)
    there = (p >= start) & (p < start + n)
    code = state.code.gather(1, at)
    token = torch.where(there, torch.where(code < 0, ~code, code), pad)
    return token, torch.where(there, state.source.gather(1, at), X.NONE)
