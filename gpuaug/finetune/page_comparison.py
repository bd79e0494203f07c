"""Several runs side by side, on one page."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import pictures
from .comparing import Read, against, differences, figures, head_of, read, remarks
from .evaluating import measures
from .hypertext import drawn, page, say, table
from .runs import write as write_file


def write_comparison(runs: Sequence[str | Path], path: str | Path) -> Path:
    """Write several runs on one page: their figures, what they were asked differently, curves, robustness; and where
    they have predictions of the same images, how often each is right where the first is not.

    Raises ValueError for no runs, a folder that is not there, and files that are damaged.
    """
    if not runs:
        raise ValueError("write_comparison: name at least one run")
    found = read(runs)
    body = [
        f"<h1>{len(found)} runs side by side</h1>",
        _figures(found),
        _differences(found),
        _pairs(found),
        _overlaid(found),
        _overlaid_robustness(found),
    ]
    path = Path(path)
    write_file(path, page(f"{len(found)} runs", "\n".join(body)).encode())
    return path


def _figures(runs: Sequence[Read]) -> str:
    """A column for each run."""
    parts = [table(("", *(run.name for run in runs)), figures(runs)), say("In brackets: intervals of 95%.")]
    if lacking := [run.name for run in runs if run.evaluation is None]:
        parts.append(say(f"Without an evaluation.json: {', '.join(lacking)}."))
    return "\n".join(parts + [f"<p>{escape(words)}</p>" for words in remarks(runs)])


def _differences(runs: Sequence[Read]) -> str:
    rows = differences(runs)
    if not rows:
        return "<h2>What was different</h2>" + say("Nothing: their options and their pipelines are the same.")
    head = ("option", *(run.name for run in runs))
    return f"<h2>What was different</h2>\n{table(head, rows, words=True)}"


def _pairs(runs: Sequence[Read]) -> str:
    """Each run against the first, on the images that both were tested with."""
    rows, told = against(runs)
    if not rows and not told:
        return ""
    parts = [
        f"<h2>Against {escape(runs[0].name)}, on the same {runs[0].noun}s</h2>",
        table(head_of(runs), rows) if rows else "",
    ]
    return "\n".join(parts + [say(words) for words in told])


def _overlaid(runs: Sequence[Read]) -> str:
    histories: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        if run.history:
            histories.setdefault(measures(run), {})[run.name] = run.history
    if not histories:
        return "<h2>Training</h2>" + say("None of these runs has epochs in its metrics.jsonl.")
    parts = ["<h2>Training</h2>"]
    for (main, hit), some in histories.items():
        draw = functools.partial(pictures.write_overlaid, main=main, hit=hit)
        parts.append(drawn(draw, f"validation loss and {pictures.NAMES.get(main, main)} by epoch", some))
    return "\n".join(parts)


def _overlaid_robustness(runs: Sequence[Read]) -> str:
    measured = {run.name: run.robustness for run in runs if run.robustness}
    if not measured:
        return "<h2>Robustness</h2>" + say("None of these runs has a robustness.json.")
    parts = ["<h2>Robustness</h2>"]
    if lacking := [run.name for run in runs if not run.robustness]:
        parts.append(say(f"Without a robustness.json: {', '.join(lacking)}."))
    if len({(one["n"], one.get("images"), one["metric"]) for one in measured.values()}) > 1:
        each = ", ".join(f"{name} on {one['n']:,}" for name, one in measured.items())
        words = f"These were not measured on the same images ({each}): compare with care."
        parts.append(f"<p>{escape(words)}</p>")
    return "\n".join([*parts, drawn(pictures.write_robustness, "score against strength of corruption", measured)])
