"""``gpuaug runs``: what there is, beside each other, its cost, the best, several as one, and away with the rest."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tyro

from gpuaug.messages import meant

from .terminal import columns, filled, plain, side_by_side, table

if TYPE_CHECKING:
    from gpuaug.finetune.comparing import Best, Summary
    from gpuaug.finetune.runs import Run

PAGE = "comparison.html"
MOST = 12  # runs on a page that nobody has named
Html = Annotated[str | None, tyro.conf.arg(metavar="[FILE.html]")]
Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class List:
    """List all runs; also what gpuaug runs does by itself."""

    out: Path = Path("runs")
    """Where runs lie."""
    sort: Literal["number", "accuracy", "began", "speed"] = "number"
    """The best, the last, the fastest first; by default as they were begun."""
    data: str | None = None
    """Only runs with the data of this name."""
    json: Flag = False
    """An array of JSON, everything that is known of each run."""
    html: Html = None
    """Write the page that compares them instead, of at most the newest twelve; by default to comparison.html beside
    them."""


@dataclass(frozen=True)
class Compare:
    """Compare runs: figures with intervals, options that differ, and which is right where the first is not."""

    runs: Names
    """Names or numbers in --out, or folders."""
    out: Path = Path("runs")
    """Where runs lie."""
    html: Html = None
    """Write the page with their curves, too; by default to comparison.html in --out."""


@dataclass(frozen=True)
class Cost:
    """Measure what runs' models cost beside what they are worth: accuracy, operations, parameters, bytes, and images a
    second on this CPU, by turns. Of image classification."""

    runs: Names
    """Names or numbers in --out, or folders."""
    out: Path = Path("runs")
    """Where runs lie."""
    speed: bool = True
    """Measure images a second, some seconds a run."""
    picture: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw accuracy against images a second, too."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Write the figures, too."""


@dataclass(frozen=True)
class BestOf:
    """Find the best run, among those that are done and have the same data as the newest one."""

    out: Path = Path("runs")
    """Where runs lie."""
    metric: str | None = None
    """Of the test: accuracy, mAP, top5, balanced_accuracy, f1, ece, loss, robustness, of a segmentation IoU, dice,
    boundary_iou or loss, or one of your own (=-NAME where less is better); val_accuracy, val_iou and the like are the
    validation's. By default accuracy, mAP where a sample may have several labels, or IoU of a segmentation."""
    data: str | None = None
    """Only runs with the data of this name."""
    path: Flag = False
    """Print the path of its weights and nothing else."""


@dataclass(frozen=True)
class Delete:
    """Delete runs, or only what they would go on from."""

    runs: Names = ()
    """Names or numbers in --out, or folders. With --checkpoints by default all that are done."""
    out: Path = Path("runs")
    """Where runs lie."""
    checkpoints: Flag = False
    """Only the checkpoints, of runs that are done; weights and figures stay."""
    yes: Flag = False
    """Do not ask."""


@dataclass(frozen=True)
class Soup:
    """Make one model of several runs of one model on one data set: the mean of their weights, as a new run.

    Of image classification. Batch norms get new statistics, of the training images.
    """

    runs: Names
    """Names or numbers in --out, or folders."""
    out: Path = Path("runs")
    """Where runs lie, and the new one will."""
    greedy: Flag = False
    """Take one after the other, the best on the held-out part first, and leave out what makes it worse there."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""
    workers: int = 2
    """Threads that decode images."""


@dataclass(frozen=True)
class Runs:
    """List, compare, average and delete runs, and find the best."""

    do: Annotated[
        Union[  # noqa: UP007
            Annotated[List, tyro.conf.subcommand("list")],
            Annotated[Compare, tyro.conf.subcommand("compare")],
            Annotated[Cost, tyro.conf.subcommand("cost")],
            Annotated[BestOf, tyro.conf.subcommand("best")],
            Annotated[Soup, tyro.conf.subcommand("soup")],
            Annotated[Delete, tyro.conf.subcommand("delete")],
        ],
        tyro.conf.arg(name=""),
    ]


def spelt(words: Sequence[str]) -> list[str]:
    """What stands behind ``gpuaug runs``, with what may be left out: ``list``, and the file of --html."""
    words = list(words)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "list")
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        choices = f"choose one of {', '.join(COMMANDS)}{meant(words[0], COMMANDS)}"
        raise ValueError(f"runs: there is no command {words[0]!r}; {choices}")
    for i in reversed([i for i, word in enumerate(words) if word == "--html"]):
        if not words[i + 1 : i + 2] or not words[i + 1].lower().endswith((".html", ".htm")):
            words[i] = "--html="
    return words


def run(command: Runs) -> None:
    """Do what was asked for."""
    COMMANDS[next(name for name, (kind, _) in COMMANDS.items() if isinstance(command.do, kind))][1](command.do)


# --- list -------------------------------------------------------------------------------------------------------------
def list_runs(command: List) -> None:
    """Print a line a run, or write the page."""
    from gpuaug.finetune.runs import dumped

    there = _there(command.out, command.data)
    if command.html is not None:
        _write_newest(command, [(run, line) for run, line in there if line.state != "damaged"])
        return
    lines = [line for _, line in there]
    if command.sort != "number":
        key = {"accuracy": "score", "began": "began", "speed": "images_per_second"}[command.sort]
        lacking = [line for line in lines if getattr(line, key) is None]
        has = [line for line in lines if getattr(line, key) is not None]
        lines = sorted(has, key=lambda line: getattr(line, key), reverse=True) + lacking
    if command.json:
        print(dumped([line.as_dict() for line in lines], indent=2))
    elif lines:
        print(listed(lines, columns()))
    else:
        print(f"no runs in {plain(command.out)} yet; gpuaug finetune makes one")


def _there(out: Path, data: str | None) -> list[tuple[Run, Summary]]:
    """All runs, or those with the data of a name. Raises ValueError where there is no such folder, or no such name."""
    from gpuaug.finetune import comparing, runs

    if not out.is_dir():
        raise ValueError(f"{plain(out)}: no such folder; --out says where runs lie")
    there = [(run, comparing.summary(run)) for run in runs.every(out)]
    if data is None:
        return there
    names = dict.fromkeys(line.data for _, line in there if line.data is not None)
    if data not in names:
        have = ", ".join(map(plain, names)) or "no data that can be read"
        raise ValueError(f"{plain(out)}: no run has the data {data!r}; they have {have}{meant(data, names)}")
    for _, line in there:
        if line.data is None:
            print(f"left out {plain(line.name)}: its data are not known", file=sys.stderr)
    return [(run, line) for run, line in there if line.data == data]


def listed(lines: Sequence[Summary], cells: int | None) -> str:
    """A table, and below it what there is to say of runs that are not done."""
    metrics = sorted({line.metric for line in lines if line.metric})
    score = f"test {metrics[0]}" if len(metrics) == 1 else "test score"
    nouns = {line.noun for line in lines}
    speed = f"{nouns.pop() if len(nouns) == 1 else 'sample'}s/s"
    head = ("#", "name", "began", "model", "data", "recipe", "epochs", "state", score, speed)
    rows = [_row(line, len(metrics) > 1) for line in lines]
    drop = ["recipe", "data", "model", speed, "#", None, "began", "epochs"]
    text = table(head, rows, right=("#", "epochs", speed), drop=drop, shorten="name", cells=cells)
    notes = [note for line in lines if (note := _note(line))]
    return "\n".join([text, *([""] if notes else []), *notes])


def _row(line: Summary, several: bool) -> tuple[str, ...]:
    from gpuaug.finetune.metrics import percent

    epochs = "–" if line.epochs is None else f"{line.epochs}/{line.epochs_asked or '?'}"
    score = percent(line.score, line.interval) + (f" {line.metric}" if several and line.metric else "")
    speed = "–" if line.images_per_second is None else f"{line.images_per_second:,.0f}"
    texts = (line.name, when(line.began), line.model, line.data, line.recipe, epochs, line.state, score, speed)
    return (str(line.number or "–"), *("–" if text is None else text for text in texts))


def when(began: str | None) -> str | None:
    """``27 Nov 11:44``; of another year ``27 Nov 2025``."""
    from datetime import datetime

    if began is None:
        return None
    time = datetime.fromisoformat(began)
    return f"{time:%d %b %H:%M}" if time.year == datetime.now().year else f"{time:%d %b %Y}"


def _note(line: Summary) -> str:
    name, reason, more = plain(line.name), plain(line.reason), plain(f", {line.reason}" if line.reason else "")
    return {
        "done": "",
        "running": "",
        "running?": f"{name}: said to be running, by {reason}; whether it still is cannot be seen from here",
        "stopped": f"{name}: stopped{more}; go on with: gpuaug resume {plain(shlex.quote(line.folder))}",
    }.get(line.state, f"{name}: {line.state}{more}")


def _write_newest(command: List, there: list[tuple[Run, Summary]]) -> None:
    if not there:
        raise ValueError(f"{plain(command.out)}: no runs here to compare; gpuaug finetune makes one")
    newest = sorted(there, key=lambda pair: pair[1].began)[-MOST:]
    if len(there) > MOST:
        print(f"the newest {MOST} of {len(there)} runs; gpuaug runs compare A B ... --html takes others")
    kept = {run.folder for run, _ in newest}
    _write_page([run.folder for run, _ in there if run.folder in kept], command.html, command.out)


def _write_page(folders: Sequence[Path], html: str, out: Path) -> None:
    from gpuaug.finetune.page_comparison import write_comparison

    path = Path(html) if html else out / PAGE
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--html {plain(path)}: a page is a file whose name ends in .html")
    print(f"wrote {plain(write_comparison(folders, path))}")


# --- compare ----------------------------------------------------------------------------------------------------------
def compare(command: Compare) -> None:
    """Print what a page would say, and write it where that is asked for."""
    from gpuaug.finetune import comparing

    folders = [run.folder for run in _named(command.out, command.runs)]
    if len(folders) < 2:
        raise ValueError("runs compare: name at least two runs")
    found = comparing.read(folders)
    print(compared(found, columns()))
    if command.html is not None:
        print()
        _write_page(folders, command.html, command.out)


def _named(out: Path, names: Sequence[str]) -> list[Run]:
    """The runs of these names, each once."""
    from gpuaug.finetune import runs

    found = {run.folder.resolve(): run for run in (runs.find(out, name) for name in names)}
    return list(found.values())


def compared(found: Sequence[Any], cells: int | None) -> str:
    """Figures, differences, the paired test and robustness of runs, each section a table."""
    from gpuaug.finetune import comparing

    marks = [_letters(i) for i in range(len(found))]
    letter = {run.name: mark for run, mark in zip(found, marks, strict=True)}
    parts = ["\n".join(f"{mark}  {plain(run.name)}" for run, mark in zip(found, marks, strict=True))]

    def section(title: str, rows: Sequence[tuple]) -> None:
        texts = [[comparing.worded(cell) for cell in row] for row in rows]
        parts.append(f"{title}\n{side_by_side(marks, texts, cells)}")

    section("Figures (in brackets: intervals of 95%)", comparing.figures(found))
    parts += [filled(words, cells) for words in comparing.remarks(found)]
    if lacking := [letter[run.name] for run in found if run.evaluation is None]:
        parts.append(f"Without an evaluation.json: {', '.join(lacking)}.")
    if rows := comparing.differences(found):
        section("What was different", rows)
    else:
        parts.append("What was different\nNothing: their options and their pipelines are the same.")
    rows, told = comparing.against(found)
    nouns = f"{found[0].noun}s"
    head = ("", "accuracy (interval of 95%)", "only it", f"only {marks[0]}", "p (McNemar)", nouns)
    title = f"Against {marks[0]}, on the same {nouns}; how often one alone of both is right"
    if comparing.of_pixels(found):
        head = ("", *comparing.head_of(found)[1:])
        title = f"Against {marks[0]}, on the same images"
    rows = [(letter[row[0]], *row[1:]) for row in rows]
    paired = [table(head, rows, right=head[2:], cells=cells)] if rows else []
    parts.append("\n".join([title, *paired, *(filled(words, cells) for words in told)]))
    if rows := comparing.by_corruption(found):
        section("Robustness (at strengths 1 to 5)", rows)
    return "\n\n".join(parts)


def _letters(i: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


# --- cost -------------------------------------------------------------------------------------------------------------
def cost(command: Cost) -> None:
    """Measure, print the table, and draw."""
    from gpuaug.finetune import comparing, costs, pictures_costs, sizes

    if command.picture and command.picture.suffix.lower() != ".png":
        raise ValueError(f"--picture {plain(command.picture)}: a picture is a file whose name ends in .png")
    found = _named(command.out, command.runs)
    rows = costs.costs([run.folder for run in found], command.out, speed=command.speed, say=print)
    print(f"\n{sizes.table(rows)}")
    for words in comparing.remarks(found):
        print(filled(words, columns()))
    if command.json:
        costs.write(command.json, rows)
        print(f"wrote {plain(command.json)}")
    if command.picture:
        pictures_costs.write_costs(command.picture, rows)
        print(f"wrote {plain(command.picture)}")


# --- best -------------------------------------------------------------------------------------------------------------
def best(command: BestOf) -> None:
    """Print the best run; what is not the answer goes to stderr where a script reads it."""
    from gpuaug.finetune import comparing
    from gpuaug.finetune.runs import WEIGHTS

    found = comparing.best([run for run, _ in _there(command.out, command.data)], command.metric)
    notes = sys.stderr if command.path else sys.stdout
    weights = found.run.path(WEIGHTS)
    if command.path:
        _print_path(weights)
    else:
        rows = comparing.figures(comparing.read([found.run.folder]))
        value = _figure(found.metric, found.value, found.interval)
        print(f"{plain(found.run.name)}: {found.metric} {value}, the best of {found.among}")
        texts = [(name, comparing.worded(value)) for name, value in [*rows, ("weights", weights)] if value is not None]
        print("\n".join(f"{name:26}  {plain(value)}" for name, value in texts))
    for words in _remarks(found):
        print(words, file=notes)


def _figure(name: str, value: float, interval: Any) -> str:
    from gpuaug.finetune.comparing import SHARES
    from gpuaug.finetune.metrics import percent

    return percent(value, interval) if name.removeprefix("val_") in SHARES else f"{value:.4g}"


def _remarks(found: Best) -> list[str]:
    """What to know of a choice."""
    from gpuaug.finetune.evaluating import measures

    told = [f"as good: {', '.join(found.equal)}"] if found.equal else []
    told += [f"set aside {name}: {why}" for name, why in found.aside.items()]
    if found.among > 1 and not found.metric.startswith("val_"):
        told.append(
            "chosen by the test images, which makes its figure better than new images will; --metric "
            f"val_{measures(found.run)[0]} chooses by the validation"
        )
    return [filled(words, columns()) for words in told]


def _print_path(path: Path) -> None:
    """As it is, for a script; on a terminal as text."""
    if sys.stdout.isatty():
        print(plain(path))
        return
    try:
        print(path)
    except UnicodeEncodeError:  # a name that is not of this encoding
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")


# --- soup -------------------------------------------------------------------------------------------------------------
def soup(command: Soup) -> None:
    """Make a soup, and say what it came to."""
    from tqdm.auto import tqdm

    from gpuaug.finetune import soups

    if command.workers < 0:
        raise ValueError(f"workers must be at least 0, got {command.workers}")
    options = {"greedy": command.greedy, "device": command.device, "workers": command.workers}
    made = soups.soup(
        command.runs, command.out, **options, bar=lambda steps, words: tqdm(steps, words, leave=False, disable=None)
    )
    print(souped(made, columns()))


def souped(made: Any, cells: int | None) -> str:
    """What went in, and what came out."""
    from gpuaug.finetune.metrics import percent
    from gpuaug.finetune.runs import Run

    run = Run(made.folder)
    names = [name for name in run.members[0] if name not in ("weights", "model", "recipe")]
    head = [name.replace("_", " ") for name in names]
    rows = [[percent(v) if "accuracy" in k else v for k, v in one.items() if k in names] for one in run.members]
    line = {**run.event("after"), "run": run.name}
    rows.append(["–" if line.get(k) is None else percent(line[k]) if "accuracy" in k else line[k] for k in names])
    lines = [filled(words, cells) for words in run.resolved["decisions"]]
    text = table(head, rows, right=head[1:], shorten="run", cells=cells)
    return "\n".join([*lines, "", text, "", f"wrote {plain(made.folder)}"])


# --- delete -----------------------------------------------------------------------------------------------------------
def delete(command: Delete) -> None:
    """Delete what was named, once that is confirmed. Nothing is deleted where one of them may not be."""
    from gpuaug.finetune import comparing, runs

    if command.runs:
        there = [(run, comparing.summary(run)) for run in _named(command.out, command.runs)]
    elif command.checkpoints:
        there = [(run, line) for run, line in _there(command.out, None) if line.state == "done"]
    else:
        raise ValueError("runs delete: name at least one run, or ask for --checkpoints")
    for run, line in there:
        runs.check_run(run)
        _check_state(run, line, command.checkpoints)
    if command.checkpoints:
        there = [(run, line) for run, line in there if any(path.exists() for path in runs.goes_on_from(run))]
    if not there:
        print("nothing to delete: no run that is done has checkpoints")
        return
    what = "the checkpoints of" if command.checkpoints else "all of"
    size = sum(runs.size_of(*(runs.goes_on_from(run) if command.checkpoints else [run.folder])) for run, _ in there)
    names = ", ".join(f"{plain(line.name)} ({line.state})" for _, line in there)
    if not command.yes and not _confirmed(f"delete {what} {names}: {size / 1e6:,.1f} MB? [y/N] "):
        print("nothing is deleted")
        return
    remove = runs.remove_checkpoints if command.checkpoints else runs.remove
    freed = sum(remove(run) for run, _ in there)
    print(f"deleted {what} {names}: {freed / 1e6:,.1f} MB freed")


def _check_state(run: Run, line: Summary, checkpoints: bool) -> None:
    from gpuaug.finetune.runs import STATE

    if line.state == "running":
        raise ValueError(f"{plain(run.folder)}: this run is under way, {line.reason}; stop it first")
    if line.state == "running?":
        raise ValueError(
            f"{plain(run.folder)}: said to be running, by {line.reason}; if it is not, remove {plain(run.path(STATE))}"
        )
    if checkpoints and line.state != "done":
        raise ValueError(f"{plain(run.folder)}: {line.state}, and it goes on from its checkpoints; delete the run")


def _confirmed(question: str) -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("runs delete: there is no terminal to ask on; confirm with --yes")
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "list": (List, list_runs),
    "compare": (Compare, compare),
    "cost": (Cost, cost),
    "best": (BestOf, best),
    "soup": (Soup, soup),
    "delete": (Delete, delete),
}
