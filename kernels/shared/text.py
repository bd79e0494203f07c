"""Augmentation of tokens: what is drawn for a row, and where a program keeps it, in whole numbers alone.

A row is the sequence of its tokens without padding: positions 0 .. n - 1, special tokens and content. A run of content
between special tokens is a segment. Draws are of an op of the row's sample and of a position or a number within that
sequence, so neither the batch nor its padding is part of them. All numbers are int64; rates and shares are in units of
2^-32, so that a word, uniform in 0 .. 2^32 - 1, is compared with them.

A program is int64 [ops, OP_WORDS], and int32 memory that its ops, and the bits of special tokens, lie in.
"""

# ops
REPLACE = 1
MASK = 2
INSERT = 3
DELETE = 4
SWAP = 5
CROP = 6

# words of an op
OP = 0
CHANCE = 1  # of a row to get the op
LOW = 2  # the rate, or the share that a crop keeps, is uniform in LOW .. HIGH
HIGH = 3
OFFSETS = 4  # where in memory the offsets of each token's candidates begin; -1: all tokens have the same candidates
SIZE = 5  # of how many tokens there are offsets; or how many candidates all tokens have
CANDIDATES = 6  # where in memory the candidates begin
TOKEN = 7  # that masks
MASKED = 8  # the share of what MASK draws that becomes TOKEN
OTHER = 9  # and, from there on, that becomes a candidate
OP_WORDS = 10

# an op's blocks of four words: one a position's word, one of the row, those of two words a position
BLOCKS = 16384
ROW_BLOCK = 8191
CHOICES = 8192
LONGEST = 16384  # tokens of a row
MOST_OPS = 64  # in the 20 bits that a key has for them
ONE = 4294967296
HALF = 2147483648

NONE = -1  # the source of padding; that of a token inserted behind the one of position p is -2 - p
BEHIND = -2


def op_key(key, i):
    """The key of op number i of a row."""
    return key[0], key[1], key[2], key[3] + i * BLOCKS, key[4], key[5]


def lane(four, k):
    """Word k of four."""
    return xp.where(k == 0, four[0], xp.where(k == 1, four[1], xp.where(k == 2, four[2], four[3])))


def block_words(key, block):
    """Four words of a block, which may be a tile of them, as then all words of a counter must be."""
    zero = block * 0
    c0, c1, c2, low, high = key[0] + zero, key[1] + zero, key[2] + zero, key[4] + zero, key[5] + zero
    return philox(c0, c1, c2, key[3] + block, low, high)


def decision(key, p):
    """The word by which an op takes position p or leaves it."""
    return lane(block_words(key, p >> 2), p & 3)


def choices(key, p):
    """Two words of position p, or of swap number p."""
    a, b, d, e = block_words(key, CHOICES + (p >> 1))
    odd = (p & 1) == 1
    return xp.where(odd, d, a), xp.where(odd, e, b)


def of_row(key):
    """A row's own words: whether it gets the op, the rate, how many swaps."""
    return philox(key[0], key[1], key[2], key[3] + ROW_BLOCK, key[4], key[5])


def below(word, n):
    """Uniform in 0 .. n - 1."""
    return (word * n) >> 32


def level(word, low, high):
    """Uniform in low .. high - 1, or low if they are equal; both at most ONE."""
    return low + (((high - low) * (word >> 2)) >> 30)


def swaps(rate, n, word):
    """How many swaps n tokens get: rate n, its fraction being the chance of one more."""
    return (rate * n + word) >> 32


def partner(first, length, p, word):
    """Another position, uniform among those of the segment of p; p itself where it has no other."""
    n = xp.where(length > 1, length, 2)
    step = xp.where(length > 1, 1 + below(word, n - 1), 0)
    return first + (p - first + step) % n


def kept_length(share, length):
    """How many tokens of a segment a crop keeps: share length, rounded half up, at least one."""
    n = (share * length + HALF) >> 32
    return xp.where(n > 1, n, xp.where(length > 1, 1, length))
