"""The plan kernel: a program a row draws, composes the row's geometry and lists its pixel steps."""

import functools
import sys

import triton.language as tl

from ..shared import plan
from ..shared.draw import row_key, with_lead
from ..shared.plan import (
    ROW,
    ROW_H,
    ROW_LAYER,
    ROW_LEAD,
    ROW_SAMPLE,
    ROW_TABLE,
    ROW_VIEW,
    ROW_W,
    STATE_COUNTER,
    STATE_EPOCH,
    STATE_SEED_HIGH,
    STATE_SEED_LOW,
    STATE_TICKET,
    walk,
)
from . import dialect

BLOCK = 32
TICKET = plan.SPARE  # how many chunks of an ask are done


def name_at(o_sample, ids, has_ids, state):
    """A sample's id, or its number."""
    i_sample = tl.load(o_sample)
    if has_ids != 0:
        name = tl.load(ids + i_sample)
    else:
        name = tl.load(state + STATE_COUNTER) + i_sample
    return name


def key_at(o_row, ids, has_ids, state, epoch, SHARES: tl.constexpr):
    """The key of a row's draws, and its lead's words where draws are shared."""
    name = name_at(o_row + ROW_SAMPLE, ids, has_ids, state)
    low, high = tl.load(state + STATE_SEED_LOW), tl.load(state + STATE_SEED_HIGH)
    epoch = tl.where(epoch < 0, tl.load(state + STATE_EPOCH), epoch.to(tl.int64))
    key = row_key(name, epoch, tl.load(o_row + ROW_VIEW), low, high)
    if SHARES:
        key = with_lead(key, name_at(o_row + ROW_LEAD, ids, has_ids, state))
    else:
        key = key + (key[0], key[1])
    return key


def count_samples(o_row, state, n_rows):
    """Advance the counter by the number of samples (the largest index + 1), once all programs have read it.

    The last program to take a ticket does it, and makes the tickets ready for the next launch.
    """
    tl.debug_barrier()
    tl.atomic_max(state + STATE_TICKET + 1, tl.load(o_row + ROW_SAMPLE) + 1)
    if tl.atomic_add(state + STATE_TICKET, 1) == n_rows - 1:
        n_samples = tl.atomic_xchg(state + STATE_TICKET + 1, 0)
        tl.atomic_add(state + STATE_COUNTER, n_samples)
        tl.store(state + STATE_TICKET, 0)


def is_first(o_row, i_row):
    """Whether a row is the first of those, neighbours, that have one table row: frames of a clip, layers."""
    i_table = tl.load(o_row + ROW_TABLE)
    return (i_row == 0) | (tl.load(o_row + ROW_TABLE - ROW, mask=i_row > 0, other=-1) != i_table)


def clear_words(o_plan, i_word, n_words, BLOCK: tl.constexpr):
    """Zero the words i_word .. n_words - 1 of a plan row."""
    while i_word < n_words:
        o_word = i_word + tl.arange(0, BLOCK)
        tl.store(o_plan + o_word, tl.zeros((BLOCK,), tl.float32), mask=o_word < n_words)
        i_word += BLOCK


def copy_columns(to, source, n_columns, on, BLOCK: tl.constexpr):
    """Copy a table row where `on`."""
    i_column = 0
    while i_column < n_columns:
        o_column = i_column + tl.arange(0, BLOCK)
        m_column = (o_column < n_columns) & on
        tl.store(to + o_column, tl.load(source + o_column, mask=m_column), mask=m_column)
        i_column += BLOCK
    tl.debug_barrier()


def plan_kernel(
    rows,
    code,
    config,
    table,
    plan,
    ids,
    has_ids,
    state,
    epoch,
    n_rows,
    n_entries,
    n_columns,
    plan_words,
    plan_stride,
    groups,
    steps,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
    FRESH: tl.constexpr,
    SHARES: tl.constexpr,
    BLENDS: tl.constexpr,
):
    """table row, plan row = walk(code, config, key). Grid: (rows,).

    A fresh draw, as `walk` has it, works on a copy of the table row, behind the plan, because rows may share one.
    The words behind it are zeroed: the asks count into them. SHARES: some draws are keyed by the row's lead; BLENDS:
    the program has a blend.
    """
    i_row = tl.program_id(0).to(tl.int64)
    o_row = rows + i_row * ROW
    o_plan = plan + i_row * plan_stride
    o_table = table + tl.load(o_row + ROW_TABLE) * n_columns
    h, w = tl.load(o_row + ROW_H).to(tl.float32), tl.load(o_row + ROW_W).to(tl.float32)
    layer = tl.load(o_row + ROW_LAYER).to(tl.int32)
    own = is_first(o_row, i_row)
    tl.store(o_plan + TICKET, 0.0)
    clear_words(o_plan, plan_words + n_columns, plan_stride, BLOCK)
    if FRESH > 0:
        o_own = o_plan + plan_words
        if FRESH == 2:
            copy_columns(o_own, o_table, n_columns, True, BLOCK)
        key = key_at(o_row, ids, has_ids, state, epoch, SHARES)
        if has_ids == 0:
            count_samples(o_row, state, n_rows)
        walk(code, n_entries, config, o_own, n_columns, o_plan, h, w, key, FRESH, C, groups, steps, layer, BLENDS)
        tl.debug_barrier()
        copy_columns(o_table, o_own, n_columns, own, BLOCK)  # the others have drawn the same
    else:
        none = i_row * 0
        key = (none, none, none, none, none, none, none, none)
        walk(code, n_entries, config, o_table, n_columns, o_plan, h, w, key, FRESH, C, groups, steps, layer, BLENDS)


@functools.cache
def plan_kernel_for(draw_ops: frozenset, geometry_ops: frozenset):
    """The plan kernel of programs that use no opcodes but these."""
    return dialect.bind_module(sys.modules[__name__], walk=dialect.walk(draw_ops, geometry_ops))["plan_kernel"]
