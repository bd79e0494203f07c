"""What a run shows: a bar an epoch, a line an epoch, what was decided, a closing table."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm.auto import tqdm

from .metrics import Evaluation, confusions, percent, weakest
from .runs import dumped

REFRESH = 0.2  # seconds between two looks at the numbers
LISTED = 5  # classes, and confusions
NAME = 28  # letters of a class


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings that other libraries log or give meanwhile."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Screen:
    """``quiet``: nothing. ``as_json``: events alone, a line of JSON each. ``main``: of several processes one shows."""

    def __init__(self, quiet: bool, as_json: bool, main: bool):
        self.words, self.json, self.noun = main and not quiet and not as_json, main and as_json, "image"

    def say(self, words: str) -> None:
        """A line, above a bar if there is one."""
        if self.words:
            tqdm.write(words)

    def event(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        if self.json:
            print(dumped(line), flush=True)

    def counted(self, steps: Iterable, words: str) -> Iterable:
        """The same, with a bar; none where the screen is a file."""
        return tqdm(steps, words, leave=False, disable=None if self.words else True, dynamic_ncols=True)

    def bar(self, epoch: int, total: int, done: int = 0, hit: str | None = "accuracy") -> Bar:
        """``hit``: see :class:`gpuaug.finetune.task.Task`."""
        return Bar(epoch, total, done, self.words, hit, self.noun)


class Bar:
    """One epoch's bar; none where the screen is a file."""

    def __init__(self, epoch: int, total: int, done: int, shown: bool, hit: str | None, noun: str):
        self.hit, self.noun = hit, noun
        self.bar = tqdm(
            total=total, initial=done, desc=f"epoch {epoch}", leave=False, disable=None if shown else True,
            unit="batch", dynamic_ncols=True,
        )  # fmt: skip
        self.next = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def step(self, seen: Callable[[], tuple[list[float] | None, float, dict[str, float] | None]]) -> None:
        """A batch is done; ``seen`` gives (loss, right answers, images; seconds; shares), and is asked now and then."""
        self.bar.update()
        if self.bar.disable or time.perf_counter() < self.next:
            return
        self.next = time.perf_counter() + REFRESH
        numbers, seconds, shares = seen()
        if numbers and numbers[2]:
            total, right, n = numbers[:3]
            hits = f"  {self.hit} {right / n:.1%}" if self.hit else ""
            words = f"loss {total / n:.3f}{hits}  {n / seconds:,.0f} {self.noun}s/s{share_words(shares)}"
            self.bar.set_postfix_str(words, refresh=False)


def share_words(shares: dict[str, float] | None) -> str:
    """Where the time goes, for the end of a line."""
    if shares is None:
        return ""
    return f"  waiting {shares['waiting']:.0%} augment {shares['augment']:.0%} model {shares['model']:.0%}"


def begin_words(run: Any, data: str, model: str, augment: Any, decisions: Sequence[str]) -> str:
    """What is about to happen."""
    pipeline = textwrap.indent(repr(augment), " " * 9).lstrip()
    decided = textwrap.indent("\n".join(decisions), " " * 9).lstrip()
    return f"run      {run}\ndata     {data}\nmodel    {model}\naugment  {pipeline}\ndecided  {decided}"


def epoch_words(line: dict[str, Any], epochs: int, task: Any, chosen: str, best: bool) -> str:
    """One epoch in one line; ``chosen``: the metric that chooses."""
    main, name, val, train = task.metrics[0], chosen.removeprefix("-"), "", ""
    if line[f"val_{main}"] is not None:
        val = f"  val {line[f'val_{main}']:6.1%}"
        if name not in (main, "loss"):
            val += f"  {name} {line[f'val_{name}']:.4g}"
        val += "  best" if best else ""
    if task.hit is not None:
        train = f"  train {line[f'train_{task.hit}']:6.1%}"
    return (
        f"epoch {line['epoch']:2d}/{epochs}  loss {line['train_loss']:.3f}{train}"
        f"  {line['images_per_second']:7,.0f} {task.noun}s/s{share_words(line['shares'])}{val}"
    )


def closing_table(before: dict[str, float], after: dict[str, float]) -> str:
    """Test metrics before and after, and the difference; of accuracies and rates in percent."""
    rows = [
        f"{'test':18}│{'before':>9} │{'after':>9} │{'difference':>12}",
        f"{'─' * 18}┼{'─' * 10}┼{'─' * 10}┼{'─' * 13}",
    ]
    for name, value in after.items():
        was = before[name]
        if was is None or value is None:  # it was not finite, and is read from metrics.jsonl again
            shown = ["–" if one is None else f"{one:.3f}" for one in (was, value)]
            rows.append(f"{name:18}│{shown[0]:>9} │{shown[1]:>9} │{'–':>12}")
        elif min(was, value) >= 0 and max(was, value) <= 1 and name != "loss":
            rows.append(f"{name:18}│{was:>9.1%} │{value:>9.1%} │{100 * (value - was):>+12.1f}")
        else:
            rows.append(f"{name:18}│{was:>9.3f} │{value:>9.3f} │{value - was:>+12.3f}")
    return "\n".join(rows)


def closing_words(known: dict[str, Any], line: dict[str, Any]) -> str:
    """Whose figures a closing table has: those before are of a model that guesses, where its classifier was new."""
    return f"before: {known['weights']}; after: the weights of epoch {line['best_epoch']}"


def evaluation_words(found: Evaluation, noun: str = "image") -> str:
    """All figures with their intervals, the weakest classes, and what is most often taken for what."""
    lines = [f"{f'{found.n:,} {noun}s':28}│{'':>8} │ interval of 95%", f"{'─' * 28}┼{'─' * 9}┼{'─' * 16}"]
    for name, value, interval in found.shares:
        if value is not None:
            ends = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
            lines.append(f"{name:28}│{percent(value):>8} │ {ends}".rstrip())
    lines.append(f"{'loss (cross entropy)':28}│{found.loss:>8.3f} │")
    figure, title = ("recall", "recall") if found.top1 is not None else ("average_precision", "average precision")
    weak = [line for line in weakest(found) if line["n"]][:LISTED]
    lines += ["", f"weakest classes, by {title}"]
    for line in weak:
        interval = line["recall_interval"] if figure == "recall" else None
        lines.append(f"  {_cut(line['class']):{NAME}} {percent(line[figure], interval):24} of {line['n']:,}")
    if pairs := confusions(found, LISTED):
        lines += ["", "most often taken for another"]
        for pair in pairs:
            both = f"{_cut(pair['true'])} for {_cut(pair['predicted'])}"
            lines.append(f"  {both:{NAME}} {pair['n']:,}, {percent(pair['share'])} of the class")
    return "\n".join(lines)


def _cut(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
