"""What the chunks of an image find out about it, and what becomes of that: means, extremes, tables of levels."""

import triton.language as tl

from ..shared.pixel import equalized, level_of, luma
from ..shared.plan import EXTREMES, HISTOGRAM, MEAN, S_ARGUMENTS
from .plan import TICKET
from .story import LEVELS, stage

PARTIALS = 6  # numbers that a chunk leaves: a sum, or the least and the greatest of three channels


def counts_of(v, lattice, m_pixel):
    """How many pixels have each level."""
    i_level = level_of(v, lattice).to(tl.int32)
    return tl.histogram(i_level, LEVELS, mask=m_pixel).to(tl.float32)


def by_lane(v):
    """A tile as [n, LEVELS]: what is folded to LEVELS numbers serves sums by lane and counts by level."""
    return tl.reshape(v, (v.shape[0] // LEVELS, LEVELS))


def least(v, m_pixel):
    """The least value of each lane."""
    return tl.min(by_lane(tl.where(m_pixel, v, float("inf"))), axis=0)


def nothing(kind):
    """What a chunk knows of no pixels."""
    b_low = tl.zeros((LEVELS,), tl.float32) + tl.where(kind == EXTREMES, float("inf"), 0.0)
    return b_low, b_low, b_low, 0.0 - b_low, 0.0 - b_low, 0.0 - b_low


def gathered(found, kind, rgb, o_step, m_pixel, CAN: tl.constexpr):
    """What a chunk knows so far, six tiles, and one more block of pixels: sums by lane, extremes by lane, or counts by
    level."""
    r, g, b = rgb
    _, _, lattice, channels = stage(o_step, CAN)
    a0, a1, a2, a3, a4, a5 = found
    if CAN.mean:
        if kind == MEAN:
            a0 += tl.sum(by_lane(tl.where(m_pixel, luma(r, g, b, lattice, channels), 0.0)), axis=0)
    if CAN.extremes:
        if kind == EXTREMES:
            a0, a3 = tl.minimum(a0, least(r, m_pixel)), tl.maximum(a3, 0.0 - least(0.0 - r, m_pixel))
            a1, a4 = tl.minimum(a1, least(g, m_pixel)), tl.maximum(a4, 0.0 - least(0.0 - g, m_pixel))
            a2, a5 = tl.minimum(a2, least(b, m_pixel)), tl.maximum(a5, 0.0 - least(0.0 - b, m_pixel))
    if CAN.histogram:
        if kind == HISTOGRAM:
            a0 += counts_of(r, lattice, m_pixel)
            if CAN.channels > 1:
                a1 += counts_of(g, lattice, m_pixel)
                a2 += counts_of(b, lattice, m_pixel)
    return a0, a1, a2, a3, a4, a5


def leave(found, kind, o_partials, o_counts, i_chunk, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Hand over what a chunk found: partial results in its own words, or counts added up as integers."""
    a0, a1, a2, a3, a4, a5 = found
    if CAN.mean:
        if kind == MEAN:
            tl.store(o_partials + i_chunk, tl.sum(a0, axis=0))
    if CAN.extremes:
        if kind == EXTREMES:
            tl.store(o_partials + i_chunk, tl.min(a0, axis=0))
            tl.store(o_partials + CHUNKS + i_chunk, tl.min(a1, axis=0))
            tl.store(o_partials + 2 * CHUNKS + i_chunk, tl.min(a2, axis=0))
            tl.store(o_partials + 3 * CHUNKS + i_chunk, tl.max(a3, axis=0))
            tl.store(o_partials + 4 * CHUNKS + i_chunk, tl.max(a4, axis=0))
            tl.store(o_partials + 5 * CHUNKS + i_chunk, tl.max(a5, axis=0))
    if CAN.histogram:
        if kind == HISTOGRAM:
            o_level = o_counts + tl.arange(0, LEVELS)
            tl.atomic_add(o_level, a0.to(tl.int32), mask=a0 > 0.0, sem="relaxed")
            if CAN.channels > 1:
                tl.atomic_add(o_level + LEVELS, a1.to(tl.int32), mask=a1 > 0.0, sem="relaxed")
                tl.atomic_add(o_level + 2 * LEVELS, a2.to(tl.int32), mask=a2 > 0.0, sem="relaxed")


def tabulate(o_counts, o_table, n_pixels):
    """Replace the counts of a channel by what equalize makes of each level."""
    i_level = tl.arange(0, LEVELS)
    b_count = tl.load(o_counts + i_level, cache_modifier=".cg")
    b_below = tl.cumsum(b_count, axis=0) - b_count
    i_last = tl.max(tl.where(b_count > 0, i_level, 0), axis=0)
    n_last = tl.sum(tl.where(i_level == i_last, b_count, 0), axis=0)
    b_table = equalized(i_level, b_below, (n_pixels - n_last) // 255)
    tl.debug_barrier()
    tl.store(o_table + i_level, b_table.to(tl.float32))


def conclude(kind, o_partials, o_counts, o_table, o_p, n_pixels, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Make a row's answer of what its chunks handed over: arguments of the asking step, or tables."""
    if CAN.mean:
        if kind == MEAN:
            total = tl.sum(tl.load(o_partials + tl.arange(0, CHUNKS), cache_modifier=".cg"), axis=0)
            tl.store(o_p + 7, tl.div_rn(total, n_pixels.to(tl.float32)))
    if CAN.extremes:
        if kind == EXTREMES:
            for k in tl.static_range(3):
                b_low = tl.load(o_partials + k * CHUNKS + tl.arange(0, CHUNKS), cache_modifier=".cg")
                b_high = tl.load(o_partials + (k + 3) * CHUNKS + tl.arange(0, CHUNKS), cache_modifier=".cg")
                tl.store(o_p + k, tl.min(b_low, axis=0))
                tl.store(o_p + k + 3, tl.max(b_high, axis=0))
    if CAN.histogram:
        if kind == HISTOGRAM:
            i_channel = 0
            while i_channel < CAN.channels:
                tabulate(o_counts + i_channel * LEVELS, o_table + i_channel * LEVELS, n_pixels)
                i_channel += 1


def answer(found, kind, o_plan, o_step, o_tables, o_partials, i_chunk, area, CHUNKS: tl.constexpr, CAN: tl.constexpr):
    """Hand over what a chunk found; the last one of a row to do so answers the ask of the step at `o_step`."""
    o_counts = o_tables.to(tl.pointer_type(tl.int32))
    leave(found, kind, o_partials, o_counts, i_chunk, CHUNKS, CAN)
    tl.debug_barrier()
    ticket = (o_plan + TICKET).to(tl.pointer_type(tl.int32))
    if tl.atomic_add(ticket, 1) == CHUNKS - 1:
        conclude(kind, o_partials, o_counts, o_tables, o_step + S_ARGUMENTS, area.to(tl.int32), CHUNKS, CAN)
        tl.store(ticket, 0)
