"""report.html: a run, or several side by side, on one page that needs nothing beside itself.

Plain HTML and CSS; pictures are embedded. It follows the reader's choice of dark or light; what is wider than the page
scrolls inside of its box. Whatever a run says is escaped.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import gpuaug
from gpuaug.text.marking import Piece, as_html

from . import pictures
from .boxes import DetectEvaluation
from .comparing import Read, against, data_of, differences, figures, head_of, read, remarks, worded
from .evaluating import MOST_MISTAKES, answers, complete, measures
from .metrics import Evaluation, confusions, mistakes, percent, weakest
from .pixels import SegmentEvaluation
from .runs import REPORT
from .runs import write as write_file
from .text_samples import SAMPLES

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
WIDE = 30  # classes above which the confusion matrix keeps its own size, and scrolls
DATA_URI = "data:image/png;base64,"


# --- a run's folder ---------------------------------------------------------------------------------------------------
def write(run: str | Path, stopped: str = "") -> Path:
    """Write the report.html of a run, or of an evaluation, from what lies in its folder, and return its path.

    What follows from the rest of the folder is written first (:func:`gpuaug.finetune.evaluating.complete`); of what is
    missing then, the page says so. ``stopped``: why the run has not reached its end, where it has not.

    Raises ValueError for a folder that is not there, and for files that are damaged.
    """
    found = Read(run)
    complete(run)
    parts = (_head, _asked, _training, _samples, _evaluation, _robustness, _mistakes, _speed)
    parts = (_head, _asked, _evaluation, _robustness, _mistakes) if found.evaluated else parts
    path, found.stopped = found.path(REPORT), stopped
    write_file(path, _page(found.name, "\n".join(part(found) for part in parts)).encode())
    return path


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
    write_file(path, _page(f"{len(found)} runs", "\n".join(body)).encode())
    return path


class Html(str):
    """What is HTML already, and is not escaped."""


# --- pieces of HTML ---------------------------------------------------------------------------------------------------
def _page(title: str, body: str) -> str:
    return PAGE.substitute(title=escape(title), body=body, style=STYLE, version=gpuaug.__version__)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], words: bool = False, left: int = 1) -> str:
    """In a box that it scrolls in; ``words``: its cells hold text that wraps; ``left``: columns that begin there."""

    def line(cells: Sequence[Any], tag: str) -> str:
        sides = ("" if i >= left else ' class="left"' for i in range(len(cells)))
        told = (c if isinstance(c, Html) else escape(worded(c)) for c in cells)
        return "".join(f"<{tag}{side}>{c}</{tag}>" for c, side in zip(told, sides, strict=True))

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


def _picture(run: Read, name: str, alt: str, missing: str, kind: str = "chart") -> str:
    path = run.picture(name)
    return _image(path.read_bytes(), alt, kind) if path.is_file() else _say(missing)


def _cards(facts: Iterable[tuple[str, str]]) -> str:
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in facts
    )
    return f'<div class="cards">{cards}</div>'


# --- the parts of a run's page ----------------------------------------------------------------------------------------
def _head(run: Read) -> str:
    facts = {"model": run.resolved.get("model"), "data": data_of(run), "recipe": run.resolved.get("recipe")}
    said = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    cards, evaluation = [], run.evaluation
    if evaluation is not None:
        low, high = evaluation.score_interval
        name = f"{evaluation.score_name} on {evaluation.n:,} {run.tested}, 95%: {100 * low:.1f} to {100 * high:.1f}"
        cards.append((percent(evaluation.score), name))
    elif (after := run.event("after").get("test_accuracy")) is not None:
        cards.append((percent(after), f"accuracy on the {run.tested}"))
    if (before := run.event("before").get("test_accuracy")) is not None:
        cards.append((percent(before), "before fine-tuning"))
    if run.robustness:
        cards.append((percent(run.robustness["mean"]), f"on corrupted {run.tested}, mean"))
    if run.history:
        best = run.event("after").get("best_epoch")
        words = "epoch" if len(run.history) == 1 else "epochs"
        cards.append((str(len(run.history)), words if best is None else f"{words}, weights of epoch {best}"))
    if (rate := run.mean_of("images_per_second")) is not None:
        cards.append((f"{rate:,.0f}", f"training {run.noun}s a second"))
    return f"<h1>{escape(run.name)}</h1>\n{_say(said)}\n{_ended(run)}{_cards(cards)}"


def _ended(run: Read) -> str:
    """Of an evaluation what it is one of; of a run that did not reach its end how far it came."""
    if run.evaluated:
        return _say(f"An evaluation of the run {run.evaluated['run']}.")
    epochs = run.resolved.get("options", {}).get("epochs")
    if epochs is None or run.events("after"):
        return ""
    why = f" ({run.stopped})" if run.stopped else ""
    words = f"This run has not reached its end{why}: {len(run.history)} of {epochs} epochs are done."
    return f"<p><b>{escape(words)}</b></p>\n"


def _asked(run: Read) -> str:
    if not (run.asked or run.resolved):
        return "<h2>Asked and decided</h2>" + _say("There is no config.json in this run's folder.")
    known, parts = run.resolved, ["<h2>Asked and decided</h2>"]
    images = ", ".join(f"{n:,} {part}" for part, n in known.get("images", {}).items())
    facts = {
        f"{run.noun}s": images or None,
        "classes": f"{len(known['classes'])}: {', '.join(known['classes'])}" if "classes" in known else None,
        **_input(run),
        "weights": known.get("weights"),
    }
    if known.get("decisions"):
        parts.append("<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in known["decisions"]) + "</ul>")
    parts.append(_table(("", "decided"), [pair for pair in facts.items() if pair[1] is not None], words=True))
    if known.get("augment"):
        parts.append(f'<h3>Augmentation</h3><div class="scroll"><pre>{escape(worded(known["augment"]))}</pre></div>')
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


def _input(run: Read) -> dict[str, Any]:
    """What the model gets, in words."""
    known = run.resolved
    if run.noun == "text":
        return {"input": f"up to {known['size']} tokens" if "size" in known else None}
    return {
        "input": f"{known['size']} x {known['size']} pixels" if "size" in known else None,
        "shorter side before the crop": known.get("resize"),
        "mean": known.get("mean"),
        "std": known.get("std"),
    }


def _searched(found: dict[str, Any]) -> str:
    """The search of augment=auto: a row an arm, a column a rung."""
    rungs, name = found["rungs"], found["metric"]
    values = [{row["augment"]: row[name] for row in rung["arms"]} for rung in rungs]
    order = list(dict.fromkeys(row["augment"] for rung in reversed(rungs) for row in rung["arms"]))
    head = ["candidate", *(f"rung {i}, {rung['batches']} batches" for i, rung in enumerate(rungs, 1))]
    rows = [[spec, *(column.get(spec) for column in values)] for spec in order]
    return _folded(f"The search for it: {name} on {found['judged']}, n={found['images']:,}", _table(head, rows))


def _training(run: Read) -> str:
    missing = "There are no epochs in this run's metrics.jsonl: nothing to be drawn."
    parts = ["<h2>Training</h2>", _picture(run, "curves", "loss, accuracy and time by epoch", missing)]
    if run.history:
        names = list(dict.fromkeys(name for line in run.history for name in line if name not in ("event", "shares")))
        rows = [[line.get(name) for name in names] for line in run.history]
        parts.append(_folded("Every epoch in numbers", _table([_column(run, name) for name in names], rows)))
    return "\n".join(parts)


def _column(run: Read, name: str) -> str:
    return name.replace("images", f"{run.noun}s").replace("_", " ")


def _samples(run: Read) -> str:
    if run.noun == "text":
        return f"<h2>What the model saw</h2>\n{_seen(run)}"
    missing = "There is no pictures/contact_sheet.png in this run's folder."
    sheet = _picture(run, "contact_sheet", "training images, and what the model saw of them", missing, "photo")
    return f"<h2>What the model saw</h2>\n{sheet}"


def _seen(run: Read) -> str:
    """A few training texts, and what the augmentation made of them."""
    rows = run.json(SAMPLES)
    if not rows:
        return _say("There is no samples.json in this run's folder: texts as they are, or a function of one's own.")
    head = ["class", "text", *(f"epoch {i + 1}" for i in range(len(rows[0]["seen"])))]
    cells = [
        [", ".join(row["classes"]), row["text"], *(Html(as_html([Piece(*p) for p in one])) for one in row["seen"])]
        for row in rows
    ]
    told = "<del>left out</del>, <ins>put in</ins>, <mark>replaced</mark>, <em>moved</em>"
    return f"<p>{told}</p>{_table(head, cells, words=True)}"


def _evaluation(run: Read) -> str:
    found = run.evaluation
    if found is None:
        words = "There is no evaluation.json in this run's folder, and no predictions.npz to make it of."
        return "<h2>Evaluation</h2>" + _say(words)
    if isinstance(found, SegmentEvaluation):
        return _pixels(run, found)
    if isinstance(found, DetectEvaluation):
        return _boxes(run, found)
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares if value is not None]
    rows += [("loss (cross entropy)", found.loss), (run.tested, f"{found.n:,}")]
    parts = ["<h2>Evaluation</h2>", _table(("", f"on {run.tested} (interval of 95%)"), rows)]
    parts.append(_say(f"Intervals: Wilson's of accuracies, else by bootstrap over the {run.noun}s."))
    if found.confusion is not None:
        kind = "chart own" if len(found.classes) > WIDE else "chart"
        missing = "There is no pictures/confusion.png in this run's folder."
        parts += ["<h3>What is taken for what</h3>", _picture(run, "confusion", "confusion matrix", missing, kind)]
        if pairs := confusions(found):
            rows = [(p["true"], p["predicted"], p["n"], percent(p["share"])) for p in pairs]
            parts.append(_table(("true class", "taken for", f"{run.noun}s", "of the class"), rows, left=2))
    missing = "There is no pictures/calibration.png in this run's folder."
    sure = _picture(run, "calibration", "calibration curve", missing, "chart narrow")
    return "\n".join([*parts, _classes(found, run.noun), f"<h3>How sure it is</h3>\n{sure}"])


def _pixels(run: Read, found: SegmentEvaluation) -> str:
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares]
    rows += [("loss", found.loss), ("test images", f"{found.n:,}"), ("pixels", f"{found.pixels:,}")]
    parts = ["<h2>Evaluation</h2>", _table(("", "on test images (interval of 95%)"), rows)]
    parts.append(_say("Intervals by bootstrap over the images."))
    kind = "chart own" if len(found.classes) > WIDE else "chart"
    missing = "There is no pictures/confusion.png in this run's folder."
    parts += ["<h3>What is taken for what, in pixels</h3>", _picture(run, "confusion", "confusion", missing, kind)]
    lines = sorted(found.per_class, key=lambda line: (line["iou"] is None, line["iou"] or 0.0))
    rows = [[line["class"], percent(line["iou"]), percent(line["dice"]), f"{line['pixels']:,}"] for line in lines]
    parts.append(f"<h3>Each class, the weakest first</h3>\n{_table(['class', 'IoU', 'Dice', 'pixels'], rows)}")
    return "\n".join(parts)


def _boxes(run: Read, found: DetectEvaluation) -> str:
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares]
    rows += [("loss", found.loss), ("test images", f"{found.n:,}"), ("objects", f"{found.objects:,}")]
    parts = ["<h2>Evaluation</h2>", _table(("", "on test images (interval of 95%)"), rows)]
    parts.append(_say("Average precision is COCO's. Intervals by bootstrap over the images."))
    missing = "There is no pictures/errors.png in this run's folder."
    parts += ["<h3>What became of the objects</h3>", _picture(run, "errors", "errors by class", missing)]
    lines = sorted(found.per_class, key=lambda line: (line["ap"] is None, line["ap"] or 0.0))
    counts = ("objects", "right", "confused", "misplaced", "missed", "false")
    rows = [
        [line["class"], percent(line["ap"]), percent(line["ap50"]), *(f"{line[n]:,}" for n in counts)] for line in lines
    ]
    head = ["class", "AP", "AP@50", *counts]
    parts.append(f"<h3>Each class, the weakest first</h3>\n{_table(head, rows)}")
    return "\n".join(parts)


def _classes(found: Evaluation, noun: str) -> str:
    """Each class, the weakest first; those without samples last."""
    several = found.top1 is None
    head = [
        "class",
        "recall (interval of 95%)",
        "precision",
        "F1",
        *(["average precision"] if several else []),
        f"{noun}s",
    ]
    rows = []
    for line in weakest(found):
        shares = [percent(line[name]) for name in ("precision", "f1", *(["average_precision"] if several else []))]
        rows.append([line["class"], percent(line["recall"], line["recall_interval"]), *shares, line["n"]])
    return f"<h3>Each class, the weakest first</h3>\n{_table(head, rows)}"


def _robustness(run: Read) -> str:
    parts, measured = ["<h2>Robustness</h2>"], run.robustness
    if not measured:
        return parts[0] + _say("There is no robustness.json in this run's folder: it was not measured.")
    parts.append(_picture(run, "robustness", "score against strength of corruption", "Its picture is missing."))
    names = dict.fromkeys(line["name"] for line in measured["corruptions"])
    clean, mean = measured["clean"], measured["mean"]
    words = (
        f"{measured['metric']} {percent(clean['score'], clean['interval'])} on the {measured['n']:,} clean {run.noun}s"
    )
    parts.append(f"<p>{escape(words)}, {percent(mean)} on corrupted ones (mean).</p>")
    rows = []
    for name in names:
        lines = {line["strength"]: line for line in measured["corruptions"] if line["name"] == name}
        cells = [f"{percent(line['score'])} at {line['words']}" for _, line in sorted(lines.items())]
        rows.append([name, *cells, *[None] * (5 - len(cells))])
    parts.append(_table((measured["metric"], *(f"strength {s}" for s in range(1, 6))), rows))
    for one in measured.get("shown", ()):
        rows = [[name, *one[name]] for name in one if name != "text"]
        parts.append(
            _folded(f"As in: {one['text']}", _table(("", *(f"strength {s}" for s in range(1, 6))), rows, words=True))
        )
    if (sheet := run.picture("corruptions")).is_file():
        image = _image(sheet.read_bytes(), "corrupted test images", "photo")
        parts.append(_folded("What these strengths look like", image))
    return "\n".join(parts)


def _mistakes(run: Read) -> str:
    stored = run.predictions or {}
    if run.noun == "text":
        rows = []
        if "texts" in stored and run.evaluation is not None:
            wrong = mistakes(*answers(stored), run.evaluation.classes, MOST_MISTAKES)
            rows = [(stored["texts"][w["index"]], w["predicted"], percent(w["confidence"]), w["true"]) for w in wrong]
        missing = "None: every answer was right." if "texts" in stored else "There is no predictions.npz with texts."
        table = _table(("text", "said", "sure", "is"), rows, words=True) if rows else _say(missing)
        return f"<h2>Worst mistakes</h2>\n{_say('Wrong answers, the surest first.') if rows else ''}{table}"
    missing = "There is no pictures/mistakes.png in this run's folder."
    return f"<h2>Worst mistakes</h2>\n{_picture(run, 'mistakes', 'wrong answers, the surest first', missing, 'photo')}"


def _speed(run: Read) -> str:
    rate, shares = run.mean_of("images_per_second"), run.shares()
    if rate is None and not shares:
        return "<h2>Speed</h2>" + _say("This run's metrics.jsonl says nothing of speed.")
    seconds = [line["seconds"] for line in run.history if line.get("seconds") is not None]
    rows = [(f"{run.noun}s a second, mean of the epochs", f"{rate:,.0f}")] if rate is not None else []
    if seconds:
        rows += [("seconds of an epoch, mean", sum(seconds) / len(seconds)), ("seconds of all epochs", sum(seconds))]
    rows.append(("device", run.environment.get("device")))
    parts = ["<h2>Speed</h2>", _table(("", ""), rows)]
    if shares:
        bars = "".join(f'<i class="{name}" style="width:{100 * share:.2f}%"></i>' for name, share in shares.items())
        keys = (f'<i class="key {name}"></i>{name} {100 * share:.1f}%' for name, share in shares.items())
        parts.append(f'<h3>Where the time goes</h3><div class="bar">{bars}</div><p>{" &nbsp; ".join(keys)}</p>')
        parts.append(
            _say(f"waiting: for {run.noun}s; augment: the augmentation; model: forward, backward and the step.")
        )
    return "\n".join(parts)


# --- the parts of a comparison ----------------------------------------------------------------------------------------
def _figures(runs: Sequence[Read]) -> str:
    """A column for each run."""
    parts = [_table(("", *(run.name for run in runs)), figures(runs)), _say("In brackets: intervals of 95%.")]
    if lacking := [run.name for run in runs if run.evaluation is None]:
        parts.append(_say(f"Without an evaluation.json: {', '.join(lacking)}."))
    return "\n".join(parts + [f"<p>{escape(words)}</p>" for words in remarks(runs)])


def _differences(runs: Sequence[Read]) -> str:
    rows = differences(runs)
    if not rows:
        return "<h2>What was different</h2>" + _say("Nothing: their options and their pipelines are the same.")
    head = ("option", *(run.name for run in runs))
    return f"<h2>What was different</h2>\n{_table(head, rows, words=True)}"


def _pairs(runs: Sequence[Read]) -> str:
    """Each run against the first, on the images that both were tested with."""
    rows, told = against(runs)
    if not rows and not told:
        return ""
    parts = [
        f"<h2>Against {escape(runs[0].name)}, on the same images</h2>",
        _table(head_of(runs), rows) if rows else "",
    ]
    return "\n".join(parts + [_say(words) for words in told])


def _overlaid(runs: Sequence[Read]) -> str:
    histories: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        if run.history:
            histories.setdefault(measures(run), {})[run.name] = run.history
    if not histories:
        return "<h2>Training</h2>" + _say("None of these runs has epochs in its metrics.jsonl.")
    parts = ["<h2>Training</h2>"]
    for (main, hit), some in histories.items():
        draw = functools.partial(pictures.write_overlaid, main=main, hit=hit)
        parts.append(_drawn(draw, f"validation loss and {pictures.NAMES.get(main, main)} by epoch", some))
    return "\n".join(parts)


def _overlaid_robustness(runs: Sequence[Read]) -> str:
    measured = {run.name: run.robustness for run in runs if run.robustness}
    if not measured:
        return "<h2>Robustness</h2>" + _say("None of these runs has a robustness.json.")
    parts = ["<h2>Robustness</h2>"]
    if lacking := [run.name for run in runs if not run.robustness]:
        parts.append(_say(f"Without a robustness.json: {', '.join(lacking)}."))
    if len({(one["n"], one.get("images"), one["metric"]) for one in measured.values()}) > 1:
        each = ", ".join(f"{name} on {one['n']:,}" for name, one in measured.items())
        words = f"These were not measured on the same images ({each}): compare with care."
        parts.append(f"<p>{escape(words)}</p>")
    return "\n".join([*parts, _drawn(pictures.write_robustness, "score against strength of corruption", measured)])
