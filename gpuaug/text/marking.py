"""What an augmentation has made of a text, word by word: which are new, gone, changed or moved."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from ..kernels.shared import text

KEPT, NEW, GONE, CHANGED, MOVED = "kept", "new", "gone", "changed", "moved"
PLAIN = {KEPT: "{}", NEW: "{{+{}+}}", GONE: "[-{}-]", CHANGED: "{{~{}~}}", MOVED: "<{}>"}  # as wdiff writes it
COLOURS = {KEPT: "{}", NEW: "\033[32m{}\033[0m", GONE: "\033[9;31m{}\033[0m", CHANGED: "\033[33m{}\033[0m"}
COLOURS |= {MOVED: "\033[34m{}\033[0m"}  # of a terminal
MARKS = {KEPT: "{}", NEW: "<ins>{}</ins>", GONE: "<del>{}</del>", CHANGED: "<mark>{}</mark>", MOVED: "<em>{}</em>"}
STARTS = ("▁", "Ġ")  # of a word's first token, by SentencePiece and by byte-level vocabularies
CONTINUES = "##"  # of the others, by WordPiece


class Piece(NamedTuple):
    """Tokens next to each other of one kind: kept, new, gone, changed or moved.

    Attributes:
        text: as it is read. space: whether one stands in front.
    """

    text: str
    kind: str
    space: bool


def marked(tokenizer: Any, before: Sequence[int], after: Sequence[int], sources: Sequence[int]) -> list[Piece]:
    """The pieces of a row after an augmentation, with what is gone in its place.

    Args:
        tokenizer: knows ``all_special_ids``, which are left out, and ``get_vocab()``.
        before, after: token ids [T] and [W]. sources: [W], as :class:`gpuaug.text.Compose` gives them.
    """
    special = set(tokenizer.all_special_ids) - {getattr(tokenizer, "unk_token_id", None)}
    rows = [(token, source) for token, source in zip(after, sources, strict=True) if source != text.NONE]
    stay = _in_order([source for _, source in rows if source >= 0])
    there = {source for _, source in rows if source >= 0}
    pieces: list[tuple[int, str]] = []
    done = 0

    def gone(until: int) -> None:
        pieces.extend((before[i], GONE) for i in range(done, until) if i not in there)

    for token, source in rows:
        if source in stay:
            gone(source)
            done = source + 1
        if source < 0:
            kind = NEW
        elif before[source] != token:
            kind = CHANGED
        else:
            kind = KEPT if source in stay else MOVED
        pieces.append((token, kind))
    gone(len(before))
    return _joined([(token, kind) for token, kind in pieces if token not in special], _Speller(tokenizer))


def _in_order(sources: list[int]) -> set[int]:
    """The longest run of places that rises: the others have moved."""
    ends: list[int] = []
    which: list[int] = []
    back = [-1] * len(sources)
    for i, source in enumerate(sources):
        place = bisect_left(ends, source)
        back[i] = which[place - 1] if place else -1
        ends[place : place + 1], which[place : place + 1] = [source], [i]
    found, i = set(), which[-1] if which else -1
    while i >= 0:
        found.add(sources[i])
        i = back[i]
    return found


class _Speller:
    """How tokens are read: (text, whether a space stands in front)."""

    def __init__(self, tokenizer: Any):
        self.names = {number: token for token, number in tokenizer.get_vocab().items()}
        self.starts = any(token.startswith(STARTS) for token in self.names.values())
        self.byte_level = None
        if any(token.startswith(STARTS[1]) for token in self.names.values()):
            self.byte_level = getattr(tokenizer, "tokenizer", None)

    def __call__(self, token: int) -> tuple[str, bool]:
        name = self.names.get(token, "?")
        if not self.starts:
            return (name[len(CONTINUES) :], False) if name.startswith(CONTINUES) else (name, True)
        space = name.startswith(STARTS)
        if self.byte_level is not None:
            return self.byte_level.decode([token]).strip() or name, space
        return name[1:] if space else name, space


def _joined(pieces: list[tuple[int, str]], spell: _Speller) -> list[Piece]:
    found: list[Piece] = []
    alone = False  # a mark of a word's beginning, which is nothing to be read
    for token, kind in pieces:
        word, space = spell(token)
        space, alone = space or alone, not word
        if alone:
            continue
        if found and found[-1].kind == kind:
            last = found.pop()
            found.append(Piece(f"{last.text}{' ' * space}{word}", kind, last.space))
        else:
            found.append(Piece(word, kind, space and bool(found)))
    return found


def written(pieces: Sequence[Piece], colours: bool = False) -> str:
    """A line: ``{+new+} [-gone-] {~changed~} <moved>``, or in a terminal's colours."""
    form = COLOURS if colours else PLAIN
    return "".join(
        " " * (one.space or i > 0 and not colours and one.kind != KEPT) + form[one.kind].format(one.text)
        for i, one in enumerate(pieces)
    ).strip()


def as_html(pieces: Sequence[Piece]) -> str:
    """As <ins>, <del>, <mark> and <em>."""
    return "".join(" " * one.space + MARKS[one.kind].format(escape(one.text)) for one in pieces)
