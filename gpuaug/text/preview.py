"""Texts and what an augmentation makes of them, for the eye to judge: on a screen, as a page, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch

from . import presets
from .compose import Compose
from .marking import CHANGED, GONE, KEPT, MOVED, NEW, Piece, as_html, marked, written
from .reading import open_parts
from .tokenizer import MOST_TOKENS, BPETokenizer

VOCABULARY = 4000  # tokens
WIDTH, MARGIN, LINE, TEXT = 1000, 24, 22, 14  # pixels of the picture
COLOURS = {KEPT: (32, 34, 40), NEW: (31, 111, 180), GONE: (190, 60, 40), CHANGED: (160, 110, 0), MOVED: (120, 70, 170)}
WORDS = {GONE: "left out", NEW: "put in", CHANGED: "replaced", MOVED: "moved"}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }} body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 60em; margin: 2em auto;
padding: 0 1em; }} ins {{ color: #1f6fb4; }} del {{ color: #be3c28; }} mark {{ background: #f5d76e; }}
em {{ color: #7846aa; }} pre {{ white-space: pre-wrap; }} small {{ opacity: .7; }}
</style></head><body><h1>{title}</h1><pre>{augment}</pre>
<p><del>left out</del>, <ins>put in</ins>, <mark>replaced</mark>, <em>moved</em></p>
{rows}
</body></html>
"""


@dataclass(frozen=True)
class Shown:
    """A text, the name of its class, "" of none, and what the augmentation makes of it, a draw each."""

    text: str
    name: str
    draws: list[list[Piece]]


def shown(
    root: str | Path,
    augment: str = "text_light",
    *,
    draws: int = 3,
    seed: int = 0,
    most: int = 8,
    column: str | None = None,
) -> tuple[list[Shown], Compose]:
    """(texts of a folder or a file, spread over it, with what an augmentation makes of each in its first epochs; the
    pipeline).

    Args:
        root: as :func:`gpuaug.text.open_parts` takes it, with labels or without; of a folder its training texts. The
            vocabulary is learned from them.
        augment: as :func:`gpuaug.text.presets.ops_of` takes it. draws: epochs. most: texts. column: of texts.

    Raises:
        DataError, ValueError: there are no such texts, or no such augmentation; numbers below 1.
    """
    for name, value in (("draws", draws), ("most", most)):
        if value < 1:
            raise ValueError(f"preview: {name} must be at least 1, got {value}")
    presets.ops_of(augment)
    texts = open_parts(root, columns={} if column is None else {"text": column}).train
    tokenizer = BPETokenizer.learn(texts.texts, VOCABULARY)
    pipeline = presets.get(augment, tokenizer=tokenizer, seed=seed, max_length=MOST_TOKENS)
    some = texts.subset(range(0, len(texts), max(1, len(texts) // most))[:most])
    found = seen(pipeline, tokenizer, some.texts, some.ids.tolist(), draws)
    labels = [None] * len(some) if some.labels is None else some.labels
    return [
        Shown(text, _named(label, some.classes), pieces)
        for text, label, pieces in zip(some.texts, labels, found, strict=True)
    ], pipeline


def _named(label: torch.Tensor | None, classes: Sequence[str]) -> str:
    if label is None:
        return ""
    return ", ".join(classes[k] for k in label.nonzero()[:, 0]) if label.ndim else classes[int(label)]


def seen(
    augment: Compose, tokenizer, texts: Sequence[str], ids: Sequence[int], epochs: int, longest: int = MOST_TOKENS
) -> list[list[list[Piece]]]:
    """Of each text what a pipeline makes of it in each of the first epochs, in pieces."""
    batch = tokenizer(list(texts), max_length=longest)
    found: list[list[list[Piece]]] = [[] for _ in texts]
    numbers = torch.tensor(ids, dtype=torch.int64)
    for epoch in range(epochs):
        out = augment(batch, ids=numbers, epoch=epoch, sources=True)
        for i, one in enumerate(found):
            before = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
            one.append(marked(tokenizer, before, out["input_ids"][i].tolist(), out["sources"][i].tolist()))
    return found


def on_screen(rows: Sequence[Shown], colours: bool) -> str:
    """Lines: each text, and below it each draw; in a terminal's colours, or as wdiff writes it."""
    lines = ["{+put in+} [-left out-] {~replaced~} <moved>", ""] if not colours else []
    for row in rows:
        lines.append(f"{row.name}: {row.text}" if row.name else row.text)
        lines += [f"    {written(pieces, colours)}" for pieces in row.draws] + [""]
    return "\n".join(lines)


def page(rows: Sequence[Shown], title: str, augment: str) -> str:
    """The same as a page of HTML."""
    parts = []
    for row in rows:
        draws = "".join(f"<li>{as_html(pieces)}</li>" for pieces in row.draws)
        parts.append(f"<p>{escape(row.text)} <small>{escape(row.name)}</small></p><ol>{draws}</ol>")
    return PAGE.format(title=escape(title), augment=escape(augment), rows="\n".join(parts))


def picture(rows: Sequence[Shown], title: str) -> bytes:
    """The same as a PNG."""
    from PIL import Image, ImageDraw

    from ..drawing import FAINT, INK, PAPER, width_of, wrapped, write

    inner = WIDTH - 2 * MARGIN
    spots: list[tuple[float, float, str, tuple, int, bool]] = []  # x, y, words, colour, size, struck out
    y = float(MARGIN - 6)
    for line in wrapped(title, inner, 22):
        spots.append((MARGIN, y, line, INK, 22, False))
        y += 32
    x = float(MARGIN)
    for kind, word in WORDS.items():
        spots.append((x, y, word, COLOURS[kind], TEXT, kind == GONE))
        x += width_of(word, TEXT) + 20
    y += LINE + 12
    for row in rows:
        for line in wrapped(f"{row.text}   {row.name}".strip(), inner, TEXT):
            spots.append((MARGIN, y, line, FAINT, TEXT, False))
            y += LINE
        for pieces in row.draws:
            x = float(MARGIN + 20)
            for piece in pieces:
                for i, word in enumerate(piece.text.split(" ")):
                    space = width_of(" ", TEXT) * (piece.space or i > 0)
                    if x + space + width_of(word, TEXT) > WIDTH - MARGIN and x > MARGIN + 20:
                        x, y, space = float(MARGIN + 40), y + LINE, 0.0
                    spots.append((x + space, y, word, COLOURS[piece.kind], TEXT, piece.kind == GONE))
                    x += space + width_of(word, TEXT)
            y += LINE
        y += 12
    sheet = Image.new("RGB", (WIDTH, round(y) + MARGIN // 2), PAPER)
    pen = ImageDraw.Draw(sheet)
    for x, y, word, colour, size, struck in spots:
        write(pen, x, y, word, colour, size)
        if struck:
            pen.line((x, y + 0.65 * size, x + width_of(word, size), y + 0.65 * size), colour, 1)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()
