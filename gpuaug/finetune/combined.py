"""Runs that go together, and the folder of what is made of them: that of a run which learned nothing itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as safetensors

from gpuaug.data import Parts

from . import beginning, classify, evaluations, page, runs, state, testing
from .evaluations import Made
from .opening import environment, fingerprint
from .runs import Run
from .saved import Classifier, opened, weights_of
from .saved_ensemble import check_alike
from .testing import Alone, Data, Tested

KEPT = (  # options of the first member that say which data there are and how they are tested
    "data", "val_fraction", "patience", "schedule", "best", "size", "resize", "mean", "std", "tta", "precision",
    "workers", "max_bad", "seed",
)  # fmt: skip
SAME = ("task", "classes", "images", "several", "size", "resize", "interpolation", "mean", "std", "data", "opened_with")


@dataclass(frozen=True)
class Member:
    """A run that is one of several. weights: its file. model: loaded. digest: of the file."""

    run: Run
    weights: Path
    model: Classifier
    digest: str

    def record(self, **more: Any) -> dict[str, Any]:
        """What the folder of what is made of it keeps of it."""
        known, after = self.run.resolved, self.run.event("after")
        return {
            "run": self.run.name, "model": known["model"], "recipe": known["recipe"],
            "test_accuracy": after.get("test_accuracy"), **more, "weights": self.digest,
        }  # fmt: skip


def members(
    names: Sequence[str | Path | int], out: str | Path, device: str, what: str, more: Sequence[str] = ()
) -> list[Member]:
    """The runs of these names, loaded. Raises ValueError, with the first difference, where they do not go together: by
    their models (:func:`check_alike`, ``more``), or as they had other data."""
    found = []
    for name in names:
        weights = weights_of(name, out)
        run = Run(weights.parent)
        if not run.asked:
            raise ValueError(f"{weights}: there is no {runs.CONFIG} beside it; {what} is of runs, in their folders")
        found.append(Member(run, weights, opened(weights, device=device), beginning.digest(weights)))
    check_alike([(one.run.name, one.model) for one in found], what, more)
    first = found[0].run
    for run in (one.run for one in found):
        mine, other = run.resolved["data"], first.resolved["data"]
        if mine["fingerprint"] != other["fingerprint"]:
            named = "" if mine["name"] == other["name"] else f"{mine['name']} and {other['name']}"
            raise ValueError(
                f"{run.name}: its data are not those of {first.name}: "
                f"{named or 'other images, or a different split of them'}"
            )
    return found


def part_of(run: Run, part: str, parts: Parts | None) -> Data:
    """A part of a run's data; ``parts``: those that it was given in Python. Raises ValueError where they cannot be
    opened again, have changed, or are others."""
    if parts is None:
        return evaluations.own(run, part)
    if fingerprint(parts) != run.resolved["data"]["fingerprint"]:
        raise ValueError(f"parts= are not those of {run.name}; hand over the same")
    return testing.of_parts(parts, part, "as the run had it")


def how_of(run: Run, model: Classifier, workers: int = 2) -> dict[str, Any]:
    """How a run was tested, as :meth:`gpuaug.finetune.saved.Classifier.tested` takes it, on a ``model``'s device."""
    config, batch_size = run.config, run.resolved.get("options", {}).get("batch_size") or testing.BATCH_SIZE
    precision = "no" if config.precision == "fp16" and model.device.type == "cpu" else config.precision
    return {"tta": config.tta, "precision": precision, "batch_size": batch_size, "workers": workers}


def write(
    found: Sequence[Member],
    model: Classifier,
    out: str | Path,
    name: str,
    records: Sequence[dict[str, Any]],
    told: Sequence[str],
    *,
    parts: Parts | None = None,
    scores: dict[str, Any] | None = None,
    bar: Callable[[Iterable, str], Iterable] = lambda steps, words: steps,
    workers: int = 2,
) -> Made:
    """A new folder OUT/NNN-NAME of ``model``, which was made of ``found``: weights, what it is, and what comes out on
    the test part of their data, where this can be opened; all or nothing.

    Args:
        records: of the members. told: what was decided, in words. scores: further ones of what was made.
    """
    first = found[0].run
    folder = runs.new(out, name)
    run = Run(folder)
    try:
        with state.kept(folder):
            kept = [one["run"] for one in records if one.get("taken") != "no"]
            about, given = model.about, [one for one in first.resolved.get("given", ()) if one == "parts"]
            facts = {
                "asked": {name: first.asked[name] for name in KEPT if name in first.asked} | {"model": about.model},
                "resolved": {name: first.resolved[name] for name in SAME if name in first.resolved} | {
                    "model": about.model, "weights": f"of {', '.join(kept)}", "recipe": about.recipe,
                    "details": about.details, "members": list(records), "decisions": list(told), "given": given,
                    "metrics": [], "options": {"batch_size": how_of(first, model)["batch_size"]},
                },
                "environment": environment(Alone(model.device)),
            }  # fmt: skip
            run.write_json(runs.CONFIG, facts)
            weights = {k: v.detach().cpu().contiguous().clone() for k, v in model.model.state_dict().items()}
            runs.write(run.path(runs.WEIGHTS), safetensors(weights, about.dumped()))
            model.path = run.path(runs.WEIGHTS)
            made = _tested(first, run, model, parts, scores or {}, bar, workers)
            page.write(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return made


def _tested(first: Run, run: Run, model: Classifier, parts, scores, bar, workers: int) -> Made:
    """Test on the data of the members; where these were made in Python, and are not at hand, not at all."""
    tested, name, told = None, first.resolved["data"]["name"], []
    if parts is not None or "parts" not in first.resolved.get("given", ()):
        data = part_of(first, "test", parts)
        source, told = model.matched(data)
        tested = model.tested(
            source, progress=lambda feed: bar(feed, f"{model.noun}s"), **how_of(first, model, workers)
        )
        scores = measured(tested, model) | scores
        model.leave(run, tested)
        told = data.told + told
    run.write_lines([{"event": "after"} | scores])
    return Made(run.folder, run.name, name, told, tested, None, model)


def measured(tested: Tested, model: Classifier, part: str = "test") -> dict[str, float]:
    """Accuracy and loss of a part, as a run's lines have them."""
    found = tested.predicted
    right = classify.hits(found.outputs, found.labels, model.about.several).mean().item()
    return {f"{part}_accuracy": right, f"{part}_loss": tested.evaluation.loss}
