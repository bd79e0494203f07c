"""report.html: a run, or several side by side, on one page that needs nothing beside itself.

Plain HTML and CSS; pictures are embedded. It follows the reader's choice of dark or light; what is wider than the page
scrolls inside of its box. Whatever a run says is escaped.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

import gpuaug

from . import pictures
from .evaluating import complete
from .metrics import Evaluation, confusions, paired, percent, ranks
from .runs import REPORT, Run
from .runs import write as write_file

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
WIDE = 30  # classes above which the confusion matrix keeps its own size, and scrolls
DATA_URI = "data:image/png;base64,"


# --- a run's folder ---------------------------------------------------------------------------------------------------
def _check(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run; give the folder that gpuaug finetune made")
    return folder


class _Read(Run):
    """A run, and what a page says of it."""

    def __init__(self, folder: str | Path):
        super().__init__(_check(folder))
        self.name = self.folder.resolve().name
        self.environment = self.facts.get("environment", {})

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        return self.events("epoch")

    def mean_of(self, key: str) -> float | None:
        """Over the epochs that have it."""
        values = [line[key] for line in self.history if line.get(key) is not None]
        return sum(values) / len(values) if values else None

    def shares(self) -> dict[str, float]:
        """Of the time of all epochs."""
        timed = [line["shares"] for line in self.history if line.get("shares")]
        return {name: sum(line.get(name) or 0.0 for line in timed) / len(timed) for name in pictures.SHARES if timed}


def write(run: str | Path) -> Path:
    """Write a run's report.html from what lies in its folder, and return its path.

    What follows from the rest of the folder is written first (:func:`gpuaug.finetune.evaluating.complete`); of what is
    missing then, the page says so. Raises ValueError for a folder that is not there, and for files that are damaged.
    """
    _check(run)
    complete(run)
    found = _Read(run)
    parts = (_head, _asked, _training, _samples, _evaluation, _robustness, _mistakes, _speed)
    path = found.path(REPORT)
    write_file(path, _page(found.name, "\n".join(part(found) for part in parts)).encode())
    return path


def write_comparison(runs: Sequence[str | Path], path: str | Path) -> Path:
    """Write several runs on one page: their figures, what they were asked differently, curves, robustness; and where
    they have predictions of the same images, how often each is right where the first is not.

    Raises ValueError for no runs, a folder that is not there, and files that are damaged.
    """
    if not runs:
        raise ValueError("write_comparison: name at least one run")
    found = [_Read(run) for run in runs]
    names = [run.name for run in found]
    for run in found:
        run.name = run.name if names.count(run.name) == 1 else str(run.folder)
    body = [
        f"<h1>{len(found)} runs side by side</h1>",
        _figures(found),
        _differences(found),
        _pairs(found),
        _overlaid(found),
        _overlaid_robustness(found),
    ]
    path = Path(path)
    write_file(path, _page(f"{len(found)} runs", "\n".join(body)).encode())
    return path


# --- pieces of HTML ---------------------------------------------------------------------------------------------------
def _page(title: str, body: str) -> str:
    return PAGE.substitute(title=escape(title), body=body, style=STYLE, version=gpuaug.__version__)


def _value(value: Any) -> str:
    """Anything as text, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(_value, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], words: bool = False, left: int = 1) -> str:
    """In a box that it scrolls in; ``words``: its cells hold text that wraps; ``left``: columns that begin there."""

    def line(cells: Sequence[Any], tag: str) -> str:
        sides = ("" if i >= left else ' class="left"' for i in range(len(cells)))
        return "".join(f"<{tag}{side}>{escape(_value(c))}</{tag}>" for c, side in zip(cells, sides, strict=True))

    kind, top = ' class="words"' if words else "", line(head, "th")
    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _say(words: str) -> str:
    return f'<p class="faint">{escape(words)}</p>'


def _image(content: bytes, alt: str, kind: str) -> str:
    source = DATA_URI + base64.b64encode(content).decode()
    return f'<figure class="scroll"><img class="{kind}" alt="{escape(alt)}" src="{source}"></figure>'


def _drawn(draw: Callable[..., None], alt: str, *arguments: Any) -> str:
    """A picture that is not in any folder."""
    target = io.BytesIO()
    draw(target, *arguments)
    return _image(target.getvalue(), alt, "chart")


def _picture(run: _Read, name: str, alt: str, missing: str, kind: str = "chart") -> str:
    path = run.picture(name)
    return _image(path.read_bytes(), alt, kind) if path.is_file() else _say(missing)


def _cards(facts: Iterable[tuple[str, str]]) -> str:
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in facts
    )
    return f'<div class="cards">{cards}</div>'


# --- the parts of a run's page ----------------------------------------------------------------------------------------
def _head(run: _Read) -> str:
    data = run.resolved.get("data", {}).get("name") or run.asked.get("data")
    facts = {"model": run.resolved.get("model"), "data": data, "recipe": run.resolved.get("recipe")}
    said = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    cards, evaluation = [], run.evaluation
    if evaluation is not None:
        low, high = evaluation.score_interval
        name = f"{evaluation.score_name} on {evaluation.n:,} test images, 95%: {100 * low:.1f} to {100 * high:.1f}"
        cards.append((percent(evaluation.score), name))
    elif (after := run.event("after").get("test_accuracy")) is not None:
        cards.append((percent(after), "accuracy on the test images"))
    if (before := run.event("before").get("test_accuracy")) is not None:
        cards.append((percent(before), "before fine-tuning"))
    if run.robustness:
        cards.append((percent(run.robustness["mean"]), "on corrupted test images, mean"))
    if run.history:
        cards.append(
            (str(len(run.history)), f"epochs, weights of epoch {_value(run.event('after').get('best_epoch'))}")
        )
    if (rate := run.mean_of("images_per_second")) is not None:
        cards.append((f"{rate:,.0f}", "training images a second"))
    return f"<h1>{escape(run.name)}</h1>\n{_say(said)}\n{_cards(cards)}"


def _asked(run: _Read) -> str:
    if not (run.asked or run.resolved):
        return "<h2>Asked and decided</h2>" + _say("There is no config.json in this run's folder.")
    known, parts = run.resolved, ["<h2>Asked and decided</h2>"]
    images = ", ".join(f"{n:,} {part}" for part, n in known.get("images", {}).items())
    facts = {
        "images": images or None,
        "classes": f"{len(known['classes'])}: {', '.join(known['classes'])}" if "classes" in known else None,
        "input": f"{known['size']} x {known['size']} pixels" if "size" in known else None,
        "shorter side before the crop": known.get("resize"),
        "mean": known.get("mean"),
        "std": known.get("std"),
        "weights": known.get("weights"),
    }
    if known.get("decisions"):
        parts.append("<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in known["decisions"]) + "</ul>")
    parts.append(_table(("", "decided"), [pair for pair in facts.items() if pair[1] is not None], words=True))
    if known.get("augment"):
        parts.append(f'<h3>Augmentation</h3><div class="scroll"><pre>{escape(_value(known["augment"]))}</pre></div>')
    if known.get("auto"):
        parts.append(_searched(known["auto"]))
    if run.asked:
        parts.append(
            _folded("Every option as it was given", _table(("option", "value"), run.asked.items(), words=True))
        )
    if known.get("options"):
        parts.append(_folded("Every option as it was decided", _table(("", ""), known["options"].items(), words=True)))
    if run.environment:
        parts.append(_folded("Where it ran", _table(("", ""), run.environment.items(), words=True)))
    return "\n".join(parts)


def _searched(found: dict[str, Any]) -> str:
    """The search of augment=auto: a row an arm, a column a rung."""
    rungs, name = found["rungs"], found["metric"]
    values = [{row["augment"]: row[name] for row in rung["arms"]} for rung in rungs]
    order = list(dict.fromkeys(row["augment"] for rung in reversed(rungs) for row in rung["arms"]))
    head = ["candidate", *(f"rung {i}, {rung['batches']} batches" for i, rung in enumerate(rungs, 1))]
    rows = [[spec, *(column.get(spec) for column in values)] for spec in order]
    return _folded(f"The search for it: {name} on {found['judged']}, n={found['images']:,}", _table(head, rows))


def _training(run: _Read) -> str:
    missing = "There are no epochs in this run's metrics.jsonl: nothing to be drawn."
    parts = ["<h2>Training</h2>", _picture(run, "curves", "loss, accuracy and time by epoch", missing)]
    if run.history:
        names = list(dict.fromkeys(name for line in run.history for name in line if name not in ("event", "shares")))
        rows = [[line.get(name) for name in names] for line in run.history]
        parts.append(_folded("Every epoch in numbers", _table([name.replace("_", " ") for name in names], rows)))
    return "\n".join(parts)


def _samples(run: _Read) -> str:
    missing = "There is no pictures/contact_sheet.png in this run's folder."
    sheet = _picture(run, "contact_sheet", "training images, and what the model saw of them", missing, "photo")
    return f"<h2>What the model saw</h2>\n{sheet}"


def _evaluation(run: _Read) -> str:
    found = run.evaluation
    if found is None:
        words = "There is no evaluation.json in this run's folder, and no predictions.npz to make it of."
        return "<h2>Evaluation</h2>" + _say(words)
    rows = [(name, percent(value, interval)) for name, value, interval in _scores(found) if value is not None]
    rows += [("loss (cross entropy)", found.loss), ("test images", f"{found.n:,}")]
    parts = ["<h2>Evaluation</h2>", _table(("", "on test images (interval of 95%)"), rows)]
    parts.append(_say("Intervals: Wilson's of accuracies, else by bootstrap over the images."))
    if found.confusion is not None:
        kind = "chart own" if len(found.classes) > WIDE else "chart"
        missing = "There is no pictures/confusion.png in this run's folder."
        parts += ["<h3>What is taken for what</h3>", _picture(run, "confusion", "confusion matrix", missing, kind)]
        if pairs := confusions(found):
            rows = [(p["true"], p["predicted"], p["n"], percent(p["share"])) for p in pairs]
            parts.append(_table(("true class", "taken for", "images", "of the class"), rows, left=2))
    missing = "There is no pictures/calibration.png in this run's folder."
    sure = _picture(run, "calibration", "calibration curve", missing, "chart narrow")
    return "\n".join([*parts, _classes(found), f"<h3>How sure it is</h3>\n{sure}"])


def _scores(found: Evaluation) -> list[tuple]:
    """(name, value, interval) of an evaluation's shares."""
    return [
        ("top-1 accuracy", found.top1, found.top1_interval),
        ("top-5 accuracy", found.top5, found.top5_interval),
        ("mAP", found.map, found.map_interval),
        ("balanced accuracy", found.balanced_accuracy, found.balanced_accuracy_interval),
        ("macro F1", found.f1, found.f1_interval),
        ("expected calibration error", found.ece, None),
    ]


def _classes(found: Evaluation) -> str:
    """Each class, the weakest first; those without samples last."""
    several = found.top1 is None
    figure = "average_precision" if several else "recall"
    lines = sorted(found.per_class, key=lambda line: (line[figure] is None, line[figure] or 0.0))
    head = [
        "class",
        "recall (interval of 95%)",
        "precision",
        "F1",
        *(["average precision"] if several else []),
        "images",
    ]
    rows = []
    for line in lines:
        shares = [percent(line[name]) for name in ("precision", "f1", *(["average_precision"] if several else []))]
        rows.append([line["class"], percent(line["recall"], line["recall_interval"]), *shares, line["n"]])
    return f"<h3>Each class, the weakest first</h3>\n{_table(head, rows)}"


def _robustness(run: _Read) -> str:
    parts, measured = ["<h2>Robustness</h2>"], run.robustness
    if not measured:
        return parts[0] + _say("There is no robustness.json in this run's folder: it was not measured.")
    parts.append(_picture(run, "robustness", "score against strength of corruption", "Its picture is missing."))
    names = dict.fromkeys(line["name"] for line in measured["corruptions"])
    clean, mean = measured["clean"], measured["mean"]
    words = f"{measured['metric']} {percent(clean['score'], clean['interval'])} on the {measured['n']:,} clean images"
    parts.append(f"<p>{escape(words)}, {percent(mean)} on corrupted ones (mean).</p>")
    rows = []
    for name in names:
        lines = {line["strength"]: line for line in measured["corruptions"] if line["name"] == name}
        cells = [f"{percent(line['score'])} at {line['words']}" for _, line in sorted(lines.items())]
        rows.append([name, *cells, *[None] * (5 - len(cells))])
    parts.append(_table((measured["metric"], *(f"strength {s}" for s in range(1, 6))), rows))
    if (sheet := run.picture("corruptions")).is_file():
        image = _image(sheet.read_bytes(), "corrupted test images", "photo")
        parts.append(_folded("What these strengths look like", image))
    return "\n".join(parts)


def _mistakes(run: _Read) -> str:
    missing = "There is no pictures/mistakes.png in this run's folder."
    return f"<h2>Worst mistakes</h2>\n{_picture(run, 'mistakes', 'wrong answers, the surest first', missing, 'photo')}"


def _speed(run: _Read) -> str:
    rate, shares = run.mean_of("images_per_second"), run.shares()
    if rate is None and not shares:
        return "<h2>Speed</h2>" + _say("This run's metrics.jsonl says nothing of speed.")
    seconds = [line["seconds"] for line in run.history if line.get("seconds") is not None]
    rows = [("images a second, mean of the epochs", f"{rate:,.0f}")] if rate is not None else []
    if seconds:
        rows += [("seconds of an epoch, mean", sum(seconds) / len(seconds)), ("seconds of all epochs", sum(seconds))]
    rows.append(("device", run.environment.get("device")))
    parts = ["<h2>Speed</h2>", _table(("", ""), rows)]
    if shares:
        bars = "".join(f'<i class="{name}" style="width:{100 * share:.2f}%"></i>' for name, share in shares.items())
        keys = (f'<i class="key {name}"></i>{name} {100 * share:.1f}%' for name, share in shares.items())
        parts.append(f'<h3>Where the time goes</h3><div class="bar">{bars}</div><p>{" &nbsp; ".join(keys)}</p>')
        parts.append(_say("waiting: for images; augment: the augmentation; model: forward, backward and the step."))
    return "\n".join(parts)


# --- the parts of a comparison ----------------------------------------------------------------------------------------
def _figures(runs: Sequence[_Read]) -> str:
    """A column for each run."""
    scores = dict.fromkeys(
        name for run in runs if run.evaluation for name, value, _ in _scores(run.evaluation) if value
    )
    columns = [_figures_of(run, scores) for run in runs]
    rows = [(name, *(column.get(name) for column in columns)) for name in columns[0]]
    parts = [_table(("", *(run.name for run in runs)), rows), _say("In brackets: intervals of 95%.")]
    if lacking := [run.name for run in runs if run.evaluation is None]:
        parts.append(_say(f"Without an evaluation.json: {', '.join(lacking)}."))
    marks = {run.resolved.get("data", {}).get("fingerprint") for run in runs}
    if len(marks) > 1:
        parts.append("<p>These runs had different images, or a different split of them: compare with care.</p>")
    return "\n".join(parts)


def _figures_of(run: _Read, scores: Iterable[str]) -> dict[str, Any]:
    found, measured, rate = run.evaluation, run.robustness, run.mean_of("images_per_second")
    known = {name: percent(v, i) for name, v, i in _scores(found)} if found else {}
    seconds = [line["seconds"] for line in run.history if line.get("seconds") is not None]
    return {
        "model": run.resolved.get("model"),
        "recipe": run.resolved.get("recipe"),
        "test images": found and f"{found.n:,}",
        **{name: known.get(name) for name in scores},
        "on corrupted images, mean": measured and percent(measured["mean"]),
        "epochs": len(run.history),
        "seconds": sum(seconds) or None,
        "images a second": rate and f"{rate:,.0f}",
        "augmentation, of the time": percent(run.shares().get("augment")),
    }


def _differences(runs: Sequence[_Read]) -> str:
    """Options, as they were decided where the recipe did, else as they were given; and the pipeline."""
    every = [{**run.asked, **run.resolved.get("options", {}), "pipeline": run.resolved.get("augment")} for run in runs]
    names = dict.fromkeys(name for options in every for name in options)
    asked = {name: [options.get(name) for options in every] for name in names}
    rows = [(name, *values) for name, values in asked.items() if any(value != values[0] for value in values)]
    if not rows:
        return "<h2>What was different</h2>" + _say("Nothing: their options and their pipelines are the same.")
    head = ("option", *(run.name for run in runs))
    return f"<h2>What was different</h2>\n{_table(head, rows, words=True)}"


def _pairs(runs: Sequence[_Read]) -> str:
    """Each run against the first, on the images that both were tested with."""
    first, rows = runs[0], []
    for run in runs[1:]:
        both = _right(first, run)
        if both is None:
            continue
        found = paired(*both)
        low, high = (100 * end for end in found["interval"])
        gain = f"{100 * found['difference']:+.1f} points ({low:+.1f} to {high:+.1f})"
        rows.append((run.name, gain, found["only_second"], found["only_first"], f"{found['p']:.2g}", len(both[0])))
    if not rows:
        return ""
    head = ("run", "accuracy (interval of 95%)", "only it is right", "only the first is", "p (McNemar)", "images")
    return f"<h2>Against {escape(first.name)}, on the same images</h2>\n{_table(head, rows)}"


def _right(first: _Read, second: _Read) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the samples that both predicted: which answers are right. None where there are none, or labels differ."""
    stored = (first.predictions, second.predictions)
    if any(one is None or one["labels"].ndim > 1 for one in stored):
        return None
    _, *places = np.intersect1d(*(one["ids"] for one in stored), assume_unique=True, return_indices=True)
    labels = [one["labels"][place] for one, place in zip(stored, places, strict=True)]
    if not len(labels[0]) or not np.array_equal(*labels):
        return None
    logits = [one["logits"][place] for one, place in zip(stored, places, strict=True)]
    first_right, second_right = (
        (ranks(torch.from_numpy(a), torch.from_numpy(b)) == 0).numpy() for a, b in zip(logits, labels, strict=True)
    )
    return first_right, second_right


def _overlaid(runs: Sequence[_Read]) -> str:
    histories = {run.name: run.history for run in runs if run.history}
    if not histories:
        return "<h2>Training</h2>" + _say("None of these runs has epochs in its metrics.jsonl.")
    return "<h2>Training</h2>\n" + _drawn(pictures.write_overlaid, "validation loss and accuracy by epoch", histories)


def _overlaid_robustness(runs: Sequence[_Read]) -> str:
    measured = {run.name: run.robustness for run in runs if run.robustness}
    if not measured:
        return "<h2>Robustness</h2>" + _say("None of these runs has a robustness.json.")
    return "<h2>Robustness</h2>\n" + _drawn(pictures.write_robustness, "score against strength of corruption", measured)
