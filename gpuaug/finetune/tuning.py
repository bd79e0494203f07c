"""``gpuaug tune``: which options of a run are best, by optuna: a tree-structured Parzen estimator (Bergstra et al.,
2011) proposes, the validation part judges, and a trial that is worse than the median of the others at the same share of
its run ends there.

The first trial has the defaults. What is proposed depends on the seed and on what the trials before came to, and on
nothing else: a search that was stopped goes on as if it had not been, where the same trial gives the same numbers, as
on a CPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import loop, runs, space, state, study, trials
from .config import AUTO, Config
from .opening import environment
from .runs import Run
from .searched import Option, parse
from .space import Space
from .spelling import command_of
from .study import STUDY, Study
from .trials import Trial

GIVEN = ("parts", "augment", "loss", "metrics")


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        study: its folder. trials: all of them. best: the best one. config: what a run with its options is told.
        command: the same as a command line. run: the folder of that run; None where there was none.
    """

    study: Path
    trials: list[Trial]
    best: Trial
    config: Config
    command: str
    run: Path | None


def tune(
    config: Config,
    *,
    trials: int = 20,
    timeout: float | None = None,
    search: Sequence[str] = (),
    prune: bool = True,
    final: bool = True,
    **given: Any,
) -> Tuned:
    """Search the options of a run, and run once with the best ones.

    Args:
        config: what all trials have. trials: how many. timeout: minutes after which no trial begins.
        search: what is searched: names, or "lr=1e-4:1e-2", "epochs=3,6"; by default lr, augment and recipe.
        prune: end trials that are worse than most. final: train a run with the best options, as ``finetune`` does.
        given: parts, augment, loss, metrics, as :func:`gpuaug.finetune.finetune` takes them.

    Raises:
        ValueError: what cannot be searched, or cannot be in ``config``. ModuleNotFoundError: the extra ``gpuaug[tune]``
            is not installed. Interrupted: after Ctrl-C; :func:`resume` goes on.
    """
    study.library()
    _check(config, trials, timeout, given)
    asked = parse([search] if isinstance(search, str) else search, config)
    base, job, last = _base(config, given)
    found, told = space.opened(job, base, asked, trials)
    known, usual = job.facts["resolved"], job.task.usual(config, given.get("parts"))
    facts = {
        "asked": config.as_dict(), "base": base.as_dict(), "trials": trials, "timeout": timeout, "prune": prune,
        "final": final, "startup": min(10, max(4, trials // 3)), "space": found.as_list(), "usual": usual,
        "best": job.best, "last": last, "decisions": told, "environment": environment(job.accelerator),
    }  # fmt: skip
    kept = ("task", "data", "images", "classes", "model", "given", "metrics")
    facts |= {name: known[name] for name in kept}
    folder = runs.new(config.out, f"tune-{job.parts.name}")
    try:
        Run(folder).write_json(STUDY, facts)
        return _go(Study(folder, facts, found, given))
    except BaseException:
        if not (folder / study.TRIALS).is_file():  # there is nothing in it
            shutil.rmtree(folder, ignore_errors=True)
        raise


def resume(
    name: str | Path | int,
    out: str | Path = "runs",
    *,
    trials: int | None = None,
    timeout: float | None = None,
    final: bool | None = None,
    **given: Any,
) -> Tuned:
    """Go on with a search that was stopped, or with more ``trials`` than it had; ``name``: its folder, or its name or
    number in ``out``. What is not said is as it was. Raises as :func:`tune`, and ValueError where there is no such
    study, or its data are others now."""
    study.library()
    folder = find(out, name)
    if folder is None:
        raise ValueError(f"{out}: there is no study {str(name)!r} of gpuaug tune")
    run = Run(folder)
    facts, new = run.json(STUDY), {"trials": trials, "timeout": timeout, "final": final}
    facts |= {option: value for option, value in new.items() if value is not None}
    state.check_free(run)
    base = Config.from_dict(facts["base"])
    _check(base, facts["trials"], facts["timeout"], given)
    run.facts = {"asked": facts["asked"], "resolved": facts}
    loop.check_given(run, given)
    job = _opened(base, given)
    if job.facts["resolved"]["data"]["fingerprint"] != facts["data"]["fingerprint"]:
        raise ValueError(f"{folder}: the data are no longer those that it began with; start a new one")
    run.write_json(STUDY, facts)
    options = [Option.from_dict(one) for one in facts["space"]]
    return _go(Study(folder, facts, Space.of(job, base, options), given))


def find(out: str | Path, name: str | Path | int) -> Path | None:
    """The folder of a study: a path, or a name or a number in ``out``; None where there is none."""
    places = [Path(str(name)), Path(out) / str(name)]
    if str(name).isdecimal() and Path(out).is_dir():
        places += [folder for folder in Path(out).iterdir() if runs.number_of(folder) == int(name)]
    return next((folder for folder in places if (folder / STUDY).is_file()), None)


def _check(config: Config, count: int, timeout: float | None, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in GIVEN:
            raise ValueError(f"tune: {name} cannot be given in Python; it takes {', '.join(GIVEN)}")
    if count < 1:
        raise ValueError(f"trials must be at least 1, got {count}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 minutes, got {timeout:g}")
    if config.augment == AUTO:
        raise ValueError("augment=auto is a search of its own; leave it out, and tune searches augmentations")


_base, _opened = trials.base_of, trials.opened  # the arguments of tune() and resume() hide their module


def _go(one: Study) -> Tuned:
    """All trials that are left, the last run, the page."""
    known, noun, say = one.facts, one.space.noun, one.screen.say
    images = f"{known['images']['train']:,} train, {known['images']['val']:,} val {noun}s"
    say(f"study    {one.folder}\ndata     {known['data']['name']}: {images}; the test part is not looked at")
    say(f"model    {known['model']}")
    if known["last"]:
        say(f"judge    {trials.FEW:.0%} of the training part, as a run by itself would set none aside")
    say("\n".join(known["decisions"]))
    with state.kept(one.folder), study.opened(one.folder) as optuna:
        found = one.search(optuna)
        best = trials.best_of(found, one.best)
        if best is None:
            first = found[0]
            raise ValueError(f"{one.folder}: no trial came to its end; the first one {first.state}: {first.reason}")
        config = replace(one.config, **best.options)
        command = command_of(config, known["given"])
        score = trials.shown(best.score, one.metric)
        say(f"\nbest     trial {best.number}, validation {one.metric} {score}\n         {command}\n")
        run = one.finish(config) if known["final"] else None
        say(f"next     open {one.folder / study.PAGE}")
    return Tuned(one.folder, found, best, config, command, run)
