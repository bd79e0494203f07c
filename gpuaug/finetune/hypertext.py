"""HTML and its pieces: plain, with CSS that follows the reader's choice of dark or light; pictures are embedded, and
what is wider than the page scrolls inside of its box. Whatever is said is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template
from typing import Any

import gpuaug

from .comparing import Read, worded

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="gpuaug $version">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")
STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --faint: #5d6672; --paper: #ffffff; --box: #f5f6f8; --line: #dfe3e8;
  --blue: #1f6fb4; --orange: #d95f02; --grey: #b9bec8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --faint: #9aa4b1; --paper: #14171b; --box: #1d2126;
  --line: #323841; --blue: #62aee8; --orange: #f08a3c; --grey: #6b7280; }
  img.chart { filter: invert(0.92) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 1160px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 24px 0 6px; }
p, ul { margin: 6px 0 10px; } ul { padding-left: 22px; }
.faint { color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.card { background: var(--box); border-radius: 8px; padding: 12px 14px; }
.card b { display: block; font-size: 1.45rem; line-height: 1.3; } .card span { color: var(--faint); font-size: .86rem; }
.scroll { overflow: auto; max-width: 100%; border: 1px solid var(--line); border-radius: 8px; margin: 10px 0; }
div.scroll { max-height: 85vh; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.left, td.left { text-align: left; }
ins { color: var(--blue); } del { color: var(--orange); } mark { background: #f5d76e; color: #1d2127; }
table.words td, table.words th { text-align: left; } table.words td { white-space: normal; min-width: 180px; }
thead th { position: sticky; top: 0; background: var(--box); font-weight: 600; }
tbody tr:last-child td { border-bottom: 0; }
figure { margin: 0; } img { display: block; max-width: max(100%, 620px); height: auto; }
img.own { max-width: none; } img.narrow { max-width: 100%; }
pre { white-space: pre-wrap; margin: 0; padding: 12px 14px; font-size: .85rem; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--blue); }
.bar { display: flex; height: 22px; border-radius: 6px; overflow: hidden; margin: 8px 0 4px; background: var(--box); }
.bar i.waiting, .key.waiting { background: var(--grey); } .bar i.augment, .key.augment { background: var(--orange); }
.bar i.model, .key.model { background: var(--blue); }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 0; }
"""
DATA_URI = "data:image/png;base64,"


class Html(str):
    """What is HTML already, and is not escaped."""


def page(title: str, body: str) -> str:
    return PAGE.substitute(title=escape(title), body=body, style=STYLE, version=gpuaug.__version__)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], words: bool = False, left: int = 1) -> str:
    """In a box that it scrolls in; ``words``: its cells hold text that wraps; ``left``: columns that begin there."""

    def line(cells: Sequence[Any], tag: str) -> str:
        sides = ("" if i >= left else ' class="left"' for i in range(len(cells)))
        told = (c if isinstance(c, Html) else escape(worded(c)) for c in cells)
        return "".join(f"<{tag}{side}>{c}</{tag}>" for c, side in zip(told, sides, strict=True))

    kind, top = ' class="words"' if words else "", line(head, "th")
    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def say(words: str) -> str:
    return f'<p class="faint">{escape(words)}</p>'


def image(content: bytes, alt: str, kind: str) -> str:
    source = DATA_URI + base64.b64encode(content).decode()
    return f'<figure class="scroll"><img class="{kind}" alt="{escape(alt)}" src="{source}"></figure>'


def drawn(draw: Callable[..., None], alt: str, *arguments: Any) -> str:
    """A picture that is not in any folder."""
    target = io.BytesIO()
    draw(target, *arguments)
    return image(target.getvalue(), alt, "chart")


def picture(run: Read, name: str, alt: str, missing: str, kind: str = "chart") -> str:
    path = run.picture(name)
    return image(path.read_bytes(), alt, kind) if path.is_file() else say(missing)


def cards(facts: Iterable[tuple[str, str]]) -> str:
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in facts
    )
    return f'<div class="cards">{cards}</div>'
