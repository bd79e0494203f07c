"""tune.html: a search on one page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from . import pictures_tuning, runs, trials
from .comparing import summary
from .hypertext import cards, drawn, folded, page, say, table
from .metrics import percent
from .searched import Option
from .trials import DONE, Trial


def write(path: Path, facts: Mapping[str, Any], came: Mapping[str, Any]) -> None:
    """Write the page of a study to ``path``, of its tune.json and its trials.json."""
    found = [Trial(**one) for one in came["trials"]]
    best = next((one for one in found if one.number == came["best"]), None)
    metric = came["metric"]
    body = [
        _head(path.parent.resolve().name, facts, found, best, metric),
        _best(came, facts, best),
        _run(path.parent.parent, facts),
        "<h2>How it went</h2>",
        drawn(
            pictures_tuning.write_progress, "the score of each trial and the best so far", found, metric, facts["best"]
        ),
        say("Dots are trials that came to their end; pruned ones stand at the best that they had come to."),
        "<h3>The course of each trial</h3>",
        drawn(pictures_tuning.write_courses, "validation by epoch of all trials", found, metric, came["best"]),
        _options(facts, came, found, metric),
        _table(facts, found, best, metric),
        _asked(facts),
    ]
    runs.write(path, page(path.parent.resolve().name, "\n".join(body)).encode())


def _head(name: str, facts: Mapping[str, Any], found: list[Trial], best: Trial | None, metric: str) -> str:
    many = {state: sum(one.state == state for one in found) for state in dict.fromkeys(one.state for one in found)}
    told = [(trials.shown(best.score, metric), f"validation {metric}, trial {best.number}")] if best else []
    told += [(str(n), f"trials {state}") for state, n in many.items()]
    told.append((f"{sum(one.seconds for one in found) / 60:.1f}", "minutes of trials"))
    said = f"model {facts['model']}, data {facts['data']['name']}, {facts['images']['val']:,} of validation"
    waiting = facts["trials"] - len(found)
    ended = f"<p><b>{waiting} of {facts['trials']} trials were not begun.</b></p>\n" if waiting > 0 else ""
    return f"<h1>{escape(name)}</h1>\n{say(said)}\n{ended}{cards(told)}"


def _best(came: Mapping[str, Any], facts: Mapping[str, Any], best: Trial | None) -> str:
    if best is None:
        return "<h2>The best</h2>" + say("No trial came to its end.")
    first = came["trials"][0]
    words = "It is the first trial: nothing was better than the defaults."
    if best.number > 1 and first["state"] == DONE:
        shown = trials.shown(first["score"], came["metric"])
        words = f"The first trial, with the defaults where these lie in the ranges, has {shown}."
    many = f"{len(came['trials'])} by {facts['images']['val']:,} {_noun(facts)}s"
    judged = f"It is the best of {many}, and so looks better than it is: the test part says what it is worth."
    return (
        f"<h2>The best</h2>\n{table(('option', 'value'), best.options.items(), words=True)}\n"
        f'<div class="scroll"><pre>{escape(came["command"])}</pre></div>\n{say(f"{words} {judged}")}'
    )


def _noun(facts: Mapping[str, Any]) -> str:
    return runs.NOUNS.get(facts["task"], "image")


def _run(out: Path, facts: Mapping[str, Any]) -> str:
    """The run with the best options."""
    if not facts.get("run"):
        return ""
    line = summary(runs.Run(out / facts["run"]))
    if line.score is None:
        return f"<h2>The run with it</h2>{say(f'{line.name}: {line.state}')}"
    score = f"{line.metric} {percent(line.score, line.interval)}"
    words = f"{line.name}: {score} on the test part, which no trial has seen. All else is in its own report."
    return f"<h2>The run with it</h2>\n<p>{escape(words)}</p>"


def _options(facts: Mapping[str, Any], came: Mapping[str, Any], found: list[Trial], metric: str) -> str:
    options, importance = facts["space"], came["importances"]
    parts = ["<h2>What mattered</h2>"]
    if importance:
        parts.append(drawn(pictures_tuning.write_importances, "importance of each option", importance))
        parts.append(say("By PED-ANOVA, of the trials that came to their end: what sets the best of them apart."))
    else:
        parts.append(say("Too few trials came to their end to say."))
    parts.append(
        drawn(pictures_tuning.write_options, "each option against the score", found, options, metric, importance)
    )
    rows = []
    for option in options:
        if option["choices"] and pictures_tuning.numbered(option) != list(map(str, option["choices"])):
            rows += [(f"{option['name']} {i}", one) for i, one in enumerate(option["choices"], 1)]
    if rows:
        parts.append(table(("number", "choice"), rows, words=True))
    parts.append(say("Trials that learned next to nothing may lie below what is shown; the table has them."))
    return "\n".join(parts)


def _table(facts: Mapping[str, Any], found: list[Trial], best: Trial | None, metric: str) -> str:
    names = [option["name"] for option in facts["space"]]
    head = ["trial", "state", f"validation {metric}", "loss", "epochs", "seconds", *names, "why"]
    rows = []
    for one in found:
        number = f"{one.number}, best" if one is best else str(one.number)
        epochs = f"{one.epochs}/{one.asked}" if one.epochs < one.asked else str(one.epochs)
        values = [one.options.get(name) for name in names]
        score = trials.shown(one.score, metric)
        rows.append([number, one.state, score, one.loss, epochs, one.seconds, *values, one.reason or None])
    return f"<h2>Every trial</h2>\n{table(head, rows, left=2)}"


def _asked(facts: Mapping[str, Any]) -> str:
    options = [(one.name, one.words) for one in map(Option.from_dict, facts["space"])]
    parts = ["<h2>What was searched</h2>", table(("option", "range"), options, words=True)]
    asked = ("trials", "timeout", "prune", "startup")
    judge = "the last epoch of each" if facts["last"] else "the best epoch of each"
    rows = [(name, facts[name]) for name in asked] + [("judged by", judge)]
    parts.append(folded("How it was searched", table(("", ""), rows, words=True)))
    parts.append(folded("What all trials have", table(("option", "value"), facts["base"].items(), words=True)))
    parts.append(folded("Where it ran", table(("", ""), facts["environment"].items(), words=True)))
    return "\n".join(parts)
