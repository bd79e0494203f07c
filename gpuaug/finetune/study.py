"""A search by optuna in its folder: it proposes trials, tells what they came to, and goes on where it was stopped.

``journal.log`` is optuna's own storage, ``tune.json`` says what is searched around what, ``trials.json`` and
``tune.html`` what came out.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import loop, page_tuning, runs, trials
from .checkpoint import Interrupt, Interrupted
from .config import Config
from .runs import Run
from .screen import Screen
from .searched import SEARCHED
from .space import Space
from .spelling import command_of
from .trials import DONE, Trial

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study as Optuna

JOURNAL, STUDY, TRIALS, PAGE = "journal.log", "tune.json", "trials.json", "tune.html"
STEPS = 10  # of a run, whatever its epochs are: at each trials are compared
WARM_UP = 3  # steps in which none ends
LEAST = 3  # trials that have come as far, before one is worse than most


def library() -> Any:
    """optuna. Raises ModuleNotFoundError, with the extra's name, where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("tune needs optuna: pip install 'gpuaug[tune]'", name="optuna") from error
    return optuna


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Optuna]:
    """optuna's study in a folder, from its journal if there is one; optuna says nothing meanwhile but its warnings."""
    optuna = library()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        storage = optuna.storages.JournalStorage(backend)
        yield optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
    finally:
        optuna.logging.set_verbosity(before)


def sampler(seed: int, k: int, startup: int) -> BaseSampler:
    """What proposes the trial behind ``k`` others: it depends on these and the seed, not on when it was made. The first
    ``startup`` are drawn at random."""
    optuna = library()
    own = int(np.random.SeedSequence((seed, k)).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of group, which searches what depends
        return optuna.samplers.TPESampler(
            seed=own, n_startup_trials=startup, multivariate=True, group=True, constant_liar=False
        )


def pruner(prune: bool, startup: int) -> BasePruner:
    """What ends trials that are worse than the median of those that came to their end, at the same step."""
    optuna = library()
    if not prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=startup, n_warmup_steps=WARM_UP, n_min_trials=min(LEAST, startup)
    )


def importances(study: Optuna) -> dict[str, float]:
    """How much of the differences among trials each option explains, summing to 1; empty where too few are done to
    say."""
    optuna = library()
    done = [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
    if len(done) < 4 or len({one.value for one in done}) < 2:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):  # of options that had one value
        return {}


class Study:
    """A search that goes on.

    Args:
        folder: its own. facts: of tune.json. space: what is searched. given: what was given in Python.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], space: Space, given: Mapping[str, Any]):
        self.folder, self.facts, self.space, self.given = folder, facts, space, given
        self.config = replace(Config.from_dict(facts["asked"]), out=folder.parent)
        self.best, self.total = facts["best"], facts["trials"]
        self.metric = self.best.removeprefix("-")
        self.screen = Screen(self.config.quiet, self.config.json, True)

    def search(self, study: Optuna) -> list[Trial]:
        """All trials that are left; returns these and those before. Raises Interrupted after Ctrl-C."""
        interrupt = Interrupt("step", not self.screen.words)
        interrupt.words = "stopping; the trial under way is begun anew when the search goes on"
        for stale in study.get_trials(deepcopy=False):
            if stale.state.name == "RUNNING":
                study.tell(stale.number, state=library().trial.TrialState.FAIL)
        found, minutes = trials_of(study), self.facts["timeout"]
        try:
            with interrupt:
                while len(found) < self.total:
                    if minutes and sum(one.seconds for one in found) >= 60 * minutes:
                        self.screen.say(f"stopped: {minutes:g} minutes are over")
                        break
                    self.one(study, len(found), interrupt)
                    found = trials_of(study)
                    self.show(study, found)
                    if interrupt.asked and len(found) < self.total:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not found:
                raise  # there is nothing to go on from
            many = f"{len(found)} of {self.total} trials are done"
            raise Interrupted(self.folder, f"stopped, {many}; go on with: gpuaug resume {self.folder}") from None
        finally:
            if found:
                self.write(study, found)
        return found

    def one(self, study: Optuna, k: int, interrupt: Interrupt) -> None:
        """The trial behind ``k`` others. One that does not come to an end counts for nothing."""
        states = library().trial.TrialState
        study.sampler = sampler(self.config.seed, k, self.facts["startup"])
        study.pruner = pruner(self.facts["prune"], self.facts["startup"])
        if k == 0 and not any(one.state == states.WAITING for one in study.get_trials(deepcopy=False)):
            study.enqueue_trial(self.space.defaults(self.facts["usual"]))
        trial, steps = study.ask(), set()
        try:
            options = self.space.drawn(trial)
            config = replace(self.space.config, **options)
            epochs = self.space.recipe(config).epochs

            def seen(epoch: int, value: float) -> bool:
                step = STEPS * epoch // epochs
                if step in steps or not np.isfinite(value):
                    return False
                steps.add(step)
                trial.report(value, step)
                return trial.should_prune()

            try:
                told = trials.tried(config, self.given, self.facts["last"], seen, interrupt)
            except ValueError as error:
                if k == 0:  # which has the defaults: none of the trials can be
                    raise
                told = trials.refused(str(error))
        except BaseException:
            study.tell(trial, state=states.FAIL)
            raise
        for name, value in (told | {"options": options}).items():
            trial.set_user_attr(name, value)
        if told["state"] == DONE:
            study.tell(trial, trials.signed_of(told["score"], self.best))
        else:  # whatever became of it, what proposes keeps away from such
            study.tell(trial, state=states.PRUNED)

    def show(self, study: Optuna, found: Sequence[Trial]) -> None:
        """The last of the trials, on the screen and in trials.json."""
        best = trials.best_of(found, self.best)
        self.screen.say(trials.words(found[-1], self.total, self.metric, best is found[-1]))
        self.screen.event({"event": "trial", **found[-1].as_dict()})
        self.write_trials(study, found)

    def write_trials(self, study: Optuna, found: Sequence[Trial]) -> None:
        """trials.json."""
        best = trials.best_of(found, self.best)
        command = best and command_of(replace(self.config, **best.options), self.facts["given"])
        content = {"metric": self.metric, "best": best and best.number, "command": command}
        content |= {"importances": importances(study), "trials": [one.as_dict() for one in found]}
        Run(self.folder).write_json(TRIALS, content)

    def write(self, study: Optuna, found: Sequence[Trial]) -> None:
        """trials.json, and the page."""
        self.write_trials(study, found)
        self.write_page()

    def write_page(self) -> None:
        run = Run(self.folder)
        page_tuning.write(run.path(PAGE), self.facts, run.json(TRIALS))

    def finish(self, config: Config) -> Path:
        """The folder of the run with the best options, which is trained, or goes on, if it is not done already."""
        begun = Run(self.folder.parent / self.facts["run"]) if "run" in self.facts else None
        known = begun if begun is not None and _asked_for(begun, config) else None
        try:
            if known is None:
                done = loop.finetune(config, **self.given).run
            elif known.events("after") and known.path(runs.REPORT).is_file():
                done = known.folder
            else:
                done = loop.resume(known.folder, **self.given).run
        except Interrupted as stopped:
            self.note(stopped.run)
            raise Interrupted(self.folder, f"stopped; go on with: gpuaug resume {self.folder}") from None
        self.note(done)
        self.write_page()
        return done

    def note(self, run: Path) -> None:
        """That ``run`` is the one with the best options."""
        self.facts["run"] = run.name
        Run(self.folder).write_json(STUDY, self.facts)


def trials_of(study: Optuna) -> list[Trial]:
    """Those that are done with, whatever became of them; not those that were interrupted."""
    kept = [one for one in study.get_trials(deepcopy=False) if one.state.name in ("COMPLETE", "PRUNED")]
    return [Trial(number, **one.user_attrs) for number, one in enumerate(kept, 1)]


def _asked_for(run: Run, config: Config) -> bool:
    """Whether a run is there, and was asked for what ``config`` asks for."""
    own = config.as_dict()
    return bool(run.asked) and all(run.asked.get(name) == own[name] for name in SEARCHED)
