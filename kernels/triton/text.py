"""Augmentation of tokens: a program a row. Between ops a row's sequence lies in scratch memory, int32 [LINES, BLOCK].

Each op loads the sequence into a tile, works out where every token goes, and stores it there; barriers stand between
what is stored by one thread and loaded by another.
"""

import functools
import sys

import torch
import triton
import triton.language as tl

from ..shared import text
from ..shared.draw import row_key
from ..shared.plan import STATE_EPOCH, STATE_SEED_HIGH, STATE_SEED_LOW
from ..shared.text import (
    BEHIND,
    CANDIDATES,
    CHANCE,
    CROP,
    DELETE,
    HIGH,
    INSERT,
    LOW,
    MASK,
    MASKED,
    NONE,
    OFFSETS,
    OP,
    OP_WORDS,
    OTHER,
    REPLACE,
    SIZE,
    SWAP,
    TOKEN,
    below,
    choices,
    decision,
    kept_length,
    level,
    of_row,
    op_key,
    partner,
    swaps,
)
from . import dialect
from .launch import Kernel, launch, pointer

CODE, SOURCE, SPARE = 0, 1, 2  # lines of scratch memory: a row's codes, their sources, and a third
LINES = 3
NAMES = {torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8"}
MOST_WARPS = 8
FAR = 1 << 30


def most(a, b):
    """The larger, of a scan."""
    return tl.maximum(a, b)


def least(a, b):
    """The smaller, of a scan."""
    return tl.minimum(a, b)


def loaded(scratch, LINE: tl.constexpr, i_at, n, BLOCK: tl.constexpr):
    """Elements of a line of scratch memory as int64; -1 outside of 0 .. n - 1."""
    m_there = (i_at >= 0) & (i_at < n)
    return tl.load(scratch + LINE * BLOCK + i_at, mask=m_there, other=-1).to(tl.int64)


def segments(b_code, i_p, n):
    """Of each position: whether it is content, and the first position and the length of its segment."""
    m_content = (i_p < n) & (b_code >= 0)
    b_first = tl.associative_scan(tl.where(m_content, 0, i_p + 1), 0, most)
    b_end = tl.associative_scan(tl.where(m_content, FAR, i_p), 0, least, reverse=True)
    return m_content, b_first, tl.where(m_content, tl.minimum(b_end, n) - b_first, 0)


def stored(scratch, b_code, b_source, i_to, m_keep, BLOCK: tl.constexpr):
    """Put tokens at their places."""
    tl.store(scratch + CODE * BLOCK + i_to, b_code.to(tl.int32), mask=m_keep)
    tl.store(scratch + SOURCE * BLOCK + i_to, b_source.to(tl.int32), mask=m_keep)


def packed(scratch, b_code, b_source, m_keep, BLOCK: tl.constexpr):
    """Keep some tokens; returns how many."""
    b_count = tl.cumsum(m_keep.to(tl.int64), 0)
    tl.debug_barrier()
    stored(scratch, b_code, b_source, b_count - 1, m_keep, BLOCK)
    tl.debug_barrier()
    return tl.sum(m_keep.to(tl.int64), 0)


def candidates(op, memory, b_code, m_on, b_word):
    """A candidate of each token, and whether it has one."""
    i_offsets, i_size = tl.load(op + OFFSETS), tl.load(op + SIZE)
    m_table = m_on & (i_offsets >= 0) & (b_code >= 0) & (b_code < i_size)
    o_row = memory + i_offsets + b_code
    b_first = tl.load(o_row, mask=m_table, other=0).to(tl.int64)
    b_count = tl.load(o_row + 1, mask=m_table, other=0).to(tl.int64) - b_first
    b_count = tl.where(i_offsets < 0, i_size, b_count)
    m_some = m_on & (b_count > 0)
    o_token = memory + tl.load(op + CANDIDATES) + b_first + below(b_word, b_count)
    return tl.load(o_token, mask=m_some, other=0).to(tl.int64), m_some


def change(scratch, op, memory, key, rate, kind, n, BLOCK: tl.constexpr):
    """REPLACE and MASK."""
    i_p = tl.arange(0, BLOCK).to(tl.int64)
    b_code = loaded(scratch, CODE, i_p, n, BLOCK)
    m_on = (i_p < n) & (b_code >= 0) & (decision(key, i_p) < rate)
    b_way, b_which = choices(key, i_p)
    m_masked = m_on & (kind == MASK) & (b_way < tl.load(op + MASKED))
    m_other = m_on & ((kind == REPLACE) | (b_way < tl.load(op + OTHER))) & (m_masked == 0)
    b_token, m_some = candidates(op, memory, b_code, m_other, tl.where(kind == REPLACE, b_way, b_which))
    b_code = tl.where(m_masked, tl.load(op + TOKEN), tl.where(m_some, b_token, b_code))
    tl.store(scratch + CODE * BLOCK + i_p, b_code.to(tl.int32), mask=i_p < n)
    tl.debug_barrier()


def insert(scratch, op, memory, key, rate, n, width, BLOCK: tl.constexpr):
    """INSERT; returns the length."""
    i_p = tl.arange(0, BLOCK).to(tl.int64)
    b_code, b_source = loaded(scratch, CODE, i_p, n, BLOCK), loaded(scratch, SOURCE, i_p, n, BLOCK)
    m_content, b_first, b_length = segments(b_code, i_p, n)
    b_donor, b_which = choices(key, i_p)
    b_from = loaded(scratch, CODE, b_first + below(b_donor, b_length), n, BLOCK)
    b_token, m_new = candidates(op, memory, b_from, m_content & (decision(key, i_p) < rate), b_which)
    m_loose = m_content & (i_p > b_first)
    b_new = tl.cumsum(m_new.to(tl.int64), 0)
    b_loose = tl.cumsum(m_loose.to(tl.int64), 0)
    n_new, n_loose = tl.sum(m_new.to(tl.int64), 0), tl.sum(m_loose.to(tl.int64), 0)
    n_most = n_loose + n_new - tl.maximum(n + n_new - width, 0)
    m_keep = (i_p < n) & ((m_loose == 0) | (b_loose + b_new - m_new.to(tl.int64) <= n_most))
    m_stays = m_new & (b_loose + b_new <= n_most)
    b_kept, b_more = tl.cumsum(m_keep.to(tl.int64), 0), tl.cumsum(m_stays.to(tl.int64), 0)
    tl.debug_barrier()
    stored(scratch, b_code, b_source, b_kept - 1 + b_more - m_stays.to(tl.int64), m_keep, BLOCK)
    b_behind = tl.where(b_source < NONE, b_source, BEHIND - b_source)
    stored(scratch, b_token, b_behind, b_kept - 1 + b_more, m_stays, BLOCK)
    tl.debug_barrier()
    return tl.sum(m_keep.to(tl.int64), 0) + tl.sum(m_stays.to(tl.int64), 0)


def delete(scratch, key, rate, n, BLOCK: tl.constexpr):
    """DELETE; returns the length."""
    i_p = tl.arange(0, BLOCK).to(tl.int64)
    b_code, b_source = loaded(scratch, CODE, i_p, n, BLOCK), loaded(scratch, SOURCE, i_p, n, BLOCK)
    m_content, b_first, b_length = segments(b_code, i_p, n)
    m_keep = m_content & (decision(key, i_p) >= rate)
    b_count = tl.cumsum(m_keep.to(tl.int64), 0)
    tl.store(scratch + SPARE * BLOCK + i_p, b_count.to(tl.int32), mask=i_p < n)
    tl.debug_barrier()
    b_until = loaded(scratch, SPARE, b_first + b_length - 1, n, BLOCK)
    b_before = tl.where(b_first > 0, loaded(scratch, SPARE, b_first - 1, n, BLOCK), 0)
    b_word, _ = choices(key, b_first)
    m_last = m_content & (b_until == b_before) & (i_p == b_first + below(b_word, b_length))
    m_keep = m_keep | m_last | ((i_p < n) & (b_code < 0))
    return packed(scratch, b_code, b_source, m_keep, BLOCK)


def crop(scratch, key, share, n, BLOCK: tl.constexpr):
    """CROP; returns the length."""
    i_p = tl.arange(0, BLOCK).to(tl.int64)
    b_code, b_source = loaded(scratch, CODE, i_p, n, BLOCK), loaded(scratch, SOURCE, i_p, n, BLOCK)
    m_content, b_first, b_length = segments(b_code, i_p, n)
    b_kept = kept_length(share, b_length)
    b_word, _ = choices(key, b_first)
    b_start = b_first + below(b_word, b_length - b_kept + 1)
    m_keep = m_content & (i_p >= b_start) & (i_p < b_start + b_kept)
    return packed(scratch, b_code, b_source, m_keep | ((i_p < n) & (b_code < 0)), BLOCK)


def swap(scratch, key, rate, word, n, BLOCK: tl.constexpr):
    """SWAP, of which the tile `b_order` holds what stands where."""
    i_p = tl.arange(0, BLOCK).to(tl.int64)
    b_code, b_source = loaded(scratch, CODE, i_p, n, BLOCK), loaded(scratch, SOURCE, i_p, n, BLOCK)
    m_content, b_first, b_length = segments(b_code, i_p, n)
    n_content = tl.sum(m_content.to(tl.int64), 0)
    b_rank = tl.cumsum(m_content.to(tl.int64), 0) - 1
    b_order = i_p
    n_swaps, k = swaps(rate, n_content, word), n_content * 0
    while k < n_swaps:
        i_one, i_other = choices(key, k)
        m_i = m_content & (b_rank == below(i_one, n_content))
        i = tl.sum(tl.where(m_i, i_p, 0), 0)
        i_first, i_length = tl.sum(tl.where(m_i, b_first, 0), 0), tl.sum(tl.where(m_i, b_length, 0), 0)
        j = partner(i_first, i_length, i, i_other)
        i_at, j_at = tl.sum(tl.where(i_p == i, b_order, 0), 0), tl.sum(tl.where(i_p == j, b_order, 0), 0)
        b_order = tl.where(i_p == i, j_at, tl.where(i_p == j, i_at, b_order))
        k += 1
    b_code, b_source = loaded(scratch, CODE, b_order, n, BLOCK), loaded(scratch, SOURCE, b_order, n, BLOCK)
    tl.debug_barrier()
    stored(scratch, b_code, b_source, i_p, i_p < n, BLOCK)
    tl.debug_barrier()


def read(scratch, tokens, mask, memory, i_special, n_known, length, BLOCK: tl.constexpr):
    """The sequence of a row; returns how long it is."""
    i_t = tl.arange(0, BLOCK).to(tl.int64)
    m_there = (i_t < length) & (tl.load(mask + i_t, mask=i_t < length, other=0).to(tl.int32) != 0)
    b_token = tl.load(tokens + i_t, mask=m_there, other=0).to(tl.int64)
    m_known = m_there & (b_token >= 0) & (b_token < n_known)
    b_bits = tl.load(memory + i_special + (b_token >> 5), mask=m_known, other=0).to(tl.int64)
    b_code = tl.where((b_bits >> (b_token & 31)) & 1 == 1, ~b_token, b_token)
    return packed(scratch, b_code, i_t, m_there, BLOCK)


def write(scratch, out, out_mask, out_sources, n, width, left, pad, BLOCK: tl.constexpr):
    """A row of the output."""
    i_t = tl.arange(0, BLOCK).to(tl.int64)
    i_p = i_t - tl.where(left == 1, width - n, 0)
    m_there, m_out = (i_p >= 0) & (i_p < n), i_t < width
    b_code, b_source = loaded(scratch, CODE, i_p, n, BLOCK), loaded(scratch, SOURCE, i_p, n, BLOCK)
    b_token = tl.where(m_there, tl.where(b_code < 0, ~b_code, b_code), pad)
    tl.store(out + i_t, b_token.to(out.dtype.element_ty), mask=m_out)
    tl.store(out_mask + i_t, m_there.to(out_mask.dtype.element_ty), mask=m_out)
    tl.store(out_sources + i_t, tl.where(m_there, b_source, NONE).to(tl.int32), mask=m_out)


def text_kernel(
    program,
    memory,
    tokens,
    mask,
    ids,
    state,
    scratch,
    out,
    out_mask,
    out_sources,
    n_ops,
    i_special,
    n_known,
    epoch,
    length,
    width,
    left,
    pad,
    BLOCK: tl.constexpr,
):
    """A row of tokens through the program. Grid: (rows,)."""
    i_row = tl.program_id(0).to(tl.int64)
    scratch += i_row * LINES * BLOCK
    n_ops, width, pad = n_ops.to(tl.int32), width.to(tl.int64), pad.to(tl.int64)
    row = i_row * length.to(tl.int64)
    n = read(scratch, tokens + row, mask + row, memory, i_special, n_known, length, BLOCK)
    epoch = tl.where(epoch < 0, tl.load(state + STATE_EPOCH), epoch.to(tl.int64))
    row_words = row_key(
        tl.load(ids + i_row), epoch, n * 0, tl.load(state + STATE_SEED_LOW), tl.load(state + STATE_SEED_HIGH)
    )
    i = n * 0
    while i < n_ops:
        op, key = program + i * OP_WORDS, op_key(row_words, i)
        i_gets, i_rate, i_swaps, _ = of_row(key)
        if i_gets < tl.load(op + CHANCE):
            kind, rate = tl.load(op + OP), level(i_rate, tl.load(op + LOW), tl.load(op + HIGH))
            if (kind == REPLACE) | (kind == MASK):
                change(scratch, op, memory, key, rate, kind, n, BLOCK)
            if kind == INSERT:
                n = insert(scratch, op, memory, key, rate, n, width, BLOCK)
            if kind == DELETE:
                n = delete(scratch, key, rate, n, BLOCK)
            if kind == SWAP:
                swap(scratch, key, rate, i_swaps, n, BLOCK)
            if kind == CROP:
                n = crop(scratch, key, rate, n, BLOCK)
        i += 1
    at = i_row * width
    write(scratch, out + at, out_mask + at, out_sources + at, n, width, left, pad, BLOCK)


@functools.cache
def _function():
    shared = dialect.bind_module(text, philox=dialect.DRAW["philox"])
    return dialect.bind_module(sys.modules[__name__], **shared)["text_kernel"]


def kernel_of(block, tokens, mask):
    """The kernel for rows of up to `block` tokens, a power of two, and the dtypes of tokens and mask."""
    types = dict(program="*i64", memory="*i32", tokens=NAMES[tokens], mask=NAMES[mask], ids="*i64", state="*i64")
    types |= dict(scratch="*i32", out=NAMES[tokens], out_mask=NAMES[mask], out_sources="*i32")
    types |= dict(n_ops="i32", i_special="i64", n_known="i64", epoch="i64", length="i32", width="i32", left="i32")
    types |= dict(pad="i64")
    warps = min(max(block // 128, 1), MOST_WARPS)
    return Kernel(_function(), tuple(types.items()), (("BLOCK", block),), warps, (("enable_fp_fusion", False),))


def call(ops, memory, special, tokens, mask, ids, epoch, state, out, out_mask, sources, left, pad):
    """Augment a batch, at least one row, into `out`, `out_mask` and `sources` [B, W]."""
    b, width = out.shape
    block = triton.next_power_of_2(max(width, 32))
    scratch = torch.empty(b * LINES * block, dtype=torch.int32, device=tokens.device)
    run = launch(kernel_of(block, tokens.dtype, mask.dtype), tokens.device.index)
    read = (ops, memory, tokens, mask, ids, state, scratch, out, out_mask, sources)
    lengths = (*special, epoch, tokens.shape[1], width, int(left), pad)
    run((b, 1, 1), *map(pointer, read), len(ops), *lengths)
