"""Tables on a terminal: as wide as it is, of text that may hold anything."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "
ESCAPED = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # categories of Unicode: control, format, half a pair, no letter
LEAST = 16  # letters that a name is shortened to before a further column is left out


def plain(text: object) -> str:
    """On one line, without what a terminal would act on or turn around: such a character becomes its escape."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in ESCAPED else c for c in str(text))


def as_options(message: str, names: Sequence[str]) -> str:
    """A message of the library's, with the options called as a shell does: ``--max-bad=0.1`` of ``max_bad=0.1``.

    Named are those with a value behind "=", those of several words, and the one that the message begins with.
    """
    for name in names:
        option = "--" + name.replace("_", "-")
        message = re.sub(rf"(?<![\w.'-]){name}(?==[^\s,)=])", option, message)
        message = re.sub(rf"(?<![\w.'/-]){name}(?![\w='/.]|-\w)", option, message) if "_" in name else message
        message = re.sub(rf"^{name}(?= (must|has no effect|cannot) )", option, message)
    return message


def columns() -> int | None:
    """How wide the screen is; None where there is none to fit, as in a pipe."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def width(text: str) -> int:
    """Cells that a text takes."""
    kinds = ((unicodedata.east_asian_width(letter), unicodedata.combining(letter)) for letter in text)
    return sum(0 if combines else 2 if wide in "WF" else 1 for wide, combines in kinds)


def padded(text: str, cells: int, right: bool = False) -> str:
    """A text with blanks behind it, or in front."""
    blanks = " " * (cells - width(text))
    return blanks + text if right else text + blanks


def short(text: str, most: int) -> str:
    """A text of at most so many cells, its middle left out."""
    if width(text) <= most:
        return text
    first, last = "", ""
    for letter in text:
        if width(first + letter) > most // 2:
            break
        first += letter
    for letter in reversed(text):
        if width(letter + last) > most - 1 - width(first):
            break
        last = letter + last
    return f"{first}…{last}"


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), drop: Sequence[str] = (),
    shorten: str | None = None, cells: int | None = None,
) -> str:  # fmt: skip
    """Rows under ``head``, in at most ``cells`` cells where that can be.

    ``right``: columns that end there. ``drop``: those that may be left out, the first one first; before the columns
    behind a None in it are, those of ``shorten`` lose their middle.
    """
    kept = {name: [plain(row[i]) for row in rows] for i, name in enumerate(head)}
    for name in drop:
        if cells is None or _wide(kept) <= cells:
            break
        if name is not None:
            kept.pop(name, None)
        elif shorten is not None:
            kept[shorten] = _shortened(kept, shorten, cells)
    if cells is not None and shorten is not None:
        kept[shorten] = _shortened(kept, shorten, cells)
    sizes = {name: max(map(width, (name, *column))) for name, column in kept.items()}

    def line(texts: Sequence[str]) -> str:
        return GAP.join(padded(text, sizes[n], n in right) for n, text in zip(kept, texts, strict=True)).rstrip()

    return "\n".join(map(line, [tuple(kept), *zip(*kept.values(), strict=True)]))


def _wide(kept: dict[str, list[str]]) -> int:
    return sum(max(map(width, (name, *column))) + len(GAP) for name, column in kept.items()) - len(GAP)


def _shortened(kept: dict[str, list[str]], name: str, cells: int) -> list[str]:
    over = _wide(kept) - cells
    most = max(map(width, (name, *kept[name])))
    return [short(text, max(LEAST, most - over)) for text in kept[name]] if over > 0 else kept[name]


def side_by_side(names: Sequence[str], rows: Sequence[Sequence[str]], cells: int | None, least: int = 21) -> str:
    """A column for each of ``names`` beside the first cell of each row; what is long wraps, and columns that do not
    fit beside the others follow below."""
    rows = [[re.sub(r"\s+", " ", text) for text in row] for row in rows]
    first = max(width(plain(row[0])) for row in rows)
    if cells is not None:
        first = min(first, cells // 3)
    at_once = len(names) if cells is None else max(1, (cells - first) // (least + len(GAP)))
    blocks = []
    for begin in range(0, len(names), at_once):
        some = range(begin, min(begin + at_once, len(names)))
        most = 60 if cells is None else max(least, (cells - first) // len(some) - len(GAP))
        lines = [["", *(names[i] for i in some)]]
        for row in rows:
            wrapped = [_wrapped(row[0], first), *(_wrapped(row[1 + i], most) for i in some)]
            height = max(map(len, wrapped))
            lines += zip(*(cell + [""] * (height - len(cell)) for cell in wrapped), strict=True)
        sizes = [max(map(width, column)) for column in zip(*lines, strict=True)]
        blocks.append("\n".join(GAP.join(map(padded, line, sizes)).rstrip() for line in lines))
    return "\n\n".join(blocks)


def filled(text: str, cells: int | None) -> str:
    """A sentence, over as many lines as it takes."""
    return plain(text) if cells is None else textwrap.fill(plain(text), cells, break_long_words=False)


def _wrapped(text: str, most: int) -> list[str]:
    text = plain(text)
    return textwrap.wrap(text, most if width(text) == len(text) else max(1, most // 2)) or [""]
