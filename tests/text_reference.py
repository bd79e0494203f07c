"""Augmentation of tokens in plain Python, from the words of docs/text.md: lists, whole numbers, a row at a time.

A token is (id, source, special). Philox4x32-10 is written from the paper (Salmon et al., 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

Token = tuple[int, int, bool]


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    x, (k0, k1) = list(counter), key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * x[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * x[2], 2**32)
        x = [high1 ^ x[1] ^ k0, low1, high0 ^ x[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x


class Draws:
    """What one op of one row draws."""

    def __init__(self, seed: int, epoch: int, name: int, op: int):
        self.key = seed % 2**32, seed >> 32
        self.counter = name % 2**32, (name >> 32) % 2**32, epoch
        self.first = op * 2**14

    def block(self, number: int) -> list[int]:
        return philox([*self.counter, self.first + number], self.key)

    def decision(self, position: int) -> int:
        return self.block(position // 4)[position % 4]

    def choices(self, position: int) -> tuple[int, int]:
        words = self.block(8192 + position // 2)
        return (words[0], words[1]) if position % 2 == 0 else (words[2], words[3])

    def row(self) -> list[int]:
        return self.block(8191)


def pick(word: int, n: int) -> int:
    return word * n // 2**32


def fixed(share: float) -> int:
    return round(share * 2**32)


def segments(row: list[Token]) -> list[tuple[int, int]]:
    """(first, end) of each run of tokens that are not special."""
    found, first = [], None
    for i, token in enumerate([*row, (0, 0, True)]):
        if token[2] and first is not None:
            found.append((first, i))
            first = None
        elif not token[2] and first is None:
            first = i
    return found


def candidates(source, token: int, everything: list[int]) -> list[int]:
    return everything if source is None else source.get(token, [])


def replacement(row, draws, rate, op, width):
    out = list(row)
    for i, (token, source, special) in enumerate(row):
        if not special and draws.decision(i) < rate:
            if op["kind"] == "mask":
                way, which = draws.choices(i)
                if way < fixed(op["masked"]):
                    out[i] = op["token"], source, False
                    continue
                if way >= fixed(op["masked"] + op["other"]):
                    continue
            else:
                which = draws.choices(i)[0]
            others = candidates(op["source"], token, op["all"])
            if others:
                out[i] = others[pick(which, len(others))], source, False
    return out


def insertion(row, draws, rate, op, width):
    firsts = {first for first, _ in segments(row)}
    of = {i: (first, end) for first, end in segments(row) for i in range(first, end)}
    out, loose = [], []  # which of `out` may go
    for i, token in enumerate(row):
        out.append(token)
        loose.append(not token[2] and i not in firsts)
        if not token[2] and draws.decision(i) < rate:
            donor, which = draws.choices(i)
            first, end = of[i]
            others = candidates(op["source"], row[first + pick(donor, end - first)][0], op["all"])
            if others:
                source = token[1] if token[1] < -1 else -2 - token[1]
                out.append((others[pick(which, len(others))], source, False))
                loose.append(True)
    while len(out) > width:
        last = max(i for i, goes in enumerate(loose) if goes)
        del out[last], loose[last]
    return out


def deletion(row, draws, rate, op, width):
    keep = [special or draws.decision(i) >= rate for i, (_, _, special) in enumerate(row)]
    for first, end in segments(row):
        if not any(keep[first:end]):
            keep[first + pick(draws.choices(first)[0], end - first)] = True
    return [token for token, stays in zip(row, keep, strict=True) if stays]


def swap(row, draws, rate, op, width):
    row, parts = list(row), segments(row)
    content = [i for first, end in parts for i in range(first, end)]
    for k in range((rate * len(content) + draws.row()[2]) // 2**32):
        one, other = draws.choices(k)
        i = content[pick(one, len(content))]
        ((first, end),) = [part for part in parts if part[0] <= i < part[1]]
        if end - first > 1:
            j = first + (i - first + 1 + pick(other, end - first - 1)) % (end - first)
            row[i], row[j] = row[j], row[i]
    return row


def crop(row, draws, rate, op, width):
    keep = [special for _, _, special in row]
    for first, end in segments(row):
        n = max((rate * (end - first) + 2**31) // 2**32, 1)
        start = first + pick(draws.choices(first)[0], end - first - n + 1)
        keep[start : start + n] = [True] * n
    return [token for token, stays in zip(row, keep, strict=True) if stays]


KINDS = {
    "replacement": replacement,
    "mask": replacement,
    "insertion": insertion,
    "deletion": deletion,
    "swap": swap,
    "crop": crop,
}


def augmented(
    ids: list[int],
    mask: list[int],
    ops: list[dict],
    special: set[int],
    seed: int,
    epoch: int,
    name: int,
    width: int,
    pad: int,
    left: bool,
) -> tuple[list[int], list[int], list[int]]:
    """A row's tokens, mask and sources."""
    row = [(token, t, token in special) for t, (token, there) in enumerate(zip(ids, mask, strict=True)) if there]
    for number, op in enumerate(ops):
        draws = Draws(seed, epoch, name, number)
        gets, level, _, _ = draws.row()
        low, high = (fixed(v) for v in op["rate"])
        rate = low + (high - low) * (level // 4) // 2**30
        if gets < fixed(op["p"]):
            row = KINDS[op["kind"]](row, draws, rate, op, width)
    empty = width - len(row)
    tokens, there, sources = [t[0] for t in row], [1] * len(row), [t[1] for t in row]
    if left:
        return [pad] * empty + tokens, [0] * empty + there, [-1] * empty + sources
    return tokens + [pad] * empty, there + [0] * empty, sources + [-1] * empty
