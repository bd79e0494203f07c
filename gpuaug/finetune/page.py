"""report.html: a run on one page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from gpuaug.text.marking import Piece, as_html

from .boxes import DetectEvaluation
from .comparing import Read, data_of, worded
from .evaluating import MOST_MISTAKES, answers, complete
from .hypertext import Html, cards, folded, image, page, picture, say, table
from .metrics import Evaluation, confusions, mistakes, percent, weakest
from .pixels import SegmentEvaluation
from .runs import LORA, REPORT, WEIGHTS, size_of
from .runs import write as write_file
from .text_samples import SAMPLES

WIDE = 30  # classes above which the confusion matrix keeps its own size, and scrolls


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
    parts = (_head, _members, _asked, _evaluation, _mistakes) if found.members else parts
    path, found.stopped = found.path(REPORT), stopped
    write_file(path, page(found.name, "\n".join(part(found) for part in parts)).encode())
    return path


# --- the parts of a run's page ----------------------------------------------------------------------------------------
def _head(run: Read) -> str:
    facts = {"model": run.resolved.get("model"), "data": data_of(run), "recipe": run.resolved.get("recipe")}
    said = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    told, evaluation = [], run.evaluation
    if evaluation is not None:
        low, high = evaluation.score_interval
        name = f"{evaluation.score_name} on {evaluation.n:,} {run.tested}, 95%: {100 * low:.1f} to {100 * high:.1f}"
        told.append((percent(evaluation.score), name))
    elif (after := run.event("after").get("test_accuracy")) is not None:
        told.append((percent(after), f"accuracy on the {run.tested}"))
    if (before := run.event("before").get("test_accuracy")) is not None:
        told.append((percent(before), "before fine-tuning"))
    if run.robustness:
        told.append((percent(run.robustness["mean"]), f"on corrupted {run.tested}, mean"))
    if run.history:
        best = run.event("after").get("best_epoch")
        words = "epoch" if len(run.history) == 1 else "epochs"
        told.append((str(len(run.history)), words if best is None else f"{words}, weights of epoch {best}"))
    if (rate := run.mean_of("images_per_second")) is not None:
        told.append((f"{rate:,.0f}", f"training {run.noun}s a second"))
    return f"<h1>{escape(run.name)}</h1>\n{say(said)}\n{_ended(run)}{cards(told)}"


def _ended(run: Read) -> str:
    """Of an evaluation what it is one of; of a run that did not reach its end how far it came."""
    if run.evaluated:
        return say(f"An evaluation of the run {run.evaluated['run']}.")
    epochs = run.resolved.get("options", {}).get("epochs")
    if epochs is None or run.events("after"):
        return ""
    why = f" ({run.stopped})" if run.stopped else ""
    words = f"This run has not reached its end{why}: {len(run.history)} of {epochs} epochs are done."
    return f"<p><b>{escape(words)}</b></p>\n"


def _members(run: Read) -> str:
    """The runs that this one was made of."""
    names = [name for name in run.members[0] if name != "weights"]
    rows = [[one[name] if "accuracy" not in name else percent(one[name]) for name in names] for one in run.members]
    return f"<h2>Made of</h2>\n{table([_column(run, name) for name in names], rows)}"


def _asked(run: Read) -> str:
    if not (run.asked or run.resolved):
        return "<h2>Asked and decided</h2>" + say("There is no config.json in this run's folder.")
    known, parts = run.resolved, ["<h2>Asked and decided</h2>"]
    images = ", ".join(f"{n:,} {part}" for part, n in known.get("images", {}).items())
    facts = {
        f"{run.noun}s": images or None,
        "classes": f"{len(known['classes'])}: {', '.join(known['classes'])}" if "classes" in known else None,
        **_input(run),
        "weights": known.get("weights"),
        **_adapters(run),
    }
    if known.get("decisions"):
        parts.append("<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in known["decisions"]) + "</ul>")
    parts.append(table(("", "decided"), [pair for pair in facts.items() if pair[1] is not None], words=True))
    if known.get("augment"):
        parts.append(f'<h3>Augmentation</h3><div class="scroll"><pre>{escape(worded(known["augment"]))}</pre></div>')
    if known.get("auto"):
        parts.append(_searched(known["auto"]))
    if run.asked:
        parts.append(folded("Every option as it was given", table(("option", "value"), run.asked.items(), words=True)))
    if known.get("options"):
        parts.append(folded("Every option as it was decided", table(("", ""), known["options"].items(), words=True)))
    if run.environment:
        parts.append(folded("Where it ran", table(("", ""), run.environment.items(), words=True)))
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


def _adapters(run: Read) -> dict[str, str]:
    """What they take, where there are such."""
    if not run.path(LORA).is_dir() or not run.path(WEIGHTS).is_file():
        return {}
    sizes = [f"{size_of(run.path(name)):,} bytes" for name in (LORA, WEIGHTS)]
    return {"adapters": f"{LORA}/, {sizes[0]}, with the classifier; merged in {WEIGHTS}, {sizes[1]}"}


def _searched(found: dict[str, Any]) -> str:
    """The search of augment=auto: a row an arm, a column a rung."""
    rungs, name = found["rungs"], found["metric"]
    values = [{row["augment"]: row[name] for row in rung["arms"]} for rung in rungs]
    order = list(dict.fromkeys(row["augment"] for rung in reversed(rungs) for row in rung["arms"]))
    head = ["candidate", *(f"rung {i}, {rung['batches']} batches" for i, rung in enumerate(rungs, 1))]
    rows = [[spec, *(column.get(spec) for column in values)] for spec in order]
    return folded(f"The search for it: {name} on {found['judged']}, n={found['images']:,}", table(head, rows))


def _training(run: Read) -> str:
    missing = "There are no epochs in this run's metrics.jsonl: nothing to be drawn."
    parts = ["<h2>Training</h2>", picture(run, "curves", "loss, accuracy and time by epoch", missing)]
    if run.history:
        names = list(dict.fromkeys(name for line in run.history for name in line if name not in ("event", "shares")))
        rows = [[line.get(name) for name in names] for line in run.history]
        parts.append(folded("Every epoch in numbers", table([_column(run, name) for name in names], rows)))
    return "\n".join(parts)


def _column(run: Read, name: str) -> str:
    return name.replace("images", f"{run.noun}s").replace("_", " ")


def _samples(run: Read) -> str:
    if run.noun == "text":
        return f"<h2>What the model saw</h2>\n{_seen(run)}"
    missing = "There is no pictures/contact_sheet.png in this run's folder."
    sheet = picture(run, "contact_sheet", "training images, and what the model saw of them", missing, "photo")
    return f"<h2>What the model saw</h2>\n{sheet}"


def _seen(run: Read) -> str:
    """A few training texts, and what the augmentation made of them."""
    rows = run.json(SAMPLES)
    if not rows:
        return say("There is no samples.json in this run's folder: texts as they are, or a function of one's own.")
    head = ["class", "text", *(f"epoch {i + 1}" for i in range(len(rows[0]["seen"])))]
    cells = [
        [", ".join(row["classes"]), row["text"], *(Html(as_html([Piece(*p) for p in one])) for one in row["seen"])]
        for row in rows
    ]
    told = "<del>left out</del>, <ins>put in</ins>, <mark>replaced</mark>, <em>moved</em>"
    return f"<p>{told}</p>{table(head, cells, words=True)}"


def _evaluation(run: Read) -> str:
    found = run.evaluation
    if found is None:
        words = "There is no evaluation.json in this run's folder, and no predictions.npz to make it of."
        return "<h2>Evaluation</h2>" + say(words)
    if isinstance(found, SegmentEvaluation):
        return _pixels(run, found)
    if isinstance(found, DetectEvaluation):
        return _boxes(run, found)
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares if value is not None]
    rows += [("loss (cross entropy)", found.loss), (run.tested, f"{found.n:,}")]
    parts = ["<h2>Evaluation</h2>", table(("", f"on {run.tested} (interval of 95%)"), rows)]
    parts.append(say(f"Intervals: Wilson's of accuracies, else by bootstrap over the {run.noun}s."))
    if found.confusion is not None:
        kind = "chart own" if len(found.classes) > WIDE else "chart"
        missing = "There is no pictures/confusion.png in this run's folder."
        parts += ["<h3>What is taken for what</h3>", picture(run, "confusion", "confusion matrix", missing, kind)]
        if pairs := confusions(found):
            rows = [(p["true"], p["predicted"], p["n"], percent(p["share"])) for p in pairs]
            parts.append(table(("true class", "taken for", f"{run.noun}s", "of the class"), rows, left=2))
    missing = "There is no pictures/calibration.png in this run's folder."
    sure = picture(run, "calibration", "calibration curve", missing, "chart narrow")
    return "\n".join([*parts, _classes(found, run.noun), f"<h3>How sure it is</h3>\n{sure}"])


def _pixels(run: Read, found: SegmentEvaluation) -> str:
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares]
    rows += [("loss", found.loss), ("test images", f"{found.n:,}"), ("pixels", f"{found.pixels:,}")]
    parts = ["<h2>Evaluation</h2>", table(("", "on test images (interval of 95%)"), rows)]
    parts.append(say("Intervals by bootstrap over the images."))
    kind = "chart own" if len(found.classes) > WIDE else "chart"
    missing = "There is no pictures/confusion.png in this run's folder."
    parts += ["<h3>What is taken for what, in pixels</h3>", picture(run, "confusion", "confusion", missing, kind)]
    lines = sorted(found.per_class, key=lambda line: (line["iou"] is None, line["iou"] or 0.0))
    names, head = ("iou", "dice", "boundary_iou"), ["class", "IoU", "Dice", "boundary IoU", "pixels"]
    rows = [[line["class"], *(percent(line[name]) for name in names), f"{line['pixels']:,}"] for line in lines]
    parts.append(f"<h3>Each class, the weakest first</h3>\n{table(head, rows)}")
    return "\n".join(parts)


def _boxes(run: Read, found: DetectEvaluation) -> str:
    rows = [(name, percent(value, interval)) for name, value, interval in found.shares]
    rows += [("loss", found.loss), ("test images", f"{found.n:,}"), ("objects", f"{found.objects:,}")]
    rows.append(("score of the greatest F1, from which answers count", f"{found.threshold:.2f}"))
    parts = ["<h2>Evaluation</h2>", table(("", "on test images (interval of 95%)"), rows)]
    parts.append(say("Average precision is COCO's. Intervals by bootstrap over the images."))
    missing = "There is no pictures/errors.png in this run's folder."
    parts += ["<h3>What became of the objects</h3>", picture(run, "errors", "errors by class", missing)]
    lines = sorted(found.per_class, key=lambda line: (line["ap"] is None, line["ap"] or 0.0))
    counts = ("objects", "right", "confused", "misplaced", "missed", "false")
    rows = [
        [line["class"], percent(line["ap"]), percent(line["ap50"]), *(f"{line[n]:,}" for n in counts)] for line in lines
    ]
    head = ["class", "AP", "AP@50", *counts]
    parts.append(f"<h3>Each class, the weakest first</h3>\n{table(head, rows)}")
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
    return f"<h3>Each class, the weakest first</h3>\n{table(head, rows)}"


def _robustness(run: Read) -> str:
    parts, measured = ["<h2>Robustness</h2>"], run.robustness
    if not measured:
        return parts[0] + say("There is no robustness.json in this run's folder: it was not measured.")
    parts.append(picture(run, "robustness", "score against strength of corruption", "Its picture is missing."))
    names = dict.fromkeys(line["name"] for line in measured["corruptions"])
    clean, mean = measured["clean"], measured["mean"]
    words = (
        f"{measured['metric']} {percent(clean['score'], clean['interval'])} on the {measured['n']:,} clean {run.noun}s"
    )
    parts.append(f"<p>{escape(words)}, {percent(mean)} on corrupted ones (mean).</p>")
    rows = []
    for name in names:
        lines = {line["strength"]: line for line in measured["corruptions"] if line["name"] == name}
        found = map(lines.get, range(1, 6))
        rows.append([name, *(line and f"{percent(line['score'])} at {line['words']}" for line in found)])
    parts.append(table((measured["metric"], *(f"strength {s}" for s in range(1, 6))), rows))
    for one in measured.get("shown", ()):
        rows = [[name, *one[name]] for name in one if name != "text"]
        parts.append(
            folded(f"As in: {one['text']}", table(("", *(f"strength {s}" for s in range(1, 6))), rows, words=True))
        )
    if (sheet := run.picture("corruptions")).is_file():
        shown = image(sheet.read_bytes(), "corrupted test images", "photo")
        parts.append(folded("What these strengths look like", shown))
    return "\n".join(parts)


def _mistakes(run: Read) -> str:
    stored = run.predictions or {}
    if run.noun == "text":
        rows = []
        if "texts" in stored and run.evaluation is not None:
            wrong = mistakes(*answers(stored), run.evaluation.classes, MOST_MISTAKES)
            rows = [(stored["texts"][w["index"]], w["predicted"], percent(w["confidence"]), w["true"]) for w in wrong]
        missing = "None: every answer was right." if "texts" in stored else "There is no predictions.npz with texts."
        wrong = table(("text", "said", "sure", "is"), rows, words=True) if rows else say(missing)
        return f"<h2>Worst mistakes</h2>\n{say('Wrong answers, the surest first.') if rows else ''}{wrong}"
    missing = "There is no pictures/mistakes.png in this run's folder."
    return f"<h2>Worst mistakes</h2>\n{picture(run, 'mistakes', 'wrong answers, the surest first', missing, 'photo')}"


def _speed(run: Read) -> str:
    rate, shares = run.mean_of("images_per_second"), run.shares()
    if rate is None and not shares:
        return "<h2>Speed</h2>" + say("This run's metrics.jsonl says nothing of speed.")
    seconds = [line["seconds"] for line in run.history if line.get("seconds") is not None]
    rows = [(f"{run.noun}s a second, mean of the epochs", f"{rate:,.0f}")] if rate is not None else []
    if seconds:
        rows += [("seconds of an epoch, mean", sum(seconds) / len(seconds)), ("seconds of all epochs", sum(seconds))]
    rows.append(("device", run.environment.get("device")))
    parts = ["<h2>Speed</h2>", table(("", ""), rows)]
    if shares:
        bars = "".join(f'<i class="{name}" style="width:{100 * share:.2f}%"></i>' for name, share in shares.items())
        keys = (f'<i class="key {name}"></i>{name} {100 * share:.1f}%' for name, share in shares.items())
        parts.append(f'<h3>Where the time goes</h3><div class="bar">{bars}</div><p>{" &nbsp; ".join(keys)}</p>')
        parts.append(
            say(f"waiting: for {run.noun}s; augment: the augmentation; model: forward, backward and the step.")
        )
    return "\n".join(parts)
