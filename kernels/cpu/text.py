"""Augmentation of tokens, a row at a time in a thread's own memory: `shared.text` in loops."""

from ..shared import draw, text
from . import frame as F
from .dialect import DRAW, TEXT, exact, i32, i64, int32, u8, widest, word_block, xp

OP, CHANCE, LOW, HIGH = text.OP, text.CHANCE, text.LOW, text.HIGH
OFFSETS, SIZE, CANDIDATES = text.OFFSETS, text.SIZE, text.CANDIDATES
TOKEN, MASKED, OTHER, OP_WORDS = text.TOKEN, text.MASKED, text.OTHER, text.OP_WORDS
REPLACE, MASKS, INSERT, DELETE, SWAP = text.REPLACE, text.MASK, text.INSERT, text.DELETE, text.SWAP
NONE, BEHIND, CHOICES = text.NONE, text.BEHIND, text.CHOICES
WORD = draw.WORD
row_key = DRAW["row_key"]
op_key, choices, of_row, below, level = (TEXT[name] for name in ("op_key", "choices", "of_row", "below", "level"))
swaps, partner, kept_length = (TEXT[name] for name in ("swaps", "partner", "kept_length"))


@exact
def pitch_of(width):
    """Elements of a buffer."""
    return (width + 31) // 16 * 16


@exact
def buffer_bytes(width):
    """The work memory of a thread for rows of that width."""
    return 4 * F.TEXT_BUFFERS * pitch_of(width)


@exact
def load(address, size, i):
    """Element i of whole numbers of 1, 4 or 8 bytes."""
    if size == 8:
        return xp.i64(i64(address)[i])
    if size == 4:
        return xp.i64(i32(address)[i])
    return xp.i64(u8(address)[i])


@exact
def store(address, size, i, value):
    if size == 8:
        i64(address)[i] = value
    elif size == 4:
        i32(address)[i] = int32(value)
    else:
        u8(address)[i] = value


@exact
def read_row(job, r, code, source):
    """The sequence of row r; returns how long it is."""
    length, size, mask_size = job.length, job.token_bytes, job.mask_bytes
    tokens, mask = job.tokens + r * length * size, job.mask + r * length * mask_size
    memory, first, known, n = i32(job.memory), job.special, job.known, 0
    for t in range(length):
        if load(mask, mask_size, t) != 0:
            token = load(tokens, size, t)
            if (token >= 0) & (token < known):
                if (memory[first + (token >> 5)] >> (token & 31)) & 1 == 1:
                    token = ~token
            code[n], source[n] = int32(token), int32(t)
            n += 1
    return n


@exact
def write_row(job, r, code, source, n):
    """Row r of the output."""
    width, size, mask_size, pad = job.width, job.token_bytes, job.mask_bytes, job.pad
    out, out_mask = job.out + r * width * size, job.out_mask + r * width * mask_size
    start = xp.where(job.left == 1, width - n, 0)
    for t in range(start):
        store(out, size, t, pad)
        store(out_mask, mask_size, t, 0)
    for p in range(n):
        token = xp.i64(code[p])
        store(out, size, start + p, xp.where(token < 0, ~token, token))
        store(out_mask, mask_size, start + p, 1)
    for t in range(start + n, width):
        store(out, size, t, pad)
        store(out_mask, mask_size, t, 0)
    if job.sources != 0:
        sources = i32(job.sources + 4 * r * width)
        for t in range(start):
            sources[t] = int32(NONE)
        for p in range(n):
            sources[start + p] = source[p]
        for t in range(start + n, width):
            sources[t] = int32(NONE)


@exact
def draw_words(key, n, out, quarter):
    """The words of positions 0 .. n - 1: that of p at (p & 3) quarter + p >> 2."""
    widest()
    id_low, id_high, epoch, stream, low, high = key
    for b in range((n + 3) >> 2):
        w0, w1, w2, w3 = word_block(id_low, id_high, epoch, stream + b, low, high)
        out[b], out[quarter + b] = int32(w0), int32(w1)
        out[2 * quarter + b], out[3 * quarter + b] = int32(w2), int32(w3)


@exact
def taken(drawn, quarter, rate, code, n, hits):
    """The content positions that an op takes, ascending; returns how many."""
    m = 0
    for p in range(n):
        hits[m] = int32(p)
        word = xp.i64(drawn[(p & 3) * quarter + (p >> 2)]) & WORD
        m += xp.where((word < rate) & (code[p] >= 0), 1, 0)
    return m


@exact
def draw_choices(key, hits, m, one, two):
    """The two words of each position, or number, among the first m of `hits`."""
    widest()
    id_low, id_high, epoch, stream, low, high = key
    for k in range(m):
        p = xp.i64(hits[k])
        w0, w1, w2, w3 = word_block(id_low, id_high, epoch, stream + CHOICES + (p >> 1), low, high)
        odd = (p & 1) == 1
        one[k], two[k] = int32(xp.where(odd, w2, w0)), int32(xp.where(odd, w3, w1))


@exact
def candidate(op, memory, token, word):
    """A candidate of a token, -1 if it has none."""
    first, count = 0, op[SIZE]
    if op[OFFSETS] >= 0:
        if (token < 0) | (token >= count):
            return -1
        first = xp.i64(memory[op[OFFSETS] + token])
        count = xp.i64(memory[op[OFFSETS] + token + 1]) - first
    if count <= 0:
        return -1
    return xp.i64(memory[op[CANDIDATES] + first + below(word, count)])


@exact
def segment_end(code, n, p):
    """The end of the segment that p is in, or in front of."""
    while (p < n) and (code[p] >= 0):
        p += 1
    return p


@exact
def replace(op, memory, code, m, hits, one):
    for k in range(m):
        p = hits[k]
        token = candidate(op, memory, xp.i64(code[p]), xp.i64(one[k]) & WORD)
        if token >= 0:
            code[p] = int32(token)


@exact
def mask_tokens(op, memory, code, m, hits, one, two):
    for k in range(m):
        p, way, token = hits[k], xp.i64(one[k]) & WORD, -1
        if way < op[MASKED]:
            token = op[TOKEN]
        elif way < op[OTHER]:
            token = candidate(op, memory, xp.i64(code[p]), xp.i64(two[k]) & WORD)
        if token >= 0:
            code[p] = int32(token)


@exact
def source_of(source):
    """Where a token came from, or the one behind which it was inserted."""
    return xp.where(source < NONE, BEHIND - source, source)


@exact
def insert(op, memory, code, source, n, m, hits, one, two, to_code, to_source):
    """Behind each position of `hits` a candidate of a token of its segment, if that has one; returns the length."""
    first, end, copied, length = 0, 0, 0, 0
    for k in range(m):
        p = xp.i64(hits[k])
        if p >= end:
            first = p
            while (first > 0) and (code[first - 1] >= 0):
                first -= 1
            end = segment_end(code, n, p)
        donor = first + below(xp.i64(one[k]) & WORD, end - first)
        token = candidate(op, memory, xp.i64(code[donor]), xp.i64(two[k]) & WORD)
        if token >= 0:
            for q in range(copied, p + 1):
                to_code[length + q - copied], to_source[length + q - copied] = code[q], source[q]
            length += p + 1 - copied
            to_code[length], to_source[length] = int32(token), int32(BEHIND - source_of(xp.i64(source[p])))
            length, copied = length + 1, p + 1
    for q in range(copied, n):
        to_code[length + q - copied], to_source[length + q - copied] = code[q], source[q]
    return length + n - copied


@exact
def cut(code, source, n, width):
    """Drop what is too much from the end on, but neither special tokens nor the first of a segment; returns the
    length."""
    excess = max(n - width, 0)
    q, free = n - 1, n - 1  # what is kept is moved to the end first
    while excess > 0:
        if (code[q] >= 0) and (q > 0) and (code[q - 1] >= 0):
            excess -= 1
        else:
            code[free], source[free] = code[q], source[q]
            free -= 1
        q -= 1
    for k in range(n - 1 - free):
        code[q + 1 + k], source[q + 1 + k] = code[free + 1 + k], source[free + 1 + k]
    return min(n, width)


@exact
def delete(key, rate, code, source, n, drawn, quarter):
    p, m = 0, 0
    while p < n:
        end, kept = segment_end(code, n, p), m
        for q in range(p, end):
            word = xp.i64(drawn[(q & 3) * quarter + (q >> 2)]) & WORD
            if word >= rate:
                code[m], source[m] = code[q], source[q]
                m += 1
        if (m == kept) & (end > p):
            word, _ = choices(key, p)
            last = p + below(word, end - p)
            code[m], source[m] = code[last], source[last]  # nothing was written over: m is at most p
            m += 1
        if end < n:
            code[m], source[m] = code[end], source[end]
            m += 1
        p = end + 1
    return m


@exact
def swap(key, rate, code, source, n, word, place, firsts, lengths, numbers, one, two):
    """`place`, `firsts`, `lengths`: of each content token its position, and its segment's first one and length."""
    total, p = 0, 0
    while p < n:
        end = segment_end(code, n, p)
        for q in range(p, end):
            at = total + q - p
            place[at], firsts[at], lengths[at] = int32(q), int32(p), int32(end - p)
        total += end - p
        p = end + 1
    count = swaps(rate, total, word)
    for k in range(count):
        numbers[k] = int32(k)
    draw_choices(key, numbers, count, one, two)
    for k in range(count):
        at = below(xp.i64(one[k]) & WORD, total)
        i = xp.i64(place[at])
        j = partner(xp.i64(firsts[at]), xp.i64(lengths[at]), i, xp.i64(two[k]) & WORD)
        code[i], code[j] = code[j], code[i]
        source[i], source[j] = source[j], source[i]


@exact
def crop(key, share, code, source, n):
    p, m = 0, 0
    while p < n:
        end = segment_end(code, n, p)
        if end > p:
            kept = kept_length(share, end - p)
            word, _ = choices(key, p)
            start = p + below(word, end - p - kept + 1)
            for q in range(start, start + kept):
                code[m], source[m] = code[q], source[q]
                m += 1
        if end < n:
            code[m], source[m] = code[end], source[end]
            m += 1
        p = end + 1
    return m


@exact
def augment_row(job, r, work):
    """Row r of the batch through the program, in the buffers at `work`."""
    pitch = pitch_of(job.width)
    quarter, memory = pitch >> 2, i32(job.memory)
    at, other = work, work + 16 * pitch  # codes and sources of up to twice the width
    drawn, hits = i32(work + 32 * pitch), i32(work + 36 * pitch)
    one, two = i32(work + 40 * pitch), i32(work + 44 * pitch)
    n, m = read_row(job, r, i32(at), i32(at + 8 * pitch)), 0
    row = row_key(i64(job.ids)[r], job.epoch, 0, job.seed_low, job.seed_high)
    for i in range(job.ops):
        op, key = i64(job.program + 8 * OP_WORDS * i), op_key(row, i)
        a, b, c, _ = of_row(key)
        if a < op[CHANCE]:
            kind, rate = op[OP], level(b, op[LOW], op[HIGH])
            code, source, to_code, to_source = i32(at), i32(at + 8 * pitch), i32(other), i32(other + 8 * pitch)
            if kind <= DELETE:
                draw_words(key, n, drawn, quarter)
            if kind <= INSERT:
                m = taken(drawn, quarter, rate, code, n, hits)
                draw_choices(key, hits, m, one, two)
            if kind == REPLACE:
                replace(op, memory, code, m, hits, one)
            elif kind == MASKS:
                mask_tokens(op, memory, code, m, hits, one, two)
            elif kind == INSERT:
                n = insert(op, memory, code, source, n, m, hits, one, two, to_code, to_source)
                n = cut(to_code, to_source, n, job.width)
                at, other = other, at
            elif kind == DELETE:
                n = delete(key, rate, code, source, n, drawn, quarter)
            elif kind == SWAP:
                swap(key, rate, code, source, n, c, hits, to_code, to_source, drawn, one, two)
            else:
                n = crop(key, rate, code, source, n)
    write_row(job, r, i32(at), i32(at + 8 * pitch), n)
