"""The pictures of a search: how good it got, by trial and by time; each option against the score; what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .pictures import COLOURS, REST, TRAIN, VAL, Target, drawn, lettered, plain, short
from .trials import DIVERGED, DONE, FAILED, PRUNED, Trial, signed_of

LOOKS = {DONE: ("o", VAL), PRUNED: ("x", REST), DIVERGED: ("v", TRAIN), FAILED: ("s", COLOURS[4])}
COLUMNS = 3
SPREAD = 0.06  # of the scores' range, left free on both sides


def score_of(trial: Trial, metric: str) -> float:
    """As it is drawn: of losses and the like itself, else percent."""
    return trial.score if metric == "loss" else 100 * trial.score


def write_progress(target: Target, trials: Sequence[Trial], metric: str, best: str) -> None:
    """The score of each trial, and the best so far, over trials and over minutes; ``best``: the metric, with a minus in
    front where less is better."""
    known = [one for one in trials if one.score is not None]
    ends = np.cumsum([one.seconds for one in trials]) / 60
    with drawn(target, 10.4, 3.9) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for ax, where, words in zip(panels, (range(1, len(trials) + 1), ends), ("trial", "minutes"), strict=True):
            place = dict(zip((one.number for one in trials), where, strict=True))
            for state, (marker, colour) in LOOKS.items():
                some = [one for one in known if one.state == state]
                if some:
                    x, y = [place[one.number] for one in some], [score_of(one, metric) for one in some]
                    ax.scatter(x, y, marker=marker, color=colour, s=26, label=state, zorder=3)
            steps = best_so_far(trials, best)
            if steps:
                x, y = [place[one.number] for one in steps], [score_of(one, metric) for one in steps]
                ax.step([*x, max(place.values())], [*y, y[-1]], where="post", color=VAL, linewidth=1.6, alpha=0.6)
            plain(ax, "", words, label(metric) if ax is panels[0] else "")
        panels[0].xaxis.get_major_locator().set_params(integer=True)
        bounded(panels[0], known, metric)
        if known:
            panels[0].legend(frameon=False, fontsize=8)


def best_so_far(trials: Sequence[Trial], best: str) -> list[Trial]:
    """Those that were better than all before, of those that were done."""
    found: list[Trial] = []
    for one in trials:
        if one.state == DONE and (not found or signed_of(one.score, best) > signed_of(found[-1].score, best)):
            found.append(one)
    return found


def label(metric: str) -> str:
    return f"validation {metric}" + ("" if metric == "loss" else ", %")


def bounded(ax, known: Sequence[Trial], metric: str) -> None:
    """An axis that shows what was done, and what was not far from it: a trial that learned nothing would squeeze the
    others together, and stands at the border."""
    done = [score_of(one, metric) for one in known if one.state == DONE]
    if len(done) < 2 or min(done) == max(done):
        return
    low, high = np.percentile(done, [10, 90])
    low, high = max(min(done), low - 2 * (high - low)), min(max(done), high + 2 * (high - low))
    room = max(SPREAD * (high - low), 1e-9)
    ax.set_ylim(low - room, high + room)


def write_options(
    target: Target, trials: Sequence[Trial], options: Sequence[Mapping[str, Any]], metric: str, importance: Mapping
) -> None:
    """A panel for each searched option: its value against the score; words are places of their own, numbered where they
    are long."""
    known = [one for one in trials if one.score is not None]
    rows = -(-len(options) // COLUMNS)
    named = {option["name"]: numbered(option) for option in options}
    with drawn(target, 10.4, 3.5 * rows + 0.2) as figure:
        axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
        for ax, option in zip(axes, options, strict=False):
            name, words = option["name"], named[option["name"]]
            for state, (marker, colour) in LOOKS.items():
                some = [one for one in known if one.state == state and name in one.options]
                x = [places(one.options[name], option, one.number) for one in some]
                ax.scatter(x, [score_of(one, metric) for one in some], marker=marker, color=colour, s=26, label=state)
            if words:
                ax.set_xticks(range(len(words)), words, rotation=0 if max(map(len, words)) < 10 else 20, fontsize=8)
                ax.set_xlim(-0.6, len(words) - 0.4)
            elif option["log"]:
                _logarithmic(ax, [one.options[name] for one in known if name in one.options])
            bounded(ax, known, metric)
            explains = f", explains {importance[name]:.0%}" if name in importance else ""
            plain(ax, f"{name}{explains}", "", label(metric) if ax in axes[::COLUMNS] else "")
        for ax in axes[len(options) :]:
            ax.remove()


def _logarithmic(ax, values: Sequence[float]) -> None:
    """An axis by logarithms, with a few numbers that do not overlap."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    wide = values and max(values) > 300 * min(values)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=6))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def numbered(option: Mapping[str, Any]) -> list[str]:
    """The choices of an option as an axis names them: by their number where they are long."""
    words = list(map(str, option["choices"]))
    return [str(i) for i in range(1, len(words) + 1)] if any(len(word) > 14 for word in words) else words


def places(value: Any, option: Mapping[str, Any], number: int) -> float:
    """Where a value stands: a choice beside its place, so that equal scores are seen."""
    if not option["choices"]:
        return value
    return list(option["choices"]).index(value) + 0.3 * ((number * 0.618) % 1 - 0.5)


def write_importances(target: Target, importance: Mapping[str, float]) -> None:
    """How much of the differences among trials each option explains."""
    names = list(importance)[::-1]
    with drawn(target, 6.4, 0.9 + 0.36 * len(names)) as figure:
        ax = figure.subplots()
        ax.barh(names, [100 * importance[name] for name in names], color=VAL, height=0.6)
        for i, name in enumerate(names):
            ax.text(100 * importance[name] + 1, i, f"{importance[name]:.0%}", va="center", fontsize=8)
        ax.set_xlim(0, 112)
        ax.set_yticks(range(len(names)), [short(name) for name in names], **lettered(names))
        plain(ax, "", "% of the differences in score")
        ax.grid(axis="y", visible=False)


def write_courses(target: Target, trials: Sequence[Trial], metric: str, best: int | None) -> None:
    """The score of each trial over the share of its run that it has had."""
    with drawn(target, 10.4, 3.9) as figure:
        ax = figure.subplots()
        for one in trials:
            y = [np.nan if value is None else value for value in one.curve]
            x = 100 * np.arange(1, len(y) + 1) / max(one.asked, 1)
            first = one.number == best
            colour = TRAIN if first else LOOKS[one.state][1]
            y = np.array(y) * (1 if metric == "loss" else 100)
            marker = "." if len(y) < 12 else None
            style = {"linewidth": 2.2 if first else 1.0, "alpha": 1.0 if first else 0.55, "zorder": 3 if first else 2}
            ax.plot(
                x, y, color=colour, marker=marker, label=f"trial {one.number}, the best" if first else None, **style
            )
        plain(ax, "", "% of the epochs that it was to have", label(metric))
        ax.set_xlim(0, 102)
        if best is not None:
            ax.legend(frameon=False, fontsize=8)
